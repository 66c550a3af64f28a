"""Which part of a start each second belongs to: every second is in one part only."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

_NAMELESS = ""


class _Segment(NamedTuple):
    began: float
    ended: float
    part: str


class Timeline:
    """The seconds of one start, each in the innermost part that was open then.

    `kept` are parts whose seconds nobody else may claim.
    """

    def __init__(
        self, kept: tuple[str, ...] = (), clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Begin now, in no part."""
        self._kept, self._clock = kept, clock
        self._segments: list[_Segment] = []
        self._open: list[str] = []
        self._since = clock()

    @contextlib.contextmanager
    def span(self, part: str) -> Iterator[None]:
        """Give the seconds meanwhile to the part, but for those of parts within."""
        self._turn()
        self._open.append(part)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def claim(self, seconds: float) -> float:
        """Take the last seconds from the parts that they were in; return how many were to be had.

        For what is reported after it is over, and counted by whoever claims it. What was claimed
        before counts again: the caller knows how reports lie within each other.
        """
        self._turn()
        now = self._since
        began = now - seconds
        kept = 0.0
        segments: list[_Segment] = []
        for segment in self._segments:
            overlap = segment.ended - max(segment.began, began)
            if overlap <= 0:
                segments.append(segment)
            elif segment.part in self._kept:
                kept += overlap
                segments.append(segment)
            else:
                middle = max(segment.began, began)
                if segment.began < middle:
                    segments.append(segment._replace(ended=middle))
                segments.append(segment._replace(began=middle, part=_CLAIMED))
        self._segments = segments
        return max(0.0, seconds - kept)

    def forget(self) -> None:
        """Forget the seconds so far, in a process that was forked; the innermost part continues.

        The parts around it are open in the process that it was forked from, and are nobody's here.
        """
        self._segments = []
        self._since = self._clock()
        self._open[:-1] = [_NAMELESS] * len(self._open[:-1])

    def parts(self) -> dict[str, float]:
        """Return the seconds of each part so far; claimed and nameless ones are left out."""
        self._turn()
        sums: dict[str, float] = {}
        for segment in self._segments:
            if segment.part not in (_CLAIMED, _NAMELESS):
                length = segment.ended - segment.began
                sums[segment.part] = sums.get(segment.part, 0.0) + length
        return sums

    def _turn(self) -> None:
        """Close the segment that runs, in the part that is open."""
        now = self._clock()
        part = self._open[-1] if self._open else _NAMELESS
        last = self._segments[-1] if self._segments else None
        if last is not None and last.part == part:
            self._segments[-1] = last._replace(ended=now)
        elif now > self._since:
            self._segments.append(_Segment(self._since, now, part))
        self._since = now


_CLAIMED = "(claimed)"
