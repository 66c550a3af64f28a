"""matrix.attribution.symptoms: what is attributed, and what a neighbour says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.attribution.observations import FAILING_RUNGS, CounterKey, Observation, ObservationEnd
from matrix.attribution.symptoms import (
    COMPARED_KEYS,
    State,
    Symptom,
    SymptomKind,
    counter_changes,
    drifts,
    failure,
    key_order,
    state_of,
    symptoms_between,
)
from matrix.catalog.cells import Cell
from matrix.record.model import RUNGS, STARTS, EventKind, Platform, Rung, StartKind
from matrix.rules.counters import DEFAULT_COUNTERS
from matrix.verdict.events import StartEvent
from matrix.verdict.reasons import Recorded

CELL = Cell("3.11", "2.12.0", "0.20.0")
SAVED, TOTAL = "num_compiled_artifacts_saved", "aot_autograd.total"
WARM, COLD = (StartKind.WARM, SAVED), (StartKind.COLD, TOTAL)


def ran(counters: Mapping[CounterKey, int], **more: Any) -> Observation:
    return Observation(
        cell=CELL,
        platform=Platform.CPU,
        case="a",
        started="2026-11-22T18:00:00Z",
        ended=ObservationEnd.RAN,
        counters=counters,
        **more,
    )


def fell(
    rung: Rung | None = Rung.STARTS_WARM, signature: str | None = "KeyError: None"
) -> Observation:
    return replace(ran({}), ended=ObservationEnd.FAILED, rung=rung, signature=signature)


IDLE = replace(ran({}), ended=ObservationEnd.NOTHING)
FAILURE = Symptom(kind=SymptomKind.FAILS, rung=Rung.STARTS_WARM, signature="KeyError: None")
DRIFT = Symptom(kind=SymptomKind.DRIFTS, key=WARM, observed=3, wanted=0)
CHANGE = replace(DRIFT, kind=SymptomKind.CHANGED)

_rungs = st.sampled_from((*Rung, None))
_counts = st.dictionaries(
    st.tuples(st.sampled_from(STARTS), st.sampled_from((SAVED, TOTAL, "z"))), st.integers(0, 2)
)
_seen = st.builds(
    replace,
    st.builds(fell, _rungs, st.sampled_from(("KeyError: None", "ValueError: x", None))),
    ended=st.sampled_from(
        (
            ObservationEnd.RAN,
            ObservationEnd.RAN,
            ObservationEnd.RAN,
            ObservationEnd.FAILED,
            ObservationEnd.NOTHING,
        )
    ),
    counters=_counts,
    expected=_counts,
)


def test_what_tells_is_each_start_of_each_counter_in_the_order_of_telling() -> None:
    assert set(COMPARED_KEYS) == {(start, key) for start in STARTS for key in DEFAULT_COUNTERS}
    assert list(COMPARED_KEYS) == sorted(COMPARED_KEYS, key=key_order)


def test_counters_are_told_by_start_then_the_telling_ones_then_by_name() -> None:
    keys = [
        (StartKind.WARM, SAVED),
        (StartKind.COLD, "b"),
        (StartKind.COLD, "a"),
        (StartKind.COLD, TOTAL),
        (StartKind.COLD, SAVED),
    ]
    assert sorted(keys, key=key_order) == [
        (StartKind.COLD, SAVED),
        (StartKind.COLD, TOTAL),
        (StartKind.COLD, "a"),
        (StartKind.COLD, "b"),
        (StartKind.WARM, SAVED),
    ]


@pytest.mark.parametrize(
    ("symptom", "seen", "state"),
    [
        (FAILURE, IDLE, State.SILENT),
        (DRIFT, IDLE, State.SILENT),
        (FAILURE, ran({}), State.CLEAN),
        (FAILURE, fell(), State.SHOWS),
        (FAILURE, fell(signature="ValueError: x"), State.SILENT),
        (FAILURE, fell(Rung.STARTS_COLD), State.SILENT),
        (replace(FAILURE, rung=Rung.IMPORTS), fell(Rung.STARTS_COLD), State.CLEAN),
        (DRIFT, fell(), State.SILENT),
        (DRIFT, ran({WARM: 3}), State.SHOWS),
        (DRIFT, ran({WARM: 0}), State.CLEAN),
        (DRIFT, ran({WARM: 2}), State.SILENT),
        (DRIFT, ran({}), State.SILENT),
        (DRIFT, ran({(StartKind.COLD, SAVED): 3}), State.SILENT),
        (replace(DRIFT, observed=None), ran({}), State.SHOWS),
        # Where another number is as it should be, it is clean; but of what only changed, who knows?
        (DRIFT, ran({WARM: 2}, expected={WARM: 2}), State.CLEAN),
        (CHANGE, ran({WARM: 2}, expected={WARM: 2}), State.SILENT),
        (DRIFT, ran({WARM: 2}, expected={WARM: 1}), State.SILENT),
        # The number of the symptom shows it, even where that is expected.
        (DRIFT, ran({WARM: 3}, expected={WARM: 3}), State.SHOWS),
    ],
)
def test_what_a_neighbour_says(symptom: Symptom, seen: Observation, state: State) -> None:
    assert state_of(symptom, seen) == state


@given(_seen, _seen)
def test_what_is_found_between_two_shows_in_the_one_and_not_in_the_other(
    bad: Observation, good: Observation
) -> None:
    for symptom in symptoms_between(bad, good):
        assert state_of(symptom, bad) == State.SHOWS
        if symptom.kind == SymptomKind.CHANGED:
            assert state_of(symptom, good) == State.CLEAN
    if bad.ended == ObservationEnd.RAN == good.ended:
        both = bad.counters.keys() & good.counters.keys()
        found = [change.key for change in symptoms_between(bad, good)]
        assert found == [
            key for key in COMPARED_KEYS if key in both and bad.counters[key] != good.counters[key]
        ]
    elif bad.ended != ObservationEnd.FAILED:
        assert symptoms_between(bad, good) == ()


@given(_rungs, st.none() | st.text())
def test_a_failure_is_a_symptom_at_a_rung_that_compares(
    rung: Rung | None, signature: str | None
) -> None:
    own = replace(fell(rung, signature), reason=Recorded(text="why"))
    found = failure(own)
    assert found == symptoms_between(own, IDLE)
    if rung in FAILING_RUNGS:
        assert found == (
            Symptom(
                kind=SymptomKind.FAILS, rung=rung, signature=signature, reason=Recorded(text="why")
            ),
        )
    else:
        assert found == ()


@given(_rungs, _rungs)
def test_who_climbs_higher_is_clean_of_what_failed_below(
    one: Rung | None, other: Rung | None
) -> None:
    below, above = (
        Symptom(kind=SymptomKind.FAILS, rung=one, signature="x"),
        Symptom(kind=SymptomKind.FAILS, rung=other, signature="x"),
    )
    states = state_of(below, fell(other, "y")), state_of(above, fell(one, "y"))
    known = [rung for rung in (one, other) if rung in RUNGS]
    if known and one != other:
        higher = State.CLEAN, State.SILENT
        first = other in RUNGS and (one not in RUNGS or RUNGS.index(other) > RUNGS.index(one))
        assert states == (higher if first else higher[::-1])
    else:
        assert states == (State.SILENT, State.SILENT)


def test_only_the_counters_that_are_asked_for_are_compared_and_in_that_order() -> None:
    bad, good = ran({WARM: 3, COLD: 9, (StartKind.COLD, "a"): 1}), ran({WARM: 0, COLD: 3})
    told = [
        (change.key, change.observed, change.wanted)
        for change in counter_changes(bad, good, [WARM, COLD])
    ]
    assert told == [(WARM, 3, 0), (COLD, 9, 3)]
    told = [
        (change.key, change.observed, change.wanted)
        for change in counter_changes(good, bad, [COLD, WARM])
    ]
    assert told == [(COLD, 3, 9), (WARM, 0, 3)]
    assert [change.key for change in counter_changes(bad, good, [COLD])] == [COLD]
    # One that the other did not count is no change, though 0 is a count.
    assert list(counter_changes(bad, good, [(StartKind.COLD, "a")])) == []
    assert list(counter_changes(good, bad, [(StartKind.COLD, "a")])) == []


def test_a_counter_names_what_its_start_or_an_earlier_one_logged() -> None:
    events = tuple(
        StartEvent(start=start, kind=EventKind.LOAD_FAILED, text=f"no {start} key", count=1)
        for start in (StartKind.WARM, StartKind.COLD)
    )
    seen = ran({WARM: 3, COLD: 3}, expected={WARM: 0, COLD: 0}, logged=events)
    logged = {drift.start: drift.logged for drift in drifts(seen)}
    assert logged == {"warm": events[0], "cold": events[1]}
    [alone] = drifts(replace(seen, expected={COLD: 0}, logged=events[:1]))
    assert alone.logged is None
    # Two runs show one symptom whatever they logged.
    [quiet] = drifts(replace(seen, expected={WARM: 0}, logged=()))
    [loud] = drifts(replace(seen, expected={WARM: 0}))
    assert quiet == loud
