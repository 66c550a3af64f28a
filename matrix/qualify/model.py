"""The results of a qualification: failures, drifts, missing answers, and the verdict.

Pure. A finding is a code with its operands; `matrix.report.qualify` makes the sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from packaging.version import Version

from matrix._util.enums import StrEnum
from matrix._util.versions import minor_of
from matrix.catalog.cells import factors
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.qualify.caveats import Caveat, PairCaveat
from matrix.qualify.query import Query
from matrix.qualify.reasons import ExtensionNotTestable, NoTimes, UnknownReason
from matrix.qualify.runs import CellRun, Variant
from matrix.qualify.static_checks import RungComparison, step_signature
from matrix.qualify.unjudged import Unjudged
from matrix.record.model import PLATFORMS, CellRef, Platform, Rung, StartKind
from matrix.rules.waivers import Finding, Waiver, Waivers
from matrix.verdict.ladder import LadderStep
from matrix.verdict.reasons import VerdictReason


class QualificationVerdict(StrEnum):
    """Whether the candidate qualifies."""

    QUALIFIED = "qualified"
    NOT_QUALIFIED = "not qualified"
    NOT_ENOUGH = "not enough evidence"

    @property
    def exit_status(self) -> int:
        """The exit status of a command whose answer this is."""
        return {
            QualificationVerdict.QUALIFIED: 0,
            QualificationVerdict.NOT_QUALIFIED: 1,
            QualificationVerdict.NOT_ENOUGH: 3,
        }[self]


class FailureKind(StrEnum):
    """How a failure of the candidate compares with the baseline."""

    REGRESSION = "regression"
    FAILS_OTHERWISE = "fails otherwise"
    FAILS_AS_BEFORE = "fails as before"
    REPAIR = "repair"

    @property
    def fails(self) -> bool:
        """Return whether the candidate does not qualify for it."""
        return self in (FailureKind.REGRESSION, FailureKind.FAILS_OTHERWISE)


class DriftKind(StrEnum):
    """How a count of the candidate compares with the baseline's and with its expectation."""

    UNEXPECTED = "not as expected"
    NO_RULE = "no expectation"
    EXPECTED = "expected change"
    EXPECTED_AGAIN = "as expected again"
    AS_BEFORE = "drifts as before"
    NEW = "newly counted"
    NOT_JUDGED = "not judged"

    @property
    def fails(self) -> bool:
        """Return whether the candidate does not qualify for it."""
        return self in (DriftKind.UNEXPECTED, DriftKind.NO_RULE)


class Waived(NamedTuple):
    """The waiver that holds for a finding, or the one that has expired; at most one of them."""

    waiver: Waiver | None = None
    expired: Waiver | None = None

    def fails(self, kind: FailureKind | DriftKind) -> bool:
        """Return whether the candidate does not qualify for it; any kind does once it expired."""
        return self.waiver is None and (kind.fails or self.expired is not None)


NOT_WAIVED = Waived()
"""No waiver covers the finding."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A case that fails on one side or on both.

    Rung, signature and detail are the candidate's, or the baseline's for a repair; `before` is the
    baseline's signature where both fail. The case `WHOLE_RUN` is the run as a whole, or no run at
    all where it is not `ran`: then a static check fails, for these `pythons` where they are
    several.
    """

    kind: FailureKind
    place: CellRef
    case: str
    rung: Rung | None
    signature: str
    detail: VerdictReason | None
    before: str | None = None
    waived: Waived = NOT_WAIVED
    ran: bool = True
    pythons: tuple[str, ...] = ()
    variant: Variant | None = None

    @property
    def fails(self) -> bool:
        """Return whether the candidate does not qualify for it."""
        return self.waived.fails(self.kind)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A counter of a start, as the baseline and the candidate counted it; None is not counted.

    `expected` is what the candidate's expectation says, None if it says nothing, and 0 of the
    machine code that a warm start writes; `judged` is whether an expectation of either side names
    the counter, or it is that code. `alone` is whether the baseline has no run to compare with.
    `not_stock` are the sides whose environment is not stock, where that may be why the counter
    changed. `without` are the extensions of vLLM that do not link with the candidate and do with
    the baseline, where they may be why. `rank` is the one that counted so, where the ranks of a
    start differ.
    """

    kind: DriftKind
    place: CellRef
    case: str
    start: StartKind
    counter: str
    before: int | None
    after: int | None
    expected: int | None = None
    judged: bool = False
    waived: Waived = NOT_WAIVED
    alone: bool = False
    not_stock: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    variant: Variant | None = None
    rank: int | None = None

    @property
    def fails(self) -> bool:
        """Return whether the candidate does not qualify for it."""
        return not self.without and self.waived.fails(self.kind)

    @property
    def is_doubtful(self) -> bool:
        """Return whether it would fail, had the candidate all extensions of the baseline."""
        return bool(self.without) and self.waived.fails(self.kind)


class Flag(NamedTuple):
    """An effective flag that is not the same on both sides of a case that was compared."""

    place: CellRef
    case: str
    flag: str
    before: object
    after: object


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A missing answer. `blocks`: the candidate cannot qualify without it.

    `cell` is the environment without an answer, and the case is `WHOLE_RUN` where that is all of
    them. `failure` is the signature of a failed run that can be waived. `step` is the first rung
    that makes the environment not testable with the existing wheels, None if it is; `decides` is
    the environment whose run would give the answer, where that is another. `place` is that
    environment with the releases that the run must have, None where nobody knows these.
    """

    cell: str
    platform: Platform
    case: str
    reason: UnknownReason
    blocks: bool = True
    failure: str | None = None
    waived: Waived = NOT_WAIVED
    step: LadderStep | None = None
    decides: str | None = None
    place: CellRef | None = None
    variant: Variant | None = None

    @property
    def rung(self) -> str | None:
        """The first rung that makes the environment not testable with the existing wheels.

        It is that of an extension too, without which the case fails.
        """
        if isinstance(self.reason, ExtensionNotTestable):
            return Rung.LINKS
        return None if self.step is None else self.step.rung

    @property
    def signature(self) -> str | None:
        """The key by which it can be waived; None if it cannot.

        That of a rung is made when somebody asks: its patterns take a tenth of the CPU seconds of
        `matrix qualify`, which does not print it.
        """
        return self.failure if self.step is None else step_signature(self.step)


