"""The cases that the full suite adds, on a terminal: how each ended and what its starts counted."""

from __future__ import annotations

from collections.abc import Sequence

from matrix._util.text import aligned, clean, clip, seconds
from matrix.record.model import STARTS, Case, Outcome
from matrix.rules.counters import DEFAULT_COUNTERS

_COUNTERS = (*DEFAULT_COUNTERS, "num_cudagraph_captured")


def lines(cases: Sequence[Case], *, every: bool = False) -> list[str]:
    """Return the cases in aligned columns; with `every` all that they counted."""
    if not cases:
        return ["full suite: none of its further cases ran"]
    rows = [["full suite", "start", "seconds", "outcome and counters"]]
    for case in cases:
        place = (case.signature or "").partition(" @ ")[2]
        parts = [clip(clean(part), 200) for part in (case.reason, place) if part]
        why = f": {' @ '.join(parts)}" if parts else ""
        untested = case.outcome is Outcome.PASSED and case.reason
        outcome = "untested" if untested else case.outcome.replace("_", " ")
        took = seconds(case.seconds) if case.seconds and not case.starts else ""
        rows.append([clip(clean(case.case), 60), "", took, f"{outcome}{why}"])
        for seen in filter(None, map(case.started, STARTS)):
            counted = [name for name in _COUNTERS if name in seen.counters]
            names = sorted(seen.counters) if every else counted
            texts = (f"{clip(clean(name), 60)} {seen.counters[name]}" for name in names)
            rows.append(["", seen.start, seconds(seen.seconds.get("total")), ", ".join(texts)])
    return aligned(rows, right=(2,))
