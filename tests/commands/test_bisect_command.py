"""`matrix bisect` below releases: an index and git on this machine, and runs without a cell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from candidates import torch_candidate, vllm_candidate
from command import matrix
from local_index import JSON, Served
from made import provenance
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import load_candidates, write_candidates
from matrix.catalog.index import Index
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.record.origin import Origin
from matrix.record.writer import write
from matrix.run import rerun
from matrix.run.rerun import Rerun
from nightlies import LINUX, publish, serve_nightlies
from vllm_tree import commit_all, write_tree

CASE = "a[b=1]"
DAYS = [date(2026, 11, 1) + timedelta(number) for number in range(20)]
COMMON = ("--case", CASE, "--platform", "cpu", "--python", "3.12")
Works = Callable[[str], str]
"""What a cell does, by its name: passes, fails, or does not install."""


def recorded(name: str, does: str, releases: Releases, minute: int) -> Record:
    cell = releases.resolve(name)
    passes = does == "passes"
    starts = tuple(Start(start=kind, seconds={}, counters={}) for kind in StartKind)
    case = Case(
        case=CASE,
        outcome=Outcome.PASSED if passes else Outcome.FAILED,
        reason=None if passes else "KeyError: 'x'",
        signature=None if passes else "KeyError: 'x'",
        starts=starts if passes else starts[:1],
    )
    origins = tuple(
        Origin(project=project, candidate=build)
        for project, build in (("torch", cell.torch_build), ("vllm", cell.vllm_build))
    )
    public = [key.partition("+")[0] for key in (cell.torch, cell.vllm)]
    more = {"started": f"2026-11-29T18:{minute:02}:00Z", "python": "3.12.1"}
    installed = does != "does not install"
    return Record(
        cell=name,
        platform=Platform.CPU,
        finished=True,
        provenance={**provenance(*public), **more},
        origins=origins,
        rungs=(RungResult(rung=Rung.IMPORTS, ok=True),) if installed else (),
        cases=(case,) if installed else (),
        error=None
        if installed
        else RunError(kind=ErrorKind.BROKEN_INSTALL, reason="a wheel is damaged"),
    )


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Works], list[str]]:
    """In the place of tox: it reads the candidates that it is given, and writes a record."""
    ran: list[str] = []

    def of(works: Works) -> list[str]:
        def run_all(runs: Iterable[Rerun], root: Path, *, dry: bool = False) -> list[str]:
            for run in runs:
                with pytest.MonkeyPatch.context() as patch:
                    for name, value in run.environ:
                        patch.setenv(name, value)
                    releases = load_releases()
                record = recorded(run.name, works(run.name), releases, len(ran))
                write(record, tmp_path / "records" / "cpu" / f"{run.name}.json")
                ran.append(run.name)
            return []

        monkeypatch.setattr(rerun, "run_all", run_all)
        return ran

    return of


@pytest.fixture
def nightly(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv("MATRIX_CHANNEL_TORCH_NIGHTLY", served.url)
    serve_nightlies(served, DAYS)
    return served


BY_DAY = (
    "bisect", "--channel", "nightly/cu130", "--from", "2026-11-01", "--to", "2026-11-20",
    "--vllm", "0.33.0", *COMMON,
)  # fmt: skip


def bad_from(day: str) -> Works:
    return lambda name: "fails" if name.split("-")[1][-8:] >= day else "passes"


@pytest.mark.programs
def test_a_bisection_over_nightlies(
    nightly: Served, cells: Callable[[Works], list[str]], tmp_path: Path
) -> None:
    works = bad_from("20261113")
    ran = cells(lambda name: "does not install" if "20261110" in name else works(name))
    nightly.withdraw(f"torch-2.17.0.dev20261112+cu130-cp312-cp312-{LINUX}.whl")
    done = matrix(tmp_path, *BY_DAY, "--run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "torch 2.17.0.dev20261113+cu130 is the first bad one, 2.17.0.dev20261111+cu130 the last"
        " good\nlast before it: 2026-11-11\nit is: 2026-11-13\n"
    )
    assert len(ran) <= 2 + 5 + 1
    assert "(its run has no result for this case: a wheel is damaged)" in done.stdout
    assert "not run" not in done.stdout
    file = tmp_path / "candidates.bisect.toml"
    assert {candidate.name for candidate in load_candidates(file).every} == {
        name.split("-")[1] for name in ran
    }
    assert not (tmp_path / "candidates.toml").exists()
    again = json.loads(matrix(tmp_path, *BY_DAY, "--run", "--json").stdout)
    assert again["runs"] == 0 and again["first_bad"] == "py312-torchnightly20261113-vllm033"
    assert again["change"]["last"]["point"] == "2026-11-11"


def test_a_dry_run_says_how_many_runs_and_the_first_command(
    nightly: Served, tmp_path: Path
) -> None:
    done = matrix(tmp_path, *BY_DAY, "--dry-run")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "candidates.bisect.toml"
    assert done.stdout == (
        "at most 7 runs for 20 builds of torch of nightly/cu130, from 2.17.0.dev20261101+cu130 to"
        " 2.17.0.dev20261120+cu130\n"
        f"MATRIX_CANDIDATES={file} tox -e py312-torchnightly20261120-vllm033 -- --platform cpu"
        " -k 'a[b'\n"
    )
    assert not file.exists()
    one = matrix(tmp_path, *BY_DAY)
    assert one.stdout.endswith(f"next: {done.stdout.splitlines()[1]}\n") and file.exists()


@pytest.fixture(scope="module")
def made_tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Make a repository of vLLM with ten commits; nothing of the sixth can be built."""
    folder = write_tree(tmp_path_factory.mktemp("tree") / "vllm")
    commits = [commit_all(folder, "commit 0", tag="v0.34.0")]
    for number in range(1, 10):
        gone = folder / "pyproject.toml"
        text = gone.read_text(encoding="utf-8")
        if number == 6:
            gone.unlink()
        commits.append(commit_all(folder, f"commit {number}"))
        gone.write_text(text, encoding="utf-8")
    return folder, commits


