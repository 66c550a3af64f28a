"""matrix.attribution.symptoms: what is attributed, and what a neighbour says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.attribution.observations import FAILED, FAILING_RUNGS, NOTHING, RAN, Key, Observation
from matrix.attribution.symptoms import (
    CHANGED,
    CLEAN,
    DOES,
    DRIFTS,
    FAILS,
    SHOWS,
    SILENT,
    TELLING,
    Symptom,
    changed,
    failure,
    key_order,
    state_of,
    symptoms_between,
)
from matrix.catalog.cells import Cell
from matrix.record.model import RUNGS, STARTS
from matrix.rules.calibrate import DEFAULT_COUNTERS

CELL = Cell("3.11", "2.12.0", "0.20.0")
SAVED, TOTAL = "num_compiled_artifacts_saved", "aot_autograd.total"
WARM, COLD = ("warm", SAVED), ("cold", TOTAL)


def ran(counters: Mapping[Key, int], **more: Any) -> Observation:
    return Observation(CELL, "cpu", "a", "2026-11-22T18:00:00Z", RAN, counters=counters, **more)


def fell(rung: str | None = "starts warm", signature: str | None = "KeyError: None") -> Observation:
    return replace(ran({}), ended=FAILED, rung=rung, signature=signature)


IDLE = replace(ran({}), ended=NOTHING)
FAILURE = Symptom(FAILS, rung="starts warm", signature="KeyError: None")
DRIFT = Symptom(DRIFTS, start="warm", counter=SAVED, observed=3, wanted=0)
CHANGE = replace(DRIFT, kind=CHANGED)

_rungs = st.sampled_from((*RUNGS, "a rung of nobody", None))
_counts = st.dictionaries(
    st.tuples(st.sampled_from(STARTS), st.sampled_from((SAVED, TOTAL, "z"))), st.integers(0, 2)
)
_seen = st.builds(
    replace,
    st.builds(fell, _rungs, st.sampled_from(("KeyError: None", "ValueError: x", None))),
    ended=st.sampled_from((RAN, RAN, RAN, FAILED, NOTHING)),
    counters=_counts,
    expected=_counts,
)


def test_what_tells_is_each_start_of_each_counter_in_the_order_of_telling() -> None:
    assert set(TELLING) == {(start, key) for start in STARTS for key in DEFAULT_COUNTERS}
    assert list(TELLING) == sorted(TELLING, key=key_order)


def test_counters_are_told_by_start_then_the_telling_ones_then_by_name() -> None:
    keys = [("warm", SAVED), ("cold", "b"), ("cold", "a"), ("cold", TOTAL), ("cold", SAVED)]
    assert sorted(keys, key=key_order) == [
        ("cold", SAVED),
        ("cold", TOTAL),
        ("cold", "a"),
        ("cold", "b"),
        ("warm", SAVED),
    ]


def test_each_rung_that_a_run_can_fail_at_has_its_words() -> None:
    assert tuple(DOES) == FAILING_RUNGS
    assert DOES["imports"] == ("is imported", "is not imported")


@pytest.mark.parametrize(
    ("symptom", "said"),
    [
        (FAILURE, "fails to start warm: KeyError: None"),
        (replace(FAILURE, reason="it broke"), "fails to start warm: it broke"),
        (replace(FAILURE, signature=None), "fails to start warm: without a reason"),
        (DRIFT, f"warm {SAVED} 3, not 0"),
        (replace(DRIFT, observed=None), f"warm {SAVED} not counted, not 0"),
        (replace(CHANGE, observed=0, wanted=4), f"warm {SAVED} 0, not 4"),
    ],
)
def test_a_symptom_in_words(symptom: Symptom, said: str) -> None:
    assert symptom.told == said


def test_a_symptom_is_the_same_when_it_was_asked_for_its_key() -> None:
    asked, fresh = replace(DRIFT), replace(DRIFT)
    assert asked.key == WARM
    assert asked == fresh
    assert hash(asked) == hash(fresh)
    assert replace(asked, counter=TOTAL).key == ("warm", TOTAL)


@pytest.mark.parametrize(
    ("symptom", "seen", "state"),
    [
        (FAILURE, IDLE, SILENT),
        (DRIFT, IDLE, SILENT),
        (FAILURE, ran({}), CLEAN),
        (FAILURE, fell(), SHOWS),
        (FAILURE, fell(signature="ValueError: x"), SILENT),
        (FAILURE, fell("starts cold"), SILENT),
        (replace(FAILURE, rung="imports"), fell("starts cold"), CLEAN),
        (FAILURE, fell("a rung of nobody"), SILENT),
        (DRIFT, fell(), SILENT),
        (DRIFT, ran({WARM: 3}), SHOWS),
        (DRIFT, ran({WARM: 0}), CLEAN),
        (DRIFT, ran({WARM: 2}), SILENT),
        (DRIFT, ran({}), SILENT),
        (DRIFT, ran({("cold", SAVED): 3}), SILENT),
        (replace(DRIFT, observed=None), ran({}), SHOWS),
        # Where another number is as it should be, it is clean; but of what only changed, who knows?
        (DRIFT, ran({WARM: 2}, expected={WARM: 2}), CLEAN),
        (CHANGE, ran({WARM: 2}, expected={WARM: 2}), SILENT),
        (DRIFT, ran({WARM: 2}, expected={WARM: 1}), SILENT),
        # The number of the symptom shows it, even where that is expected.
        (DRIFT, ran({WARM: 3}, expected={WARM: 3}), SHOWS),
    ],
)
def test_what_a_neighbour_says(symptom: Symptom, seen: Observation, state: str) -> None:
    assert state_of(symptom, seen) == state


@given(_seen, _seen)
def test_what_is_found_between_two_shows_in_the_one_and_not_in_the_other(
    bad: Observation, good: Observation
) -> None:
    for symptom in symptoms_between(bad, good):
        assert state_of(symptom, bad) == SHOWS
        if symptom.kind == CHANGED:
            assert state_of(symptom, good) == CLEAN
    if bad.ended == RAN == good.ended:
        both = bad.counters.keys() & good.counters.keys()
        found = [each.key for each in symptoms_between(bad, good)]
        assert found == [
            key for key in TELLING if key in both and bad.counters[key] != good.counters[key]
        ]
    elif bad.ended != FAILED:
        assert symptoms_between(bad, good) == ()


@given(_rungs, st.none() | st.text())
def test_a_failure_is_a_symptom_at_a_rung_that_compares(
    rung: str | None, signature: str | None
) -> None:
    own = replace(fell(rung, signature), reason="why")
    found = failure(own)
    assert found == symptoms_between(own, IDLE)
    if rung in FAILING_RUNGS:
        assert found == (Symptom(FAILS, rung=rung, signature=signature, reason="why"),)
    else:
        assert found == ()


@given(_rungs, _rungs)
def test_who_climbs_higher_is_clean_of_what_failed_below(
    one: str | None, other: str | None
) -> None:
    below, above = (
        Symptom(FAILS, rung=one, signature="x"),
        Symptom(FAILS, rung=other, signature="x"),
    )
    states = state_of(below, fell(other, "y")), state_of(above, fell(one, "y"))
    known = [each for each in (one, other) if each in RUNGS]
    if known and one != other:
        higher = CLEAN, SILENT
        first = other in RUNGS and (one not in RUNGS or RUNGS.index(other) > RUNGS.index(one))
        assert states == (higher if first else higher[::-1])
    else:
        assert states == (SILENT, SILENT)


def test_only_the_counters_that_are_asked_for_are_compared_and_in_that_order() -> None:
    bad, good = ran({WARM: 3, COLD: 9, ("cold", "a"): 1}), ran({WARM: 0, COLD: 3})
    told = [(each.key, each.observed, each.wanted) for each in changed(bad, good, [WARM, COLD])]
    assert told == [(WARM, 3, 0), (COLD, 9, 3)]
    told = [(each.key, each.observed, each.wanted) for each in changed(good, bad, [COLD, WARM])]
    assert told == [(COLD, 3, 9), (WARM, 0, 3)]
    assert [each.key for each in changed(bad, good, [COLD])] == [COLD]
    # One that the other did not count is no change, though 0 is a count.
    assert list(changed(bad, good, [("cold", "a")])) == []
    assert list(changed(good, bad, [("cold", "a")])) == []
