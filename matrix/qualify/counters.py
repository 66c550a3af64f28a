"""The counters of a case compared with the baseline's and with the candidate's expectation.

Pure. What is found goes to the `Findings`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix.qualify.model import NOT_WAIVED, Drift, DriftKind, Findings, Waived
from matrix.qualify.reasons import NotCounted
from matrix.qualify.runs import CaseOutcome, CaseState, CellRun
from matrix.record.model import STARTS, Start, StartKind
from matrix.rules.counters import COUNTERS
from matrix.rules.waivers import Finding


class Count(NamedTuple):
    """A counter of a start, or of one rank of it, and what it counted; None is not counted."""

    start: StartKind
    counter: str
    value: int | None
    rank: int | None = None


class RuleStanding(StrEnum):
    """The relation of a count to the expectation of its own side."""

    NONE = "none"
    MET = "met"
    MISSED = "missed"


class CounterChange(NamedTuple):
    """A counter on both sides: its counts, what is expected of them, and whether that is met.

    `rank` is the one that counted so, where the ranks of a start differ.
    """

    counter: str
    before: int | None
    after: int | None
    expected_before: int | None
    expected: int | None
    rule_before: RuleStanding
    rule: RuleStanding
    rank: int | None = None

    def kind(self) -> DriftKind | None:
        """Return what the change is, or None if there is nothing to report.

        The first row that fits decides; ``*`` is anything.

        ==========  =======  ===========  ================================
        candidate   changed  baseline     kind
        ==========  =======  ===========  ================================
        missed      no       missed       as before, if by the same expectation
        missed      *        *            unexpected
        *           no       *            nothing
        met         yes      missed       expected again
        met         yes      *            expected
        none        yes      not counted  new
        none        yes      *            no rule; not judged if no rule may name it
        ==========  =======  ===========  ================================

        Where the environment of either side is not stock, what has no rule is not judged either.
        """
        changed = self.before != self.after
        if self.rule is RuleStanding.MISSED:
            same_rule = (
                self.rule_before is RuleStanding.MISSED and self.expected_before == self.expected
            )
            return DriftKind.AS_BEFORE if same_rule and not changed else DriftKind.UNEXPECTED
        if not changed:
            return None
        if self.rule is RuleStanding.MET:
            again = self.rule_before is RuleStanding.MISSED
            return DriftKind.EXPECTED_AGAIN if again else DriftKind.EXPECTED
        if self.before is None:
            return DriftKind.NEW
        return DriftKind.NO_RULE if self.counter in COUNTERS else DriftKind.NOT_JUDGED


def compare_counters(
    findings: Findings,
    run: CellRun,
    name: str,
    old: CaseOutcome,
    new: CaseOutcome,
    *,
    not_stock: tuple[str, ...],
) -> None:
    """Compare the counters of a case that passed on both sides; some may not be stock."""
    uncounted: list[Count] = []
    for start in STARTS:
        for change in _changes(start, old, new):
            if change.expected is not None and change.before is None and change.after is None:
                uncounted.append(Count(start, change.counter, None))
                continue
            kind = change.kind()
            if kind is None:
                continue
            may_be_packages = kind in (DriftKind.NO_RULE, DriftKind.EXPECTED_AGAIN)
            if kind is DriftKind.NO_RULE and not_stock:
                kind = DriftKind.NOT_JUDGED
            waived = NOT_WAIVED
            if kind.fails or kind is DriftKind.AS_BEFORE:
                finding = Finding(
                    place=run.place,
                    case=name,
                    signature=None,
                    start=start,
                    counter=change.counter,
                    value=change.after,
                )
                waived = findings.waived(finding)
            rules = (change.expected_before, change.expected)
            findings.drifts.append(
                Drift(
                    kind=kind,
                    place=run.place,
                    case=name,
                    start=start,
                    counter=change.counter,
                    before=change.before,
                    after=change.after,
                    expected=change.expected,
                    judged=any(rule is not None for rule in rules),
                    waived=waived,
                    not_stock=not_stock if may_be_packages else (),
                    variant=run.variant,
                    rank=change.rank,
                )
            )
    for group, waived in by_waiver(findings, run, name, uncounted):
        first, more = group[0], len(group) - 1
        reason = NotCounted(start=first.start, counter=first.counter, more=more)
        findings.add_unknown(run, name, reason, waived=waived)


def _changes(start: StartKind, old: CaseOutcome, new: CaseOutcome) -> Iterator[CounterChange]:
    """Yield what may differ in a start: what the sides count otherwise, and what is expected.

    A counter that all ranks count alike on both sides is one change, and else one of each rank.
    """
    assert old.case is not None and new.case is not None
    first, second = old.case.started(start), new.case.started(start)
    assert first is not None and second is not None
    ranks = [
        {change.counter: change for change in _of_rank(rank, (old, first), (new, second))}
        for rank in dict.fromkeys((*first.counted, *second.counted))
    ]
    for counter in sorted({counter for changes in ranks for counter in changes}):
        found = [changes[counter] for changes in ranks if counter in changes]
        alike = len({(change.before, change.after) for change in found}) == 1
        yield from [found[0]._replace(rank=None)] if alike and len(found) == len(ranks) else found


class _Side(NamedTuple):
    """The counts of one rank of a start on one side, the expected counts, and the differences."""

    counters: Mapping[str, int]
    expected: Mapping[str, int]
    missed: Container[str]

    @classmethod
    def of(cls, found: CaseOutcome, seen: Start, rank: int | None) -> _Side:
        """Return that of a rank; None if a start is one process.

        For a counter without a rule, each rank must count what the first one counts.
        """
        assert found.verdict is not None
        first = next(iter(seen.counted.values()))
        counters = seen.counted.get(rank, {})
        rules = found.verdict.expected.get(seen.start, {})
        alike = {
            name: first.get(name, 0)
            for name in COUNTERS
            if counters is not first and (name in counters or first.get(name, 0))
        }
        return cls(
            counters=counters,
            expected=alike | {name: rule.value for name, rule in rules.items()},
            missed={
                difference.counter
                for difference in found.verdict.differences
                if (difference.start, difference.rank) == (seen.start, rank)
            },
        )

    def standing(self, counter: str) -> RuleStanding:
        """Return how the count of a counter stands to what is expected of it."""
        if counter in self.missed:
            return RuleStanding.MISSED
        return RuleStanding.MET if counter in self.expected else RuleStanding.NONE


def _of_rank(
    rank: int | None, before: tuple[CaseOutcome, Start], after: tuple[CaseOutcome, Start]
) -> Iterator[CounterChange]:
    """Yield each counter of one rank that differs or that the candidate is to count.

    `rank` is None for one process. Of the hundreds that a start counts, most are equal on both
    sides, and no rule names them.
    """
    old, new = (_Side.of(*side, rank) for side in (before, after))
    differing = {counter for counter, _ in old.counters.items() ^ new.counters.items()}
    for counter in sorted(differing | new.expected.keys()):
        yield CounterChange(
            counter=counter,
            before=_count(old.counters, counter),
            after=_count(new.counters, counter),
            expected_before=old.expected.get(counter),
            expected=new.expected.get(counter),
            rule_before=old.standing(counter),
            rule=new.standing(counter),
            rank=rank,
        )


def _count(counters: Mapping[str, int], counter: str) -> int | None:
    """Return a count; torch's counters, whose names have a dot, do not exist until raised."""
    return counters.get(counter, 0 if "." in counter else None)


