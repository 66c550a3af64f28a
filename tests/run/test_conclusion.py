"""What the end of a run's process makes of its record, without a process."""

import dataclasses

import pytest

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
from matrix.record.writer import to_json
from matrix.run.conclusion import conclude, shows_failure, why_nothing_ran
from matrix.run.process import How, ProcessEnd

RUNNING = Case(
    case="moe_startup[mega_aot=1]",
    outcome=Outcome.RUNNING,
    starts=(Start(start=StartKind.COLD, seconds={"total": 2.0}),),
)
LEFT = Record(
    cell="py311-torch210-vllm019",
    platform=Platform.CPU,
    finished=False,
    provenance={"started": "2026-11-22T18:00:00Z"},
    rungs=(RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),),
    cases=(RUNNING,),
)


def test_the_kernels_out_of_memory_killer() -> None:
    ended = ProcessEnd(how=How.SIGNALLED, signal="SIGKILL", seconds=9.0, oom_kill=True)
    record = conclude(LEFT, ended, "")
    assert record.error is not None and record.error.kind == "no_memory"
    assert record.cases[0].outcome == "out_of_memory"
    assert record.cases[0].starts == RUNNING.starts


def test_the_runs_own_error_stays() -> None:
    own = RunError(kind=ErrorKind.NO_GPU, reason="the GPU fell off the bus")
    left = dataclasses.replace(LEFT, error=own, finished=True)
    assert conclude(left, ProcessEnd(how=How.EXITED, status=1, seconds=9.0), "x").error == own


def test_conclude_changes_nothing_of_a_finished_run_but_its_seconds() -> None:
    case = dataclasses.replace(RUNNING, outcome=Outcome.FAILED, reason="AssertionError")
    left = dataclasses.replace(LEFT, cases=(case,), finished=True)
    record = conclude(
        left, ProcessEnd(how=How.EXITED, status=1, seconds=9.04, oom_kill=True), "much output"
    )
    seconds = {**left.provenance, "seconds": 9.0}
    assert to_json(record) == to_json(dataclasses.replace(left, provenance=seconds))


def test_the_cases_of_the_full_suite_end_with_the_run() -> None:
    passed = dataclasses.replace(RUNNING, outcome=Outcome.PASSED)
    left = dataclasses.replace(LEFT, cases=(passed,), full_suite=(RUNNING,))
    ended = ProcessEnd(how=How.SIGNALLED, signal="SIGSEGV", seconds=9.0)
    (case,) = conclude(left, ended, "").full_suite or ()
    assert (case.case, str(case.outcome)) == (RUNNING.case, "crashed")


@pytest.mark.parametrize(
    ("ended", "outcome", "error"),
    [
        (ProcessEnd(how=How.TIMED_OUT, seconds=9.0), "interrupted", None),
        (ProcessEnd(how=How.INTERRUPTED, signal="SIGINT", seconds=9.0), "interrupted", None),
        (
            ProcessEnd(how=How.SIGNALLED, signal="SIGKILL", seconds=9.0, oom_kill=True),
            "out_of_memory",
            None,
        ),
        (ProcessEnd(how=How.SIGNALLED, signal="SIGSEGV", seconds=9.0), "crashed", "crashed"),
    ],
)
def test_who_ends_the_run_in_the_full_suite_takes_nothing_from_the_others(
    ended: ProcessEnd, outcome: str, error: str | None
) -> None:
    passed = dataclasses.replace(RUNNING, outcome=Outcome.PASSED)
    left = dataclasses.replace(LEFT, cases=(passed,), selected=1, full_suite=(RUNNING,))
    record = conclude(left, ended, "")
    assert (record.error and str(record.error.kind)) == error
    assert [case.outcome for case in record.full_suite or ()] == [outcome]
    assert record.is_complete == (error is None)
    for before in (
        dataclasses.replace(left, selected=2),
        dataclasses.replace(left, cases=(RUNNING,)),
        dataclasses.replace(left, full_suite=()),
    ):
        assert conclude(before, ended, "").error is not None


def test_a_case_of_the_full_suite_alone_is_a_run_with_a_case() -> None:
    case = dataclasses.replace(RUNNING, outcome=Outcome.FAILED)
    left = dataclasses.replace(LEFT, cases=(), deselected=9, full_suite=(case,), finished=True)
    nothing = ProcessEnd(how=How.EXITED, status=5, seconds=9.0)
    assert why_nothing_ran(left, nothing, "") is None
    assert why_nothing_ran(dataclasses.replace(left, full_suite=()), nothing, "") is not None
    assert shows_failure(left)
    assert not shows_failure(dataclasses.replace(left, full_suite=()))
