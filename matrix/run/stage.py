"""The progress of a run, by the record that it writes meanwhile. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from matrix.record.model import Outcome, Record, Rung, StartKind


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The progress of a run: `ended` of its `total` cases have ended, and these are running.

    `total` is None until the run has counted its cases, and from the first case that the full suite
    adds, for it counts none of those. `start` is the start at which the first
    case at work is. `imported`: torch and vLLM are imported. Of those that ended, `ran` had a
    start; `before` and `taken` are the seconds until the first case and of those that ended.
    `upstream` is the test of upstream's that is at work, after the cases.
    """

    ended: int = 0
    ran: int = 0
    total: int | None = None
    cases: tuple[str, ...] = ()
    start: StartKind | None = None
    imported: bool = False
    before: float = 0.0
    taken: float = 0.0
    upstream: str | None = None

    @property
    def number(self) -> int:
        """Return the number of the case at work, from 1; of several that of the first."""
        return self.ended + 1 if self.cases else self.ended

    def left(self, seconds: float) -> float | None:
        """Return how many seconds the cases still take, of a run that has run for `seconds`.

        A case is taken to last as long as those that ran did on average. None if none has, or
        where the last case lasts longer than that, or ran side by side with others: when it began
        is not known then.
        """
        if not self.total or not self.ran:
            return None
        each = self.taken / self.ran
        rest = each * (self.total - self.ended)
        if len(self.cases) > 1:
            return rest / len(self.cases)
        at_work = seconds - self.before - self.taken
        if at_work < 0:
            return None
        return max(rest - min(at_work, each), 0.0) or None


def stage_of(record: Record) -> Stage:
    """Return where the run of this record stands."""
    cases = (*record.cases, *(record.full_suite or ()))
    at_work = [case for case in cases if case.outcome == Outcome.RUNNING]
    start = None
    if at_work:
        start = StartKind.WARM if at_work[0].started(StartKind.COLD) else StartKind.COLD
    ended = [case for case in cases if case.outcome != Outcome.RUNNING]
    return Stage(
        ended=len(ended),
        ran=sum(case.outcome != Outcome.NOT_APPLICABLE for case in ended),
        total=None if record.full_suite else record.selected,
        cases=tuple(case.case for case in at_work),
        start=start,
        imported=any(rung.rung == Rung.IMPORTS and rung.ok for rung in record.rungs),
        before=sum(rung.seconds for rung in record.rungs)
        + (record.jit.seconds if record.jit else 0.0),
        taken=sum(case.seconds for case in ended),
        upstream=record.upstream.at_work if record.upstream and record.finished else None,
    )
