"""How far a run is that goes on, by the record that it writes meanwhile. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from matrix.record.model import Outcome, Record, Rung, StartKind


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a run stands: `ended` of its `total` cases have ended, and these are at work.

    `total` is None until the run has counted its cases. `start` is the start at which the first
    case at work is. `imported`: torch and vLLM are imported.
    """

    ended: int = 0
    total: int | None = None
    cases: tuple[str, ...] = ()
    start: StartKind | None = None
    imported: bool = False

    @property
    def number(self) -> int:
        """Return the number of the case at work, from 1; of several that of the first."""
        return self.ended + 1 if self.cases else self.ended


def stage_of(record: Record) -> Stage:
    """Return where the run of this record stands."""
    at_work = [case for case in record.cases if case.outcome == Outcome.RUNNING]
    start = None
    if at_work:
        start = StartKind.WARM if at_work[0].started(StartKind.COLD) else StartKind.COLD
    return Stage(
        ended=len(record.cases) - len(at_work),
        total=record.selected,
        cases=tuple(case.case for case in at_work),
        start=start,
        imported=any(rung.rung == Rung.IMPORTS and rung.ok for rung in record.rungs),
    )
