"""Why a record does not stand for its cell as the cell would run here and now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from matrix.catalog.cells import Cell
from matrix.record.model import Record
from matrix.record.startup_tests import StartupTests
from matrix.record.stock import not_stock
from matrix.verdict import plan_reasons as reasons
from matrix.verdict.grid import ran_cell
from matrix.verdict.judge import blames_pair, has_no_answer
from matrix.verdict.plan_reasons import KeyPart
from matrix.verdict.run_key import OF_THE_ENVIRONMENT, RunKey, compare, part_of
from matrix.verdict.stock import departures_of, hindrance
from matrix.verdict.table import Entry


@dataclass(frozen=True, kw_only=True)
class MaxAge:
    """How many days old a record may be, at this time."""

    days: int
    now: datetime

    def exceeded(self, record: Record) -> reasons.TooOld | None:
        """Return how old a record is that is older; None for any other."""
        began = datetime.fromisoformat(record.started.removesuffix("Z"))
        age = self.now - began.replace(tzinfo=timezone.utc)
        if age.total_seconds() <= self.days * 86400:
            return None
        return reasons.TooOld(days=age.days, most=self.days)


@dataclass(frozen=True, kw_only=True)
class Staleness:
    """Why a record does not stand for its cell: the reason that counts, and what else differs.

    `reason` is None if it stands. `not_compared` are the parts of the key that nobody knows on
    one side. `tests_changed` are the versions of the startup tests that can affect the record.
    """

    reason: reasons.StaleReason | None = None
    also: tuple[reasons.KeyDifference, ...] = ()
    not_compared: tuple[KeyPart, ...] = ()
    tests_changed: tuple[int, ...] = ()


def stale_reason(
    cell: Cell, record: Record | None, tests: StartupTests
) -> reasons.StaleReason | None:
    """Return why a record does not stand for the cell, wherever it would run; None if it does.

    Neither the machine nor an environment here is looked at.
    """
    return staleness(record, RunKey(cell=cell), tests).reason


def stale_of(
    entries: Iterable[Entry], tests: StartupTests
) -> Mapping[tuple[str, str], reasons.StaleReason]:
    """Return which entries are stale by the startup tests, by cell and platform, and why.

    Those whose run came to its end and could come out otherwise with the startup tests as they are
    now. What a run lacks or what it ran with has marks of its own.
    """
    found = {}
    for entry in entries:
        key = RunKey(cell=ran_cell(entry.record))
        for difference in compare(entry.record, key, tests).differences:
            if part_of(difference) is KeyPart.TESTS:
                found[entry.record.cell, str(entry.record.platform)] = difference
    return found


def staleness(record: Record | None, now: RunKey, tests: StartupTests) -> Staleness:
    """Return why a record does not stand for what would run now."""
    if record is None:
        return Staleness(reason=reasons.NeverRan())
    found = compare(record, now, tests)
    fault = None if KeyPart.RELEASES in found.parts else _run_fault(record)
    if fault is not None:
        return Staleness(reason=fault)
    return Staleness(
        reason=found.differences[0] if found.differences else None,
        also=found.differences[1:],
        not_compared=found.not_compared,
        tests_changed=found.tests_changed,
    )


def standing_record(
    record: Record, found: Staleness, now: RunKey, tests: StartupTests, others: Iterable[Record]
) -> Record | None:
    """Return another record that stands where this one, which counts, does not; None without one.

    Only where the two ran in other environments or on other machines, and the other one is known to
    have run as this one did not: two machines with GPUs of two kinds can keep their records in one
    folder. Of several the newest.
    """
    differing = {part_of(difference) for difference in (found.reason, *found.also)}
    if not differing <= OF_THE_ENVIRONMENT:
        return None
    standing = []
    for other in others:
        if other is record:
            continue
        own = staleness(other, now, tests)
        if own.reason is None and differing.isdisjoint(own.not_compared):
            standing.append(other)
    return max(standing, key=lambda other: other.started, default=None)


def _run_fault(record: Record) -> reasons.StaleReason | None:
    """Return why the run of a record has no answer, or not all answers; None if it has."""
    if record.error is not None and not blames_pair(record.error):
        return reasons.EndedEarly(kind=record.error.kind)
    if not record.finished:
        return reasons.RanUnfinished()
    if (why := _other_environment(record)) is not None:
        return why
    if record.deselected:
        return reasons.Partial(held=len(record.cases), total=record.total_cases)
    if record.error is None and not record.cases and all(rung.ok for rung in record.rungs):
        return reasons.NoCase()
    untested = tuple(case.case for case in record.cases if has_no_answer(case))
    return reasons.CasesUntested(cases=untested) if untested else None


def _other_environment(record: Record) -> reasons.PackageFailed | reasons.RanNotStock | None:
    """Return how the environment of a run differed from what its vLLM requires, or None."""
    hindered = hindrance(record)
    if hindered is not None:
        return reasons.PackageFailed(departure=hindered)
    apart = not_stock(departures_of(record))
    return reasons.RanNotStock(departures=apart) if apart else None
