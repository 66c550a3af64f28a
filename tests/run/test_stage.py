"""Where a run stands, by the record that it writes meanwhile, and the words of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from made import provenance
from matrix.record.model import Case, Outcome, Record, Rung, RungResult, Start, StartKind
from matrix.record.upstream import NOT_ENDED, SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.report.run_progress import alone_words, duration, stage_words
from matrix.run.stage import Stage, stage_of

IMPORTED = (RungResult(rung=Rung.IMPORTS, ok=True, seconds=91.0),)
COLD = Start(start=StartKind.COLD, seconds={"total": 61.2})

SUITE = UpstreamSuite(
    cases=(
        SuiteCase(case="tests/test_a.py", outcome=UpstreamOutcome.PASSED),
        SuiteCase(
            case="tests/test_b.py::test_b", outcome=UpstreamOutcome.UNTESTED, reason=NOT_ENDED
        ),
    )
)


def record(*cases: Case, **more: Any) -> Record:
    values = {"cell": "py311-torch210-vllm019", "platform": "cpu", "finished": False, **more}
    return Record(provenance=provenance("2.10.0", "0.19.1"), cases=cases, **values)


def case(name: str, outcome: Outcome = Outcome.PASSED, *starts: Start) -> Case:
    return Case(case=name, outcome=outcome, starts=starts)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (record(), "imports torch and vLLM"),
        (record(rungs=IMPORTED), "prepares its cases"),
        (record(rungs=IMPORTED, selected=9), "[0/9] prepares its cases"),
        (record(case("a", Outcome.RUNNING), rungs=IMPORTED, selected=9), "[1/9] a cold"),
        (
            record(case("a"), case("b", Outcome.RUNNING, COLD), rungs=IMPORTED, selected=9),
            "[2/9] b warm",
        ),
        (
            record(case("a"), case("b", Outcome.RUNNING), case("c", Outcome.RUNNING), selected=9),
            "[2/9] b and 1 more",
        ),
        (record(case("a", Outcome.RUNNING)), "[1/?] a cold"),
        (record(case("a"), rungs=IMPORTED, selected=1), "comes to its end"),
        (
            record(case("a"), rungs=IMPORTED, selected=1, finished=True, upstream=SUITE),
            "upstream's own tests/test_b.py::test_b",
        ),
        (
            record(case("a"), selected=1, full_suite=(case("b"), case("c", Outcome.RUNNING, COLD))),
            "[3/?] c warm",
        ),
        (record(case("a", Outcome.RUNNING), selected=1, full_suite=()), "[1/1] a cold"),
        (record(case("a\x1b[2J", Outcome.RUNNING), selected=1), "[1/1] a cold"),
    ],
)
def test_a_record_that_grows_tells_where_its_run_stands(found: Record, words: str) -> None:
    assert stage_words(stage_of(found)) == words


def test_a_run_without_a_record_yet_begins() -> None:
    assert stage_words(None) == "begins"


@pytest.mark.parametrize(
    ("at_work", "seconds", "words"),
    [
        (1, 170.0, "[3/6] c cold, 170 s, about 4 min left"),  # 50 s before the cases, 60 s each
        (1, 229.0, "[3/6] c cold, 229 s, about 3 min left"),
        (1, 500.0, "[3/6] c cold, 500 s, about 3 min left"),
        (2, 170.0, "[3/6] c and 1 more, 170 s, about 2 min left"),
    ],
)
def test_the_time_that_is_left_is_that_of_the_cases_so_far(
    at_work: int, seconds: float, words: str
) -> None:
    ended = [replace(case(name), seconds=60.0) for name in "ab"]
    going_on = [case(name, Outcome.RUNNING) for name in "cdef"[:at_work]]
    imported = replace(IMPORTED[0], seconds=50.0)
    stage = stage_of(record(*ended, *going_on, rungs=(imported,), selected=6))
    assert alone_words(stage, seconds) == words


def test_the_time_that_is_left_is_not_guessed() -> None:
    """No case has ended, or the last one lasts longer than the others did."""
    assert alone_words(Stage(), 31.4) == "imports torch and vLLM, 31 s"
    ended = replace(case("a"), seconds=60.0)
    late = stage_of(record(ended, case("b", Outcome.RUNNING), selected=2))
    assert alone_words(late, 150.0) == "[2/2] b cold, 150 s"


def test_a_case_that_does_not_apply_says_nothing_of_the_time() -> None:
    skipped = replace(case("a", Outcome.NOT_APPLICABLE), seconds=0.4)
    going_on = [case(name, Outcome.RUNNING) for name in "cd"]
    stage = stage_of(record(skipped, *going_on, selected=4))
    assert alone_words(stage, 38.0) == "[2/4] c and 1 more, 38 s"
    ran = replace(case("b"), seconds=60.0)
    stage = stage_of(record(skipped, ran, *going_on, selected=4))
    assert alone_words(stage, 70.0) == "[3/4] c and 1 more, 70 s, about 60 s left"


def test_the_last_of_cases_side_by_side_has_no_time_left() -> None:
    """Together the others took longer than the run did, so nobody knows when this one began."""
    ended = [replace(case(name), seconds=60.0) for name in "abcd"]
    stage = stage_of(record(*ended, case("e", Outcome.RUNNING), selected=5))
    assert alone_words(stage, 130.0) == "[5/5] e cold, 130 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "1 h 30 min"), (7260, "2 h 1 min")],
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