@pytest.fixture
def tree(made_tree: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """Return a copy of it, and its commits."""
    made, commits = made_tree
    return shutil.copytree(made, tmp_path / "vllm", symlinks=True), list(commits)


@pytest.mark.programs
def test_a_bisection_over_commits(
    tree: tuple[Path, list[str]], cells: Callable[[Works], list[str]], tmp_path: Path
) -> None:
    folder, commits = tree
    names = [f"py312-torch214-vllmg{commit[:9]}" for commit in commits]
    ran = cells(lambda name: "fails" if names.index(name) >= 7 else "passes")
    line = ("bisect", "--commits", str(folder), f"v0.34.0..{commits[-1][:12]}")
    done = matrix(tmp_path, *line, "--torch", "2.14.0", *COMMON, "--run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        f"vLLM {commits[6][:12]} or {commits[7][:12]} is the first bad one, {commits[5][:12]} the"
        f" last good; {commits[6][:12]} cannot be judged\n"
        f"last before it: {commits[5]}  commit 5\n"
        f"may be it: {commits[6]}  commit 6\n"
        f"may be it: {commits[7]}  commit 7\n"
    )
    assert "skip (it cannot be made: " in done.stdout
    assert len(ran) <= 2 + 4
    wrong = matrix(tmp_path, *line, "--torch", "2.14.0", *COMMON, "--run", "--fixed")
    assert wrong.returncode == 2
    assert f"{commits[0][:12]}, which is to be bad, runs to its end" in wrong.stderr


def test_a_bisection_over_wheels_of_commits(
    tree: tuple[Path, list[str]],
    cells: Callable[[Works], list[str]],
    served: Served,
    tmp_path: Path,
) -> None:
    """Each commit has an index of its own; that of the fifth has no wheel."""
    folder, commits = tree
    for number, commit in enumerate(commits):
        if number != 5:
            version = f"0.34.1.dev{number}+g{commit[:9]}"
            publish(served, "vllm", version, "torch==2.14.0")
            page = {"meta": {"api-version": "1.1"}, "name": "vllm"}
            rows = served.projects["vllm"][-1:]
            served.pages[commit] = JSON, json.dumps({**page, "files": rows})
    names = [f"py312-torch214-vllmg{commit[:9]}" for commit in commits]
    ran = cells(lambda name: "fails" if names.index(name) >= 4 else "passes")
    done = matrix(
        tmp_path, "bisect", "--commits", str(folder), "v0.34.0..main", "--channel", "commit",
        "--torch", "2.14.0", *COMMON, "--run", "--json",
        MATRIX_CHANNEL_VLLM_COMMIT=f"{served.url}{{commit}}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["first_bad"] == names[4] and found["runs"] == len(ran) <= 2 + 4
    assert found["change"]["last"]["point"] == commits[3]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("v0.34.0..v0.34.0", "is both ends of the range"),
        ("main..v0.34.0", "is older than"),
        ("v0.34.0..nosuch", "has no branch, tag or commit nosuch"),
        ("v0.34.0", "is not a range of commits; write it as GOOD..BAD"),
    ],
)
def test_a_range_without_a_line_is_one_line(
    tree: tuple[Path, list[str]], tmp_path: Path, text: str, fault: str
) -> None:
    line = ("bisect", "--commits", str(tree[0]), text, "--torch", "2.14.0", *COMMON)
    refused(matrix(tmp_path, *line), fault)


