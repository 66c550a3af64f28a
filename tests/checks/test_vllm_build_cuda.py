"""vLLM built for CUDA: by the user's compiler, or with the extensions of a published wheel."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from fake_wheels import write_tools, write_wheel
from local_index import Served
from matrix._util.files import digest_of
from matrix.catalog.candidates.gathered import CandidateRequest
from matrix.catalog.candidates.model import File
from matrix.catalog.candidates.sources import from_commit
from matrix.catalog.cells import Made
from matrix.catalog.index import FetchError
from matrix.catalog.projects import Project
from matrix.catalog.vllm_sources.folder import SourcesError
from matrix.catalog.vllm_sources.sources import Sources, open_sdist
from matrix.checks.vllm_build.build import BuildFailedError, build_wheel
from matrix.checks.vllm_build.candidate import build_candidate
from matrix.checks.vllm_build.compiler import NoCompilerError, check_torch, compiled
from matrix.checks.vllm_build.reasons import reason_of
from matrix.checks.vllm_build.recipe import EMPTY, Recipe, with_extensions
from matrix.checks.vllm_build.wheels import Built
from programs import program
from small_index import leave_settings
from vllm_tree import commit_all, write_nvcc, write_sdist, write_tree

pytestmark = pytest.mark.programs

TORCH = ("torch==2.15.0",)
CORE = "vllm/_C_stable_libtorch.abi3.so"


def quiet(_: str) -> None:
    pass


@pytest.fixture
def cache(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a cache, an index that has what a build needs, and no GPU and no compiler."""
    leave_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST", "CMAKE_ARGS"):
        monkeypatch.delenv(name, raising=False)
    for wheel in write_tools(tmp_path):
        served.add_wheel(wheel)
    return tmp_path / "cache-of-builds"


def sources(tmp_path: Path, *, fault: str = "pass") -> Sources:
    folder = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
    (folder / "out").mkdir(parents=True)
    return open_sdist(str(write_sdist(folder, "0.33.0", fault=fault)), folder / "out")


def with_nvcc(tmp_path: Path, *, fault: str = "", **more: str) -> Mapping[str, str]:
    home = write_nvcc(tmp_path / "cuda", fault=fault)
    return {"CUDA_HOME": str(home), "TORCH_CUDA_ARCH_LIST": "9.0", **more}


def build(tmp_path: Path, cache: Path, recipe: Recipe, **how: str) -> Built:
    return build_wheel(sources(tmp_path, **how), sys.executable, quiet, cache=cache, recipe=recipe)


def published(tmp_path: Path) -> File:
    """Return the wheel of a release, with an extension and what is not taken out of it."""
    folder = tmp_path / "published"
    folder.mkdir(exist_ok=True)
    members = {CORE: "the extension of the release", "vllm/__init__.py": "of_the_release = True"}
    tag = "cp38-abi3-manylinux_2_28_x86_64"
    path = write_wheel(folder, "vllm", "0.33.0", members, tag=tag)
    return File(name=path.name, url=path.as_uri(), sha256=digest_of(path), size=3 << 20)


def member(built: Built, name: str) -> str:
    with zipfile.ZipFile(built.wheel) as archive:
        return archive.read(name).decode()


def test_the_compiler_of_the_user_builds_for_one_torch(tmp_path: Path, cache: Path) -> None:
    recipe = compiled(TORCH, environ=with_nvcc(tmp_path))
    assert recipe.words == "with nvcc 13.0 for 9.0"
    built = build(tmp_path, cache, recipe)
    assert (built.version, built.made) == ("0.33.0", Made.COMPILED)
    assert "2.15.0" in member(built, "vllm/torch_of_the_build.py")
    assert member(built, CORE) == "__global__ void op() {}\nfor 9.0\n"
    assert {"cmake", "ninja"} <= built.tools.keys()
    assert "[1/1] Building CUDA object csrc/ops.cu" in built.log.read_text()
    assert build(tmp_path, cache, recipe).from_cache


