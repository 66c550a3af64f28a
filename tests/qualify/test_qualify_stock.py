"""A run that is not stock qualifies nothing, fails nothing, and asks for a stock run."""

from __future__ import annotations

import pytest

from histories import RAY
from made import ONE_RULE, failed, make, passed
from matrix.qualify.model import DriftKind, FailureKind
from matrix.record.model import (
    Case,
    ErrorKind,
    RunError,
    Rung,
    RungResult,
)
from matrix.report.qualify.markdown import page
from matrix.report.qualify.sections import commands
from matrix.report.qualify.text import lines
from qualifications import NEXT, OLD, held, notes, reasons, waiver


def test_what_passed_without_a_required_package_does_not_qualify() -> None:
    old = make(OLD, passed(), departures=())
    new = make(NEXT, passed(), departures=(RAY,))
    found = held(old, new)
    assert found.verdict == "not enough evidence"
    assert reasons(found) == ["passed in an environment that is not stock: ray>=2.48 is missing"]
    told = "on cpu, is not stock: ray>=2.48 is missing"
    assert any(note.endswith(told) for note in notes(found))
    assert held(old, make(NEXT, passed(), departures=())).verdict == "qualified"


def test_a_baseline_that_was_not_stock_is_a_caveat() -> None:
    found = held(make(OLD, passed(), departures=(RAY,)), make(NEXT, passed(), departures=()))
    assert found.verdict == "qualified"
    assert "is not stock: ray>=2.48 is missing" in " ".join(notes(found))


def test_a_failure_after_a_baseline_that_was_not_stock_is_no_regression() -> None:
    old, new = make(OLD, passed(), departures=(RAY,)), make(NEXT, failed(), departures=())
    found = held(old, new)
    assert found.verdict == "not enough evidence" and not found.failures
    [reason] = reasons(found)
    assert reason.startswith("fails (") and reason.endswith(
        "), and passed at the baseline; the environment of the baseline is not stock:"
        " ray>=2.48 is missing"
    )
    assert [unknown.decides for unknown in found.unknown] == [old[1].cell]
    stock = held(make(OLD, passed(), departures=()), new)
    assert [failure.kind for failure in stock.failures] == [FailureKind.REGRESSION]


def test_a_pass_without_a_required_package_is_no_repair() -> None:
    old, new = make(OLD, failed(), departures=()), make(NEXT, passed(), departures=(RAY,))
    found = held(old, new)
    assert found.verdict == "not enough evidence" and not found.failures
    assert any(
        reason.startswith("passed, and failed at the baseline (")
        and reason.endswith("; the environment of the candidate is not stock: ray>=2.48 is missing")
        for reason in reasons(found)
    )
    accepted = waiver("signature = 'not stock: ray>=2.48 is missing'")
    assert held(old, new, waivers=accepted).verdict == "qualified"
    [repair] = held(old, make(NEXT, passed(), departures=())).failures
    assert repair.kind is FailureKind.REPAIR


@pytest.mark.parametrize("apart", ["baseline", "candidate", None])
def test_a_counter_without_a_rule_is_judged_only_between_stock_runs(apart: str | None) -> None:
    sides = {side: (RAY,) if side == apart else () for side in ("baseline", "candidate")}
    old = make(OLD, passed(), departures=sides["baseline"])
    new = make(NEXT, passed(num_compiled_artifacts_loaded=4), departures=sides["candidate"])
    found = held(old, new)
    assert {drift.kind for drift in found.drifts} == {
        DriftKind.NO_RULE if apart is None else DriftKind.NOT_JUDGED
    }
    assert {drift.not_stock for drift in found.drifts} == {(apart,) if apart else ()}
    mark = f"the {apart} is not stock, so packages may be why: a stock run is missing"
    assert (mark in lines(found)) is (mark in page(found)) is (apart is not None)


@pytest.mark.parametrize("apart", [("baseline",), ("candidate",), ("baseline", "candidate"), ()])
def test_what_repeats_a_run_that_is_not_stock_asks_for_a_stock_one(apart: tuple[str, ...]) -> None:
    sides = [(RAY,) if side in apart else () for side in ("baseline", "candidate")]
    old, new = make(OLD, passed(), departures=sides[0]), make(NEXT, passed(), departures=sides[1])
    asked = commands(held(old, new), [])[:-1]
    comment = "  # in a stock environment; that of the run that counts is not: ray>=2.48 is missing"
    wanted = {
        f"tox -e {record.cell} -- --platform cpu{comment if side in apart else ''}"
        for (_, record), side in zip((old, new), ("baseline", "candidate"), strict=True)
        if side in apart or side == "candidate"
    }
    assert set(asked) == wanted


def test_what_is_as_expected_again_asks_for_a_stock_run() -> None:
    counts = [passed("moe", num_compiled_artifacts_loaded=count) for count in (4, 3)]
    for departures, apart in (((RAY,), ("candidate",)), ((), ())):
        old, new = make(OLD, counts[0], departures=()), make(NEXT, counts[1], departures=departures)
        found = held(old, new, rules=ONE_RULE)
        again = [drift for drift in found.drifts if drift.kind is DriftKind.EXPECTED_AGAIN]
        assert again and {drift.not_stock for drift in again} == {apart}
        text = "the candidate is not stock, so packages may be why: a stock run is missing"
        assert (text in lines(found)) is bool(apart)


