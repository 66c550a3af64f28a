"""Findings, followed from one build of a candidate to the next. Pure.

A **finding** is a failure, by its signature, or a counter of a start that drifts, in a case of a
cell. It is *new*; *still there*; *silent once* after a build whose run of that case shows neither
it nor another failure; *closed* after a second such build; *reopened* where it comes back after
that. A build that did not run the case, and one whose case fails otherwise, changes nothing:
without an answer nothing is known. Two runs of one build count as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix.qualify.cache_check import CACHE_CHECK
from matrix.qualify.model import Drift, Failure, Qualification, QualificationVerdict
from matrix.qualify.runs import CaseState, CellRun, outcome, run_outcome
from matrix.qualify.warm_code import COMPILED_AGAIN, is_expected
from matrix.record.model import WHOLE_RUN, Platform, StartKind
from matrix.verdict.recompiles import machine_code

_MACHINE_CODE = f"{StartKind.WARM} {COMPILED_AGAIN}"  # as `_key_of` names it


class Status(StrEnum):
    """The state of a finding."""

    NEW = "new"
    STILL_THERE = "still there"
    SILENT_ONCE = "silent once"
    CLOSED = "closed"
    REOPENED = "reopened"

    @property
    def is_open(self) -> bool:
        """Whether the finding is not closed."""
        return self is not Status.CLOSED


class FindingKind(StrEnum):
    """The kind of a finding."""

    FAILURE = "failure"
    DRIFT = "drift"


class CasePlace(NamedTuple):
    """A case of a cell on a platform; the case `WHOLE_RUN` is the run as a whole."""

    cell: str
    platform: Platform
    case: str


class FindingKey(NamedTuple):
    """The key of a finding in all builds: `what` is a signature, or start and counter."""

    place: CasePlace
    kind: FindingKind
    what: str


@dataclass(frozen=True, kw_only=True)
class Followed:
    """One finding: `first` and `last` are the builds that showed it first and last.

    `build` is the one that decided its status.
    """

    key: FindingKey
    status: Status
    first: str
    last: str
    build: str


@dataclass(frozen=True, kw_only=True)
class BuildFindings:
    """The results of one build: findings, and the cases with an answer and no finding.

    `compiling` are the cases whose warm start may write machine code that no expectation has: what
    was found of that code in an earlier build is not silent there.
    """

    build: str
    findings: frozenset[FindingKey] = frozenset()
    clean: frozenset[CasePlace] = frozenset()
    compiling: frozenset[CasePlace] = frozenset()

    def is_silent(self, key: FindingKey) -> bool:
        """Return whether the runs have an answer to a finding that they do not show."""
        if key in self.findings or key.place not in self.clean:
            return False
        return key.what != _MACHINE_CODE or key.place not in self.compiling


@dataclass(frozen=True, kw_only=True)
class QualifiedBuild:
    """One build that was qualified: its identity, version, day and verdict."""

    identity: str
    version: str
    day: str
    verdict: QualificationVerdict


@dataclass(frozen=True, kw_only=True)
class WatchHistory:
    """All findings of one candidate's name, by key, and the builds that were qualified."""

    candidate: str
    findings: tuple[Followed, ...] = ()
    builds: tuple[QualifiedBuild, ...] = ()

    @property
    def last(self) -> QualifiedBuild | None:
        """The build that was qualified last."""
        return self.builds[-1] if self.builds else None


class FindingChange(NamedTuple):
    """A finding before and after a build; `before` is None for a new one.

    `asked` is whether the build has an answer to it.
    """

    before: Status | None
    now: Followed
    asked: bool


@dataclass(frozen=True, kw_only=True)
class Delta:
    """The changes by one build: the history with it, and the build qualified before it."""

    history: WatchHistory
    changes: tuple[FindingChange, ...]
    before: QualifiedBuild | None


def follow(
    history: WatchHistory, seen: BuildFindings
) -> tuple[WatchHistory, tuple[FindingChange, ...]]:
    """Return the history with one more build, and what became of each finding that is not closed.

    A finding that this build closed is among the changes; one that was closed before is not.
    """
    known = {finding.key: finding for finding in history.findings}
    changes = [
        FindingChange(
            known[key].status if key in known else None, _next(known.get(key), key, seen), asked
        )
        for key in sorted(known.keys() | seen.findings)
        for asked in [key in seen.findings or seen.is_silent(key)]
    ]
    after = replace(history, findings=tuple(change.now for change in changes))
    shown = (
        change
        for change in changes
        if change.now.status.is_open or change.before is not Status.CLOSED
    )
    return after, tuple(shown)


