"""Other runs of the very same, and runs with flags of their own: none hides what another shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from made import ONE_RULE, failed, make, passed
from matrix.qualify.model import DriftKind, FailureKind
from matrix.record.model import WHOLE_RUN, Case, ErrorKind, Outcome, RunError, Rung, RungResult
from matrix.report.qualify.markdown import page
from matrix.report.qualify.sentences import (
    unknown_sentence,
    variant_phrase,
)
from matrix.report.qualify.text import lines
from qualifications import (
    NEXT,
    OLD,
    OTHER_TESTS,
    held,
    kinds,
    notes,
    reasons,
    variant_of,
    waiver,
)


@pytest.mark.parametrize("day", [20, 22])
def test_another_run_of_the_very_same_that_failed_never_qualifies(day: int) -> None:
    fails = make(NEXT, failed(), day=day, file="z-fails")
    newest = make(NEXT, passed())
    found = held(make(OLD, passed()), fails, newest)
    assert found.exit_status in (1, 3) and (found.exit_status == 1) is bool(found.failures)
    if day < 22:
        [unknown] = found.unknown
        assert unknown_sentence(unknown) == (
            "passed, and failed in another run of the same releases, flags and tests"
            " (results/cpu/z-fails.json): why: KeyError: x"
        )
        accepted = waiver("signature = 'KeyError: x'")
        assert held(make(OLD, passed()), fails, newest, waivers=accepted).exit_status == 0
    # One of other tests was another question.
    other = make(NEXT, failed(), day=day, file="z-fails", provenance=OTHER_TESTS)
    assert held(make(OLD, passed()), other, make(NEXT, passed(), day=23)).exit_status == 0


def test_another_run_of_the_very_same_that_drifted_never_qualifies() -> None:
    drifts = make(NEXT, passed(num_compiled_artifacts_loaded=9), day=20, file="drifts")
    records = make(OLD, passed()), drifts, make(NEXT, passed())
    found = held(*records, rules=ONE_RULE)
    assert (found.exit_status, reasons(found)) == (
        3,
        [
            (
                "passed, and drifts in another run of the same releases, flags and tests"
                " (results/cpu/drifts.json): warm num_compiled_artifacts_loaded 9"
            )
        ],
    )
    accepted = waiver("counters = ['num_compiled_artifacts_loaded']")
    assert held(*records, rules=ONE_RULE, waivers=accepted).exit_status == 0
    # What the baseline counts too is not new.
    before = make(OLD, passed(num_compiled_artifacts_loaded=9))
    assert held(before, *records[1:], rules=ONE_RULE).exit_status == 0


def test_a_newer_run_that_died_as_a_whole_never_qualifies() -> None:
    died: dict[str, Any] = {"error": RunError(kind=ErrorKind.CRASHED, reason="killed by SIGKILL")}
    records = make(OLD, passed()), make(NEXT, passed())
    found = held(*records, make(NEXT, day=23, file="died", **died))
    assert (found.exit_status, "died (results/cpu/died.json)" in reasons(found)[0]) == (3, True)
    full: dict[str, Any] = {"error": RunError(kind=ErrorKind.NO_SPACE, reason="no space left")}
    assert held(*records, make(NEXT, day=23, file="full", **full)).exit_status == 0


def test_an_older_run_that_died_as_a_whole_never_qualifies() -> None:
    died: dict[str, Any] = {
        "error": RunError(kind=ErrorKind.CRASHED, reason="killed by SIGKILL"),
        "day": 20,
    }
    records = make(OLD, passed()), make(NEXT, passed()), make(NEXT, file="died", **died)
    found = held(*records)
    [unknown] = found.unknown
    assert (found.exit_status, unknown.case, unknown_sentence(unknown)) == (
        3,
        WHOLE_RUN,
        (
            "another run of the same releases, flags and tests died (results/cpu/died.json): killed"
            " by SIGKILL"
        ),
    )
    # Another death is found too; the same one again, and one of other tests, are not.
    hung = make(
        NEXT, file="hung", error=RunError(kind=ErrorKind.TIMED_OUT, reason="after 9 s"), day=19
    )
    again = make(NEXT, file="again", **{**died, "day": 18})
    other = make(NEXT, file="other", provenance=OTHER_TESTS, **died)
    assert len(held(*records, hung, again).unknown) == 2
    assert held(*records[:2], other).exit_status == 0
    accepted = waiver("signature = 'killed by SIGKILL'")
    assert held(*records, waivers=accepted).exit_status == 0
    assert held(*records, hung, waivers=accepted).exit_status == 3
    # Of a cell that the baseline never ran it is no better.
    alone = [(path, replace(record, cell="py312-torch212-vllm020")) for path, record in records[1:]]
    assert held(*records[:2], *alone).exit_status == 3
    assert held(*records[:2], *alone[:1]).exit_status == 0


@pytest.mark.parametrize("first", range(6))
def test_each_rerun_that_died_in_its_own_way_is_named_whatever_came_between(first: int) -> None:
    rungs = (RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="ImportError: x"),)
    runs: list[tuple[tuple[Case, ...], dict[str, Any]]] = [
        ((passed(),), {}),
        ((failed(),), {}),
        ((), {"rungs": rungs}),  # its case shows it
        ((), {"error": RunError(kind=ErrorKind.CRASHED, reason="killed by SIGKILL")}),
        ((), {"error": RunError(kind=ErrorKind.CRASHED, reason="killed by SIGKILL")}),
        ((), {"error": RunError(kind=ErrorKind.TIMED_OUT, reason="after 9 s")}),
    ]
    reruns = [
        make(NEXT, *cases, day=day, file=f"rerun{day}", **how)
        for day, (cases, how) in enumerate(runs[first:] + runs[:first], 10)
    ]
    found = held(make(OLD, passed()), make(NEXT, passed()), *reruns)
    whole = [unknown for unknown in found.unknown if unknown.case == WHOLE_RUN]
    assert {unknown.signature for unknown in whole} == {"killed by SIGKILL", "after <time>"}
    assert len(whole) == 2


def test_a_rung_that_failed_in_another_run_whose_cases_passed_never_qualifies() -> None:
    broken: dict[str, Any] = {
        "rungs": (RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="ImportError: x"),),
        "day": 20,
    }
    records = make(OLD, passed()), make(NEXT, passed()), make(NEXT, passed(), file="old", **broken)
    found = held(*records)
    assert (found.exit_status, reasons(found)) == (
        3,
        [
            (
                "another run of the same releases, flags and tests failed (results/cpu/old.json):"
                " ImportError: x"
            )
        ],
    )
    # What all of its cases tell is not found once more, and what the baseline has is not new.
    found = held(*records[:2], make(NEXT, file="old", **broken))
    assert [unknown.case for unknown in found.unknown] == ["moe"]
    assert held(make(OLD, passed(), **broken), *records[1:]).exit_status == 0


def test_what_fails_as_in_one_of_two_runs_of_the_baseline_is_not_known() -> None:
    after = make(NEXT, passed("b"), failed())
    older = make(OLD, passed("b"), passed(), day=20, file="old")
    assert held(make(OLD, passed("b"), failed()), after).exit_status == 0
    found = held(older, make(OLD, passed("b"), failed()), after)
    assert (found.exit_status, kinds(found)) == (3, [FailureKind.FAILS_AS_BEFORE])
    assert [(item.case, unknown_sentence(item)) for item in found.unknown] == [
        ("moe", "fails, and passed in another run of the baseline (results/cpu/old.json)")
    ]


def test_a_run_with_flags_of_its_own_hides_no_other() -> None:
    on: dict[str, Any] = {"flags": {"VLLM_X": True, "VLLM_Y": 1}}
    off: dict[str, Any] = {"flags": {"VLLM_X": False, "VLLM_Y": 1}}
    fails = make(NEXT, failed(), passed("b"), day=20, file="on", **on)
    passes = make(NEXT, passed(), passed("b"), day=21, file="off", **off)
    before = make(OLD, passed(), passed("b"), **off)
    found = held(before, fails, passes)
    [failure] = found.failures
    assert (found.exit_status, variant_of(failure)) == (1, "VLLM_X=true")
    assert "moe (with VLLM_X=true)" in lines(found)
    assert "with VLLM\\_X=true" in page(found)
    assert any("on.json ran with other flags: VLLM_X=true" in note for note in notes(found))
    assert (found.compared, found.flags) == (2, ())
    # A part that passes, or has no answer, asks for nothing more.
    some = make(NEXT, passed("b"), day=23, file="on", deselected=1, **on)
    assert held(before, some, passes).exit_status == 0
    # One that does not know the flag is of no other kind.
    assert (
        held(before, make(NEXT, passed(), passed("b"), day=20, file="on"), passes).exit_status == 0
    )


def test_a_flag_of_a_case_makes_a_variant_too() -> None:
    cases = [replace(passed(), flags={"A": value}) for value in (1, 2)]
    runs = [make(NEXT, case, day=day, file=f"{day}") for day, case in enumerate(cases, 20)]
    found = held(make(OLD, passed()), *runs)
    [match] = [match for match in found.matches if match.candidate.variant is not None]
    assert (match.candidate.path.stem, match.compared) == ("20", 0)
    assert any("20.json ran with other flags: A=1" in note for note in notes(found))


@pytest.mark.parametrize("old", [passed(), passed("b")])
def test_a_count_of_a_variant_is_marked_as_one(old: Case) -> None:
    """With a baseline of the case, and without one."""
    on: dict[str, Any] = {"flags": {"A": 1}}
    off: dict[str, Any] = {"flags": {"A": 2}}
    drifts = passed(num_compiled_artifacts_loaded=9)
    variant = make(NEXT, drifts, passed("b"), day=20, file="on", **on)
    found = held(make(OLD, old, **off), variant, make(NEXT, passed("b"), **off), rules=ONE_RULE)
    [drift] = found.drifts
    assert (drift.kind, drift.case, drift.after) == (DriftKind.UNEXPECTED, "moe", 9)
    assert drift.alone is (old.case == "b")
    assert drift.variant is not None and variant_phrase(drift.variant) == "A=1"
    assert "with A=1" in lines(found)


def test_a_variant_that_fails_without_an_answer_of_the_baseline_blocks() -> None:
    on: dict[str, Any] = {"flags": {"A": 1}}
    off: dict[str, Any] = {"flags": {"A": 2}}
    variant = make(NEXT, passed(), failed("b"), day=20, file="on", **on)
    found = held(make(OLD, passed(), **off), variant, make(NEXT, passed(), **off))
    assert (found.exit_status, reasons(found)) == (
        3,
        [
            (
                "with A=1 it fails (why: KeyError: x), and at the baseline it is not a case of the"
                " record"
            )
        ],
    )
    # One that passes, or has no answer, asks for nothing.
    for case in (passed("b"), Case(case="b", outcome=Outcome.INTERRUPTED)):
        variant = make(NEXT, passed(), case, day=20, file="on", **on)
        assert held(make(OLD, passed(), **off), variant, make(NEXT, passed(), **off)).unknown == ()


def test_a_rerun_that_failed_in_a_case_of_its_own_never_qualifies() -> None:
    rerun = make(NEXT, passed(), failed("only here"), day=20, file="rerun")
    found = held(make(OLD, passed()), make(NEXT, passed()), rerun)
    assert (found.exit_status, reasons(found)) == (
        3,
        [
            (
                "has no answer, and failed in another run of the same releases, flags and tests"
                " (results/cpu/rerun.json): why: KeyError: x"
            )
        ],
    )


def test_a_variant_whose_rung_failed_though_its_cases_passed_is_a_failure() -> None:
    rungs = (RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="ImportError: x"),)
    variant = make(NEXT, passed(), day=20, file="on", flags={"A": 1}, rungs=rungs)
    off: dict[str, Any] = {"flags": {"A": 2}}
    found = held(make(OLD, passed(), **off), variant, make(NEXT, passed(), **off))
    [failure] = found.failures
    assert (found.exit_status, failure.case, variant_of(failure)) == (1, WHOLE_RUN, "A=1")
