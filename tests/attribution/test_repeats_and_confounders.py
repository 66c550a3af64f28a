"""Repeats that disagree, and what differs beside the release: tests, machine, flags, packages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attributions import (
    FLAG,
    FLASHINFER,
    NO_RULES,
    TESTS_DIFFER,
    attributed,
    bad,
    names,
    of,
    on_cpu,
    record,
    with_tests,
)
from matrix.attribution import reasons
from matrix.attribution.model import Attribution, Cause, MissingRun
from matrix.catalog.cells import Cell
from matrix.record.model import Platform, Record
from matrix.report.attribution.sentences import question_words, sentence


def test_another_python_is_no_neighbour_of_torch() -> None:
    """Two things differ: neither is blamed, and the runs between the two are named."""
    found = of("2.12.0", bad("2.12.0"), record("2.11.0", python="3.12"))
    assert found.answer == Cause.UNKNOWN
    assert found.reason == reasons.PythonAndAnotherDiffer(
        differs=reasons.RunDifference.TORCH,
        platform=Platform.CPU,
        python="3.12",
        torch="2.11.0",
        vllm="0.20.0",
        counted=None,
    )
    assert [(run.name, run.question.code, run.question.subjects) for run in found.missing] == [
        ("py311-torch211-vllm020", reasons.QuestionCode.CAUSE, ("torch",)),
        ("py312-torch212-vllm020", reasons.QuestionCode.CAUSE, ("3.11",)),
        ("py311-torch212-vllm019", reasons.QuestionCode.CAUSE, ("vLLM",)),
    ]


def test_another_platform_on_another_python_is_both() -> None:
    found = of("2.12.0", bad("2.12.0"), record("2.12.0", python="3.12", platform="cuda"))
    assert found.answer == Cause.UNKNOWN
    assert isinstance(found.reason, reasons.PythonAndAnotherDiffer)
    assert (found.reason.differs, found.reason.platform) == (reasons.RunDifference.PLATFORM, "cuda")
    assert ("py311-torch212-vllm020", "cuda") in names(found)
    assert ("py312-torch212-vllm020", "cpu") in names(found)


LATER = "2026-11-23T18:00:00Z"


def confounded(found: Attribution) -> tuple[reasons.Confounder, ...]:
    reason = found.reason
    assert isinstance(
        reason,
        reasons.AxisChanges
        | reasons.BothAxesChange
        | reasons.OtherPythonClean
        | reasons.OtherPlatformClean,
    )
    return reason.confounders


def questions(found: Attribution) -> list[tuple[str, tuple[str, ...]]]:
    return [(run.name, run.question.subjects or (run.question.code,)) for run in found.missing]


def test_a_python_that_ran_with_other_tests_is_said_with_them() -> None:
    found = of("2.12.0", bad("2.12.0"), with_tests("x", record("2.12.0", python="3.12")))
    assert found.answer == Cause.ENVIRONMENT
    assert confounded(found) == (TESTS_DIFFER,)
    assert ("tests",) in [subjects for _, subjects in questions(found)]


def test_a_platform_that_ran_with_other_tests_is_said_with_them() -> None:
    """Another platform is another machine as a rule, and is not said to be one."""
    other = on_cpu("Xeon", with_tests("x", record("2.12.0", platform="cuda")))
    found = of("2.12.0", on_cpu("EPYC", bad("2.12.0")), other, platform="cpu")
    assert found.answer == Cause.ENVIRONMENT
    assert confounded(found) == (TESTS_DIFFER,)


@pytest.mark.parametrize(
    ("here", "there", "confounder", "subject"),
    [
        (
            with_tests("x", bad("2.12.0")),
            record("2.11.0", started="2026-11-20T18:00:00Z"),
            TESTS_DIFFER,
            "tests",
        ),
        (
            on_cpu("EPYC", bad("2.12.0")),
            on_cpu("Xeon", record("2.11.0", started="2026-11-20T18:00:00Z")),
            reasons.Confounder(
                kind=reasons.ConfounderKind.MACHINE,
                changes=(
                    reasons.EnvironmentChange(name="the cpu's model", here="EPYC", there="Xeon"),
                ),
            ),
            "machine",
        ),
    ],
)
def test_what_differs_too_is_said_and_its_run_named(
    here: Record, there: Record, confounder: reasons.Confounder, subject: str
) -> None:
    found = of("2.12.0", here, there)
    assert found.answer == Cause.TORCH
    assert confounded(found) == (confounder,)
    assert ("py311-torch211-vllm020", (subject,)) in questions(found)
    # A run that shows it with the tests or on the machine of the clean one takes the doubt away.
    provenance = {**there.provenance, "torch": "2.13.0+cu130"}
    assert (
        confounded(of("2.12.0", here, there, replace(bad("2.13.0"), provenance=provenance))) == ()
    )


def test_one_run_against_one_is_flaky_or_the_environment() -> None:
    other = record("2.12.0", started="2026-11-21T18:00:00Z", packages={"transformers": "4.57.6"})
    found = of("2.12.0", bad("2.12.0"), other)
    assert found.answer == Cause.UNKNOWN
    assert isinstance(found.reason, reasons.RepeatsDisagree) and found.reason.differences
    assert questions(found) == [("py311-torch212-vllm020", ("flaky",))]


def test_a_newer_run_that_is_clean_with_other_tests_is_said() -> None:
    newer = with_tests("x", record("2.12.0", started="2026-11-23T18:00:00Z", deselected=1))
    found = of("2.12.0", bad("2.12.0"), record("2.11.0"), newer)
    assert found.answer == Cause.UNKNOWN
    assert found.reason == reasons.NewerRunClean()
    assert names(found) == [("py311-torch212-vllm020", "cpu")]
    # One that fails with them as well takes its place.
    again = with_tests("x", bad("2.12.0", started="2026-11-23T19:00:00Z", deselected=1))
    assert of("2.12.0", bad("2.12.0"), record("2.11.0"), newer, again).answer == Cause.FLAKY


def test_a_cell_whose_newest_run_passes_can_be_flaky() -> None:
    older = bad("2.12.0", started="2026-11-21T18:00:00Z")
    assert of("2.12.0", older, record("2.12.0"), record("2.11.0")).answer == Cause.FLAKY
    # In the same second too, whichever comes first.
    for records in ([bad("2.12.0"), record("2.12.0")], [record("2.12.0"), bad("2.12.0")]):
        assert of("2.12.0", *records).answer == Cause.FLAKY
    # What other tests or packages found before is over.
    assert attributed(with_tests("x", older), record("2.12.0")) == ()
    assert attributed(older, record("2.12.0", packages={"transformers": "6.0.0"})) == ()


def test_a_run_with_another_flag_hides_no_failure() -> None:
    """Nobody knows which of two single runs had the release's own flags."""
    fails = bad("2.12.0", flags={FLAG: True}, deselected=1)
    other = record("2.12.0", flags={FLAG: False}, deselected=1, started="2026-11-23T18:00:00Z")
    found = of("2.12.0", record("2.11.0"), fails, other)
    assert (found.answer, found.flags[0].decides) == (Cause.TORCH, True)
    # Nor does it speak for its release: 2.13 is not the first that fails.
    found = of("2.13.0", record("2.11.0"), fails, other, bad("2.13.0", flags={FLAG: True}))
    assert found.cell.torch == "2.13.0" and found.after == "2.11.0"
    assert "torch, since a release after 2.11.0 and up to 2.13.0" in sentence(found)
    assert ("py311-torch212-vllm020", "cpu") in names(found)
    # One more run with nothing given tells which are its own.
    again = bad("2.12.0", flags={FLAG: True}, deselected=1, started="2026-11-23T19:00:00Z")
    more = [record("2.11.0"), fails, other, again, bad("2.13.0", flags={FLAG: True})]
    found = of("2.13.0", *more)
    assert (found.after, found.since) == ("2.11.0", "2.12.0")


