"""What runs for a candidate, and what is said of it, with made-up records in place of runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from candidate_runs import MAIN, RC, RELEASES, known, run_of
from made import Told, failed, passed
from matrix.catalog.cells import Cell
from matrix.qualify.candidate import completed, qualify_candidate
from matrix.qualify.candidate_plan import CandidatePlan, CandidateQuery, plan_candidate
from matrix.qualify.model import Qualification, QualificationVerdict
from matrix.qualify.state_files import read_runs
from matrix.record.model import (
    CacheFiles,
    CacheKind,
    Case,
    CheckedCompile,
    ErrorKind,
    Platform,
    RunError,
)
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.report.qualify.sentences import unknown_sentence
from matrix.run import rerun
from matrix.run.candidates.options import NotRunError, RunOptions
from matrix.run.candidates.runs import Carried, ToxRuns, carry_out
from matrix.run.cell import record_unstarted
from qualifications import context, kinds

OLD = Cell("3.12", "2.15.0", "0.33.0")
NEW = Cell("3.12", RC.key, "0.33.0")
BASELINE, CANDIDATE = OLD.name, NEW.name

Attempts = dict[str, list[tuple[Case, ...] | RunError | None]]
"""What each run of a cell leaves, in their order: its cases, an error, or no record at all."""


@dataclass
class Folder:
    """Records, and runs that add to them as a script says."""

    attempts: Attempts
    records: list[Told] = field(default_factory=list)
    ran: list[tuple[str, bool]] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)

    def __call__(self, name: str, options: RunOptions) -> Path:
        self.ran.append((name, options.fresh))
        left = self.attempts[name].pop(0)
        if left is None:
            raise NotRunError("left no record; tox ended with 1")
        error = left if isinstance(left, RunError) else None
        cases = () if isinstance(left, RunError) else left
        number = len(self.ran)
        chosen = [case for case in cases if not options.fresh or case.case in options.cases]
        chosen = chosen if options.cases else list(cases)
        told = run_of(
            options.cell,
            *chosen,
            error=error,
            deselected=len(cases) - len(chosen),
            day=23,
            number=number,
        )
        self.records.append(told)
        if options.fresh:
            self.fresh.add(name)
        return told[0]

    def judge(self, plan: CandidatePlan) -> Qualification:
        return qualify_candidate(plan, self.records, replace(context(), releases=RELEASES))

    def confirmed(self, plan: CandidatePlan) -> Collection[str]:
        return self.fresh


def carried(
    attempts: Attempts, *records: Told, said: list[str] | None = None, **more: Any
) -> tuple[Carried, Folder]:
    folder = Folder(attempts=attempts, records=list(records))
    asked = CandidateQuery(**{"candidate": RC, "platform": Platform.CPU, **more})
    plan = plan_candidate(asked, known(*records))
    return carry_out(plan, folder, folder, (said if said is not None else []).append), folder


GOOD = (passed(), passed("b"))
DRIFTS = (passed(num_graphs_seen=0), passed("b"))
FAILS = (failed(), passed("b"))


def reasons(found: Carried) -> str:
    return " ".join(unknown_sentence(unknown) for unknown in found.qualification.unknown)


def test_the_baseline_runs_first_where_it_is_missing() -> None:
    said: list[str] = []
    found, folder = carried({BASELINE: [GOOD], CANDIDATE: [GOOD]}, said=said)
    assert folder.ran == [(BASELINE, False), (CANDIDATE, False)]
    assert found.qualification.verdict is QualificationVerdict.QUALIFIED and not found.again
    assert said[0] == f"1 of 2: {BASELINE} (baseline)"
    assert said[1].startswith(f"1 of 2: {BASELINE}: 0 s, record results/cpu/{BASELINE}.")


def test_what_has_a_record_does_not_run() -> None:
    old = run_of(OLD, *GOOD, provenance={"seconds": 420.0})
    said: list[str] = []
    found, folder = carried({CANDIDATE: [GOOD]}, old, said=said)
    assert folder.ran == [(CANDIDATE, False)] and found.qualification.exit_status == 0
    assert said[0] == f"1 of 1: {CANDIDATE} (candidate, about 7 min)"
    assert carried({}, old, run_of(NEW, *GOOD))[1].ran == []


@pytest.mark.parametrize(("bad", "kind"), [(FAILS, "regression"), (DRIFTS, "no expectation")])
def test_what_fails_or_drifts_again_in_a_fresh_environment_counts(
    bad: tuple[Case, ...], kind: str
) -> None:
    found, folder = carried({CANDIDATE: [bad, bad]}, run_of(OLD, *GOOD))
    assert folder.ran == [(CANDIDATE, False), (CANDIDATE, True)]
    assert found.again == (CANDIDATE,)
    assert set(kinds(found.qualification)) == {kind} and found.qualification.exit_status == 1


@pytest.mark.parametrize("bad", [FAILS, DRIFTS])
def test_what_goes_away_in_a_fresh_environment_is_not_known(bad: tuple[Case, ...]) -> None:
    found, folder = carried({CANDIDATE: [bad, GOOD]}, run_of(OLD, *GOOD))
    assert (found.qualification.verdict, found.qualification.exit_status) == (
        QualificationVerdict.NOT_ENOUGH,
        3,
    )
    assert "in another run of the same releases" in reasons(found)
    # The same by the records alone: to ask again changes nothing and runs nothing.
    again, folder = carried({}, *folder.records)
    assert folder.ran == [] and again.qualification.exit_status == 3


def wrote(files: int) -> tuple[Case, ...]:
    """Cases that passed; the warm start of the first wrote so many files of machine code."""
    cold, warm = passed().starts
    caches = {CacheKind.COMPILED: CacheFiles(files=9, bytes=9, new_files=files, new_bytes=files)}
    return replace(passed(), starts=(cold, replace(warm, caches=caches))), passed("b")


@pytest.mark.parametrize(("second", "status"), [(wrote(7), 1), (wrote(9), 1), (wrote(0), 3)])
def test_a_warm_start_that_compiles_again_is_asked_once_more(
    second: tuple[Case, ...], status: int
) -> None:
    found, folder = carried({CANDIDATE: [wrote(7), second]}, run_of(OLD, *wrote(0)))
    assert folder.ran == [(CANDIDATE, False), (CANDIDATE, True)]
    assert found.qualification.exit_status == status
    assert ("in another run of the same releases" in reasons(found)) is (status == 3)


def test_a_fresh_run_is_of_the_cases_that_failed() -> None:
    """What it did not run is as in the run before, of this build and these tests alone."""
    cases: list[tuple[str, ...]] = []
    folder = Folder(attempts={CANDIDATE: [FAILS, FAILS]}, records=[run_of(OLD, *GOOD)])

    def run(name: str, options: RunOptions) -> Path:
        cases.append(options.cases)
        return folder(name, options)

    asked = CandidateQuery(candidate=RC, platform=Platform.CPU)
    plan = plan_candidate(asked, known(*folder.records))
    assert carry_out(plan, folder, run, print).qualification.compared == 2
    assert cases == [(), ("moe",)]
    whole, part = folder.records[1:]
    assert part[1].deselected == 1
    (_, first), (path, second) = completed([part, whole])
    assert first is whole[1] and path == part[0]
    assert [case.case for case in second.cases] == ["moe", "b"] and second.is_complete
    assert not any(start.seconds for start in second.cases[1].starts)
    other = replace(part[1], origins=None), replace(part[1], flags={"x": 1})
    for record in (*other, replace(part[1], finished=False)):
        assert (path, record) in completed([whole, (path, record)])


HIT, MISS = "inductor.fxgraph_cache_hit", "inductor.fxgraph_cache_miss"


def checked(told: Told, graphs: str) -> Told:
    """Return a run whose cache check counted this once of Inductor's cache of graphs."""
    check = {name: {"aot_autograd.autograd_cache_hit": 1, graphs: 1} for name in CheckedCompile}
    return told[0], replace(told[1], cache_check=check)


