"""The logged events of a case's starts, in a form that compares across runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from matrix.record.model import STARTS, Case, EventKind, StartKind
from matrix.record.signature import signature

# Every release bypasses some cache at every start, which explains nothing.
_TELLING = tuple(kind for kind in EventKind if kind != EventKind.CACHE_BYPASSED)


class StartEvent(NamedTuple):
    """Something that one start logged; `text` is normalised as a signature is."""

    start: StartKind
    kind: EventKind
    text: str
    count: int  # type: ignore[assignment]  # hides that of a tuple, which nobody calls


def events_of(case: Case) -> tuple[StartEvent, ...] | None:
    """Return the events of the starts that ran to their end, the cold start's first.

    None if nobody listened to one of them, or none ran to its end: that is not known.
    """
    ran = [seen for start in STARTS if (seen := case.started(start)) is not None]
    found: list[StartEvent] = []
    for seen in ran:
        if seen.events is None:
            return None
        found += [
            StartEvent(
                start=seen.start, kind=event.kind, text=signature(event.text), count=event.count
            )
            for event in seen.events
        ]
    return tuple(found) if ran else None


def telling(events: Iterable[StartEvent] | None) -> tuple[StartEvent, ...]:
    """Return the events that can explain counters or seconds, the likeliest cause first."""
    some = [event for event in events or () if event.kind in _TELLING]
    return tuple(sorted(some, key=lambda event: _TELLING.index(event.kind)))
