"""What is attributed: that a case fails, or one counter of one start, and who shows it too.

Pure. A **symptom** is a failure at a rung by its signature, or a counter that is not what it should
be or, off-pin, not what it is beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from matrix.attribution.observations import FAILED, FAILING_RUNGS, NOTHING, RAN, Key, Observation
from matrix.record.model import RUNGS, STARTS
from matrix.rules.calibrate import DEFAULT_COUNTERS

__all__ = [
    "CHANGED",
    "CLEAN",
    "DOES",
    "DRIFTS",
    "FAILS",
    "SHOWS",
    "SILENT",
    "TELLING",
    "Symptom",
    "changed",
    "failure",
    "key_order",
    "state_of",
    "symptoms_between",
]

SHOWS = "shows"
CLEAN = "clean"
SILENT = "silent"
"""What a neighbour says of a symptom."""

FAILS = "fails"
DRIFTS = "drifts"
CHANGED = "changed"
"""The kinds of symptom. `changed`: nothing says that it is wrong, but it is not as beside it."""

TELLING = tuple((start, counter) for start in STARTS for counter in DEFAULT_COUNTERS)
"""The starts and counters in which a change is a symptom, in the order in which they are told."""

DOES = dict(
    zip(
        FAILING_RUNGS,
        (
            ("resolves", "does not resolve"),
            ("is imported", "is not imported"),
            ("starts cold", "fails to start cold"),
            ("starts warm", "fails to start warm"),
        ),
        strict=True,
    )
)
"""What a cell does at each rung, in words: where it passes it and where it fails."""


@dataclass(frozen=True)
class Symptom:
    """One thing to attribute: a failure at a rung by its signature, or one counter of one start."""

    kind: str
    rung: str | None = None
    signature: str | None = None
    reason: str | None = None
    start: str | None = None
    counter: str | None = None
    observed: int | None = None
    wanted: int | None = None

    @cached_property
    def key(self) -> Key:
        """The start and the counter."""
        return str(self.start), str(self.counter)

    @property
    def told(self) -> str:
        """The symptom in a few words."""
        if self.kind == FAILS:
            said = self.reason or self.signature or "without a reason"
            return f"{DOES[str(self.rung)][1]}: {said}"
        known = "not counted" if self.observed is None else str(self.observed)
        return f"{self.start} {self.counter} {known}, not {self.wanted}"


def state_of(symptom: Symptom, seen: Observation) -> str:
    """Whether an observation shows the symptom, is clean of it, or says nothing of it."""
    if seen.ended == NOTHING:
        return SILENT
    if symptom.kind == FAILS:
        if seen.ended == RAN:
            return CLEAN
        if seen.rung == symptom.rung:
            return SHOWS if seen.signature == symptom.signature else SILENT
        return CLEAN if _height(seen.rung) > _height(symptom.rung) else SILENT
    if seen.ended != RAN:
        return SILENT
    value = seen.counters.get(symptom.key)
    if value == symptom.observed:
        return SHOWS
    expected = seen.expected.get(symptom.key)
    as_it_should = expected is not None and value == expected and symptom.kind == DRIFTS
    return CLEAN if value == symptom.wanted or as_it_should else SILENT


def symptoms_between(bad: Observation, good: Observation) -> tuple[Symptom, ...]:
    """What the one shows and the other does not: a failure, or the counters that differ."""
    if bad.ended == FAILED:
        return failure(bad)
    if bad.ended != RAN or good.ended != RAN:
        return ()
    return tuple(changed(bad, good, TELLING))


def failure(own: Observation) -> tuple[Symptom, ...]:
    """The failure of an observation that failed, where its rung is one that can be compared."""
    if own.rung not in DOES:
        return ()
    return (Symptom(FAILS, rung=own.rung, signature=own.signature, reason=own.reason),)


def changed(bad: Observation, good: Observation, keys: Iterable[Key]) -> Iterator[Symptom]:
    """The counters, of these, that the one counts otherwise than the other, as symptoms."""
    for start, counter in keys:
        one, other = bad.counters.get((start, counter)), good.counters.get((start, counter))
        if one is not None and other is not None and one != other:
            yield Symptom(CHANGED, start=start, counter=counter, observed=one, wanted=other)


def key_order(key: Key) -> tuple[int, int, str]:
    """What sorts counters: by start, and then the telling ones first."""
    start, counter = key
    rank = DEFAULT_COUNTERS.index(counter) if counter in DEFAULT_COUNTERS else len(DEFAULT_COUNTERS)
    return STARTS.index(start), rank, counter


def _height(rung: str | None) -> int:
    return RUNGS.index(rung) if rung in RUNGS else -1
