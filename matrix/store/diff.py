"""The differences between two records, kind by kind.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from matrix._util.enums import StrEnum
from matrix.record.model import STARTS, Case, CheckedCompile, Defaults, Outcome, Record, StartKind
from matrix.record.start_seconds import Unlike, compared_seconds, unlike
from matrix.rules.expectations import Expectations
from matrix.store.stats import beyond_noise
from matrix.store.summary import Times
from matrix.verdict.judge import CellVerdict, judge
from matrix.verdict.reasons import VerdictReason
from matrix.verdict.states import Verdict


class Aspect(StrEnum):
    """The kinds of change, in the order in which they are reported."""

    VERDICT = "verdict"
    CASE = "case"
    COUNTER = "counter"
    METRIC = "metric"
    SECONDS = "seconds"
    PACKAGE = "package"
    FLAG = "flag"
    DEFAULT = "default"
    PROVENANCE = "provenance"


# What no two runs share says nothing of what changed.
_OF_THE_RUN = frozenset({"started", "seconds", "command"})


@dataclass(frozen=True, kw_only=True)
class ShownVerdict:
    """A verdict and its reason."""

    verdict: Verdict
    reason: VerdictReason | None


@dataclass(frozen=True, kw_only=True)
class ShownCase:
    """The verdict of a case, and how it ended; `why` is the record's text where it did not pass."""

    verdict: Verdict
    outcome: Outcome
    why: str | None


