"""What a cell of a vLLM from sources installs, and who is to blame where it does not build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from candidates import commit_candidate, torch_candidate, wheel, with_candidates
from matrix._util.reported import Say
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Candidate, OnCuda, SourceKind, Tree
from matrix.catalog.cells import Made
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.vllm_sources.folder import SourcesError
from matrix.catalog.vllm_sources.sources import tree_state
from matrix.checks.vllm_build.build import BuildFailedError
from matrix.checks.vllm_build.environment import BuildEnvironmentError
from matrix.checks.vllm_build.recipe import EMPTY, Recipe
from matrix.checks.vllm_build.wheels import Built
from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, Platform
from matrix.run.built import NotBuiltError, built_requirements, check_sources
from matrix.run.origin import Installed, origins_of
from vllm_tree import write_nvcc, write_tree

CANDIDATE = commit_candidate()
RELEASES = with_candidates(CANDIDATE, torch_candidate())
WHEEL = f"vllm @ file:///wheels/vllm-0.34.0-py3-none-any.whl#sha256={'a' * 64}"


class Builder:
    """A build that takes no time: it fails with an error, or has a wheel."""

    def __init__(self, error: MatrixError | None = None, *, from_cache: bool = False) -> None:
        self.error, self.from_cache = error, from_cache
        self.asked: list[tuple[str, str, str | None]] = []
        self.recipes: list[Recipe] = []

    def __call__(
        self,
        candidate: Candidate,
        python: str,
        say: Say,
        *,
        torch: str | None = None,
        recipe: Recipe = EMPTY,
    ) -> Built:
        self.asked.append((candidate.name, python, torch))
        self.recipes.append(recipe)
        if self.error is not None:
            raise self.error
        return Built(
            wheel=Path("/wheels/vllm-0.34.0-py3-none-any.whl"),
            version="0.34.0.dev5+g4152872ac.empty",
            sha256="a" * 64,
            kind=SourceKind.COMMIT,
            identity="41" * 20,
            revision="41" * 20,
            source_version="0.34.0.dev5+g4152872ac",
            python="3.12",
            requirements=(),
            tools={},
            seconds=12.3,
            log=Path("/wheels/build.log"),
            from_cache=self.from_cache,
        )


def requirements(
    name: str,
    build: Builder,
    *,
    platform: str = "cpu",
    releases: Releases = RELEASES,
    say: Callable[[str], None] = print,
) -> tuple[str, ...]:
    return built_requirements(
        releases.resolve(name),
        releases,
        python=Path("/cell/bin/python"),
        platform=platform,
        say=say,
        build=build,
    )


def test_the_cell_names_torch_and_companions_since_the_wheel_does_not() -> None:
    more = RELEASES.constraints("0.34.0.dev5")
    assert requirements("py312-torch214-vllmfix", Builder()) == (
        "torch==2.14.0", "torchvision==0.29.0", "torchaudio==2.11.0", WHEEL, *more
    )  # fmt: skip
    assert requirements("py312-torch215-vllmfix", Builder()) == (
        "torch==2.15.0", "torchvision==0.29.2", "torchaudio==2.11.1", WHEEL, *more
    )  # fmt: skip


def test_with_a_torch_candidate_each_is_a_file() -> None:
    found = requirements("py312-torch216rc1-vllmfix", Builder())
    assert [line.partition(" @ ")[0] for line in found[:4]] == [
        "torch", "torchvision", "triton", "vllm"
    ]  # fmt: skip
    assert all("#sha256=" in line for line in found[:4])


def test_one_environment_of_builds_serves_every_torch() -> None:
    build = Builder()
    for name in ("py312-torch214-vllmfix", "py312-torch215-vllmfix", "py312-torch216rc1-vllmfix"):
        requirements(name, build)
    assert set(build.asked) == {("vllmfix", "/cell/bin/python", "torch==2.14.0")}


def test_a_pin_that_is_not_released_is_not_waited_for() -> None:
    build = Builder()
    pins = {**CANDIDATE.pins, "torch": "2.99.0"}
    releases = with_candidates(replace(CANDIDATE, pins=pins))
    requirements("py312-torch215-vllmfix", build, releases=releases)
    assert build.asked[0][2] == f"torch=={releases.torch[-1].version}"


@pytest.mark.parametrize(
    ("from_cache", "words"), [(False, "was built in 12 s"), (True, "was built before")]
)
def test_a_line_says_whether_it_was_built_now(from_cache: bool, words: str) -> None:
    said: list[str] = []
    requirements("py312-torch214-vllmfix", Builder(from_cache=from_cache), say=said.append)
    assert said[0].startswith("vllmfix (vllm 0.34.0.dev5+g4152872ac) is built without compiling")
    assert said[1:] == [f"vllm 0.34.0.dev5+g4152872ac.empty {words}, without compiling"]


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (
            BuildFailedError("x: does not build: E: y", "ModuleNotFoundError: No module 'y'"),
            ErrorKind.BUILDS,
            "its sources do not build: ModuleNotFoundError: No module 'y'",
        ),
        (
            BuildFailedError("x", "OSError: [Errno 28] No space left on device"),
            ErrorKind.NO_SPACE,
            "this machine could not build it: OSError: [Errno 28] No space left on device",
        ),
        (
            BuildFailedError("x", "URLError: <urlopen error>"),
            ErrorKind.NOT_BUILT,
            "this machine could not build it: URLError: <urlopen error>",
        ),
        (BuildEnvironmentError("cannot be made"), ErrorKind.NOT_BUILT, "cannot be made"),
        (MatrixError("x: needs a Rust compiler"), ErrorKind.NOT_BUILT, "x: needs a Rust compiler"),
    ],
)
def test_only_a_build_that_fails_blames_the_sources(
    error: MatrixError, kind: ErrorKind, reason: str
) -> None:
    with pytest.raises(NotBuiltError) as raised:
        requirements("py312-torch214-vllmfix", Builder(error))
    assert (raised.value.error.kind, raised.value.error.reason) == (kind, reason)
    assert str(raised.value) == str(error)


def test_a_candidate_that_was_added_for_the_cpu_is_not_guessed_on_cuda() -> None:
    build = Builder()
    with pytest.raises(NotBuiltError, match="add it again with --platform cuda") as raised:
        requirements("py312-torch214-vllmfix", build, platform="cuda")
    assert raised.value.error.kind is ErrorKind.NOT_BUILT and build.asked == []


def on_cuda(way: Made, version: str = "0.33.0") -> Releases:
    tag = "cp38-abi3-manylinux_2_28_x86_64"
    files = () if way is Made.COMPILED else (wheel("vllm", version, tag),)
    index = "https://wheels.example/41" if way is Made.PUBLISHED else None
    found = OnCuda(way=way, files=files, index=index)
    return with_candidates(replace(CANDIDATE, on_cuda=found), torch_candidate())


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(write_nvcc(tmp_path / "cuda")))
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")


def test_a_published_wheel_of_the_commit_is_installed_and_not_built() -> None:
    build, said = Builder(), list[str]()
    releases = on_cuda(Made.PUBLISHED, CANDIDATE.version)
    found = requirements(
        "py312-torch215-vllmfix", build, platform="cuda", releases=releases, say=said.append
    )
    lines = [line for line in found if line.startswith(("torch==", "vllm "))]
    assert lines[0] == "torch==2.15.0"
    assert lines[1].startswith("vllm @ https://") and "#sha256=" in lines[1]
    assert build.asked == [] and "is the wheel of its commit" in said[0]
    cpu = Builder()
    assert WHEEL in requirements("py312-torch215-vllmfix", cpu, releases=releases)
    assert cpu.recipes == [EMPTY]


@pytest.mark.usefixtures("compiler")
def test_a_compiled_vllm_is_for_the_torch_of_its_cell() -> None:
    build, releases = Builder(), on_cuda(Made.COMPILED)
    for name in ("py312-torch215-vllmfix", "py312-torch216rc1-vllmfix"):
        requirements(name, build, platform="cuda", releases=releases)
    of_release, of_candidate = (recipe.torch for recipe in build.recipes)
    assert of_release == ("torch==2.15.0",)
    assert [line.partition(" @ ")[0] for line in of_candidate] == ["torch", "triton"]
    assert {recipe.made for recipe in build.recipes} == {Made.COMPILED}


def test_a_machine_without_a_compiler_blames_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(NotBuiltError, match="does not exist, and nvcc compiles") as raised:
        requirements(
            "py312-torch215-vllmfix",
            Builder(),
            platform="cuda",
            releases=on_cuda(Made.COMPILED),
        )
    assert raised.value.error.kind is ErrorKind.NOT_BUILT


def test_extensions_are_taken_where_linkage_says_that_they_link() -> None:
    build, said = Builder(), list[str]()
    requirements(
        "py312-torch215-vllmfix",
        build,
        platform="cuda",
        releases=on_cuda(Made.WITH_EXTENSIONS),
        say=said.append,
    )
    (recipe,) = build.recipes
    assert recipe.made is Made.WITH_EXTENSIONS and recipe.torch == ("torch==2.15.0",)
    assert recipe.extensions is not None and recipe.extensions.version == "0.33.0"
    assert "is built with the extensions of vllm-0.33.0-" in said[0]
    requirements(
        "py312-torch211-vllmfix",
        build,
        platform="cuda",
        releases=on_cuda(Made.WITH_EXTENSIONS),
        say=said.append,
    )
    assert "its extensions link, but those of QuTLASS do not" in said[2]


@pytest.mark.parametrize(
    ("version", "name", "reason"),
    [
        ("0.26.0", "py312-torch215-vllmfix", "do not link with torch 2.15.0: `_vllm_fa2_C"),
        ("0.1.0", "py312-torch215-vllmfix", "vllm 0.1.0: no symbol table"),
    ],
)
def test_extensions_that_do_not_link_or_nobody_knows_are_not_taken(
    version: str, name: str, reason: str
) -> None:
    build = Builder()
    releases = on_cuda(Made.WITH_EXTENSIONS, version)
    with pytest.raises(NotBuiltError) as raised:
        requirements(name, build, platform="cuda", releases=releases)
    assert reason in raised.value.error.reason and build.asked == []
    assert raised.value.error.kind is ErrorKind.NOT_BUILT


def test_a_wheel_of_another_python_is_named() -> None:
    way = OnCuda(
        way=Made.WITH_EXTENSIONS, files=(wheel("vllm", "0.33.0", "cp311-cp311-linux_x86_64"),)
    )
    releases = with_candidates(replace(CANDIDATE, on_cuda=way))
    with pytest.raises(NotBuiltError, match=r"has no wheel for Python 3\.12; use another Python"):
        requirements("py312-torch215-vllmfix", Builder(), platform="cuda", releases=releases)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("csrc/ops.cu(1): error: no", ErrorKind.BUILDS),
        ("c++: fatal error: Killed signal terminated program cc1plus", ErrorKind.NO_MEMORY),
        ("Call to `backend.build_wheel` failed (signal: 9 (SIGKILL))", ErrorKind.NO_MEMORY),
        ("Call to `backend.build_wheel` failed (signal: 15 (SIGTERM))", ErrorKind.NOT_BUILT),
        ("Call to `backend.build_wheel` failed (signal: 11 (SIGSEGV))", ErrorKind.BUILDS),
        ("fatal: unable to access 'https://x/'", ErrorKind.NOT_BUILT),
        ("nvcc fatal : Unsupported gpu architecture 'compute_75'", ErrorKind.NOT_BUILT),
        ("CMake Error at Caffe2Config.cmake:88: I cannot find the CUDA", ErrorKind.NOT_BUILT),
        ('CMake Error at CMakeLists.txt:3: Unknown CMake command "x".', ErrorKind.BUILDS),
    ],
)
@pytest.mark.usefixtures("compiler")
def test_a_compiler_that_fails_blames_the_sources_unless_it_is_the_machine(
    reason: str, kind: ErrorKind
) -> None:
    build = Builder(BuildFailedError(f"x: does not build: {reason}", reason))
    with pytest.raises(NotBuiltError) as raised:
        requirements(
            "py312-torch215-vllmfix", build, platform="cuda", releases=on_cuda(Made.COMPILED)
        )
    assert raised.value.error.kind is kind and raised.value.error.reason.endswith(reason)


def test_the_origin_says_the_commit_and_that_nothing_was_compiled() -> None:
    cell = RELEASES.resolve("py312-torch216rc1-vllmfix")
    torch, vllm = origins_of(cell, RELEASES, {}, Platform.CPU)
    assert (vllm.made, vllm.revision) == (Made.WITHOUT_COMPILING, "41" * 20)
    assert torch.made is None


@pytest.mark.parametrize(
    ("way", "version", "made"),
    [
        (Made.PUBLISHED, "0.34.0.dev5+g414141414", Made.PUBLISHED),
        (Made.COMPILED, "0.34.0.dev5+g414141414", Made.COMPILED),
        (Made.COMPILED, "0.34.0.dev5+g414141414.cu129", Made.COMPILED),
        (Made.WITH_EXTENSIONS, "0.34.0.dev5+g414141414.precompiled", Made.WITH_EXTENSIONS),
        (Made.WITH_EXTENSIONS, "0.34.0.dev5+g414141414.empty", Made.WITHOUT_COMPILING),
    ],
)
def test_the_origin_says_which_of_the_ways(way: Made, version: str, made: Made) -> None:
    releases = on_cuda(way, CANDIDATE.version if way is Made.PUBLISHED else "0.33.0")
    cell = releases.resolve("py312-torch215-vllmfix")
    candidate = releases.candidate_of(cell, Project.VLLM)
    assert candidate is not None and candidate.on_cuda is not None
    file = candidate.on_cuda.file("3.12")
    sha256 = file.sha256 if file is not None and made is Made.PUBLISHED else "b" * 64
    found = Installed(version=version, url="file:///cache/x.whl", sha256=sha256)
    vllm = origins_of(cell, releases, {Project.VLLM: found}, Platform.CUDA)[1]
    assert vllm.made is made and vllm.revision == "41" * 20
    published = made is Made.PUBLISHED
    assert vllm.index == ("https://wheels.example/41" if published else None)
    assert (vllm.extensions is not None) == (made is Made.WITH_EXTENSIONS)
    if made is not Made.WITHOUT_COMPILING:
        absent = origins_of(cell, releases, {}, Platform.CUDA)[1]
        assert absent.made is made


def test_an_environment_of_another_way_is_not_called_the_candidates_own() -> None:
    found = Installed(version="0.34.0.dev5+g414141414.precompiled", url="file:///cache/x.whl")
    releases = on_cuda(Made.PUBLISHED, CANDIDATE.version)
    cell = releases.resolve("py312-torch215-vllmfix")
    vllm = origins_of(cell, releases, {Project.VLLM: found}, Platform.CUDA)[1]
    assert (vllm.made, vllm.extensions, vllm.index) == (Made.WITH_EXTENSIONS, None, None)


def test_nobody_knows_how_a_vllm_would_be_made_for_cuda_that_is_for_the_cpu() -> None:
    cell = RELEASES.resolve("py312-torch215-vllmfix")
    assert origins_of(cell, RELEASES, {}, Platform.CUDA)[1].made is None


def test_a_commit_that_its_wheel_has_in_part_is_recorded_whole() -> None:
    cell = RELEASES.resolve("py312-torch214-vllmfix")
    for part, kept in (("41" * 4, "41" * 20), (None, "41" * 20), ("52" * 4, "52" * 4)):
        found = Installed(version="0.34.0", revision=part)
        assert origins_of(cell, RELEASES, {Project.VLLM: found}, Platform.CPU)[1].revision == kept


def test_a_tree_that_changed_is_refused(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "tree")
    state = tree_state(str(folder))
    candidate = replace(CANDIDATE, source=Tree(path=str(folder), state=state))
    check_sources(candidate)
    check_sources(CANDIDATE)  # a commit cannot change
    (folder / "vllm" / "__init__.py").write_text("changed = True\n")
    with pytest.raises(CandidateError, match=r"changed since it was added; add it again: matrix"):
        check_sources(candidate)
    (folder / "setup.py").unlink()
    with pytest.raises(SourcesError, match=r"has no setup\.py"):
        check_sources(candidate)


def test_what_has_wheels_is_not_built() -> None:
    build = Builder()
    cell = RELEASES.resolve("py312-torch216rc1-vllm033")
    assert RELEASES.candidate_of(cell, Project.VLLM) is None
    assert requirements(cell.name, build) == RELEASES.installs(cell) and build.asked == []
