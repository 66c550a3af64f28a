"""What torch and vLLM only logged of a case's starts, in a form that compares across runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matrix.record.model import STARTS, Case, EventKind, StartKind
from matrix.record.signature import signature

_WORDS = {
    EventKind.LOAD_FAILED: "compiled again: a cached artifact did not load",
    EventKind.SAVE_FAILED: "could not save an artifact",
    EventKind.CACHE_BYPASSED: "did not use a cache",
    EventKind.CACHE_DISABLED: "had a cache off",
    EventKind.FELL_BACK: "fell back to another way",
    EventKind.RECOMPILED: "compiled a function more than once",
}
# Every release bypasses some cache at every start, which explains nothing.
_TELLING = tuple(kind for kind in EventKind if kind != EventKind.CACHE_BYPASSED)


@dataclass(frozen=True, kw_only=True)
class StartEvent:
    """Something that one start logged; `text` is normalised as a signature is."""

    start: StartKind
    kind: EventKind
    text: str
    count: int

    @property
    def words(self) -> str:
        """Return what happened, in words, and the text.

        >>> print(
        ...     StartEvent(
        ...         start=StartKind.WARM,
        ...         kind=EventKind.LOAD_FAILED,
        ...         text="no key",
        ...         count=2,
        ...     ).words
        ... )
        warm start compiled again: a cached artifact did not load (2 times): no key
        """
        often = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.start} start {_WORDS[self.kind]}{often}: {self.text}"


def events_of(case: Case) -> tuple[StartEvent, ...] | None:
    """Return the events of the starts that ran to their end, the cold start's first.

    None where nobody listened to one of them, or none ran to its end: that is not known.
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
