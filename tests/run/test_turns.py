"""The two sides of a candidate in turns, with made-up records in place of runs."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from candidate_runs import MAIN, RC, RELEASES, known, run_of
from made import Told, failed, passed
from matrix.catalog.cells import Cell
from matrix.qualify.candidate import qualify_candidate
from matrix.qualify.candidate_plan import CandidatePlan, CandidateQuery, plan_candidate
from matrix.qualify.model import Qualification, QualificationVerdict
from matrix.qualify.speed import DroppedCode, Round, SpeedCode
from matrix.qualify.state_files import MadeRound, read_rounds
from matrix.qualify.turns import with_rounds
from matrix.qualify.unjudged import Unjudged
from matrix.record.model import Case, Platform, Record
from matrix.record.writer import write
from matrix.report.qualify import candidate as report
from matrix.report.qualify.text import lines
from matrix.run import rerun
from matrix.run.candidates.options import NotRunError, RunOptions
from matrix.run.candidates.runs import Carried, ToxRuns, carry_out
from qualifications import context

OLD = Cell("3.12", "2.15.0", "0.33.0")
NEW = Cell("3.12", RC.key, "0.33.0")
BASELINE, CANDIDATE = OLD.name, NEW.name
SMALL = "small_startup[dense]"
A_B = [BASELINE, CANDIDATE]


def small(seconds: float) -> tuple[Case, ...]:
    return (passed(SMALL, cold=seconds, warm=seconds / 4),)


FAST, SLOW = small(20), small(25)
FAILS = (failed(SMALL),)
OTHER = passed("moe", cold=90)
Left = tuple[Case, ...] | BaseException


@dataclass
class Machine:
    """Records, environments and rounds; a run leaves what the script of its cell has next."""

    script: dict[str, list[Left]]
    records: list[Told] = field(default_factory=list)
    environments: set[str] = field(default_factory=lambda: {BASELINE, CANDIDATE})
    ran: list[tuple[str, RunOptions]] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    number: int = 0

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.ran]

    def __call__(self, name: str, options: RunOptions) -> Path:
        self.ran.append((name, options))
        self.environments.add(name)
        left = self.script[name].pop(0)
        if isinstance(left, BaseException):
            raise left
        self.number += 1
        more: dict[str, Any] = {"deselected": 1} if options.cases else {}
        told = run_of(options.cell, *left, day=23, number=self.number, **more)
        self.records.append(told)
        return told[0]

    def has_environment(self, name: str) -> bool:
        return name in self.environments

    def add_round(self, platform: Platform, baseline: Path, candidate: Path) -> None:
        assert platform is Platform.CPU
        self.rounds.append(Round(baseline=self._of(baseline), candidate=self._of(candidate)))

    def _of(self, path: Path) -> Record:
        return dict(self.records)[path]

    def judge(self, plan: CandidatePlan) -> Qualification:
        found = qualify_candidate(plan, self.records, replace(context(), releases=RELEASES))
        return with_rounds(found, plan, self.rounds)

    def confirmed(self, plan: CandidatePlan) -> Collection[str]:
        return {name for name, options in self.ran if options.fresh}

    def plan(self, rounds: int = 3, **more: Any) -> CandidatePlan:
        asked = CandidateQuery(
            **{"candidate": RC, "platform": Platform.CPU, "quick": True, "rounds": rounds, **more}
        )
        return plan_candidate(asked, known(*self.records, rounds=tuple(self.rounds)))

    def carried(self, rounds: int = 3, **more: Any) -> Carried:
        return carry_out(self.plan(rounds, **more), self, self, self.said.append, self)


def machine(old: Sequence[Left], new: Sequence[Left], **more: Any) -> Machine:
    """Return a machine on which both sides already passed."""
    records = [run_of(OLD, *FAST, number=1), run_of(NEW, *SLOW, number=2)]
    script = {BASELINE: list(old), CANDIDATE: list(new)}
    return Machine(**{"script": script, "records": records, **more})


def shown(carried: Carried) -> Unjudged:
    [found] = carried.qualification.unjudged
    return found


def test_the_sides_take_turns_one_after_the_other() -> None:
    runs = machine([FAST] * 3, [SLOW] * 3)
    found = runs.carried()
    assert runs.names == A_B * 3
    assert {(options.cases, options.fresh, options.jobs) for _, options in runs.ran} == {
        (("small_startup",), False, "1")
    }
    cold, warm = shown(found).speeds
    assert (len(cold.ratios), cold.slower) == (3, True)
    assert cold.ratio == pytest.approx(1.25)
    assert warm.ratio == pytest.approx(1.25)
    assert found.qualification.verdict is QualificationVerdict.QUALIFIED
    assert "cold starts are 25 % slower than the baseline's: a slowdown" in lines(
        found.qualification
    )


def test_without_the_option_nothing_is_timed() -> None:
    runs = machine([], [])
    assert runs.carried(0).qualification.exit_status == 0 and runs.ran == []


def test_progress_has_the_verdict_first_and_what_is_left() -> None:
    runs = machine([FAST] * 2, [SLOW] * 2)
    runs.records[0] = run_of(OLD, *FAST, number=1, provenance={"seconds": 120.0})
    runs.carried(2)
    assert runs.said[0] == "the verdict before the timings: qualified"
    begun = [line for line in runs.said if " left" in line or "last turn" in line]
    assert begun[0] == f"round 1 of 2: {BASELINE} (baseline; 4 turns left, about 6 min)"
    assert begun[-1].startswith(f"round 2 of 2: {CANDIDATE} (candidate; the last turn, about ")
    assert runs.said[2].startswith(f"round 1 of 2: {BASELINE}: 0 s, record ")


def test_a_new_environment_runs_once_before_it_counts() -> None:
    runs = machine([FAST] * 3, [SLOW] * 2, environments={CANDIDATE})
    runs.carried(2)
    assert runs.names == [BASELINE, *A_B, *A_B] and len(runs.rounds) == 2
    assert f"{BASELINE} (baseline) in its new environment, which does not count" in runs.said[1]


def test_a_run_that_failed_drops_out_and_counts_in_the_verdict() -> None:
    """Nobody hides a failure: it runs once more in a fresh environment, and leaves no answer."""
    runs = machine([FAST] * 3, [SLOW, SLOW, FAILS, SLOW])
    found = runs.carried()
    assert runs.ran[-1][1].fresh and found.again == (CANDIDATE,)
    [dropped] = shown(found).dropped
    assert (dropped.code, dropped.case) == (DroppedCode.CASE, SMALL)
    assert [len(speed.ratios) for speed in shown(found).speeds] == [2, 2]
    assert found.qualification.exit_status == 3
    assert (
        f"the run of the candidate at {dropped.started} does not count, nor does its round:"
        " small_startup[dense]: failed"
    ) in lines(found.qualification)


def test_a_side_that_never_passes_takes_no_turns() -> None:
    runs = Machine(
        script={CANDIDATE: [FAILS]},
        records=[run_of(OLD, *FAST, number=1), run_of(NEW, *FAILS, number=2)],
    )
    found = runs.carried()
    assert [(name, options.fresh) for name, options in runs.ran] == [(CANDIDATE, True)]
    [untimed] = found.untimed
    assert (untimed.candidate, untimed.side) == (CANDIDATE, "candidate")
    text = report.lines(report.Result(plan=runs.plan(), carried=found), ())
    assert (
        f"{BASELINE} and {CANDIDATE} were not timed in turns: no case of small_startup passed at"
        " the candidate\n"
    ) in text


def test_a_side_without_a_record_takes_no_turns() -> None:
    """Nobody is blamed for it."""
    gone: Left = NotRunError("left no record; tox ended with 1")
    runs = Machine(script={BASELINE: [gone], CANDIDATE: [SLOW]})
    found = runs.carried()
    assert runs.names == A_B and [item.side for item in found.untimed] == [None]
    text = report.lines(report.Result(plan=runs.plan(), carried=found), ())
    assert "were not timed in turns: a side has no record that could be compared\n" in text


def test_a_side_that_fails_in_every_turn_gives_no_ratio() -> None:
    runs = machine([FAST] * 2, [FAILS] * 3)
    found = shown(runs.carried(2))
    assert found.speeds == () and found.no_speed is not None
    assert found.no_speed.code is SpeedCode.NO_CASE


def test_a_cell_without_a_record_stops_its_turns() -> None:
    runs = machine([FAST] * 3, [SLOW, NotRunError("left no record; tox ended with 1")])
    found = runs.carried()
    assert runs.names == A_B * 2 and len(runs.rounds) == 1
    assert [item.cell for item in found.not_run] == [CANDIDATE]
    assert shown(found).no_speed is not None and found.qualification.exit_status == 0


def test_an_interrupt_leaves_the_rounds_and_the_next_command_goes_on() -> None:
    runs = machine([FAST] * 3, [SLOW, KeyboardInterrupt(), SLOW])
    with pytest.raises(KeyboardInterrupt):
        runs.carried(2)
    assert len(runs.rounds) == 1
    [pair] = runs.plan(2).pairs
    assert pair.rounds is not None and (pair.rounds.done, pair.rounds.left) == (1, 1)
    runs.ran.clear()
    found = runs.carried(2)
    assert runs.names == A_B and len(shown(found).speeds) == 2
    runs.ran.clear()
    again = runs.carried(2)
    assert runs.ran == [] and shown(again).speeds == shown(found).speeds


def test_a_round_with_a_run_that_was_cut_short_is_repeated() -> None:
    runs = machine([FAST] * 3, [SLOW] * 3)
    runs.carried(2)
    short = replace(runs.rounds[0].candidate, finished=False)
    runs.rounds[0] = replace(runs.rounds[0], candidate=short)
    [pair] = runs.plan(2).pairs
    assert pair.rounds is not None and pair.rounds.left == 1
    found = shown(runs.carried(2))
    assert len(runs.rounds) == 3 and [item.code for item in found.dropped] == ["cut short"]
    assert len(found.speeds[0].ratios) == 2


@pytest.mark.parametrize("other", ["build", "tests", "platform", "cell"])
def test_rounds_of_something_else_are_not_done(other: str) -> None:
    runs = machine([FAST] * 2, [SLOW] * 2)
    runs.carried(2)
    record = runs.rounds[0].candidate
    changes: dict[str, dict[str, Any]] = {
        "build": {"origins": runs.rounds[0].baseline.origins},
        "tests": {"provenance": {**record.provenance, "tests": {"version": 1}}},
        "platform": {"platform": Platform.CUDA},
        "cell": {"cell": BASELINE},
    }
    runs.rounds[0] = replace(runs.rounds[0], candidate=replace(record, **changes[other]))
    [pair] = runs.plan(2).pairs
    assert pair.rounds is not None and pair.rounds.done == 1


def test_each_pairing_takes_its_own_turns() -> None:
    pin, near = "py314-torch214-vllm", "py314-torch215-vllm"
    names = [f"{torch}{vllm}" for torch in (pin, near) for vllm in ("033", "main")]
    runs = Machine(script={name: [FAST] * 3 for name in names}, environments=set(names))
    found = runs.carried(2, candidate=MAIN)
    assert runs.names == [*names, *names[:2] * 2, *names[2:] * 2]
    assert [len(found.speeds) for found in found.qualification.unjudged] == [2, 2]
    assert f"round 1 of 2: {near}033 (baseline; 4 turns left" in "\n".join(runs.said)


def test_a_whole_qualification_times_the_small_cases_alone() -> None:
    """A run of some cases changes nothing of the others, also not on another machine."""
    elsewhere: dict[str, Any] = {"provenance": {"cpu": {"model": "Xeon", "cores": 2}}}
    runs = machine([FAST] * 2, [SLOW] * 2)
    runs.records = [
        run_of(OLD, *FAST, OTHER, number=1, **elsewhere),
        run_of(NEW, *SLOW, OTHER, number=2),
    ]
    found = runs.carried(2, quick=False)
    assert not runs.plan(2, quick=False).to_run
    assert (found.qualification.exit_status, found.qualification.compared) == (0, 2)
    assert [(speed.cases, len(speed.ratios)) for speed in shown(found).speeds] == [(1, 2)] * 2


def test_a_plan_says_what_the_timings_cost() -> None:
    runs = machine([FAST] * 2, [SLOW] * 2)
    runs.records[0] = run_of(OLD, *FAST, number=1, provenance={"seconds": 120.0})
    runs.records[1] = run_of(NEW, *SLOW, number=2, provenance={"seconds": 180.0})
    said = "timings of small_startup in turns: "
    text = report.plan_lines(runs.plan())
    assert f"{said}3 rounds to run, about 15 min more\n" in text
    line = f"tox -e {CANDIDATE} -- --platform cpu --jobs 1 -k small_startup"
    assert text.endswith(f"  {line}\n") and line in report.plan_page(runs.plan())
    assert report.plan_json(runs.plan())["rounds"] == [
        {
            "baseline": BASELINE,
            "candidate": CANDIDATE,
            "wanted": 3,
            "done": 0,
            "cases": ["small_startup"],
            "seconds": 900.0,
        }
    ]
    runs.carried(2)
    assert f"{said}2 done, 1 round to run, about " in report.plan_lines(runs.plan())
    assert f"{said}2 done, 0 rounds to run\n" in report.plan_lines(runs.plan(2))
    assert "timings" not in report.plan_lines(runs.plan(0))
    assert "for unknown minutes more" in report.plan_lines(Machine(script={}).plan())


def test_tox_runs_in_the_environments_that_are_there_and_notes_the_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = {cell.name: run_of(cell, *FAST) for cell in (OLD, NEW)}
    for name, (_, record) in records.items():
        write(record, tmp_path / "source" / name)
    path = tmp_path / "tox"
    path.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "name = sys.argv[sys.argv.index('-e') + 1]\n"
        "number = len(list(pathlib.Path('records/cpu').glob('*')))\n"
        "text = (pathlib.Path('source') / name).read_text()\n"
        "pathlib.Path('records/cpu', f'{name}.{number}.json').write_text(text)\n"
        "pathlib.Path('lines').open('a').write(' '.join(sys.argv[1:]) + '\\n')\n"
    )
    path.chmod(0o755)
    (tmp_path / "tox.ini").write_text("[tox]\n")
    (tmp_path / "records/cpu").mkdir(parents=True)
    for name in A_B:
        (tmp_path / ".tox" / name).mkdir(parents=True)
    monkeypatch.setattr(rerun, "tox_command", lambda: [str(path)])
    runs = machine([], [])
    tox = ToxRuns(root=tmp_path, state=tmp_path / "state", say=runs.said.append)
    carry_out(runs.plan(2), runs, tox, runs.said.append, tox)
    assert (tmp_path / "lines").read_text().splitlines() == [
        f"-e {name} -- --platform cpu --jobs 1 -k small_startup" for name in A_B * 2
    ]
    assert read_rounds(tmp_path / "state") == tuple(
        MadeRound(
            platform=Platform.CPU,
            baseline=f"{BASELINE}.{number}.json",
            candidate=f"{CANDIDATE}.{number + 1}.json",
        )
        for number in (0, 2)
    )
