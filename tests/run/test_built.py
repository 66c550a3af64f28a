"""What a cell of a vLLM from sources installs, and who is to blame where it does not build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from candidates import commit_candidate, torch_candidate, with_candidates
from matrix._util.reported import Say
from matrix.catalog.candidates.model import Candidate, CandidateError, Project, Tree
from matrix.catalog.releases import Releases
from matrix.catalog.vllm_sources.folder import SourcesError
from matrix.catalog.vllm_sources.sources import tree_state
from matrix.checks.vllm_build.build import BuildFailedError, Built
from matrix.checks.vllm_build.environment import BuildEnvironmentError
from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, Made
from matrix.run.built import NotBuiltError, built_requirements, check_sources
from matrix.run.origin import Installed, origins_of
from vllm_tree import write_tree

CANDIDATE = commit_candidate()
RELEASES = with_candidates(CANDIDATE, torch_candidate())
WHEEL = f"vllm @ file:///wheels/vllm-0.34.0-py3-none-any.whl#sha256={'a' * 64}"


class Builder:
    """A build that takes no time: it fails with an error, or has a wheel."""

    def __init__(self, error: MatrixError | None = None, *, from_cache: bool = False) -> None:
        self.error, self.from_cache = error, from_cache
        self.asked: list[tuple[str, str, str | None]] = []

    def __call__(
        self, candidate: Candidate, python: str, say: Say, *, torch: str | None = None
    ) -> Built:
        self.asked.append((candidate.name, python, torch))
        if self.error is not None:
            raise self.error
        return Built(
            wheel=Path("/wheels/vllm-0.34.0-py3-none-any.whl"),
            version="0.34.0.dev5+g4152872ac.empty",
            sha256="a" * 64,
            kind="commit",
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


def test_without_compiling_is_for_the_cpu() -> None:
    build = Builder()
    with pytest.raises(NotBuiltError, match="run it with --platform cpu") as raised:
        requirements("py312-torch214-vllmfix", build, platform="cuda")
    assert raised.value.error.kind is ErrorKind.NOT_BUILT and build.asked == []


def test_the_origin_says_the_commit_and_that_nothing_was_compiled() -> None:
    cell = RELEASES.resolve("py312-torch216rc1-vllmfix")
    torch, vllm = origins_of(cell, RELEASES, {})
    assert (vllm.made, vllm.revision) == (Made.WITHOUT_COMPILING, "41" * 20)
    assert torch.made is None


def test_a_commit_that_its_wheel_has_in_part_is_recorded_whole() -> None:
    cell = RELEASES.resolve("py312-torch214-vllmfix")
    for said, kept in (("41" * 4, "41" * 20), (None, "41" * 20), ("52" * 4, "52" * 4)):
        found = Installed(version="0.34.0", revision=said)
        assert origins_of(cell, RELEASES, {Project.VLLM: found})[1].revision == kept


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
