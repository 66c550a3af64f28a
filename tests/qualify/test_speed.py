"""Seconds of two sides that took turns, compared round by round: laws, and what drops out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import failed, make, passed
from matrix.qualify.query import Side
from matrix.qualify.runs import MissingCode
from matrix.qualify.speed import (
    Dropped,
    DroppedCode,
    Measured,
    Round,
    SpeedCode,
    measure,
    rounds_of,
)
from matrix.qualify.unlike import UnlikeCode
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.model import Case, ErrorKind, Record, RunError
from matrix.report.qualify.unjudged import dropped_sentence
from qualifications import NEXT, OLD

SECONDS = st.floats(min_value=0.1, max_value=1000, allow_nan=False)
TIMES = st.tuples(SECONDS, SECONDS, SECONDS, SECONDS)
ROUNDS = st.lists(st.tuples(TIMES, TIMES), min_size=2, max_size=5)


def run(torch: str, second: int, *cases: Case, **more: Any) -> Record:
    started = f"2026-11-22T18:{second // 60:02}:{second % 60:02}Z"
    provenance = {"started": started, **more.pop("provenance", {})}
    return make(torch, *cases, provenance=provenance, **more)[1]


def cases(times: tuple[float, ...]) -> tuple[Case, Case]:
    cold, warm, more_cold, more_warm = times
    return passed("dense", cold=cold, warm=warm), passed("moe", cold=more_cold, warm=more_warm)


def made(rounds: list[Any]) -> list[Round]:
    return [
        Round(
            baseline=run(OLD, 2 * number, *cases(old)),
            candidate=run(NEXT, 2 * number + 1, *cases(new)),
        )
        for number, (old, new) in enumerate(rounds)
    ]


def swapped(pair: Round) -> Round:
    return Round(baseline=pair.candidate, candidate=pair.baseline)


@given(ROUNDS)
def test_to_swap_the_sides_inverts_every_ratio(rounds: list[Any]) -> None:
    every = made(rounds)
    there, back = measure(every), measure(map(swapped, every))
    for speed, other in zip(there.speeds, back.speeds, strict=True):
        assert speed.ratio == pytest.approx(1 / other.ratio)
        assert speed.ratios == pytest.approx(tuple(1 / ratio for ratio in other.ratios))
        assert speed.steady is other.steady
    assert len(there.speeds) == 2


@given(st.lists(TIMES, min_size=2, max_size=5))
def test_equal_seconds_are_a_ratio_of_one(times: list[Any]) -> None:
    for speed in measure(made([(side, side) for side in times])).speeds:
        assert speed.ratio == 1.0 and set(speed.ratios) == {1.0}
        assert not speed.slower and not speed.steady


@given(ROUNDS, st.randoms())
def test_the_order_of_records_does_not_matter(rounds: list[Any], chance: Any) -> None:
    every = made(rounds)
    before, after = [pair.baseline for pair in every], [pair.candidate for pair in every]
    assert rounds_of(before, after) == tuple(every)
    wanted = measure(every)
    for records in (before, after, every):
        chance.shuffle(records)
    assert measure(every) == wanted
    assert measure(rounds_of(before, after)) == wanted


@given(ROUNDS, SECONDS)
def test_a_machine_that_is_slower_in_one_round_changes_no_ratio(
    rounds: list[Any], factor: float
) -> None:
    """Both runs of a round have the same machine, so what slows both of them says nothing."""
    slow = [tuple(tuple(value * factor for value in side) for side in rounds[0]), *rounds[1:]]
    for speed, other in zip(measure(made(rounds)).speeds, measure(made(slow)).speeds, strict=True):
        assert speed.ratio == pytest.approx(other.ratio)


def test_the_ratio_is_the_geometric_mean_over_cases_and_rounds() -> None:
    rounds = [((1.0, 8.0, 4.0, 8.0), (4.0, 8.0, 4.0, 8.0)), ((1.0,) * 4, (1.0, 2.0, 1.0, 2.0))]
    cold, warm = measure(made(rounds)).speeds
    assert cold.before == pytest.approx((2, 1)) and cold.after == pytest.approx((4, 1))
    assert cold.ratio == pytest.approx(2**0.5) and (cold.slower, cold.steady) == (True, False)
    assert warm.ratios == pytest.approx((1, 2)) and warm.cases == 2


@pytest.mark.parametrize(("factor", "slower"), [(1.149, False), (1.151, True)])
def test_a_slowdown_is_more_than_15_percent(factor: float, *, slower: bool) -> None:
    rounds = [((10.0,) * 4, (10.0 * factor, 10.0, 10.0 * factor, 10.0))] * 2
    assert [speed.slower for speed in measure(made(rounds)).speeds] == [slower, False]


FAST, SLOW = (10.0, 5.0, 10.0, 5.0), (12.0, 6.0, 12.0, 6.0)


def three() -> list[Round]:
    return made([(FAST, SLOW)] * 3)


def changed(pair: Round, **changes: Any) -> Round:
    return replace(pair, candidate=replace(pair.candidate, **changes))


def only(found: Measured) -> Dropped:
    [dropped] = found.dropped
    return dropped


def ratios(found: Measured) -> list[int]:
    return [len(speed.ratios) for speed in found.speeds]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"finished": False}, MissingCode.NOT_FINISHED),
        ({"cases": ()}, MissingCode.NO_CASES),
        (
            {"error": RunError(kind=ErrorKind.INTERRUPTED, reason="SIGINT")},
            MissingCode.ENDED_EARLY,
        ),
    ],
)
def test_a_run_that_was_cut_short_drops_out_with_its_round(
    changes: dict[str, Any], missing: MissingCode
) -> None:
    first, *others = three()
    found = measure([changed(first, **changes), *others])
    dropped = only(found)
    assert (dropped.code, dropped.side) == (DroppedCode.CUT_SHORT, Side.CANDIDATE)
    assert dropped.missing is not None and dropped.missing.code is missing
    assert dropped.started == first.candidate.started
    assert ratios(found) == [2, 2]


def test_a_run_that_failed_drops_out_with_its_round() -> None:
    first, *others = three()
    bad = changed(first, cases=(passed("dense"), failed("moe")))
    found = measure([bad, *others])
    assert (only(found).code, only(found).case, only(found).outcome) == (
        DroppedCode.CASE,
        "moe",
        "failed",
    )
    assert ratios(found) == [2, 2] and found.speeds[0].cases == 2
    assert [speed.ratio for speed in found.speeds] == pytest.approx([1.2, 1.2])


def test_a_case_that_never_passes_on_a_side_does_not_count_and_drops_nothing() -> None:
    found = measure(
        changed(pair, cases=(pair.candidate.cases[0], failed("moe"))) for pair in three()
    )
    assert found.dropped == () and [speed.cases for speed in found.speeds] == [1, 1]


def test_a_side_that_never_passes_gives_no_ratio() -> None:
    bad = (failed("dense"), failed("moe"))
    found = measure(changed(pair, cases=bad) for pair in three())
    assert found.speeds == () and found.no_speed is not None
    assert found.no_speed.code is SpeedCode.NO_CASE


def test_one_round_claims_nothing() -> None:
    found = measure(made([(FAST, SLOW)]))
    assert found.speeds == () and found.no_speed is not None
    assert (found.no_speed.code, found.no_speed.candidate) == (SpeedCode.TOO_FEW_RUNS, 1)
    first, second, third = three()
    found = measure([first, changed(second, finished=False), changed(third, finished=False)])
    assert found.speeds == () and len(found.dropped) == 2


@pytest.mark.parametrize(
    ("provenance", "code"),
    [
        ({"jobs": 2}, UnlikeCode.OTHER_JOBS),
        ({"tests": {"commit": None, "version": 25}}, UnlikeCode.OTHER_TESTS),
        ({"machine": "aarch64"}, UnlikeCode.OTHER_MACHINE),
    ],
)
def test_both_runs_of_a_round_are_alike(provenance: dict[str, Any], code: UnlikeCode) -> None:
    first, *others = three()
    other = changed(first, provenance={**first.candidate.provenance, **provenance})
    found = measure([other, *others])
    assert only(found).code is code and ratios(found) == [2, 2]


def test_both_runs_of_a_round_are_alike_in_their_failed_steps() -> None:
    first, *others = three()
    found = measure([changed(first, cpp_compiler=CppCompiler(seconds=1, reason="why")), *others])
    assert only(found).code is UnlikeCode.OTHER_STEPS and ratios(found) == [2, 2]
    assert "its round: a step before the cases failed" in dropped_sentence(only(found))


def test_a_case_that_does_not_apply_is_not_counted() -> None:
    skipped = Case(case="cuda only", outcome="not_applicable", reason="no GPU")  # type: ignore[arg-type]
    found = measure(
        replace(pair, baseline=replace(pair.baseline, cases=(*pair.baseline.cases, skipped)))
        for pair in three()
    )
    assert not found.dropped and [speed.cases for speed in found.speeds] == [2, 2]


@pytest.mark.parametrize(
    ("before", "after", "rounds"),
    [
        ((1, 3), (2, 4), 2),
        ((1, 4), (2, 3), 2),  # A B B A
        ((1, 2), (3, 4), 1),
        ((1, 2, 3), (4,), 1),
        ((1, 5), (1, 6), 1),  # at once is not in turns
        ((), (1, 2), 0),
    ],
)
def test_a_round_is_of_neighbours(
    before: tuple[int, ...], after: tuple[int, ...], rounds: int
) -> None:
    old, new = [run(OLD, second) for second in before], [run(NEXT, second) for second in after]
    assert len(rounds_of(old, new)) == rounds
    assert [swapped(pair) for pair in rounds_of(new, old)] == list(rounds_of(old, new))
