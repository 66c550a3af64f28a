"""vLLM built without compiling: once, kept, used again, and every way in which it fails."""

from __future__ import annotations

import shutil
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest

from fake_wheels import write_tools, write_wheel
from local_index import Served
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.gathered import CandidateRequest
from matrix.catalog.candidates.model import File, OnIndex
from matrix.catalog.candidates.sources import from_commit, from_sdist, from_tree
from matrix.catalog.projects import Project
from matrix.catalog.vllm_sources.git import Repository
from matrix.catalog.vllm_sources.sources import Sources, open_commit, open_sdist, open_tree
from matrix.checks.vllm_build.build import BuildFailedError, build_wheel
from matrix.checks.vllm_build.candidate import build_candidate
from matrix.checks.vllm_build.environment import BuildEnvironmentError, build_requirements
from matrix.checks.vllm_build.reasons import reason_of
from matrix.checks.vllm_build.wheels import Built, built_before, forget_wheels
from matrix.errors import MatrixError
from small_index import leave_settings
from vllm_tree import commit_all, write_sdist, write_tree

pytestmark = pytest.mark.programs

FILE = File(name="vllm-1-py3-none-any.whl", url="https://example.org/x", sha256="0" * 64)
VERSION = "vllm/_version.py"


def quiet(_: str) -> None:
    pass