def refused(done: object, fault: str) -> None:
    returncode, stderr = getattr(done, "returncode"), getattr(done, "stderr")  # noqa: B009
    lines = [line for line in stderr.splitlines() if "no folder results or records" not in line]
    assert returncode == 2
    assert len(lines) == 1 and fault in lines[0], stderr


def test_a_line_of_releases_takes_a_candidate(tmp_path: Path) -> None:
    file = tmp_path / "candidates.toml"
    rc, main = torch_candidate("torch215rc9", "2.15.0+cu130"), vllm_candidate()
    write_candidates(Candidates(every=(rc, main)), file)

    def bisect(torch: str, vllm: str) -> subprocess.CompletedProcess[str]:
        asked = ("bisect", "--torch", torch, "--vllm", vllm, *COMMON, "--run", "--dry-run")
        return matrix(tmp_path, *asked, MATRIX_CANDIDATES=str(file))

    done = bisect("torch215rc9", "0.31..0.33")
    assert done.returncode == 0, done.stderr
    assert "for 3 releases" in done.stdout and "py312-torch215rc9-vllm03" in done.stdout
    done = bisect("2.13..torch215rc9", "0.33")
    assert "for 3 releases" in done.stdout, done.stderr
    refused(bisect("torchnone", "0.31..0.33"), "candidate 'torchnone': is not known")
    refused(bisect("vllmmain", "0.31..0.33"), "vllmmain is a candidate of vllm; name one of torch")


PATCHES = ("bisect", "--torch", "2.13.0..2.14.1", "--vllm", "0.32.0", "--case", CASE)


def recorded_patches(folder: Path, *pythons: str) -> None:
    """Write what two torch with vLLM 0.32.0 do; no name installs torch 2.14.0 with it."""
    for python in pythons:
        for torch, does in (("torch213", "passes"), ("torch214", "fails")):
            record = recorded(f"{python}-{torch}-vllm032", does, load_releases(), 0)
            name = python.replace("py3", "3.")
            more = {**record.provenance, "python": f"{name}.1"}
            path = folder / "records" / "cpu" / f"{record.cell}.json"
            write(replace(record, provenance=more), path)


