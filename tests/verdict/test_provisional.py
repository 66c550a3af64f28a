"""Releases beyond the end of the rules are compared, and neither pass nor drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgements import GOOD, judged, make, make_case, words
from matrix.record.model import Platform, Record, Rung
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.judge import CellVerdict, exit_status, judge, judge_running
from matrix.verdict.ladder import evidence_of
from rules import LOADED, SAVED, cold_and_warm

DAY = "2026-11-28T12:00:00Z"
RULES = parse_expectations(
    cold_and_warm('vllm = "<0.19"\ntorch = "<2.11"', {SAVED: 3}, {SAVED: 0, LOADED: 3}),
    "rules.toml",
)
OTHER: Mapping[str, Mapping[str, int]] = {**GOOD, "cold": {SAVED: 4}}


def at(vllm: str = "0.19.1", torch: str = "2.10.0+cu128") -> dict[str, Any]:
    return {"provenance": {"started": DAY, "torch": torch, "vllm": vllm}, "rules": RULES}


def facts(found: CellVerdict) -> tuple[str, str | None, str | None]:
    return found.verdict, found.rung, words(found.reason)


@pytest.mark.parametrize(
    ("counters", "reason"),
    [
        (GOOD, "moe: provisional: counts as vLLM 0.18 did"),
        (OTHER, f"moe: provisional: differs from vLLM 0.18 in cold {SAVED}: 4, was 3"),
    ],
)
def test_a_release_beyond_the_end_is_untested_and_compared(
    counters: Mapping[str, Mapping[str, int]], reason: str
) -> None:
    found = judged(make_case(counters=counters), **at())
    assert facts(found) == ("untested", "starts warm", reason)
    assert exit_status(found) == 5
    (case,) = found.cases
    assert case.provisional is not None and case.provisional == found.provisional
    assert (case.differences, case.no_rule) == ((), ())
    assert [difference.observed for difference in case.provisional.differences] == (
        [] if counters is GOOD else [4]
    )


def test_the_ladder_is_reached_to_the_warm_start_and_no_higher() -> None:
    record = make(make_case(), provenance=at()["provenance"])
    found = evidence_of(record, judge(record, RULES))
    assert (found.verdict, found.fails) == ("untested", None)
    assert {"starts cold", "starts warm"} <= found.passed and Rung.AS_EXPECTED not in found.passed


@pytest.mark.parametrize(("vllm", "torch"), [("0.18.1", "2.10.0"), ("0.17.0", "2.9.1+cpu")])
def test_a_release_within_the_bounds_is_judged(vllm: str, torch: str) -> None:
    assert judged(make_case(), **at(vllm, torch)).verdict == "compatible"
    assert judged(make_case(counters=OTHER), **at(vllm, torch)).verdict == "drift"


def test_a_torch_beyond_the_end_is_compared_too() -> None:
    found = judged(make_case(), **at("0.18.1", "2.11.0rc1"))
    assert words(found.reason) == "moe: provisional: counts as torch 2.10 did"


def test_a_drift_of_what_is_expected_stays_one() -> None:
    """Some counters have an expectation here, and others one that ended."""
    known = parse_expectations(
        '[[rule]]\nid = "k"\nstart = "cold"\nvllm = "<1"\nevidence = ["a"]\n'
        "counters = { num_graphs_seen = 1 }\n",
        "known.toml",
    )
    both = Expectations(rules=(*RULES.rules, *known.rules))
    drifting = {**GOOD, "cold": {SAVED: 4, "num_graphs_seen": 2}}
    found = judged(make_case(counters=drifting), **{**at(), "rules": both})
    assert (found.verdict, found.provisional) == ("drift", None)
    as_known = {**GOOD, "cold": {SAVED: 3, "num_graphs_seen": 1}}
    found = judged(make_case(counters=as_known), **{**at(), "rules": both})
    assert facts(found) == ("untested", "starts warm", "moe: provisional: counts as vLLM 0.18 did")


def test_a_start_without_any_rule_is_told_beside() -> None:
    cold = Expectations(rules=RULES.rules[:1])
    found = judged(make_case(), **{**at(), "rules": cold})
    assert words(found.reason) == (
        "moe: provisional: counts as vLLM 0.18 did; no expectation for its warm start"
    )
    assert found.cases[0].no_rule == ("warm",)


def test_what_differs_decides_before_what_counts_the_same() -> None:
    found = judged(make_case("a"), make_case("b", counters=OTHER), make_case("c"), **at())
    assert str(words(found.reason)).startswith("b: provisional: differs from")
    assert found.provisional is not None and found.provisional.differences


def test_what_has_no_rule_at_all_decides_before_what_is_provisional() -> None:
    moe = Expectations(rules=tuple(replace(rule, case="moe") for rule in RULES.rules))
    found = judged(make_case(), make_case("dense"), **{**at(), "rules": moe})
    assert words(found.reason) == "dense: no expectation for its cold and warm starts"
    assert found.provisional is None


@pytest.mark.parametrize("outcome", ["failed", "crashed", "timed_out"])
def test_a_case_that_fails_is_incompatible_as_ever(outcome: str) -> None:
    found = judged(make_case(outcome=outcome), **at())
    assert (found.verdict, found.provisional) == ("incompatible", None)


def test_a_run_that_goes_on_shows_no_comparison_of_the_cell() -> None:
    record = make(make_case(), provenance=at()["provenance"])
    found = judge_running(record, RULES)
    assert (found.verdict, found.provisional) == ("untested", None)


COUNTS = st.fixed_dictionaries(
    {
        "cold": st.dictionaries(st.sampled_from([SAVED, "num_graphs_seen"]), st.integers(0, 4)),
        "warm": st.dictionaries(
            st.sampled_from([SAVED, "num_compiled_artifacts_loaded"]), st.integers(0, 4)
        ),
    }
)


@settings(deadline=None)
@given(
    counters=COUNTS,
    vllm=st.sampled_from(["0.16.0", "0.18.1", "0.19.0", "0.34.0", "1.0"]),
    torch=st.sampled_from(["2.9.1", "2.10.0", "2.11.0", "2.16.0.dev1"]),
    outcome=st.sampled_from(["passed", "failed", "running"]),
)
def test_what_is_provisional_is_never_compatible_nor_a_drift(
    counters: Mapping[str, Mapping[str, int]], vllm: str, torch: str, outcome: str
) -> None:
    record: Record = make(
        make_case(counters=counters, outcome=outcome),
        provenance={"torch": torch, "vllm": vllm},
        platform=Platform.CUDA,
    )
    found = judge(record, RULES)
    (case,) = found.cases
    beyond = vllm not in ("0.16.0", "0.18.1") or torch not in ("2.9.1", "2.10.0")
    if case.provisional is not None:
        assert beyond
        assert (found.verdict, case.verdict, case.rung) == ("untested", "untested", "starts warm")
        assert str(words(case.reason)).startswith("provisional: ")
    elif outcome == "passed":
        assert not beyond
        assert found.verdict in ("compatible", "drift")
