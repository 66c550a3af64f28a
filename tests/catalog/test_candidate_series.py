"""Lines of candidates: the days of an index, the commits of a git repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_index import Served
from matrix._util.addresses import compare_address
from matrix.catalog.candidates.channels import ChosenIndex, place_of
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Commit, OnCuda, OnIndex
from matrix.catalog.candidates.on_cuda import CudaWays
from matrix.catalog.candidates.series import Commits, CommitWheels, Nightlies, StepError
from matrix.catalog.candidates.steps import LineStep, commit_steps, ends_of, nightly_steps
from matrix.catalog.cells import Made, candidate_project
from matrix.catalog.index import FetchError, Index
from matrix.catalog.projects import Project
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.releases_file import load_releases
from matrix.catalog.vllm_sources.git import GitError, Logged, Repository
from nightlies import LINUX, publish, serve_nightlies
from vllm_tree import commit_all, write_tree

DAYS = (date(2026, 11, 20), date(2026, 11, 28))
PLACE = ChosenIndex(
    address="https://i.example/", index="https://i.example/", channel="nightly/cu130"
)


def quiet(_: str) -> None:
    pass


def git(folder: Path, *arguments: str) -> None:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    roles = ("AUTHOR", "COMMITTER")
    who = {f"GIT_{role}_{what}": "a@b" for role in roles for what in ("NAME", "EMAIL")}
    environ = {**os.environ, **own, **who}
    subprocess.run(["git", "-C", str(folder), *arguments], env=environ, check=True)


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[str], Repository]:
    def of(place: str) -> Repository:
        return Repository(address=place, say=quiet, cache=tmp_path / "cache")

    return of


def file(version: str, **facts: object) -> PublishedFile:
    name = f"torch-{version}-cp312-cp312-{LINUX}.whl"
    values = {"project": "torch", "version": "", "filename": name, "url": f"https://i/{name}"}
    return PublishedFile(**{**values, **facts})  # type: ignore[arg-type]


def days(*versions: str, first: date = DAYS[0], last: date = DAYS[1]) -> list[str]:
    files = [file(version) for version in versions]
    return [step.label for step in nightly_steps(Project.TORCH, PLACE, files, first, last)]


def test_a_step_is_a_day_with_a_name_of_its_own() -> None:
    files = [file(f"2.16.0.dev202611{day}+cu130") for day in (28, 20, 27)]
    assert nightly_steps(Project.TORCH, PLACE, files, *DAYS) == tuple(
        LineStep(
            name=f"torchnightly202611{day}",
            label=f"2.16.0.dev202611{day}+cu130",
            point=f"2026-11-{day}",
            version=f"2.16.0.dev202611{day}+cu130",
        )
        for day in (20, 27, 28)
    )


def test_of_a_day_the_newest_version_counts_and_others_are_not_read() -> None:
    found = days(
        "2.16.0.dev20261121", "2.17.0.dev20261121", "2.17.0.dev20261122",
        "2.17.0.dev20261119", "2.17.0.dev20261129", "2.17.0", "2.17.0.dev20269999",
    )  # fmt: skip
    assert found == ["2.17.0.dev20261121", "2.17.0.dev20261122"]
    withdrawn = [file("2.17.0.dev20261123", yanked="broken"), file("1", filename="torch.tar.gz")]
    others = [file(version) for version in found]
    steps = nightly_steps(Project.TORCH, PLACE, [*withdrawn, *others], *DAYS)
    assert [step.label for step in steps] == found


def test_without_a_day_in_the_version_that_of_the_upload_counts(served: Served) -> None:
    for number in (1, 2, 3):
        publish(
            served, "vllm", f"0.34.0.dev{number}+g415287{number}",
            upload_time=f"2026-11-2{number}T23:59:59.000000Z",
        )  # fmt: skip
    steps = nightly_steps(Project.VLLM, PLACE, Index(served.url).files("vllm"), *DAYS)
    assert [(step.name, step.point) for step in steps] == [
        (f"vllmnightly2026112{number}", f"2026-11-2{number}") for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("versions", "fault"),
    [
        (
            [],
            "has no build of torch from 2026-11-20 to 2026-11-28, and two are needed; it has none",
        ),
        (
            ["2.16.0.dev20261101", "2.16.0.dev20261103"],
            "and two are needed; it has others from 2026-11-01 to 2026-11-03",
        ),
        (["2.16.0.dev20261121"], "has only that of 2026-11-21 of torch from 2026-11-20"),
        (
            ["2.16.0.dev20261121+cpu", "2.16.0.dev20261121+cu130", "2.16.0.dev20261122+cpu"],
            "--channel nightly/cu130: has torch 2.16.0.dev20261121 as 2.16.0.dev20261121+cpu and",
        ),
    ],
)
def test_an_index_without_a_line_is_one_line(versions: list[str], fault: str) -> None:
    with pytest.raises(CandidateError) as caught:
        days(*versions)
    assert fault in str(caught.value) and "\n" not in str(caught.value)


@given(
    st.lists(st.dates(date(2026, 1, 1), date(2027, 1, 1)), min_size=2, unique=True),
    st.sampled_from(["nightly/cu130", "test", "my_own.channel-of-a-very-long-name", None]),
)
def test_every_name_is_that_of_a_candidate_and_of_one_day(
    every: list[date], channel: str | None
) -> None:
    place = ChosenIndex(address="https://i.example/", index="https://i.example/", channel=channel)
    files = [file(f"2.16.0.dev{day:%Y%m%d}") for day in every]
    steps = nightly_steps(Project.TORCH, place, files, min(every), max(every))
    assert [step.point for step in steps] == [day.isoformat() for day in sorted(every)]
    assert len({step.name for step in steps}) == len(steps)
    assert {candidate_project(step.name) for step in steps} == {"torch"}


def test_a_nightly_becomes_a_candidate_when_it_is_asked_for(served: Served) -> None:
    serve_nightlies(served, [date(2026, 11, 20) + timedelta(number) for number in range(4)])
    place = place_of(served.url, Project.TORCH, {})
    steps = nightly_steps(Project.TORCH, place, Index(served.url).files("torch"), *DAYS)
    series = Nightlies(
        project=Project.TORCH, place=place, steps=steps, python="3.12", releases=load_releases()
    )
    before = len(served.asked)
    made = series.make(steps[1])
    assert (made.name, made.version) == ("torchdev20261121", "2.17.0.dev20261121+cu130")
    assert series.is_of(steps[1], made) and not series.is_of(steps[2], made)
    asked = [path for path, _ in served.asked[before:]]
    torch = [path for path in asked if path.startswith("/files/torch-")]
    assert torch and all("20261121" in path for path in torch)
    served.withdraw(f"torch-2.17.0.dev20261122+cu130-cp312-cp312-{LINUX}.whl")
    with pytest.raises(StepError, match=r"has no torch 2\.17\.0\.dev20261122\+cu130"):
        series.make(steps[2])
    newer = Nightlies(
        project=Project.TORCH, place=place, steps=steps, python="3.14", releases=load_releases()
    )
    with pytest.raises(StepError, match=r"no wheel for Python 3\.14"):
        newer.make(steps[1])


def test_a_line_of_commits_takes_the_first_parent(
    tmp_path: Path, repository: Callable[[str], Repository]
) -> None:
    tree = write_tree(tmp_path / "tree")
    first = commit_all(tree, "one\n\nand more of it", tag="v0.33.0")
    git(tree, "checkout", "--quiet", "-b", "side")
    side = commit_all(tree, "aside")
    git(tree, "checkout", "--quiet", "main")
    second = commit_all(tree, "two\twith a tab")
    git(tree, "merge", "--quiet", "--no-ff", "--message", "merge", "side")
    last = commit_all(tree, "last")
    here = repository(str(tree))
    line = here.line(here.resolve("v0.33.0"), here.resolve("main"))
    assert [logged.title for logged in line] == ["one", "two with a tab", "merge", "last"]
    assert [line[0].commit, line[1].commit, line[3].commit] == [first, second, last]
    assert line[0].day == "2026-03-01"
    assert [logged.title for logged in here.line(second, last)][1:] == ["merge", "last"]
    for old, new, fault in [
        (first, first, f"{first[:12]} is both ends of the range; name two"),
        (last, first, f"{first[:12]} is older than {last[:12]}; write the range as"),
        (side, second, f"they branch at {first[:12]}; write the range as"),
        ("12" * 20, last, f"has no commit {'12' * 20}; push it"),
    ]:
        with pytest.raises(GitError) as caught:
            here.line(old, new)
        assert fault in str(caught.value) and "\n" not in str(caught.value)


def test_commits_without_a_common_history_have_no_line(
    tmp_path: Path, repository: Callable[[str], Repository]
) -> None:
    tree = write_tree(tmp_path / "tree")
    one = commit_all(tree)
    git(tree, "checkout", "--quiet", "--orphan", "other")
    other = commit_all(tree, "another beginning")
    with pytest.raises(GitError, match="have no common history"):
        repository(str(tree)).line(one, other)


def test_a_line_needs_git(
    tmp_path: Path, repository: Callable[[str], Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_tree(tmp_path / "tree")
    old, new = commit_all(tree), commit_all(tree, "two")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GitError, match="git is missing"):
        repository(str(tree)).line(old, new)


def logged(*commits: str) -> list[Logged]:
    return [Logged(commit=commit, day="2026-11-28", title="a title") for commit in commits]


def test_commits_are_named_by_as_much_as_tells_them_apart() -> None:
    one, other = "4152872ac0" + "0" * 30, "4152872ac1" + "0" * 30
    assert [step.name for step in commit_steps(logged(one))] == ["vllmg4152872ac"]
    steps = commit_steps(logged(one, other))
    assert [step.name for step in steps] == ["vllmg4152872ac0", "vllmg4152872ac1"]
    assert [step.point for step in steps] == [one, other]
    assert steps[0].label == "4152872ac000" and steps[0].title == "a title"
    assert {candidate_project(step.name) for step in steps} == {"vllm"}


def test_a_commit_becomes_a_candidate_when_it_is_asked_for(
    tmp_path: Path, repository: Callable[[str], Repository]
) -> None:
    tree = write_tree(tmp_path / "tree")
    old = commit_all(tree, "one", tag="v0.33.0")
    (tree / "pyproject.toml").rename(tree / "gone")
    broken = commit_all(tree, "two")
    here = repository(str(tree))
    steps = commit_steps(here.line(old, broken))
    series = Commits(
        address=str(tree), where=here.shown, repository=here.place, steps=steps, say=quiet
    )
    made = series.make(steps[0])
    assert made.source == Commit(repository=str(tree), revision=old)
    assert made.name == f"vllmg{old[:9]}" and series.is_of(steps[0], made)
    assert not series.is_of(steps[1], made)
    with pytest.raises(StepError, match=broken[:12]):
        series.make(steps[1])


def test_on_cuda_a_commit_has_a_way(
    tmp_path: Path, served: Served, repository: Callable[[str], Repository],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MATRIX_CHANNEL_VLLM_COMMIT", f"{served.url}{{commit}}")
    tree = write_tree(tmp_path / "tree")
    old = commit_all(tree, "one", tag="v0.33.0")
    here = repository(str(tree))
    steps = commit_steps(here.line(old, commit_all(tree, "two")))
    cpu = Commits(
        address=str(tree), where=here.shown, repository=here.place, steps=steps, say=quiet
    )
    ways = CudaWays(releases=load_releases(), pythons=("3.12",), say=quiet, build=True)
    cuda = replace(cpu, ways=ways)
    made = cuda.make(steps[0])
    assert made.on_cuda == OnCuda(way=Made.COMPILED) and cuda.is_of(steps[0], made)
    # What was made for the CPU is made again; the other way round there is no need.
    assert not cuda.is_of(steps[0], cpu.make(steps[0])) and cpu.is_of(steps[0], made)


@pytest.fixture
def wheels(served: Served) -> CommitWheels:
    """Serve one index for all commits; the channel has one for each."""
    steps = commit_steps(logged("4152872ac0" * 4, "5152872ac0" * 4))
    return CommitWheels(
        where="commit",
        repository="https://git.example/vllm",
        steps=steps,
        python="3.12",
        releases=load_releases(),
        place_of=lambda commit: ChosenIndex(
            address=served.url, index=f"{served.url}{commit}", channel=f"commit/{commit}"
        ),
    )


def test_a_wheel_of_a_commit_is_of_that_commit(served: Served, wheels: CommitWheels) -> None:
    first, second = wheels.steps
    with pytest.raises(StepError, match="vllm: is not on the index"):
        wheels.make(first)
    publish(served, "vllm", "0.34.0.dev5+g4152872ac", "torch==2.14.0")
    made = wheels.make(first)
    assert made.name == "vllmg4152872ac" and isinstance(made.source, OnIndex)
    assert wheels.is_of(first, made)
    with pytest.raises(StepError, match="is of commit 4152872ac, not of 5152872ac051"):
        wheels.make(second)


def test_an_index_that_does_not_answer_is_no_fault_of_a_step(
    wheels: CommitWheels, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Index.__init__, "__kwdefaults__", {"tries": 1, "backoff": 0.0})
    served.faults["/simple/vllm/"] = [500]
    with pytest.raises(FetchError) as caught:
        wheels.make(wheels.steps[0])
    assert not isinstance(caught.value, StepError)


@pytest.mark.parametrize("text", ["", "main", "..", "a..", "..b", "a...b"])
def test_a_range_has_two_ends(text: str) -> None:
    with pytest.raises(CandidateError, match=r"write it as GOOD\.\.BAD"):
        ends_of(text)
    assert ends_of("v0.33.0..main") == ("v0.33.0", "main")


@pytest.mark.parametrize(
    ("repository", "page"),
    [
        ("https://github.com/vllm-project/vllm", "https://github.com/vllm-project/vllm/compare/"),
        ("https://me:secret@github.com/o/r.git/", "https://github.com/o/r/compare/"),
        ("git@github.com:o/r.git", "https://github.com/o/r/compare/"),
        ("ssh://git@gitlab.com/o/s/r", "https://gitlab.com/o/s/r/-/compare/"),
        ("/srv/vllm", None),
        ("https://git.example/o/r", None),
        ("https://github.com/o", None),
        ("https://github.com.example/o/r", None),
    ],
)
def test_a_public_repository_has_a_page_of_what_lies_between(
    repository: str, page: str | None
) -> None:
    assert compare_address(repository, "a1", "b2") == (None if page is None else f"{page}a1...b2")