@pytest.fixture
def cache(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a cache, and an index for a build: a torch, and tools that do nothing."""
    leave_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
    for wheel in write_tools(tmp_path):
        served.add_wheel(wheel)
    return tmp_path / "cache-of-builds"


def sources(tmp_path: Path, *, version: str = "0.33.0", fault: str = "pass") -> Sources:
    folder = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
    (folder / "out").mkdir(parents=True)
    return open_sdist(str(write_sdist(folder, version, fault=fault)), folder / "out")


def text_of(built: Built, member: str) -> str:
    with zipfile.ZipFile(built.wheel) as archive:
        return archive.read(member).decode()


def test_an_sdist_is_built_once(tmp_path: Path, cache: Path, served: Served) -> None:
    first = build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache)
    assert first.version == "0.33.0+empty"
    assert (first.kind, first.revision, first.from_cache) == ("sdist", None, False)
    assert first.tools == {"setuptools": "80.0.0", "setuptools-scm": "9.0.0", "wheel": "0.45"}
    assert "2.14.0" in text_of(first, "vllm/torch_of_the_build.py")
    assert first.requirement.startswith("vllm @ file:///") and first.sha256 in first.requirement
    assert "running bdist_wheel" in first.log.read_text()
    asked = len(served.asked)
    again = build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache)
    assert again.from_cache and len(served.asked) == asked
    base = str(Path(sys.executable).resolve())  # the interpreter of this environment
    assert build_wheel(sources(tmp_path), base, quiet, cache=cache).from_cache
    assert first.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (again.wheel, again.sha256, again.seconds) == (first.wheel, first.sha256, first.seconds)
    assert not [path for path in cache.rglob("*") if path.name.endswith(".part")]


def test_a_commit_is_in_its_wheel(tmp_path: Path, cache: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    commit_all(tree, tag="v0.33.0")
    commit = commit_all(tree, "after")
    folder = tmp_path / "commit"
    folder.mkdir()
    found = open_commit(Repository(address=str(tree), say=quiet, cache=cache), commit, folder)
    built = build_wheel(found, sys.executable, quiet, cache=cache)
    assert built.version == f"0.33.1.dev1+g{commit[:9]}.empty"
    assert built.revision == commit and commit in text_of(built, VERSION)


def test_what_makes_another_wheel(tmp_path: Path, cache: Path, served: Served) -> None:
    """Another version or another tool is another wheel; another torch is the same."""
    one = build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache)
    beside = build_wheel(
        sources(tmp_path), sys.executable, quiet, torch="torch==2.15.0", cache=cache
    )
    assert beside.from_cache and beside.wheel == one.wheel
    other = build_wheel(sources(tmp_path, version="0.33.1"), sys.executable, quiet, cache=cache)
    assert not other.from_cache and other.version == "0.33.1+empty"
    served.add_wheel(write_wheel(tmp_path, "wheel", "0.46"))
    newer = build_wheel(sources(tmp_path), sys.executable, quiet, torch="torch>=2.14", cache=cache)
    assert not newer.from_cache and newer.wheel != one.wheel


def test_the_torch_may_be_another_than_the_pin(tmp_path: Path, cache: Path) -> None:
    built = build_wheel(
        sources(tmp_path), sys.executable, quiet, torch="torch==2.15.0", cache=cache
    )
    assert "2.15.0" in text_of(built, "vllm/torch_of_the_build.py")


def test_what_was_changed_in_the_cache_is_built_again(tmp_path: Path, cache: Path) -> None:
    first = build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache)
    first.wheel.write_bytes(first.wheel.read_bytes()[:-10])
    again = build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache)
    assert not again.from_cache
    (again.wheel.parent / "built.json").write_text("[1]")
    assert not build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache).from_cache


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("raise RuntimeError('a step failed\\\\nand this was why')", "RuntimeError: a step failed"),
        ("os._exit(7)", ""),
        ("os._exit(0)", ""),
        ("os.kill(os.getpid(), 9)", "Call to `backend.build_wheel` failed (signal: 9"),
    ],
)
def test_what_does_not_build_says_its_own_reason(
    tmp_path: Path, cache: Path, fault: str, reason: str
) -> None:
    with pytest.raises(BuildFailedError) as caught:
        build_wheel(sources(tmp_path, fault=fault), sys.executable, quiet, cache=cache)
    assert caught.value.reason.startswith(reason) and caught.value.reason
    message = str(caught.value)
    assert message.startswith("vllm-0.33.0.tar.gz: does not build: ") and "\n" not in message
    assert str(tmp_path) not in message
    wheels = cache / "vllm-wheels"
    assert not wheels.exists() or list(wheels.iterdir()) == []


def test_a_wheel_of_another_version_is_not_taken(tmp_path: Path, cache: Path) -> None:
    fault = "os.environ['SETUPTOOLS_SCM_PRETEND_VERSION'] = '0.1.dev1'"
    with pytest.raises(BuildFailedError, match=r"made vllm-0\.1\.dev1\S*, not vllm 0\.33\.0"):
        build_wheel(sources(tmp_path, fault=fault), sys.executable, quiet, cache=cache)


def test_sources_that_need_rust(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rust is left out where the sources can do without, and named where they cannot."""
    tree = write_tree(tmp_path / "tree", needs_rust=True, more={"PKG-INFO": "Version: 0.33.0\n"})
    folder = tmp_path / "rusty"
    folder.mkdir()
    found = open_tree(str(tree), folder)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("uv", "git", "sh"):
        if (path := which(name)) is not None:
            (tools / name).symlink_to(path)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(MatrixError, match=r"needs a Rust compiler .* install rustc and cargo"):
        build_wheel(found, sys.executable, quiet, cache=cache)
    for name in ("rustc", "cargo"):
        (tools / name).write_text("#!/bin/sh\nexit 0\n")
        (tools / name).chmod(0o755)
    assert build_wheel(found, sys.executable, quiet, cache=cache).version.startswith("0.33.0+d")


def test_settings_of_a_user_do_not_change_the_wheel(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    override = tmp_path / "override.txt"
    override.write_text("torch==2.15.0\n")
    for name, value in (
        ("UV_OVERRIDE", str(override)),
        ("VLLM_TARGET_DEVICE", "cuda"),
        ("SETUPTOOLS_SCM_PRETEND_VERSION", "9.9"),
        ("SETUPTOOLS_SCM_PRETEND_METADATA", "no"),
    ):
        monkeypatch.setenv(name, value)
    built = build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache)
    assert built.version == "0.33.0+empty"
    assert "2.14.0" in text_of(built, "vllm/torch_of_the_build.py")
    assert "None" in text_of(built, VERSION)


def test_an_environment_that_cannot_be_made_says_nothing_of_vllm(
    tmp_path: Path, cache: Path
) -> None:
    with pytest.raises(BuildEnvironmentError, match=r"cannot be made \(.*torch==9\.9"):
        build_wheel(sources(tmp_path), sys.executable, quiet, torch="torch==9.9", cache=cache)
    assert list((cache / "build-environments").iterdir()) == []
    with pytest.raises(BuildEnvironmentError, match=r"cannot be made"):
        build_wheel(sources(tmp_path), "/nowhere/python", quiet, cache=cache)


def another_python() -> str:
    """Return a release of Python beside the one of these tests, which no machine has."""
    return "3.99"


def test_what_compiles_nothing_is_built_by_another_python(tmp_path: Path, cache: Path) -> None:
    """Where the Python of a cell is not here, this one builds for it, once, with its tag."""
    wanted, lines = another_python(), list[str]()
    built = build_wheel(sources(tmp_path), wanted, lines.append, cache=cache)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (
        f"Python {wanted} cannot be had; nothing is compiled, so Python {own} builds for it"
        in lines
    )
    assert built.wheel.name.endswith("-cp399-cp399-any.whl")
    assert built.python == wanted
    again = build_wheel(sources(tmp_path), wanted, quiet, cache=cache)
    assert (again.from_cache, again.wheel) == (True, built.wheel)
    own_wheel = build_wheel(sources(tmp_path), own, quiet, cache=cache)
    assert (own_wheel.from_cache, own_wheel.python) == (False, own)
    assert "cp399" not in own_wheel.wheel.name


def test_one_build_at_a_time(tmp_path: Path, cache: Path) -> None:
    """Two that want the same wheel build it once."""
    made, results = [sources(tmp_path), sources(tmp_path)], []

    def build(found: Sources) -> None:
        results.append(build_wheel(found, sys.executable, quiet, cache=cache))

    threads = [threading.Thread(target=build, args=(found,)) for found in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built.from_cache for built in results) == [False, True]
    assert len({built.sha256 for built in results}) == 1


def test_whoever_waits_says_so(tmp_path: Path, cache: Path) -> None:
    from filelock import FileLock

    cache.mkdir()
    lock = FileLock(cache / "builds.lock")
    lock.acquire()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        lock.release()

    assert build_wheel(sources(tmp_path), sys.executable, say, cache=cache).version
    assert said == [f"{cache}: waits for another build of vLLM"]


def test_a_cache_that_nobody_may_write(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(MatrixError, match=r"cannot be locked for a build \(.*\); .* MATRIX_CACHE"):
        build_wheel(sources(tmp_path), sys.executable, quiet, cache=cache)


def test_what_a_build_needs() -> None:
    rows = ["cmake>=3.26", "ninja", "torch == 2.14.0", "setuptools>=77", "jinja2"]
    found = build_requirements({"build-system": {"requires": rows}}, "x")
    assert found == ("jinja2", "setuptools>=77", "setuptools-scm", "torch==2.14.0", "wheel")
    for bad in (None, {}, {"requires": "x"}, {"requires": [1]}):
        with pytest.raises(BuildEnvironmentError, match=r"^x: pyproject\.toml: has no list"):
            build_requirements({"build-system": bad}, "x")
    for row in ("torch @ https://example.org/x.whl", "--index-url https://example.org", "="):
        with pytest.raises(BuildEnvironmentError, match="is not the name of a package"):
            build_requirements({"build-system": {"requires": [row]}}, "x")


OF_A_SIGNAL = """\
running bdist_wheel
error: Failed to build `/tmp/x`
  cause: The build backend returned an error
  cause: Call to `backend.build_wheel` failed (signal: 9 (SIGKILL))

hint: Build failures usually indicate a problem with the package or the build environment
"""
OF_UV = """\
  × Failed to build `/tmp/x`
  ├─▶ The build backend returned an error
      ImportError: libcublas.so.13: cannot open
      hint: this
"""


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", None),
        ("running build\nall is well\n", None),
        ("ValueError: early\nmore\nKeyError: 'late'\n", "KeyError: 'late'"),
        ("error: Failed to build `x`\n  Caused by: no\n", "error: Failed to build `x`"),
        (OF_A_SIGNAL, "Call to `backend.build_wheel` failed (signal: 9 (SIGKILL))"),
        (OF_UV, "ImportError: libcublas.so.13: cannot open"),
        ("a.b.CustomError: \x1b[31mred\x1b[0m\n", "a.b.CustomError: red"),
        ("error: command 'gcc' failed\n", "error: command 'gcc' failed"),
    ],
)
def test_the_last_error_of_a_build(output: str, reason: str | None) -> None:
    assert reason_of(output) == reason


