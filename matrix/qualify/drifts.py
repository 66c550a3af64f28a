"""The counters of a case: against the baseline's counts, and the candidate's own expectation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix.qualify.findings import Findings, Waived
from matrix.qualify.model import (
    AS_BEFORE,
    EXPECTED,
    EXPECTED_AGAIN,
    FAILING,
    NEW,
    NO_RULE,
    NOT_JUDGED,
    UNEXPECTED,
    Drift,
)
from matrix.qualify.replies import PASSED, Reply
from matrix.qualify.sides import Ran
from matrix.record.model import STARTS
from matrix.rules.expectations import COUNTERS
from matrix.rules.waivers import Finding

__all__ = ["Count", "add_uncertain", "compare_counters", "differences", "unexpected"]

Count = tuple[str, str, "int | None"]
"""A counter of a start and its count: start, counter, count; None is not counted."""


def compare_counters(findings: Findings, candidate: Ran, name: str, old: Reply, new: Reply) -> None:
    """The counters of a case that passed on both sides."""
    assert old.case and new.case and old.verdict and new.verdict
    uncounted: list[Count] = []
    for start in STARTS:
        first, second = old.case.started(start), new.case.started(start)
        assert first and second
        rules = [dict(each.expected.get(start, {})) for each in (old.verdict, new.verdict)]
        off = [
            {each.counter for each in verdict.differences if each.start == start}
            for verdict in (old.verdict, new.verdict)
        ]
        for counter in sorted(first.counters.keys() | second.counters.keys() | rules[1].keys()):
            before, after = _count(first.counters, counter), _count(second.counters, counter)
            wanted = [of[counter].value if counter in of else None for of in rules]
            if wanted[1] is not None and before is None and after is None:
                uncounted.append((start, counter, None))
                continue
            kind = _kind(before, after, wanted, [counter in of for of in off])
            if kind == NO_RULE and counter not in COUNTERS:
                kind = NOT_JUDGED
            if kind is None:
                continue
            waiver = expired = None
            if kind in FAILING or kind == AS_BEFORE:
                waiver, expired = findings.waived(
                    Finding(candidate.place, name, None, start, counter, after)
                )
            findings.drifts.append(
                Drift(
                    kind,
                    candidate.place,
                    name,
                    start,
                    counter,
                    before,
                    after,
                    wanted[1],
                    any(each is not None for each in wanted),
                    waiver,
                    expired,
                    apart=candidate.apart,
                )
            )
    why = "neither side counts what is expected of it"
    add_uncertain(findings, candidate, name, uncounted, why)


def unexpected(findings: Findings, ran: Ran, name: str, answer: Reply) -> None:
    """The counters that the candidate's own expectation does not want, without a baseline."""
    assert answer.verdict is not None
    for each in answer.verdict.differences:
        waiver, expired = findings.waived(
            Finding(ran.place, name, None, each.start, each.counter, each.observed)
        )
        findings.drifts.append(
            Drift(
                UNEXPECTED,
                ran.place,
                name,
                each.start,
                each.counter,
                None,
                each.observed,
                each.expected,
                True,
                waiver,
                expired,
                True,
                ran.apart,
            )
        )


def add_uncertain(
    findings: Findings, candidate: Ran, name: str, counters: Iterable[Count], why: str
) -> None:
    """What counters leave unknown: once for those that are not waived, and for each waiver."""
    groups: dict[str | None, list[tuple[Count, Waived]]] = {}
    for start, counter, value in counters:
        waived = findings.waived(Finding(candidate.place, name, None, start, counter, value))
        groups.setdefault(waived[0].id if waived[0] else None, []).append(
            ((start, counter, value), waived)
        )
    for of in groups.values():
        (start, counter, value), waived = of[0]
        count = "" if value is None else f" {value}"
        more = f" and {len(of) - 1} more" if len(of) > 1 else ""
        reason = f"{why}: {start} {counter}{count}{more}"
        findings.add_unknown(candidate, name, reason, waived=waived)


def differences(answer: Reply) -> list[Count]:
    """What is not as its own expectation in a case that passed."""
    if answer.verdict is None or answer.state != PASSED:
        return []
    return [(each.start, each.counter, each.observed) for each in answer.verdict.differences]


def _kind(
    before: int | None, after: int | None, wanted: Sequence[int | None], off: Sequence[bool]
) -> str | None:
    """What a counter's two counts are, or None where nothing is to be told.

    `wanted` and `off`, of the baseline and the candidate: what an expectation says of it, and
    whether it is not as that says.
    """
    if off[1]:
        as_before = before == after and off[0] and wanted[0] == wanted[1]
        return AS_BEFORE if as_before else UNEXPECTED
    if before == after:
        return None
    if wanted[1] is not None:
        return EXPECTED_AGAIN if off[0] else EXPECTED
    if before is None:
        return NEW
    return NO_RULE


def _count(counters: Mapping[str, int], counter: str) -> int | None:
    """A count; torch, whose counters have a group before a dot, keeps none until it is raised."""
    return counters.get(counter, 0 if "." in counter else None)
