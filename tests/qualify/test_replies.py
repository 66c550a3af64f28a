"""matrix.qualify.runs: what one run says of each case, and of itself as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from made import NO_RULES, ONE_RULE, Told, failed, make, passed
from made import ran as ran_of
from matrix.qualify.runs import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    UNKNOWN,
    CaseOutcome,
    CellRun,
    broken,
    crash,
    cut_short,
    reply,
    said,
    whole_reply,
)
from matrix.record.model import Case, ErrorKind, Outcome, RunError, Rung, RungResult
from matrix.rules.expectations import Expectations

NOT_IMPORTED = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: f")


def run(*cases: Case, **more: Any) -> Told:
    return make("2.12.1", *cases, **more)


def ran(*cases: Case, rules: Expectations = NO_RULES, **more: Any) -> CellRun:
    return ran_of(run(*cases, **more), rules)


def of(*cases: Case, name: str = "moe", **more: Any) -> CaseOutcome:
    return reply(ran(*cases, **more), name)


@pytest.mark.parametrize("rules", [NO_RULES, ONE_RULE])
@pytest.mark.parametrize("loaded", [3, 4])
def test_a_case_whose_two_starts_ran_passed_whatever_it_counts(
    rules: Expectations, loaded: int
) -> None:
    case = passed(num_compiled_artifacts_loaded=loaded)
    answer = of(case, rules=rules)
    assert (answer.state, answer.reason, answer.rung, answer.signature) == (PASSED, None, None, "")
    assert answer.case == case
    assert answer.verdict is not None
    drifts = rules is ONE_RULE and loaded == 4
    assert bool(answer.verdict.differences) is drifts


@pytest.mark.parametrize(
    ("case", "rung", "found"),
    [
        (failed(), "starts cold", "KeyError: x"),
        (replace(failed(), starts=passed().starts[:1]), "starts warm", "KeyError: x"),
        (failed(outcome="timed_out"), "starts cold", "KeyError: x"),
        (failed(outcome="crashed", signature="", reason="died by SIGSEGV"), "starts cold", None),
        (failed(signature="", reason="at 0xdeadbeef"), "starts cold", "at <address>"),
        # What compares is today's signature of the text, and not what was stored.
        (failed(failure="Traceback\nValueError: y"), "starts cold", "ValueError: y"),
    ],
)
def test_a_case_that_failed(case: Case, rung: str, found: str | None) -> None:
    answer = of(case)
    assert (answer.state, answer.reason, answer.rung) == (FAILED, case.reason, rung)
    assert answer.signature == (found or case.reason)


def test_a_case_that_does_not_apply() -> None:
    answer = of(Case(case="moe", outcome=Outcome.NOT_APPLICABLE, reason="no GPU at 0xdeadbeef"))
    assert (answer.state, answer.reason) == (NOT_APPLICABLE, "no GPU at 0xdeadbeef")
    assert (answer.rung, answer.signature) == (None, "no GPU at <address>")
    assert of(Case(case="moe", outcome=Outcome.NOT_APPLICABLE)).reason == "not applicable"


@pytest.mark.parametrize(
    ("case", "more", "reason"),
    [
        (Case(case="moe", outcome=Outcome.OUT_OF_MEMORY), {}, "ran out of memory"),
        (Case(case="moe", outcome=Outcome.INTERRUPTED, reason="Ctrl-C"), {}, "Ctrl-C"),
        (Case(case="moe", outcome=Outcome.RUNNING), {}, "was still running when the run died"),
        (replace(passed(), starts=passed().starts[:1]), {}, "the record holds no warm start"),
        (replace(passed(), starts=passed().starts[1:]), {}, "the record holds no cold start"),
        # It is the machine that failed the case.
        (
            failed(),
            {"error": RunError(kind=ErrorKind.NO_SPACE, reason="the disk is full")},
            "the disk is full",
        ),
    ],
)
def test_a_case_that_nobody_can_answer(case: Case, more: Any, reason: str) -> None:
    answer = of(case, **more)
    assert (answer.state, answer.reason, answer.rung) == (UNKNOWN, reason, None)
    assert (answer.signature, answer.case) == ("", case)


def test_the_flags_of_a_case_go_before_those_of_the_run() -> None:
    case = replace(passed(), flags={"A": 2, "B": 1})
    assert of(case, flags={"A": 1, "C": 3}).flags == {"A": 2, "B": 1, "C": 3}


@pytest.mark.parametrize(
    ("more", "state", "reason", "rung"),
    [
        ({}, UNKNOWN, "is no case of the record", None),
        ({"finished": False}, UNKNOWN, "did not finish", None),
        (
            {"error": RunError(kind=ErrorKind.CRASHED, reason="SIGKILL")},
            UNKNOWN,
            "ended early: SIGKILL",
            None,
        ),
        (
            {"deselected": 2},
            UNKNOWN,
            "was not asked for: the record holds 1 of 3 cases",
            None,
        ),
        # What broke the whole run would have broken this case.
        ({"error": NOT_IMPORTED}, FAILED, NOT_IMPORTED.reason, "imports"),
        ({"error": NOT_IMPORTED, "deselected": 2}, FAILED, NOT_IMPORTED.reason, "imports"),
    ],
)
def test_a_case_that_the_record_does_not_hold(
    more: Any, state: str, reason: str, rung: str | None
) -> None:
    answer = of(passed("another"), **more)
    assert (answer.state, answer.reason, answer.rung) == (state, reason, rung)
    assert answer.case is None


def test_a_case_that_ran_answers_for_itself_though_the_run_broke() -> None:
    assert of(passed(), rungs=(RungResult(rung=Rung.IMPORTS, ok=False),)).state == PASSED


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({}, None),
        ({"error": NOT_IMPORTED}, ("imports", NOT_IMPORTED.reason)),
        ({"error": RunError(kind=ErrorKind.RESOLVES, reason="")}, ("resolves", "resolves")),
        ({"error": RunError(kind=ErrorKind.CRASHED, reason="SIGKILL")}, None),
        ({"rungs": (RungResult(rung=Rung.IMPORTS, ok=False, reason="no"),)}, ("imports", "no")),
        (
            {
                "rungs": (
                    RungResult(rung=Rung.RESOLVES, ok=True),
                    RungResult(rung=Rung.IMPORTS, ok=False),
                )
            },
            ("imports", "failed at imports"),
        ),
        ({"rungs": (RungResult(rung=Rung.IMPORTS, ok=True),)}, None),
        # A full disk may fail a rung, and says nothing of the pair.
        (
            {
                "error": RunError(kind=ErrorKind.NO_SPACE, reason="x"),
                "rungs": (RungResult(rung=Rung.IMPORTS, ok=False),),
            },
            None,
        ),
    ],
)
def test_a_run_that_broke_by_the_fault_of_its_pair(
    more: Any, fault: tuple[str, str] | None
) -> None:
    one = ran(passed(), **more)
    assert broken(one) == fault
    assert whole_reply(one) == (
        CaseOutcome(PASSED) if fault is None else CaseOutcome(FAILED, fault[1], fault[0], fault[1])
    )


def test_a_run_that_broke_is_compared_by_its_signature() -> None:
    answer = whole_reply(
        ran(error=RunError(kind=ErrorKind.IMPORTS, reason="ImportError: /home/x/y.so at 0xdead"))
    )
    assert answer.reason == "ImportError: /home/x/y.so at 0xdead"
    assert answer.signature == "ImportError: y.so at <address>"
    # What leaves nothing to compare by is compared by its rung.
    assert (
        whole_reply(ran(error=RunError(kind=ErrorKind.IMPORTS, reason="\n"))).signature == "imports"
    )


@pytest.mark.parametrize(
    ("cases", "more", "why"),
    [
        ((passed(),), {}, None),
        ((), {}, "holds no case"),
        ((passed(),), {"finished": False}, "did not finish"),
        (
            (passed(),),
            {"error": RunError(kind=ErrorKind.TIMED_OUT, reason="")},
            "ended early: timed out",
        ),
        ((), {"error": NOT_IMPORTED}, f"ended early: {NOT_IMPORTED.reason}"),
    ],
)
def test_a_run_that_was_cut_short(cases: tuple[Case, ...], more: Any, why: str | None) -> None:
    assert cut_short(run(*cases, **more)[1]) == why


def test_why_there_is_no_answer() -> None:
    assert (
        said(of(Case(case="moe", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")))
        == "does not apply: no GPU"
    )
    assert (
        said(of(Case(case="moe", outcome=Outcome.OUT_OF_MEMORY)))
        == "has no answer: ran out of memory"
    )
    assert said(of(passed("another"))) == "is no case of the record"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (None, None),
        (RunError(kind=ErrorKind.CRASHED, reason="SIGKILL"), "SIGKILL"),
        (RunError(kind=ErrorKind.TIMED_OUT, reason=""), "timed out"),
        (RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C"), None),
        (NOT_IMPORTED, None),
    ],
)
def test_a_run_that_died(error: RunError | None, why: str | None) -> None:
    assert crash(run(passed(), error=error)[1]) == why