def add_unexpected(findings: Findings, run: CellRun, name: str, found: CaseOutcome) -> None:
    """Add the counters that differ from the candidate's own expectation, without a baseline."""
    assert found.verdict is not None
    for difference in found.verdict.differences:
        start, counter = difference.start, difference.counter
        waived = findings.waived(
            Finding(
                place=run.place,
                case=name,
                signature=None,
                start=start,
                counter=counter,
                value=difference.observed,
            )
        )
        findings.drifts.append(
            Drift(
                kind=DriftKind.UNEXPECTED,
                place=run.place,
                case=name,
                start=start,
                counter=counter,
                before=None,
                after=difference.observed,
                expected=difference.expected,
                judged=True,
                waived=waived,
                alone=True,
                variant=run.variant,
                rank=difference.rank,
            )
        )


def by_waiver(
    findings: Findings, run: CellRun, name: str, counts: Iterable[Count]
) -> list[tuple[list[Count], Waived]]:
    """Return the counts that one waiver covers together, and those that none covers."""
    groups: dict[str | None, tuple[list[Count], Waived]] = {}
    for count in counts:
        finding = Finding(
            place=run.place,
            case=name,
            signature=None,
            start=count.start,
            counter=count.counter,
            value=count.value,
        )
        waived = findings.waived(finding)
        key = None if waived.waiver is None else waived.waiver.id
        groups.setdefault(key, ([], waived))[0].append(count)
    return list(groups.values())


def differences(found: CaseOutcome) -> list[Count]:
    """Return what differs from its own expectation in a case that passed."""
    if found.verdict is None or found.state is not CaseState.PASSED:
        return []
    return [
        Count(difference.start, difference.counter, difference.observed, difference.rank)
        for difference in found.verdict.differences
    ]