@dataclass(frozen=True, kw_only=True)
class RecordChange:
    """One difference: the values `before` and `after`, None if a side lacks it.

    `where` is a case, with its start and another rank than the first, or empty. `notable` is false
    for seconds that may be noise.
    """

    aspect: Aspect
    where: str
    what: str
    before: str | ShownVerdict | ShownCase | None
    after: str | ShownVerdict | ShownCase | None
    notable: bool = True


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Two records, their verdicts, and all that differs between them."""

    before: Record
    after: Record
    verdicts: tuple[CellVerdict, CellVerdict]
    changes: tuple[RecordChange, ...]

    @property
    def one_cell(self) -> bool:
        """Whether both are of one cell on one platform, so that their seconds compare."""
        before, after = self.before, self.after
        return (before.cell, before.platform) == (after.cell, after.platform)

    @property
    def unlike(self) -> frozenset[Unlike]:
        """Why the seconds of the two do not compare, besides that they may be of two cells."""
        return unlike(self.before, self.after)

    def of(self, aspect: Aspect) -> tuple[RecordChange, ...]:
        """Return the changes of one kind."""
        return tuple(change for change in self.changes if change.aspect is aspect)


def differences(
    before: Record, after: Record, expectations: Expectations, times: Times | None = None
) -> Diff:
    """Return what differs from `before` to `after`.

    Seconds are notable only where they lie beyond the noise of the `times` of the cell of `before`
    up to it (`matrix.store.stats.beyond_noise`), and both are of that cell on that platform and
    compare (`matrix.record.start_seconds.unlike`); two records alone show no noise.
    """
    verdicts = judge(before, expectations), judge(after, expectations)
    changes = [*_verdict(*verdicts)]
    changes += _cases(before, after, verdicts)
    changes += _counters(before, after)
    diff = Diff(before=before, after=after, verdicts=verdicts, changes=())
    compares = diff.one_cell and not diff.unlike
    noise = times if times is not None and compares else Times()
    changes += _seconds(before, after, noise)
    changes += _mappings(Aspect.PACKAGE, "", before.packages, after.packages)
    changes += _flags(before, after)
    if before.defaults is not None and after.defaults is not None:
        changes += _mappings(Aspect.DEFAULT, "", *map(_by_name, (before.defaults, after.defaults)))
    changes += _mappings(Aspect.PROVENANCE, "", _flat(before), _flat(after))
    return replace(diff, changes=tuple(changes))


def _verdict(before: CellVerdict, after: CellVerdict) -> list[RecordChange]:
    old, new = (
        ShownVerdict(verdict=verdict.verdict, reason=verdict.reason) for verdict in (before, after)
    )
    if old == new:
        return []
    return [RecordChange(aspect=Aspect.VERDICT, where="", what="cell", before=old, after=new)]


def _cases(before: Record, after: Record, verdicts: tuple[CellVerdict, ...]) -> list[RecordChange]:
    old, new = (
        {
            case.case: ShownCase(
                verdict=judged.verdict,
                outcome=case.outcome,
                why=case.signature or case.reason if case.outcome != Outcome.PASSED else None,
            )
            for case, judged in zip(record.cases, verdict.cases, strict=True)
        }
        for record, verdict in zip((before, after), verdicts, strict=True)
    )
    return _mappings(Aspect.CASE, "", old, new)


def _counters(before: Record, after: Record) -> list[RecordChange]:
    changes: list[RecordChange] = []
    for (name, start), *cases in _pairs(before, after):
        old, new = (case.started(start) for case in cases)
        if old is not None and new is not None:
            changes += _mappings(Aspect.COUNTER, f"{name} {start}", old.counters, new.counters)
            ranks = zip((old.ranks or ())[1:], (new.ranks or ())[1:], strict=False)
            for rank, later in ranks:
                where = f"{name} {start} rank {rank.rank}"
                changes += _mappings(Aspect.COUNTER, where, rank.counters, later.counters)
            if old.metrics is not None and new.metrics is not None:
                changes += _mappings(Aspect.METRIC, f"{name} {start}", old.metrics, new.metrics)
    if before.cache_check is not None and after.cache_check is not None:
        for compiled in CheckedCompile:
            checks = before.cache_check[compiled], after.cache_check[compiled]
            changes += _mappings(Aspect.COUNTER, f"cache_check {compiled}", *checks)
    return changes


def _by_name(defaults: Defaults) -> dict[str, object]:
    """Return the defaults by the names of their config and their own."""
    return {
        f"{config}.{name}": value
        for config, named in defaults.items()
        for name, value in named.items()
    }


def _seconds(before: Record, after: Record, times: Times) -> list[RecordChange]:
    changes = []
    for (name, start), *cases in _pairs(before, after):
        old, new = (case.started(start) for case in cases)
        totals = [compared_seconds(seen) if seen else None for seen in (old, new)]
        if None in totals or totals[0] == totals[1]:
            continue
        assert totals[0] is not None and totals[1] is not None
        series = times.times(before.cell, before.platform, name, start)
        history = [value for started, value in series if started <= before.started]
        notable = beyond_noise(history, totals[1])
        shown = [f"{value:.1f}" for value in totals if value is not None]
        changes.append(
            RecordChange(
                aspect=Aspect.SECONDS,
                where=f"{name} {start}",
                what="total",
                before=shown[0],
                after=shown[1],
                notable=notable,
            )
        )
    return changes


def _pairs(before: Record, after: Record) -> list[tuple[tuple[str, StartKind], Case, Case]]:
    others = {case.case: case for case in after.cases}
    return [
        ((case.case, start), case, others[case.case])
        for case in sorted(before.cases, key=attrgetter("case"))
        if case.case in others
        for start in STARTS
    ]


def _flags(before: Record, after: Record) -> list[RecordChange]:
    changes = _mappings(Aspect.FLAG, "", before.flags, after.flags)
    others = {case.case: case for case in after.cases}
    for case in sorted(before.cases, key=attrgetter("case")):
        if case.case in others:
            changes += _mappings(Aspect.FLAG, case.case, case.flags, others[case.case].flags)
    return changes


def _flat(record: Record) -> dict[str, object]:
    """Return the provenance with one level of its objects flattened, as `cpu.model`."""
    found: dict[str, object] = {}
    for key, value in record.provenance.items():
        if key in _OF_THE_RUN:
            continue
        if isinstance(value, Mapping):
            found.update({f"{key}.{name}": part for name, part in value.items()})
        else:
            found[key] = value
    return found


def _mappings(
    aspect: Aspect, where: str, before: Mapping[str, object], after: Mapping[str, object]
) -> list[RecordChange]:
    return [
        RecordChange(
            aspect=aspect,
            where=where,
            what=key,
            before=_shown(before, key),
            after=_shown(after, key),
        )
        for key in sorted(before.keys() | after.keys())
        if (key in before) != (key in after) or before[key] != after[key]
    ]


def _shown(values: Mapping[str, object], key: str) -> str | ShownCase | None:
    if key not in values:
        return None
    value = values[key]
    if isinstance(value, ShownCase):
        return value
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return str(value)