def test_runs_with_other_tests_are_no_repeats() -> None:
    old = record("2.12.0", started="2026-11-21T18:00:00Z")
    old = Record(**{**vars(old), "provenance": {**old.provenance, "tests": {"fingerprint": "x"}}})
    assert of("2.12.0", bad("2.12.0"), old).answer == Cause.UNKNOWN


def flagged(torch: str, value: bool, **more: Any) -> Record:
    return record(torch, flags={FLAG: value}, **more)


@pytest.mark.parametrize(
    ("more", "decides", "said"),
    [
        ((), None, f"with another default of {FLAG} (False at torch 2.11.0, True here)"),
        # The same cell with the flag of its neighbour is clean: the flag does it.
        ((flagged("2.12.0", False, deselected=1),), True, "alone: with the other value it is gone"),
        ((flagged("2.11.0", True, saved=4, deselected=1),), True, "alone: with the other value"),
        # It stays: torch does it, whatever the flag.
        ((flagged("2.12.0", False, saved=4, deselected=1),), False, "and not by the default of"),
        ((flagged("2.11.0", True, deselected=1),), False, "with the other value it stays"),
    ],
)
def test_a_flag_that_differs_is_named(
    more: tuple[Record, ...], decides: bool | None, said: str
) -> None:
    found = of("2.12.0", flagged("2.12.0", True, saved=4), flagged("2.11.0", False), *more)
    assert found.answer == Cause.TORCH
    (flag,) = found.flags
    assert (flag.flag, flag.here, flag.there, flag.decides) == (FLAG, True, False, decides)
    assert said in sentence(found)
    asked = MissingRun(
        name="py311-torch212-vllm020",
        platform=Platform.CPU,
        question=reasons.Question(code=reasons.QuestionCode.FLAG),
        flags=((FLAG, "0"),),
    )
    assert (asked in found.missing) is (decides is None)