def _next(known: Followed | None, key: FindingKey, seen: BuildFindings) -> Followed:
    """Return what becomes of one finding."""
    build = seen.build
    if key in seen.findings:
        if known is None:
            return Followed(key=key, status=Status.NEW, first=build, last=build, build=build)
        if known.status is Status.CLOSED:
            status = Status.REOPENED
        elif known.build == build and known.last == build:
            status = known.status
        else:
            status = Status.STILL_THERE
        return replace(known, status=status, last=build, build=build)
    assert known is not None
    if not seen.is_silent(key) or known.build == build:
        return known
    if known.status is Status.SILENT_ONCE:
        return replace(known, status=Status.CLOSED, build=build)
    if known.status is Status.CLOSED:
        return known
    return replace(known, status=Status.SILENT_ONCE, build=build)


def delta_of(history: WatchHistory, build: QualifiedBuild, found: Qualification) -> Delta:
    """Return what a build that was qualified changes in the history."""
    before = [other for other in history.builds if other.identity != build.identity]
    after, changes = follow(with_build(history, build), seen_in(found, build.identity))
    return Delta(history=after, changes=changes, before=before[-1] if before else None)


def with_build(history: WatchHistory, build: QualifiedBuild) -> WatchHistory:
    """Return the history with a build that was qualified; of one build the last verdict counts."""
    others = tuple(known for known in history.builds if known.identity != build.identity)
    return replace(history, builds=(*others, build))


def seen_in(found: Qualification, build: str) -> BuildFindings:
    """Return what a qualification shows of a build.

    A waived finding is a finding. A case of which something is not known is not clean.
    """
    every: tuple[Failure | Drift, ...] = (*found.failures, *found.drifts)
    findings = {_key_of(finding) for finding in every if finding.kind.fails or finding.fails}
    unclear = {CasePlace(item.cell, item.platform, item.case) for item in found.unknown}
    failing = {key.place for key in findings if key.kind is FindingKind.FAILURE}
    clean = {
        place
        for match in found.matches
        if match.candidate.variant is None
        for place in _answered(match.candidate)
        if not _covered(place, unclear) and not _covered(place, failing)
    }
    compiling = {
        CasePlace(match.candidate.record.cell, match.candidate.record.platform, case.case)
        for match in found.matches
        for case in match.candidate.record.cases
        if machine_code(case) != 0 and not is_expected(outcome(match.candidate, case.case))
    }
    return BuildFindings(
        build=build,
        findings=frozenset(findings),
        clean=frozenset(clean),
        compiling=frozenset(compiling),
    )


def _answered(run: CellRun) -> Iterable[CasePlace]:
    """Yield the cases of a run that ended well, its cache check, and a complete run as a whole."""
    record = run.record
    for case in record.cases:
        if outcome(run, case.case).state is CaseState.PASSED:
            yield CasePlace(record.cell, record.platform, case.case)
    if record.cache_check is not None:
        yield CasePlace(record.cell, record.platform, CACHE_CHECK)
    if record.is_complete and run_outcome(run).state is CaseState.PASSED:
        yield CasePlace(record.cell, record.platform, WHOLE_RUN)


def _covered(place: CasePlace, places: Iterable[CasePlace]) -> bool:
    """Return whether a case, or the run as a whole that it is of, is among some."""
    return place in places or place._replace(case=WHOLE_RUN) in places


def _key_of(finding: Failure | Drift) -> FindingKey:
    place = CasePlace(finding.place.cell, finding.place.platform, finding.case)
    if isinstance(finding, Failure):
        return FindingKey(place, FindingKind.FAILURE, finding.signature)
    return FindingKey(place, FindingKind.DRIFT, f"{finding.start} {finding.counter}")


def counts(changes: Iterable[FindingChange]) -> Mapping[Status, int]:
    """Return how many findings a build left in each status, without those it did not ask."""
    found = dict.fromkeys(Status, 0)
    for change in changes:
        if change.asked:
            found[change.now.status] += 1
    return found
