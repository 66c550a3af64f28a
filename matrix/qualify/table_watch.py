"""The findings of the whole table, followed from one run of cells to the next. Pure.

The findings are those of `matrix.qualify.watch`: failures by their signature, and counters that
drift. Nights replace builds: what ran since the table was watched last. A cell whose
record is the one of the last time was not asked, so its findings stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from matrix.qualify.watch import (
    BuildFindings,
    CasePlace,
    FindingChange,
    FindingKey,
    FindingKind,
    Followed,
    Status,
    WatchHistory,
    follow,
)
from matrix.record.content import content_hash
from matrix.record.model import WHOLE_RUN, Platform
from matrix.record.signature import signature
from matrix.verdict.judge import CaseVerdict
from matrix.verdict.reasons import failure_key
from matrix.verdict.states import Verdict
from matrix.verdict.table import Entry, Table


class TablePlace(NamedTuple):
    """A cell on a platform."""

    cell: str
    platform: Platform


@dataclass(frozen=True, kw_only=True)
class WatchedTable:
    """All findings, and the digest of the record that each cell on a platform had last.

    A night is named by the start of its newest record. `began` is the one that was there when the
    watch began, `last` the newest; both are "" without a record. A finding whose `first` is `began`
    was there then and was never closed since: one that is reopened begins with that night.
    """

    findings: tuple[Followed, ...] = ()
    records: Mapping[TablePlace, str] = field(default_factory=dict)
    began: str = ""
    last: str = ""


@dataclass(frozen=True, kw_only=True)
class TableDelta:
    """The changes of a night: the watch after it, its cells, and the night before.

    `asked` are the entries with a new record, in the table's order.
    """

    watched: WatchedTable
    changes: tuple[FindingChange, ...]
    asked: tuple[Entry, ...]
    before: str

    @property
    def regressed(self) -> tuple[FindingChange, ...]:
        """The new and the reopened findings; none if the watch begins."""
        return tuple(
            change
            for change in self.changes
            if change.asked
            and change.now.status in (Status.NEW, Status.REOPENED)
            and not self.is_from_before(change.now)
        )

    @property
    def open(self) -> tuple[FindingChange, ...]:
        """The open findings, without those that existed when the watch began."""
        return tuple(
            change
            for change in self.changes
            if change.now.status.is_open and not self.is_from_before(change.now)
        )

    def is_from_before(self, finding: Followed) -> bool:
        """Return whether a finding was there when the watch began, and was never closed."""
        return finding.first == self.watched.began


def follow_table(before: WatchedTable | None, table: Table) -> TableDelta:
    """Return what the records that are new in a table change; None: the watch begins with it.

    A record whose run is not finished changes nothing yet.
    """
    known = before or WatchedTable()
    digests = {
        TablePlace(entry.record.cell, entry.record.platform): content_hash(entry.record)
        for entry in table.entries
        if table.running.get((entry.record.cell, entry.record.platform)) != entry.record
    }
    asked = tuple(
        entry
        for entry in table.entries
        for place in [TablePlace(entry.record.cell, entry.record.platform)]
        if place in digests and known.records.get(place) != digests[place]
    )
    night = max((entry.record.started for entry in asked), default=known.last)
    began = night if before is None else known.began
    history = WatchHistory(candidate="", findings=known.findings)
    after, changes = follow(history, _seen_in_table(asked, night))
    watched = WatchedTable(
        findings=tuple(_begun(finding, began) for finding in after.findings),
        records={**known.records, **digests},
        began=began,
        # A record that came late from another machine makes no newer night.
        last=max(night, known.last),
    )
    shown = tuple(change._replace(now=_begun(change.now, began)) for change in changes)
    return TableDelta(watched=watched, changes=shown, asked=asked, before=known.last)


def _begun(finding: Followed, began: str) -> Followed:
    """Return a finding; one that was there at first and came back after it was closed is new."""
    if finding.status is Status.REOPENED and finding.first == began:
        return replace(finding, first=finding.build)
    return finding


def _seen_in_table(entries: Iterable[Entry], night: str) -> BuildFindings:
    """Return what the counted records of some cells show.

    A case is clean where it is compatible, or drifts without a failure, in a run with the packages
    that vLLM requires. The run as a whole is where it came to its end with every case.
    """
    findings: set[FindingKey] = set()
    clean: set[CasePlace] = set()
    for entry in entries:
        record = entry.record
        run = entry.whole_run
        for judged in (*([run] if run else ()), *(case for _, case in entry.cases)):
            place = CasePlace(record.cell, record.platform, judged.case)
            findings |= _findings(place, judged)
            passed = judged.verdict in (Verdict.COMPATIBLE, Verdict.DRIFT)
            if passed and judged.case != WHOLE_RUN and not entry.verdict.not_stock:
                clean.add(place)
        if run is None and record.is_complete and not entry.verdict.not_stock:
            clean.add(CasePlace(record.cell, record.platform, WHOLE_RUN))
    return BuildFindings(build=night, findings=frozenset(findings), clean=frozenset(clean))


def _findings(place: CasePlace, judged: CaseVerdict) -> set[FindingKey]:
    if judged.verdict is Verdict.INCOMPATIBLE:
        what = judged.signature or signature(failure_key(judged.reason)) or str(judged.rung)
        return {FindingKey(place, FindingKind.FAILURE, what)}
    if judged.verdict is Verdict.DRIFT:
        return {
            FindingKey(place, FindingKind.DRIFT, f"{difference.start} {difference.counter}")
            for difference in judged.differences
        }
    return set()