def test_a_flag_is_not_blamed_for_what_other_tests_may_do() -> None:
    there, own = flagged("2.11.0", False), flagged("2.12.0", True, saved=4)
    newer = "2026-11-23T18:00:00Z"
    given = with_tests("x", flagged("2.12.0", False, deselected=1, started=newer))
    found = of("2.12.0", own, there, given)
    assert [flag.decides for flag in found.flags] == [None]
    whys = [(question_words(run.question), run.flags) for run in found.missing]
    assert ("whether it is the flag or the tests", ()) in whys
    # With these tests too its own flag shows it, and then the flag is all that is left.
    again = with_tests("x", flagged("2.12.0", True, saved=4, deselected=1, started=newer))
    assert [flag.decides for flag in of("2.12.0", own, there, given, again).flags] == [True]


def test_other_packages_that_differ_are_said() -> None:
    other = record("2.11.0", packages={"transformers": "4.57.6", "triton": "3.6.0"})
    found = of("2.12.0", bad("2.12.0"), other)
    assert sentence(found).endswith("transformers 4.57.6 there, 5.1.0 here)")


@pytest.mark.parametrize(
    ("clean", "cause", "differs", "subject"),
    [
        ({"torch": "2.11.0"}, Cause.TORCH, reasons.RunDifference.TORCH, "torch"),
        (
            {"torch": "2.12.0", "vllm": "0.19.0"},
            Cause.VLLM,
            reasons.RunDifference.VLLM,
            "vLLM",
        ),
        (
            {"torch": "2.12.0", "python": "3.12"},
            Cause.ENVIRONMENT,
            reasons.RunDifference.PYTHON,
            "3.11",
        ),
        (
            {"torch": "2.12.0", "platform": "cuda"},
            Cause.ENVIRONMENT,
            reasons.RunDifference.PLATFORM,
            "platform",
        ),
    ],
)
def test_a_clean_run_that_is_not_stock_proves_nothing(
    clean: dict[str, Any], cause: Cause, differs: reasons.RunDifference, subject: str
) -> None:
    """It is named, and so is what is missing: a stock run of its cell."""
    own = bad("2.12.0", departures=())
    assert of("2.12.0", own, record(**clean, departures=())).answer is cause
    found = of("2.12.0", own, record(**clean, departures=(FLASHINFER,)))
    assert found.answer is Cause.UNKNOWN
    assert isinstance(found.reason, reasons.StockAndAnotherDiffer)
    assert (found.reason.differs, found.reason.own) == (differs, False)
    assert found.reason.not_stock == (FLASHINFER,)
    run = found.missing[0]
    cell = Cell(clean.get("python", "3.11"), clean["torch"], clean.get("vllm", "0.20.0"))
    assert (run.name, run.platform, run.stock) == (cell.name, clean.get("platform", "cpu"), True)
    assert run.question == reasons.Question(code=reasons.QuestionCode.CAUSE, subjects=(subject,))
    # Of one axis there is one proposal, whatever the pin is.
    assert len({run.question for run in found.missing}) == len(found.missing)