@pytest.mark.parametrize(("second", "status"), [(MISS, 1), (HIT, 3)])
def test_a_cache_that_does_not_hit_is_checked_in_a_fresh_environment(
    second: str, status: int
) -> None:
    """The check is of no case, so every case runs again."""
    folder = Folder(attempts={CANDIDATE: [GOOD, GOOD]}, records=[checked(run_of(OLD, *GOOD), HIT)])
    cases, counted = [], [MISS, second]

    def run(name: str, options: RunOptions) -> Path:
        cases.append(options.cases)
        path = folder(name, options)
        folder.records[-1] = checked(folder.records[-1], counted.pop(0))
        return path

    asked = CandidateQuery(candidate=RC, platform=Platform.CPU)
    plan = plan_candidate(asked, known(*folder.records))
    found = carry_out(plan, folder, run, print)
    assert folder.ran == [(CANDIDATE, False), (CANDIDATE, True)] and cases == [(), ()]
    assert found.qualification.exit_status == status
    assert (HIT in reasons(found)) is (status == 3)


def test_what_begins_in_a_fresh_environment_counts() -> None:
    found, _ = carried({CANDIDATE: [DRIFTS, FAILS]}, run_of(OLD, *GOOD))
    assert found.qualification.exit_status == 1 and "regression" in kinds(found.qualification)


