"""Waivers take a finding out of the verdict, and stay visible."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from made import ONE_RULE, failed, make, passed
from matrix.qualify.model import DriftKind, FailureKind
from matrix.record.model import Case, Outcome
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from matrix.rules.expectations_file import parse_expectations
from qualifications import (
    NEXT,
    OLD,
    held,
    kinds,
    waiver,
)

COUNTERS = "counters = { num_graphs_seen = 0 }"


def test_a_waiver_takes_a_failure_out_of_the_verdict_and_stays_to_be_seen() -> None:
    records = make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b", num_graphs_seen=0))
    assert held(*records).exit_status == 1
    first = waiver("signature = 'KeyError: x'")
    second = waiver(COUNTERS, name="graphs")
    assert held(*records, waivers=first).exit_status == 1
    found = held(*records, waivers=first + second)
    assert (found.exit_status, [count for _, count in found.waivers]) == (0, [1, 1])
    assert not found.failures[0].fails and not found.drifts[0].fails
    for text in (lines(found), page(found)):
        assert "waived by known" in text and "2 waived" in text
        assert "https://github.com/pytorch/pytorch/issues/1" in text


def test_a_waiver_of_one_count_does_not_hide_another() -> None:
    records = make(OLD, passed()), make(NEXT, passed(num_graphs_seen=2))
    found = held(*records, waivers=waiver(COUNTERS))
    assert (found.exit_status, [waiver.id for waiver in found.unused]) == (1, ["known"])
    assert held(*records, waivers=waiver("counters = ['num_graphs_seen']")).exit_status == 0


def test_an_expired_waiver_fails_and_is_named() -> None:
    records = make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b"))
    what = waiver("signature = 'KeyError: x'", until="2026-11-22")
    found = held(*records, waivers=what)
    assert (found.exit_status, found.waivers) == (1, ())
    assert [(waiver.id, count) for waiver, count in found.expired] == [("known", 1)]
    for text in (lines(found), page(found)):
        assert "waiver known expired on 2026-11-22" in text
    assert held(*records, waivers=what, today=date(2026, 11, 22)).exit_status == 0


def test_a_waiver_that_matches_nothing_is_reported() -> None:
    records = make(OLD, passed()), make(NEXT, passed())
    found = held(*records, waivers=waiver("signature = 'KeyError: x'", until="2026-11-22"))
    assert (found.exit_status, [waiver.id for waiver in found.unused]) == (0, ["known"])
    assert "known matches nothing here and expired on 2026-11-22" in lines(found)
    found = held(*records, waivers=waiver("signature = 'x'\ntorch = '==2.9.*'"))
    assert (found.unused, found.elsewhere) == ((), 1)
    assert "1 waiver of other releases or platforms left out" in lines(found)


def test_what_does_not_apply_any_more_can_be_waived_and_what_is_missing_cannot() -> None:
    gone = Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no DeepGEMM")
    records = make(OLD, passed(), passed("b")), make(NEXT, passed(), gone)
    found = held(*records, waivers=waiver("signature = 'no DeepGEMM'"))
    assert (found.exit_status, [count for _, count in found.waivers]) == (0, [1])
    found = held(make(OLD, passed(), passed("b")), make(NEXT, passed()), waivers=waiver(COUNTERS))
    assert found.exit_status == 3


def test_a_known_failure_uses_its_waiver_though_the_baseline_has_it_too() -> None:
    records = make(OLD, failed(), passed("b")), make(NEXT, failed(), passed("b"))
    found = held(*records, waivers=waiver("signature = 'KeyError: x'"))
    assert (found.exit_status, found.unused) == (0, ())
    # And an expired one counts it again, though the baseline has it too.
    found = held(*records, waivers=waiver("signature = 'KeyError: x'", until="2026-11-22"))
    assert (found.exit_status, kinds(found)) == (1, [FailureKind.FAILS_AS_BEFORE])
    drifting = [make(torch, passed(num_compiled_artifacts_loaded=9)) for torch in (OLD, NEXT)]
    what = "counters = ['num_compiled_artifacts_loaded']"
    assert held(*drifting, rules=ONE_RULE).exit_status == 0
    assert held(*drifting, rules=ONE_RULE, waivers=waiver(what)).exit_status == 0
    found = held(*drifting, rules=ONE_RULE, waivers=waiver(what, until="2026-11-22"))
    assert (found.exit_status, kinds(found)) == (1, [DriftKind.AS_BEFORE])


def test_a_waiver_that_may_be_mistyped_is_named() -> None:
    records = make(OLD, passed()), make(NEXT, passed())
    astray = {
        "cell": "signature = 'x'\ncell = 'py312-torch212-vllm020'",
        "torch": "signature = 'x'\ncell = 'py311-torch221-vllm020'",
        "vllm": "signature = 'x'\ntorch = '==2.12.*'\nvllm = '==0.02.*'",
    }
    elsewhere = {
        "platform": "signature = 'x'\nplatform = 'cuda'",
        "older": "signature = 'x'\ntorch = '<2.12'",
        "baseline": "signature = 'x'\ncell = 'py311-torch211-vllm020'",
    }
    every = "".join(waiver(what, name=name) for name, what in {**astray, **elsewhere}.items())
    found = held(*records, waivers=every, platforms=("cpu",))
    assert [waiver.id for waiver in found.unmatched] == list(astray)
    assert found.elsewhere == len(elsewhere)
    assert (
        "cell matches the candidate but no compared cell (py312-torch212-vllm020);"
        " correct or remove it: https://github.com/pytorch/pytorch/issues/1"
    ) in lines(found)


def test_a_waiver_of_one_case_covers_the_counts_of_a_rerun_of_it_alone() -> None:
    drifts = make(NEXT, passed(num_compiled_artifacts_loaded=9), day=20, file="drifts")
    records = make(OLD, passed()), drifts, make(NEXT, passed())
    what = "counters = ['num_compiled_artifacts_loaded']\ncase = "
    for case, status in (("'moe'", 0), ("'other'", 3)):
        found = held(*records, rules=ONE_RULE, waivers=waiver(what + case))
        assert found.exit_status == status


def test_a_waiver_of_one_case_covers_its_failure_alone() -> None:
    records = make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b"))
    for case, status in (("moe", 0), ("other", 1)):
        accepted = waiver(f"signature = 'KeyError: x'\ncase = '{case}'")
        assert held(*records, waivers=accepted).exit_status == status


_LOADED = "counters = ['num_compiled_artifacts_loaded']"


@pytest.mark.parametrize(
    ("condition", "covers"),
    [
        ("start = 'warm'", True),
        ("start = 'cold'", False),
        ("case = 'moe'", True),
        ("case = 'other'", False),
    ],
)
@pytest.mark.parametrize(
    "how", ["a drift", "without a baseline", "a drift of a rerun", "uncounted"]
)
def test_a_waiver_of_a_start_or_a_case_covers_its_counts_alone(
    how: str, condition: str, *, covers: bool
) -> None:
    drifts = passed(num_compiled_artifacts_loaded=9)
    silent = replace(
        passed(), starts=tuple(replace(start, counters={}) for start in passed().starts)
    )
    before, after = {
        "a drift": ([make(OLD, passed(), passed("b"))], [make(NEXT, drifts, passed("b"))]),
        "without a baseline": ([make(OLD, passed("b"))], [make(NEXT, drifts, passed("b"))]),
        "a drift of a rerun": (
            [make(OLD, passed(), passed("b"))],
            [make(NEXT, drifts, day=20, file="drifts"), make(NEXT, passed(), passed("b"))],
        ),
        "uncounted": ([make(OLD, silent, passed("b"))], [make(NEXT, silent, passed("b"))]),
    }[how]
    found = held(*before, *after, rules=ONE_RULE, waivers=waiver(f"{_LOADED}\n{condition}"))
    assert bool(found.waivers) is covers
    assert bool(found.unused) is not covers


TWO_RULES = parse_expectations(
    """
[[rule]]
id = "warm"
case = "moe"
vllm = "<99"
start = "warm"
counters = { num_compiled_artifacts_loaded = 3, num_graphs_seen = 1 }
evidence = ["a record"]
""",
    "rules.toml",
)


def test_a_waiver_of_one_count_of_a_rerun_does_not_cover_the_others() -> None:
    drifts = passed(num_compiled_artifacts_loaded=9, num_graphs_seen=2)
    rerun = make(NEXT, drifts, day=20, file="drifts")
    records = make(OLD, passed()), rerun, make(NEXT, passed())
    loaded = waiver(_LOADED, name="loaded")
    graphs = waiver("counters = { num_graphs_seen = 2 }", name="graphs")
    for waivers, status, used in (
        ("", 3, 0),
        (loaded, 3, 1),
        (graphs, 3, 1),
        (loaded + graphs, 0, 2),
    ):
        found = held(*records, rules=TWO_RULES, waivers=waivers)
        assert (found.exit_status, len(found.waivers)) == (status, used)
        assert len(found.unknown) == (1 if used == 0 else 2)
