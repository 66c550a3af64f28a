"""Starts on several GPUs: each rank is compared with the baseline's, and named where it differs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from made import make, passed
from matrix.qualify.model import DriftKind
from matrix.record.model import Case, Rank
from matrix.report.qualify.json import render
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from matrix.rules.expectations_file import parse_expectations
from qualifications import NEXT, OLD, held

SAVED = "num_compiled_artifacts_saved"
RULES = parse_expectations(
    f"""
    [[rule]]
    id = "four"
    case = "moe"
    torch = "==2.12.*"
    vllm = "<99"
    start = "warm"
    counters = {{ {SAVED} = 4 }}
    evidence = ["a record"]
    """,
    "rules.toml",
)


def case(*counts: int) -> Case:
    """Return a case that passed, whose ranks saved so many artifacts on the warm start."""
    cold, warm = passed().starts
    ranks = [
        Rank(rank=number, counters={**warm.counters, SAVED: count})
        for number, count in enumerate(counts)
    ]
    first = replace(warm, counters=ranks[0].counters, ranks=tuple(ranks))
    return replace(passed(), starts=(cold, first))


@pytest.mark.parametrize(
    ("before", "after", "drifts", "status"),
    [
        ((0, 0), (0, 0), [], 0),
        ((0, 0), (0, 4), [(DriftKind.UNEXPECTED, 1, 0, 4, 0)], 1),
        ((0, 4), (0, 5), [(DriftKind.UNEXPECTED, 1, 4, 5, 0)], 1),
        ((0, 4), (0, 4), [(DriftKind.AS_BEFORE, 1, 4, 4, 0)], 0),
        ((0, 4), (0, 0), [(DriftKind.EXPECTED_AGAIN, 1, 4, 0, 0)], 0),
        # All ranks alike: that is one change, of no rank.
        ((0, 0), (4, 4), [(DriftKind.NO_RULE, None, 0, 4, None)], 1),
        (
            (0, 0),
            (4, 0),
            [(DriftKind.NO_RULE, 0, 0, 4, None), (DriftKind.UNEXPECTED, 1, 0, 0, 4)],
            1,
        ),
    ],
)
def test_each_rank_is_compared(
    before: tuple[int, ...],
    after: tuple[int, ...],
    drifts: list[tuple[DriftKind, int | None, int, int, int | None]],
    status: int,
) -> None:
    found = held(make(OLD, case(*before)), make(NEXT, case(*after)))
    assert [
        (drift.kind, drift.rank, drift.before, drift.after, drift.expected)
        for drift in found.drifts
    ] == drifts
    assert found.exit_status == status
    for drift in found.drifts:
        words = SAVED if drift.rank is None else f"{SAVED} of rank {drift.rank}"
        assert f"warm  {words} " in lines(found)
    rows = json.loads(render(found))["drifts"]
    assert [row.get("rank") for row in rows] == [drift.rank for drift in found.drifts]


def test_a_rule_is_of_every_rank() -> None:
    found = held(make(OLD, case(0, 0)), make(NEXT, case(4, 4)), rules=RULES)
    assert [(drift.kind, drift.rank) for drift in found.drifts] == [(DriftKind.EXPECTED, None)]
    found = held(make(OLD, case(0, 0)), make(NEXT, case(4, 3)), rules=RULES)
    assert [(drift.kind, drift.rank, drift.expected) for drift in found.drifts] == [
        (DriftKind.EXPECTED, 0, 4),
        (DriftKind.UNEXPECTED, 1, 4),
    ]
    assert f"`{SAVED}` of rank 1" in page(found)


def test_without_a_baseline_the_rank_is_named_too() -> None:
    found = held(make(OLD, passed("dense")), make(NEXT, passed("dense"), case(0, 4)))
    [drift] = [drift for drift in found.drifts if drift.case == "moe"]
    assert (drift.kind, drift.rank, drift.alone) == (DriftKind.UNEXPECTED, 1, True)


def test_an_older_run_that_only_another_rank_sets_apart_is_not_hidden() -> None:
    older = make(NEXT, case(0, 4), day=21, file="older")
    found = held(make(OLD, case(0, 0)), older, make(NEXT, case(0, 0)))
    [unknown] = found.unknown
    assert unknown.case == "moe"
    assert found.verdict == "not enough evidence"


def test_a_counter_that_one_rank_lacks_is_a_drift_or_not_counted() -> None:
    cold, warm = passed().starts
    short = {name: count for name, count in warm.counters.items() if name != SAVED}
    full = {**warm.counters, SAVED: 3}
    ranks = (Rank(rank=0, counters=full), Rank(rank=1, counters=short))
    odd = replace(passed(), starts=(cold, replace(warm, counters=full, ranks=ranks)))
    found = held(make(OLD, case(3, 3)), make(NEXT, odd))
    assert [(drift.rank, drift.after, drift.expected) for drift in found.drifts] == [(1, None, 3)]
    assert found.exit_status == 1