def test_both_sides_that_fail_alike_run_once_and_qualify_nothing() -> None:
    bad = (failed(), failed("b"))
    found, folder = carried({BASELINE: [bad], CANDIDATE: [bad]})
    assert folder.ran == [(BASELINE, False), (CANDIDATE, False)] and not found.again
    assert (found.qualification.exit_status, set(kinds(found.qualification))) == (
        3,
        {"fails as before"},
    )


def test_both_sides_that_fail_otherwise_run_once_more() -> None:
    other = (failed("moe", "ValueError: y"), passed("b"))
    found, folder = carried({BASELINE: [FAILS, FAILS], CANDIDATE: [other, other]})
    assert folder.ran[2:] == [(BASELINE, True), (CANDIDATE, True)]
    assert (kinds(found.qualification), found.qualification.exit_status) == (
        ["fails otherwise"],
        1,
    )


def test_a_baseline_that_failed_by_chance_leaves_a_regression() -> None:
    other = (failed("moe", "ValueError: y"), passed("b"))
    found, _ = carried({BASELINE: [FAILS, GOOD], CANDIDATE: [other, other]})
    assert kinds(found.qualification) == ["regression"]


@pytest.mark.parametrize("side", [BASELINE, CANDIDATE])
def test_an_environment_that_cannot_be_made_is_no_answer(side: str) -> None:
    """tox leaves a record of it; without one the command says what tox said."""
    broken = RunError(kind=ErrorKind.BROKEN_INSTALL, reason="files differ from their list")

    def attempts(left: RunError | None) -> Attempts:
        return {BASELINE: [GOOD], CANDIDATE: [GOOD], side: [left]}

    found, folder = carried(attempts(broken))
    assert found.qualification.exit_status == 3 and len(folder.ran) == 2
    said: list[str] = []
    found, folder = carried(attempts(None), said=said)
    assert [item.cell for item in found.not_run] == [side]
    assert found.qualification.exit_status == 3 and len(folder.ran) == 2
    assert any("left no record; tox ended with 1" in line for line in said)


def test_a_candidate_that_does_not_resolve_is_known_by_its_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tox makes no environment, so nothing that is installed says which build it was."""
    monkeypatch.setattr("matrix.run.cell.load_releases", lambda: RELEASES)
    monkeypatch.setattr("matrix.run.origin.load_releases", lambda: RELEASES, raising=False)
    error = RunError(kind=ErrorKind.RESOLVES, reason="no solution found")
    path = record_unstarted(NEW, error, platform="cpu", records=tmp_path, root=tmp_path)
    told = path, read(path)
    found, folder = carried({CANDIDATE: [None]}, run_of(OLD, *GOOD), told)
    assert folder.ran == [(CANDIDATE, True)]  # it has a record, and is tried once more
    assert set(kinds(found.qualification)) == {"regression"}


def test_without_a_second_sample_the_first_one_stands() -> None:
    found, folder = carried({CANDIDATE: [FAILS, None]}, run_of(OLD, *GOOD))
    assert folder.ran[-1] == (CANDIDATE, True)
    assert found.qualification.exit_status == 1 and len(found.not_run) == 1


def test_an_import_that_fails_is_a_regression() -> None:
    broken = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: x")
    found, _ = carried({CANDIDATE: [broken, broken]}, run_of(OLD, *GOOD))
    assert set(kinds(found.qualification)) == {"regression"} and found.again == (CANDIDATE,)


def test_an_interrupt_leaves_what_ran_and_the_next_run_goes_on() -> None:
    folder = Folder(attempts={BASELINE: [GOOD], CANDIDATE: [GOOD]})

    def run(name: str, options: RunOptions) -> Path:
        if name == CANDIDATE:
            raise KeyboardInterrupt
        return folder(name, options)

    asked = CandidateQuery(candidate=RC, platform=Platform.CPU)
    plan = plan_candidate(asked, known())
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan, folder, run, print)
    again = plan_candidate(asked, known(*folder.records))
    assert [planned.cell.name for planned in again.to_run] == [CANDIDATE]
    assert carry_out(again, folder, folder, print).qualification.exit_status == 0


def test_a_vllm_candidate_needs_both_its_cells() -> None:
    pin, near = "py314-torch214-vllm", "py314-torch215-vllm"
    attempts: Attempts = {
        f"{pin}033": [GOOD],
        f"{pin}main": [GOOD],
        f"{near}033": [GOOD],
        f"{near}main": [FAILS, FAILS],
    }
    found, _ = carried(attempts, candidate=MAIN)
    assert found.again == (f"{near}main",) and found.qualification.exit_status == 1
    assert found.qualification.compared == 4


def test_a_quick_one_is_judged_by_its_own_cases() -> None:
    small = "small_startup[dense]"
    old = run_of(OLD, passed(small), passed("moe"))
    new = run_of(NEW, passed(small), failed("moe"), deselected=0)
    found, folder = carried({}, old, new, quick=True)
    assert (found.qualification.exit_status, folder.ran) == (0, [])
    assert found.qualification.compared == 1


# Through tox.


@pytest.fixture
def tox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make a checkout whose tox runs these lines of Python, with `name` and `records` at hand."""

    def script(lines: str) -> Path:
        path = tmp_path / "tox"
        path.write_text(
            f"#!{sys.executable}\nimport json, os, pathlib, signal, sys, time\n"
            "name = sys.argv[sys.argv.index('-e') + 1]\n"
            "records = pathlib.Path('records/cpu')\n"
            "records.mkdir(parents=True, exist_ok=True)\n"
            f"{lines}\n"
        )
        path.chmod(0o755)
        (tmp_path / "tox.ini").write_text("[tox]\n")
        monkeypatch.setattr(rerun, "tox_command", lambda: [str(path)])
        return tmp_path

    return script