def test_a_rerun_that_is_not_stock_says_nothing_of_a_stock_run() -> None:
    """Neither where it passes at the baseline nor where it dies at the candidate."""
    died = RunError(kind=ErrorKind.CRASHED, reason="SIGSEGV")
    for departures, blocks in (((RAY,), False), ((), True)):
        old, new = make(OLD, failed(), departures=()), make(NEXT, failed(), departures=())
        rerun = make(OLD, passed(), departures=departures, day=20)
        assert bool(held(old, new, rerun).unknown) is blocks
        old, new = make(OLD, passed(), departures=()), make(NEXT, passed(), departures=())
        rerun = make(NEXT, passed(), departures=departures, error=died, day=20)
        assert bool(held(old, new, rerun).unknown) is blocks


def test_a_rerun_that_died_where_no_run_is_stock_is_named_with_its_packages() -> None:
    died = RunError(kind=ErrorKind.CRASHED, reason="SIGSEGV")
    new = make(NEXT, passed(), departures=(RAY,))
    rerun = make(NEXT, passed(), departures=(RAY,), error=died, day=20)
    found = held(make(OLD, passed(), departures=()), new, rerun)
    [reason] = [text for text in reasons(found) if "died" in text]
    assert reason.endswith("SIGSEGV; it is not stock: ray>=2.48 is missing")
    assert "in a stock environment" in commands(found, [])[0]


def test_a_team_may_accept_an_environment_that_is_not_stock() -> None:
    records = [make(OLD, passed(), departures=()), make(NEXT, passed(), departures=(RAY,))]
    accepted = waiver("signature = 'not stock: ray>=2.48 is missing'")
    assert held(*records, waivers=accepted).verdict == "qualified"


def test_a_failure_by_a_missing_package_is_no_regression() -> None:
    reason = "ModuleNotFoundError: No module named 'ray'"
    new = make(NEXT, failed(reason=reason), departures=(RAY,))
    found = held(make(OLD, passed(), departures=()), new)
    assert found.verdict == "not enough evidence" and not found.failures
    assert "ray>=2.48 is missing" in " ".join(reasons(found))
    imports = RunError(kind=ErrorKind.IMPORTS, reason=reason)
    found = held(make(OLD, passed()), make(NEXT, error=imports, departures=(RAY,)))
    assert found.verdict == "not enough evidence" and not found.failures


def test_no_failure_without_a_required_package_is_a_regression() -> None:
    old, new = make(OLD, passed(), departures=()), make(NEXT, failed(), departures=(RAY,))
    found = held(old, new)
    assert found.verdict == "not enough evidence" and not found.failures
    [reason] = reasons(found)
    assert reason.startswith(
        "passed at the baseline, and now has no answer: not stock: without ray"
    )
    assert held(old, make(NEXT, failed(), departures=())).failures


def test_a_failure_without_a_required_package_is_told_where_no_baseline_is() -> None:
    alone = make(NEXT, failed(), departures=(RAY,), python="3.12")
    found = held(make(OLD, passed()), make(NEXT, passed()), alone)
    assert found.verdict == "not enough evidence" and not found.failures
    [reason] = reasons(found)
    assert reason.startswith("fails (not stock: without ray; failed: ")
    # Its own stock run comes first: without it one of the baseline would tell nothing.
    assert [unknown.decides for unknown in found.unknown] == [None]


@pytest.mark.parametrize("baseline", [passed(), None])
def test_a_failed_import_without_a_required_package_is_no_regression(baseline: Case | None) -> None:
    error = RunError(kind=ErrorKind.IMPORTS, reason="OSError: x")
    old = make(OLD, *([baseline] if baseline else []), departures=())
    new = make(NEXT, departures=(RAY,), error=error)
    found = held(old, new)
    assert found.verdict == "not enough evidence" and not found.failures
    assert "not stock: without ray; failed: OSError: x" in " ".join(reasons(found))


def test_a_repair_needs_a_pass_and_no_failure_that_was_set_aside() -> None:
    """The candidate fails too, in an environment that is not stock: nobody knows."""
    broken = RungResult(rung=Rung.IMPORTS, ok=False, reason="OSError: x")
    old = make(OLD, passed(), rungs=(broken,), departures=())
    new = make(NEXT, passed(), rungs=(broken,), departures=(RAY,))
    assert not held(old, new).failures
    assert held(old, make(NEXT, passed(), departures=())).failures


def test_counters_without_a_required_package_are_not_judged() -> None:
    old = make(OLD, passed(num_compiled_artifacts_saved=3), departures=())
    counts = passed(num_compiled_artifacts_saved=9)
    kinds = [drift.kind for drift in held(old, make(NEXT, counts, departures=())).drifts]
    apart = [drift.kind for drift in held(old, make(NEXT, counts, departures=(RAY,))).drifts]
    assert any(kind.fails for kind in kinds) and not any(kind.fails for kind in apart)