def test_a_count_that_is_not_stock_asks_for_a_stock_run_of_its_own_cell() -> None:
    own = record("2.12.0", total=5, departures=(FLASHINFER,))
    pin = record("2.11.0", departures=())
    (found,) = attributed(own, pin, rules=NO_RULES, names=frozenset([own.cell]))
    assert found.answer is Cause.UNKNOWN
    assert isinstance(found.reason, reasons.StockAndAnotherDiffer) and found.reason.own
    assert (found.missing[0].name, found.missing[0].stock) == (own.cell, True)
    assert found.missing[0].question.subjects == ("packages",)


def test_a_run_that_is_not_stock_is_no_repeat_of_a_stock_one() -> None:
    """Nothing else tells them apart, so the cell is not flaky."""
    own = bad("2.12.0", departures=())
    other = record("2.12.0", departures=(FLASHINFER,))
    found = of("2.12.0", own, other)
    assert found.answer is Cause.UNKNOWN
    assert isinstance(found.reason, reasons.StockAndAnotherDiffer)
    assert found.reason.differs is None
    assert names(found)[0] == ("py311-torch212-vllm020", "cpu")
    # Nor does it hide what the neighbours show.
    newer = with_tests("x", replace(other, provenance={**other.provenance, "started": LATER}))
    for repeat in (other, newer):
        assert of("2.12.0", own, repeat, record("2.11.0", departures=())).answer is Cause.TORCH
    assert of("2.12.0", own, replace(other, departures=())).answer is Cause.FLAKY


def test_a_run_that_is_not_stock_does_not_decide_a_flag() -> None:
    own, there = (
        flagged(torch, on, departures=()) for torch, on in (("2.12.0", True), ("2.11.0", False))
    )
    own = flagged("2.12.0", True, saved=4, departures=())
    given = flagged("2.12.0", False, deselected=1, departures=(FLASHINFER,))
    assert [flag.decides for flag in of("2.12.0", own, there, given).flags] == [None]
    given = replace(given, departures=())
    assert [flag.decides for flag in of("2.12.0", own, there, given).flags] == [True]


def test_a_cell_that_did_not_run_stock_is_proposed_again() -> None:
    """Between two stock releases, and along an axis, whatever its run showed."""
    own, old = bad("2.12.0", departures=()), record("2.10.0", departures=())
    for between in (record, bad):
        found = of("2.12.0", own, old, between("2.11.0", departures=(FLASHINFER,)))
        runs = {(run.name, run.question.code): run.stock for run in found.missing}
        assert runs["py311-torch211-vllm020", reasons.QuestionCode.FIRST_RELEASE] is True
        assert runs["py311-torch212-vllm019", reasons.QuestionCode.CAUSE] is False
    found = of("2.12.0", own, bad("2.11.0", departures=(FLASHINFER,)))
    assert (found.missing[0].name, found.missing[0].stock) == ("py311-torch211-vllm020", True)


def test_a_clean_run_that_is_not_stock_hides_no_stock_one() -> None:
    """The change is after the newest release that is clean with a stock environment."""
    own, stock = bad("2.12.0", departures=()), record("2.10.0", departures=())
    found = of("2.12.0", own, stock, record("2.11.0", departures=(FLASHINFER,)))
    assert (found.answer, found.after, found.since) == (Cause.TORCH, "2.10.0", "2.12.0")