class Time(NamedTuple):
    """The seconds of a start in the runs of both sides, changed beyond noise. Never judged."""

    place: CellRef
    case: str
    start: StartKind
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A run of the baseline and the candidate's that it is compared with.

    `compared` counts the cases with an answer on both sides, of which `passed` pass at the
    candidate; `no_times` says why seconds are not comparable. `unjudged` is what the runs show
    besides, None if the candidate has a `variant`, which answers no case.
    """

    baseline: CellRun
    candidate: CellRun
    compared: int = 0
    passed: int = 0
    no_times: NoTimes | None = None
    caveats: tuple[PairCaveat, ...] = ()
    unjudged: Unjudged | None = None


@dataclass(frozen=True, kw_only=True)
class Qualification:
    """The candidate against its baseline. Everything is in the order of its cells and cases.

    `unused` are waivers of a cell that was compared which waive nothing, `unmatched` those of the
    candidate that are of no such cell, and `elsewhere` counts those of other releases or platforms.
    `unread` counts records that could not be read, any of which might decide; `rungs` are what is
    known of both sides without a run.
    """

    query: Query
    today: date
    matches: tuple[Match, ...] = ()
    failures: tuple[Failure, ...] = ()
    drifts: tuple[Drift, ...] = ()
    flags: tuple[Flag, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    times: tuple[Time, ...] = ()
    unused: tuple[Waiver, ...] = ()
    unmatched: tuple[Waiver, ...] = ()
    elsewhere: int = 0
    caveats: tuple[Caveat, ...] = ()
    unread: int = 0
    rungs: tuple[RungComparison, ...] = ()

    @property
    def compared(self) -> int:
        """Return how many cases have an answer on both sides."""
        return sum(match.compared for match in self.matches)

    @property
    def passed(self) -> int:
        """Return how many of the compared cases pass at the candidate."""
        return sum(match.passed for match in self.matches)

    @property
    def unjudged(self) -> tuple[Unjudged, ...]:
        """Return what the pairs of runs show that is not judged."""
        return tuple(match.unjudged for match in self.matches if match.unjudged is not None)

    @property
    def platforms(self) -> tuple[str, ...]:
        """Return the platforms of the query; where these are all, those with a finding."""
        if self.query.platforms != PLATFORMS:
            return self.query.platforms
        found: set[str] = {match.candidate.record.platform for match in self.matches}
        found |= {finding.place.platform for finding in self.failing}
        found |= {unknown.platform for unknown in self.blocking}
        return tuple(platform for platform in PLATFORMS if platform in found)

    @property
    def failing(self) -> tuple[Failure | Drift, ...]:
        """Return what the candidate does not qualify for."""
        found: tuple[Failure | Drift, ...] = (*self.failures, *self.drifts)
        return tuple(finding for finding in found if finding.fails)

    @property
    def doubtful(self) -> tuple[Drift, ...]:
        """Return the drifts that do not decide, for an extension that does not link may be why."""
        return tuple(drift for drift in self.drifts if drift.is_doubtful)

    @property
    def blocking(self) -> tuple[Unknown, ...]:
        """Return what would have to be known for the candidate to qualify."""
        return tuple(
            unknown for unknown in self.unknown if unknown.blocks and unknown.waived.waiver is None
        )

    @property
    def verdict(self) -> QualificationVerdict:
        """Return whether the candidate is qualified, is not, or too little is known.

        A drift from the candidate's own expectation decides only where something was compared.
        """
        if any(self.compared or not _is_alone(finding) for finding in self.failing):
            return QualificationVerdict.NOT_QUALIFIED
        if not self.passed or self.blocking or self.unread or self.doubtful:
            return QualificationVerdict.NOT_ENOUGH
        return QualificationVerdict.QUALIFIED

    @property
    def exit_status(self) -> int:
        """Return 0 qualified, 1 not, 3 not enough evidence, 2 where records are bad too."""
        bad = self.unread and self.verdict is QualificationVerdict.NOT_ENOUGH
        return 2 if bad else self.verdict.exit_status

    @property
    def waivers(self) -> tuple[tuple[Waiver, int], ...]:
        """Return each waiver that waives something here, and how much."""
        return _counted(waived.waiver for waived in self._waived)

    @property
    def expired(self) -> tuple[tuple[Waiver, int], ...]:
        """Return each waiver that would waive something had it not expired, and how much."""
        return _counted(waived.expired for waived in self._waived)

    @property
    def _waived(self) -> list[Waived]:
        findings: list[Failure | Drift | Unknown] = [*self.failures, *self.drifts, *self.unknown]
        return [finding.waived for finding in findings]


def _is_alone(finding: Failure | Drift) -> bool:
    return isinstance(finding, Drift) and finding.alone


def _counted(waivers: Iterable[Waiver | None]) -> tuple[tuple[Waiver, int], ...]:
    # By id, since a waiver holds a mapping and so has no hash.
    held = [waiver for waiver in waivers if waiver is not None]
    counts = Counter(waiver.id for waiver in held)
    found = {waiver.id: waiver for waiver in held}
    return tuple((waiver, counts[waiver.id]) for waiver in found.values())


@dataclass(kw_only=True)
class Findings:
    """Builds a qualification: collects what is found in the order in which it is found."""

    query: Query
    waivers: Waivers
    today: date
    matches: list[Match] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    times: list[Time] = field(default_factory=list)

    def waived(self, finding: Finding) -> Waived:
        """Return the waiver that holds for a finding, or else the one that has expired."""
        waiver = self.waivers.waiving(finding, self.today)
        if waiver is not None and waiver.expired(self.today):
            return Waived(expired=waiver)
        return Waived(waiver=waiver)

    def add_unknown(
        self,
        run: CellRun,
        case: str,
        reason: UnknownReason,
        *,
        signature: str | None = None,
        decides: CellRef | None = None,
        waived: Waived | None = None,
    ) -> None:
        """Add what leaves a case of a run without an answer, or the whole run.

        By its `signature` it can be waived; without one it is waived as `waived` says.
        """
        if signature is not None:
            waived = self.waived(Finding(place=run.place, case=case, signature=signature))
        self.unknown.append(
            Unknown(
                cell=run.record.cell,
                platform=run.record.platform,
                case=case,
                reason=reason,
                failure=signature,
                waived=waived or NOT_WAIVED,
                decides=None if decides is None else decides.cell,
                place=decides or run.place,
                variant=run.variant,
            )
        )

    def qualification(
        self,
        releases: Releases,
        caveats: Iterable[Caveat],
        unread: int,
        rungs: tuple[RungComparison, ...],
    ) -> Qualification:
        """Return the qualification of these findings, with the waivers that waived nothing."""
        findings: list[Failure | Drift | Unknown] = [*self.failures, *self.drifts, *self.unknown]
        used = {
            waiver.id for finding in findings for waiver in finding.waived if waiver is not None
        }
        places = [match.candidate.place for match in self.matches]
        matched = [
            waiver
            for waiver in self.waivers.every
            if any(waiver.speaks_of(place) for place in places)
        ]
        known = {minor_of(release.version) for release in getattr(releases, self.query.project)}
        rest = [
            waiver
            for waiver in self.waivers.every
            if waiver not in matched and waiver.id not in used
        ]
        unmatched = tuple(waiver for waiver in rest if _may_be_mistyped(self.query, waiver, known))
        return Qualification(
            query=self.query,
            today=self.today,
            matches=tuple(self.matches),
            failures=tuple(self.failures),
            drifts=tuple(self.drifts),
            flags=tuple(self.flags),
            unknown=tuple(self.unknown),
            times=tuple(self.times),
            unused=tuple(waiver for waiver in matched if waiver.id not in used),
            unmatched=unmatched,
            elsewhere=len(rest) - len(unmatched),
            caveats=tuple(caveats),
            unread=unread,
            rungs=rungs,
        )


def _may_be_mistyped(query: Query, waiver: Waiver, known: Container[str]) -> bool:
    """Return whether a waiver that matches no cell is about the candidate.

    `known` are the minor releases of the project in question.
    """
    if not getattr(waiver, query.project).contains(Version(query.candidate)):
        return False
    if waiver.platform not in (None, *query.platforms):
        return False
    if waiver.cell is None:
        return True
    named = factors(waiver.cell)
    minor = named.torch if query.project is Project.TORCH else str(named.vllm)
    is_candidate = minor == minor_of(query.candidate) or minor not in known
    return is_candidate and (not query.pythons or named.python in query.pythons)