def test_a_release_without_a_name_may_be_the_first_bad_one(tmp_path: Path) -> None:
    recorded_patches(tmp_path, "py312")
    asked = (*PATCHES, "--platform", "cpu", "records")
    done = matrix(tmp_path, *asked)
    assert done.stdout.splitlines()[-1] == (
        "the first bad torch is newer than 2.13.0 and at most 2.14.1; 2.14.0 has no name here"
    ), done.stderr
    found = json.loads(matrix(tmp_path, *asked, "--json").stdout)
    assert (found["unnamed"], found["first_bad"]) == (["2.14.0"], "py312-torch214-vllm032")


def test_the_python_is_that_of_the_most_records(tmp_path: Path) -> None:
    asked = (*PATCHES, "--platform", "cpu", "records")
    recorded_patches(tmp_path, "py312")
    assert "torch 2.14.1  bad   py312-torch214-vllm032" in matrix(tmp_path, *asked).stdout
    given = matrix(tmp_path, *asked, "--python", "3.11").stdout
    assert "torch 2.14.1  not run  py311-torch214-vllm032" in given
    recorded_patches(tmp_path, "py311")
    assert "torch 2.14.1  bad   py311-torch214-vllm032" in matrix(tmp_path, *asked).stdout


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--from", "2026-12-01", "--to", "2026-12-09"], "it has others from 2026-11-01 to"),
        (["--from", "2026-11-01", "--to", "2026-11-01"], "both are 2026-11-01; name two days"),
        (["--from", "2026-11-02", "--to", "2026-11-01"], "is later than --to 2026-11-01"),
        (["--from", "2026-11-02"], "name the first day and the last"),
        (["--fixed"], "--fixed: does not go with a line of days"),
        (["--build"], "--build: does not go with a line of days"),
        (["--torch", "2.14.0"], "name the half of the pair that stays"),
        (["--vllm", "9.9.9"], "--vllm 9.9.9: is not known"),
        (["--channel", "weekly"], "--channel weekly: is not a channel of torch"),
    ],
)
def test_what_is_not_a_line_of_days_is_one_line(
    nightly: Served, tmp_path: Path, arguments: list[str], fault: str
) -> None:
    base = list(BY_DAY)
    if arguments[0] == "--from":
        base = [*base[:3], *base[7:]]
    refused(matrix(tmp_path, *base, *arguments), fault)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--vllm", "0.33.0"], "--vllm: does not go with --commits"),
        ([], "--commits: names a line of vLLM; name its torch"),
        (["--torch", "2.14.0", "--channel", "nightly"], "has no index for each commit"),
        (["--torch", "2.14.0", "--from", "2026-11-01"], "--from: does not go with --commits"),
        (["--torch", "2.14.0", "--build"], "--build: goes with --commits on --platform cuda"),
    ],
)
def test_what_does_not_go_with_commits_is_one_line(
    tree: tuple[Path, list[str]], tmp_path: Path, arguments: list[str], fault: str
) -> None:
    line = ("bisect", "--commits", str(tree[0]), "v0.34.0..main", *COMMON)
    refused(matrix(tmp_path, *line, *arguments), fault)


def test_without_git_or_an_index_is_one_line(
    tree: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Index.__init__, "__kwdefaults__", {"tries": 1, "backoff": 0.0})
    done = matrix(tmp_path, *BY_DAY, MATRIX_CHANNEL_TORCH_NIGHTLY="http://127.0.0.1:9/simple/")
    refused(done, "does not answer")
    line = ("bisect", "--commits", str(tree[0]), "v0.34.0..main", "--torch", "2.14.0", *COMMON)
    refused(matrix(tmp_path, *line, PATH=os.devnull), "git is missing")


def test_a_line_of_releases_takes_no_days(tmp_path: Path) -> None:
    line = ("bisect", "--vllm", "0.33.0", "--torch", "2.14.0..2.15.0", *COMMON)
    refused(matrix(tmp_path, *line, "--from", "2026-11-01"), "--from: does not go with a line of")
    refused(matrix(tmp_path, *line[:3], *COMMON), "or name a line of builds: --channel, --commits")