def test_a_build_does_not_depend_on_where_it_is_asked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built = build_wheel(sources(tmp_path), sys.executable, quiet, cache=Path(cache.name))
    assert built.wheel.is_relative_to(cache) and built.wheel.is_file()


def test_a_candidate_is_built_from_its_sources(tmp_path: Path, cache: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    commit = commit_all(tree, tag="v0.33.0")
    wanted = CandidateRequest(name="vllmmain", project=Project.VLLM)
    added = from_commit(wanted, f"{tree}@HEAD", None, quiet).candidate
    (tree / "vllm/new.py").write_text("not in the commit")
    built = build_candidate(added, sys.executable, quiet, cache=cache)
    assert built.version == f"{added.version}.empty"
    assert built.identity == built.revision == commit
    tree.rename(tmp_path / "moved")  # neither git nor the sources are needed again
    shutil.rmtree(cache / "git")
    assert build_candidate(added, sys.executable, quiet, cache=cache) == replace(
        built, from_cache=True
    )
    (tmp_path / "moved").rename(tree)
    as_it_is = from_tree(wanted, str(tree), None).candidate
    other = build_candidate(as_it_is, sys.executable, quiet, cache=cache)
    assert other.version == f"{as_it_is.version}.empty" and other.wheel != built.wheel
    (tree / "vllm/new.py").write_text("again")
    with pytest.raises(MatrixError, match="changed since it became a candidate"):
        build_candidate(as_it_is, sys.executable, quiet, cache=cache)
    published = replace(added, source=OnIndex(index="x", version="1"), files=(FILE,), version="1")
    with pytest.raises(MatrixError, match=r"candidate 'vllmmain': has wheels, and is not built"):
        build_candidate(published, sys.executable, quiet, cache=cache)


def test_an_sdist_that_is_a_candidate_is_built_once(tmp_path: Path, cache: Path) -> None:
    sdist = write_sdist(tmp_path, "0.33.0")
    wanted = CandidateRequest(name="vllmsdist", project=Project.VLLM)
    added = from_sdist(wanted, str(sdist), None).candidate
    built = build_candidate(added, sys.executable, quiet, cache=cache)
    sdist.unlink()
    again = build_candidate(added, sys.executable, quiet, cache=cache)
    assert again.from_cache and again.wheel == built.wheel
    assert built_before(added, built.python, cache=cache) == again
    shutil.rmtree(cache / "build-environments")  # the tools may be others now
    with pytest.raises(MatrixError, match="does not exist"):
        build_candidate(added, sys.executable, quiet, cache=cache)


def test_a_wheel_is_forgotten_with_the_last_candidate_of_its_sources(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = CandidateRequest(name="vllmsdist", project=Project.VLLM)
    one, other = (
        from_sdist(wanted, str(write_sdist(tmp_path / version, version)), None).candidate
        for version in ("0.33.0", "0.34.0")
    )
    namesake = replace(one, name="vllmalso")
    built, kept = (
        build_candidate(added, sys.executable, quiet, cache=cache) for added in (one, other)
    )
    wheels = cache / "vllm-wheels"
    (wheels / "damaged").mkdir()
    (wheels / "damaged" / "built.json").write_text("{")
    assert forget_wheels(one, (other, namesake), cache=cache) == 0 and built.wheel.exists()
    assert forget_wheels(one, (other,), cache=cache) == 1
    assert sorted(path.name for path in wheels.iterdir()) == sorted(
        ["damaged", kept.wheel.parent.name]
    )
    assert forget_wheels(one, cache=cache) == 0
    published = replace(one, source=OnIndex(index="x", version="1"), files=(FILE,), version="1")
    assert forget_wheels(published, cache=cache) == 0
    assert forget_wheels(other, cache=tmp_path / "none") == 0

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(CandidateError, match=r"cannot be removed \(Permission denied\)"):
        forget_wheels(other, cache=cache)
