"""Symptoms: a failure or a counter, and the observations that show it.

Pure. A **symptom** is a failure at a rung by its signature, or a counter whose value is not the
expected one or, off-pin, not the one that the same vLLM has under the torch that it pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from matrix._util.enums import StrEnum
from matrix.attribution.observations import FAILING_RUNGS, CounterKey, Observation, ObservationEnd
from matrix.record.model import RUNGS, STARTS, Rung, StartKind
from matrix.rules.counters import DEFAULT_COUNTERS
from matrix.verdict.events import StartEvent
from matrix.verdict.reasons import VerdictReason


class State(StrEnum):
    """An observation's relation to a symptom: it shows it, it is clean, or neither."""

    SHOWS = "shows"
    CLEAN = "clean"
    SILENT = "silent"


class SymptomKind(StrEnum):
    """The kinds of symptom. `CHANGED`: no expectation is violated, but the reference differs."""

    FAILS = "fails"
    DRIFTS = "drifts"
    CHANGED = "changed"


COMPARED_KEYS = tuple((start, counter) for start in STARTS for counter in DEFAULT_COUNTERS)
"""The starts and counters in which a change is a symptom, in the order of a report."""


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One symptom: a failure at a rung by its signature, or one counter of one start.

    `logged` is what a start of the case only logged that may explain a counter; it is not part of
    what two symptoms are compared by.
    """

    kind: SymptomKind
    rung: Rung | None = None
    signature: str | None = None
    reason: VerdictReason | None = None
    key: CounterKey | None = None
    observed: int | None = None
    wanted: int | None = None
    logged: StartEvent | None = field(default=None, compare=False)

    @property
    def fails(self) -> bool:
        """Return whether it is a failure, and not a counter."""
        return self.kind is SymptomKind.FAILS

    @property
    def start(self) -> StartKind | None:
        """Return the start of a counter."""
        return None if self.key is None else self.key[0]

    @property
    def counter(self) -> str | None:
        """Return the name of a counter."""
        return None if self.key is None else self.key[1]

    @property
    def rank(self) -> int | None:
        """Return the rank of a counter, where it is not the first one of its start."""
        return self.key[2] if self.key is not None and len(self.key) > 2 else None

    def counted(self, seen: Observation) -> int | None:
        """Return what an observation counted of the counter; None for a failure."""
        return None if self.key is None else seen.counters.get(self.key)


def state_of(symptom: Symptom, seen: Observation) -> State:
    """Return whether an observation shows the symptom, is clean of it, or neither."""
    if symptom.key is None:
        return _state_of_failure(symptom, seen)
    if seen.ended is not ObservationEnd.RAN:
        return State.SILENT
    value = seen.counters.get(symptom.key)
    if value == symptom.observed:
        return State.SHOWS
    expected = seen.expected.get(symptom.key)
    is_expected = expected is not None and value == expected and symptom.kind is SymptomKind.DRIFTS
    return State.CLEAN if value == symptom.wanted or is_expected else State.SILENT


def _state_of_failure(symptom: Symptom, seen: Observation) -> State:
    if seen.ended is ObservationEnd.RAN:
        return State.CLEAN
    if seen.ended is ObservationEnd.NOTHING:
        return State.SILENT
    if seen.rung == symptom.rung:
        return State.SHOWS if seen.signature == symptom.signature else State.SILENT
    return State.CLEAN if _height(seen.rung) > _height(symptom.rung) else State.SILENT


def symptoms_between(bad: Observation, good: Observation) -> tuple[Symptom, ...]:
    """Return what the one shows and the other does not: a failure, or counters that differ."""
    if bad.ended is ObservationEnd.FAILED:
        return failure(bad)
    if bad.ended is not ObservationEnd.RAN or good.ended is not ObservationEnd.RAN:
        return ()
    return tuple(counter_changes(bad, good, COMPARED_KEYS))


def failure(own: Observation) -> tuple[Symptom, ...]:
    """Return the failure of a failed observation, if its rung is one that can be compared."""
    if own.rung not in FAILING_RUNGS:
        return ()
    return (
        Symptom(kind=SymptomKind.FAILS, rung=own.rung, signature=own.signature, reason=own.reason),
    )


def drifts(own: Observation) -> Iterator[Symptom]:
    """Yield the counters of an observation that are not as expected.

    Where another rank counts as the first one does, and that drifts, it stands for both.
    """
    for key, wanted in sorted(own.expected.items(), key=lambda item: key_order(item[0])):
        value, first = own.counters.get(key), key[:2]
        alike = (value, wanted) == (own.counters.get(first), own.expected.get(first))
        if value != wanted and (key == first or not alike):
            yield Symptom(
                kind=SymptomKind.DRIFTS,
                key=key,
                observed=value,
                wanted=wanted,
                logged=_explaining(own, key[0]),
            )


def counter_changes(
    bad: Observation, good: Observation, keys: Iterable[CounterKey]
) -> Iterator[Symptom]:
    """Yield those of these counters whose values differ between two observations."""
    for key in keys:
        here, there = bad.counters.get(key), good.counters.get(key)
        if here is not None and there is not None and here != there:
            yield Symptom(
                kind=SymptomKind.CHANGED,
                key=key,
                observed=here,
                wanted=there,
                logged=_explaining(bad, key[0]),
            )


def _explaining(seen: Observation, start: StartKind) -> StartEvent | None:
    """Return the likeliest event that may explain a counter of the start: of it, or before it."""
    before = STARTS[: STARTS.index(start) + 1]
    return next((event for event in seen.logged if event.start in before), None)


def key_order(key: CounterKey) -> tuple[int, int, str, int]:
    """Return the sort key of a counter: by start, then the compared ones first, then by name."""
    start, counter, *rank = key
    place = (
        DEFAULT_COUNTERS.index(counter) if counter in DEFAULT_COUNTERS else len(DEFAULT_COUNTERS)
    )
    return STARTS.index(start), place, counter, rank[0] if rank else 0


def _height(rung: Rung | None) -> int:
    return RUNGS.index(rung) if rung in RUNGS else -1
