"""The seconds of a case in the runs of one side, and whether those of both sides compare. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from matrix.qualify.reasons import NoTimes, TimesCode
from matrix.qualify.runs import CellRun
from matrix.qualify.unlike import UnlikeCode, unlike_code
from matrix.record.model import Outcome, Record, StartKind
from matrix.record.start_seconds import compared_seconds
from matrix.store.stats import enough


def no_times_of(baseline: CellRun, candidate: CellRun) -> NoTimes | None:
    """Return why the seconds of two runs are not comparable, or None if they are."""
    code = unlike_code(baseline.record, candidate.record)
    if code is UnlikeCode.OTHER_JOBS:
        before, after = baseline.record.jobs, candidate.record.jobs
        return NoTimes(code=code, baseline=before, candidate=after)
    if code is not None:
        return NoTimes(code=code)
    before, after = len(baseline.timed), len(candidate.timed)
    if not enough([0.0] * before, [0.0] * after):
        return NoTimes(code=TimesCode.TOO_FEW_RUNS, baseline=before, candidate=after)
    return None


def case_seconds(records: Iterable[Record], name: str, start: StartKind) -> tuple[float, ...]:
    """Return the seconds of a start in those of the runs in which the case passed."""
    return tuple(
        seconds
        for record in records
        for case in record.cases
        if case.case == name and case.outcome == Outcome.PASSED
        for found in [case.started(start)]
        if found is not None
        for seconds in [compared_seconds(found)]
        if seconds is not None
    )