def test_another_torch_architecture_or_compiler_is_another_wheel(
    tmp_path: Path, cache: Path
) -> None:
    environ = with_nvcc(tmp_path)
    first = build(tmp_path, cache, compiled(TORCH, environ=environ))
    others = [
        compiled(("torch==2.14.0",), environ=environ),
        compiled(TORCH, environ={**environ, "TORCH_CUDA_ARCH_LIST": "10.0 9.0"}),
        compiled(TORCH, environ={**environ, "CMAKE_ARGS": "-DX=1"}),
        EMPTY,
    ]
    wheels = {first.wheel}
    for recipe in others:
        built = build(tmp_path, cache, recipe)
        assert not built.from_cache
        wheels.add(built.wheel)
    write_nvcc(tmp_path / "cuda", release="13.2")
    older = build(tmp_path, cache, compiled(TORCH, environ=environ))
    assert older.version == "0.33.0+cu132" and not older.from_cache
    assert len({*wheels, older.wheel}) == 6
    # More jobs are the same wheel.
    again = build(tmp_path, cache, compiled(TORCH, environ={**environ, "MAX_JOBS": "1"}))
    assert again.from_cache and again.wheel == older.wheel


def test_a_user_s_settings_reach_a_compiler_and_no_other_build(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_JOBS", "3")
    monkeypatch.setenv("VLLM_USE_PRECOMPILED", "1")
    monkeypatch.setenv("VLLM_PRECOMPILED_WHEEL_LOCATION", "/nowhere.whl")
    fault = "print('jobs', os.environ.get('MAX_JOBS'), os.environ.get('VLLM_USE_PRECOMPILED'))"
    recipe = compiled(TORCH, environ=with_nvcc(tmp_path))
    assert "jobs 3 None" in build(tmp_path, cache, recipe, fault=fault).log.read_text()
    assert "jobs None None" in build(tmp_path, cache, EMPTY, fault=fault).log.read_text()


def test_one_compiles_at_a_time_and_no_other_build_waits_for_it(
    tmp_path: Path, cache: Path
) -> None:
    cache.mkdir()
    lock = FileLock(cache / "compiles.lock")
    lock.acquire()
    assert build(tmp_path, cache, EMPTY).version == "0.33.0+empty"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "waits for another build" in line:
            lock.release()

    recipe = compiled(TORCH, environ=with_nvcc(tmp_path))
    made = build_wheel(sources(tmp_path), sys.executable, say, cache=cache, recipe=recipe)
    assert not made.from_cache
    assert f"{cache}: waits for another build of vLLM" in said


def test_a_compiler_that_fails_says_its_first_error(tmp_path: Path, cache: Path) -> None:
    fault = 'echo "$PWD/$1(1): error: identifier \\"__global__\\" is undefined" >&2; exit 1'
    recipe = compiled(TORCH, environ=with_nvcc(tmp_path, fault=fault))
    with pytest.raises(BuildFailedError) as caught:
        build(tmp_path, cache, recipe)
    assert caught.value.reason == 'csrc/ops.cu(1): error: identifier "__global__" is undefined'
    assert list((cache / "vllm-wheels").glob("*")) == []


def test_python_of_the_sources_with_the_extensions_of_a_release(
    tmp_path: Path, cache: Path
) -> None:
    said: list[str] = []
    recipe = with_extensions(published(tmp_path), TORCH)
    built = build_wheel(sources(tmp_path), sys.executable, said.append, cache=cache, recipe=recipe)
    assert said[-1] == f"{published(tmp_path).name} (3.0 MiB) is fetched for its extensions"
    assert (built.version, built.made) == ("0.33.0+precompiled", Made.WITH_EXTENSIONS)
    assert member(built, CORE) == "the extension of the release"
    assert "of_the_release" not in member(built, "vllm/__init__.py")
    (tmp_path / "published" / published(tmp_path).name).unlink()  # what is kept needs it no more
    assert build(tmp_path, cache, recipe).from_cache


def test_another_wheel_than_the_recorded_one_is_not_used(tmp_path: Path, cache: Path) -> None:
    wheel = replace(published(tmp_path), sha256="0" * 64)
    with pytest.raises(FetchError, match="it is not the file that was meant"):
        build(tmp_path, cache, with_extensions(wheel, TORCH))


def test_a_wheel_without_extensions_is_no_build_for_cuda(tmp_path: Path, cache: Path) -> None:
    path = write_wheel(tmp_path, "vllm", "0.33.0")
    empty = File(name=path.name, url=path.as_uri(), sha256=digest_of(path))
    with pytest.raises(BuildFailedError, match="without any extension"):
        build(tmp_path, cache, with_extensions(empty, TORCH))


def test_sources_that_take_no_extensions_are_refused(tmp_path: Path, cache: Path) -> None:
    found = sources(tmp_path)
    (found.folder / "setup.py").write_text("old = True\n")
    recipe = with_extensions(published(tmp_path), TORCH)
    with pytest.raises(SourcesError, match=r"setup\.py: does not know VLLM_PRECOMPILED"):
        build_wheel(found, sys.executable, quiet, cache=cache, recipe=recipe)
    assert not cache.exists()


def test_a_candidate_is_built_by_its_recipe(tmp_path: Path, cache: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    commit = commit_all(tree, tag="v0.33.0")
    wanted = CandidateRequest(name="vllmmain", project=Project.VLLM)
    added = from_commit(wanted, f"{tree}@{commit}", None, quiet).candidate
    recipe = compiled(TORCH, environ=with_nvcc(tmp_path))
    built = build_candidate(added, sys.executable, quiet, cache=cache, recipe=recipe)
    assert built.version == f"0.33.0+g{commit[:9]}"
    tree.rename(tmp_path / "moved")
    again = build_candidate(added, sys.executable, quiet, cache=cache, recipe=recipe)
    assert again == replace(built, from_cache=True)


def test_the_toolkit_and_the_torch_are_of_one_cuda(
    tmp_path: Path, cache: Path, served: Served
) -> None:
    environ = with_nvcc(tmp_path)
    write_nvcc(tmp_path / "cuda", release="12.9")
    with pytest.raises(NoCompilerError, match=r"nvcc is of CUDA 12\.9, .* toolkit of CUDA 13$"):
        build(tmp_path, cache, compiled(TORCH, environ=environ))
    members = {"torch/__init__.py": "", "torch/version.py": "cuda: Optional[str] = None\n"}
    served.add_wheel(write_wheel(tmp_path, "torch", "2.16.0", members))
    recipe = with_extensions(published(tmp_path), ("torch==2.16.0",))
    with pytest.raises(NoCompilerError, match=r"^torch==2\.16\.0: is built without CUDA on this"):
        build(tmp_path, cache, recipe)
    for known in (None, "13.0", "13.2"):
        check_torch(compiled(TORCH, environ=with_nvcc(tmp_path)), known)
    check_torch(EMPTY, "")


def no_gpu(tmp_path: Path, **environ: str) -> Mapping[str, str]:
    return {"PATH": str(tmp_path / "bin"), "CUDA_VISIBLE_DEVICES": "", **environ}


@pytest.mark.parametrize("given", ["CUDA_HOME", "CUDA_PATH", "PATH"])
def test_nvcc_is_found_where_torch_finds_it(tmp_path: Path, given: str) -> None:
    home = write_nvcc(tmp_path / "cuda", release="12.9")
    value = str(home / "bin") if given == "PATH" else str(home)
    environ = {**no_gpu(tmp_path, TORCH_CUDA_ARCH_LIST="9.0"), given: value}
    recipe = compiled(TORCH, environ=environ)
    assert recipe.variables["CUDA_HOME"] == str(home) and recipe.parts["nvcc"] == "12.9"


def test_without_a_compiler_the_line_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(NoCompilerError, match=r"nvcc: does not exist.*CUDA toolkit"):
        compiled(TORCH, environ=no_gpu(tmp_path, CUDA_HOME=str(tmp_path)))
    home = write_nvcc(tmp_path / "cuda", release="none")
    with pytest.raises(NoCompilerError, match=r"nvcc --version: does not answer .*CUDA_HOME"):
        compiled(TORCH, environ=no_gpu(tmp_path, CUDA_HOME=str(home)))


def test_the_architecture_is_never_guessed(tmp_path: Path) -> None:
    home = str(write_nvcc(tmp_path / "cuda"))
    with pytest.raises(NoCompilerError, match=r"set TORCH_CUDA_ARCH_LIST, such as 9\.0"):
        compiled(TORCH, environ=no_gpu(tmp_path, CUDA_HOME=home))
    with pytest.raises(NoCompilerError, match="'sm_90' is not an architecture"):
        compiled(TORCH, environ=no_gpu(tmp_path, CUDA_HOME=home, TORCH_CUDA_ARCH_LIST="sm_90"))


def test_the_gpus_of_this_machine_say_the_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(write_nvcc(tmp_path / "cuda"))
    body = 'case "$*" in *"-i 1,0"*) echo 10.0; echo 9.0;; esac'
    smi = program(tmp_path / "bin", "nvidia-smi", body)
    monkeypatch.setenv("PATH", str(smi.parent), prepend=":")
    environ = {**no_gpu(tmp_path, CUDA_HOME=home), "CUDA_VISIBLE_DEVICES": "1,0"}
    assert compiled(TORCH, environ=environ).parts["architectures"] == "9.0;10.0"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "[1/9] x\na.cu(12): error: no such thing\nb.cu(1): error: later\nCalledProcessError: y",
            "a.cu(12): error: no such thing",
        ),
        (
            "/x/csrc/a.cpp:1:10: fatal error: Python.h: No such file or directory\n",
            "/x/csrc/a.cpp:1:10: fatal error: Python.h: No such file or directory",
        ),
        (
            "nvcc fatal   : Unsupported gpu architecture 'compute_75'\n",
            "nvcc fatal : Unsupported gpu architecture 'compute_75'",
        ),
        (
            "CMake Error at CMakeLists.txt:42 (message):\n\n  Can't find CUDA\n\nCall Stack\n",
            "CMake Error at CMakeLists.txt:42: Can't find CUDA",
        ),
        (
            (
                "CMake Error at env/torch/share/cmake/Caffe2/Caffe2Config.cmake:88 (message):\n"
                "  Your installed Caffe2 version uses CUDA but I cannot find the CUDA\n"
                "  libraries.  Please set the proper CUDA prefixes.\nCall Stack (most recent):\n"
            ),
            (
                "CMake Error at Caffe2Config.cmake:88: Your installed Caffe2 version uses CUDA but"
                " I cannot find the CUDA libraries. Please set the proper CUDA prefixes."
            ),
        ),
        ("CMake Error: no such generator\n", "CMake Error: no such generator"),
        (
            "fatal: unable to access 'https://x/': Could not resolve host: x\nCMake Error at a:1\n",
            "fatal: unable to access 'https://x/': Could not resolve host: x",
        ),
        (
            "c++: fatal error: Killed signal terminated program cc1plus\n",
            "c++: fatal error: Killed signal terminated program cc1plus",
        ),
        (
            "AssertionError: no CUDA\nCalledProcessError: Command 'x' failed\n",
            "AssertionError: no CUDA",
        ),
        ("CalledProcessError: Command 'x' failed\n", "CalledProcessError: Command 'x' failed"),
        ("warning: a.cu(1): error-prone\n", None),
    ],
)
def test_the_reason_of_a_compiler(output: str, reason: str | None) -> None:
    assert reason_of(output, compiled=True) == reason