def leaves(path: Path, told: Told) -> str:
    """Return the lines that leave a record, as tox of a cell does."""
    source = path / "source" / told[0].name
    write(told[1], source)
    return f"(records / {told[0].name!r}).write_text(pathlib.Path({str(source)!r}).read_text())"


def tox_runs(root: Path, said: list[str]) -> ToxRuns:
    return ToxRuns(root=root, state=root / "state", say=said.append)


OPTIONS = RunOptions(cell=NEW, platform=Platform.CPU, progress="1 of 1")


def test_tox_makes_the_record(tox: Callable[[str], Path], tmp_path: Path) -> None:
    told = run_of(NEW, *GOOD, provenance={"seconds": 0.0})
    root = tox(f"print('made', sys.argv[1:]); {leaves(tmp_path, told)}; sys.exit(1)")
    runs = tox_runs(root, [])
    assert runs(CANDIDATE, OPTIONS) == Path("records/cpu", told[0].name)
    log = (root / "state/logs" / f"{CANDIDATE}.cpu.log").read_text()
    assert log.strip() == f"made ['-e', '{CANDIDATE}', '--', '--platform', 'cpu']"
    (made,) = read_runs(root / "state")
    assert (made.cell, made.fresh, made.record) == (CANDIDATE, False, told[0].name)
    assert made.environment_seconds is not None


def test_a_fresh_environment_is_asked_of_tox_and_noted(
    tox: Callable[[str], Path], tmp_path: Path
) -> None:
    root = tox(f"print(*sys.argv[1:]); {leaves(tmp_path, run_of(NEW, *GOOD))}")
    (root / ".tox" / CANDIDATE).mkdir(parents=True)
    runs = tox_runs(root, [])
    runs(CANDIDATE, replace(OPTIONS, fresh=True, cases=("small_startup",)))
    log = (root / "state/logs" / f"{CANDIDATE}.cpu.log").read_text()
    again = "-r --no-recreate-provision"  # the cell's environment, and not that of tox
    assert log == f"{again} -e {CANDIDATE} -- --platform cpu -k small_startup\n"
    (made,) = read_runs(root / "state")
    assert made.fresh


def test_without_a_record_the_last_line_of_tox_says_why(tox: Callable[[str], Path]) -> None:
    root = tox("print('error: no wheel of torch'); sys.exit(3)")
    with pytest.raises(NotRunError) as refused:
        tox_runs(root, [])(CANDIDATE, OPTIONS)
    assert "tox ended with 3" in str(refused.value)
    assert "error: no wheel of torch" in str(refused.value) and "\n" not in str(refused.value)
    assert not read_runs(root / "state")


def test_ctrl_c_lets_the_cell_write_its_record(
    tox: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tox gets SIGINT alone, and the time that it needs."""
    lines = leaves(tmp_path, run_of(NEW, *GOOD))
    root = tox(
        "def stop(*_):\n"
        f"    {lines}\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "pathlib.Path('began').write_text('')\n"
        "time.sleep(60)"
    )

    def interrupted(*_: object) -> None:
        if (root / "began").exists():
            raise KeyboardInterrupt

    runs = ToxRuns(root=root, state=root / "state", say=interrupted, every=0.05)
    with pytest.raises(KeyboardInterrupt):
        runs(CANDIDATE, OPTIONS)
    assert [path.name for path in (root / "records/cpu").iterdir()]


def test_progress_is_said_while_it_runs(tox: Callable[[str], Path], tmp_path: Path) -> None:
    told = run_of(NEW, *GOOD)
    root = tox(
        "print('downloads torch', flush=True)\n"
        "while not pathlib.Path('said').exists(): time.sleep(0.02)\n"
        f"{leaves(tmp_path, told)}"
    )
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "downloads torch" in line:
            (root / "said").write_text("")

    ToxRuns(root=root, state=root / "state", say=say, every=0.05)(CANDIDATE, OPTIONS)
    assert re.match(r"1 of 1: \d+ s: downloads torch", said[-1])
