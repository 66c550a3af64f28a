"""What a qualification tells: the kinds of finding, and the verdict that they make.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from packaging.version import Version

from matrix._util.versions import minor_of
from matrix.catalog.cells import factors
from matrix.catalog.releases import Releases
from matrix.qualify.query import (
    Query,
)
from matrix.qualify.runs import (
    CellRun,
)
from matrix.qualify.static_checks import (
    Rungs,
)
from matrix.record.model import PLATFORMS
from matrix.rules.waivers import Finding, Place, Waiver, Waivers

PROJECTS = {"torch": "torch", "vllm": "vLLM"}
"""What can be qualified, and how it is written."""

QUALIFIED = "qualified"
NOT_QUALIFIED = "not qualified"
NOT_ENOUGH = "not enough evidence"
_EXIT_STATUS = {QUALIFIED: 0, NOT_QUALIFIED: 1, NOT_ENOUGH: 3}

REGRESSION = "regression"
FAILS_OTHERWISE = "fails otherwise"
FAILS_AS_BEFORE = "fails as before"
REPAIR = "repair"

UNEXPECTED = "not as expected"
NO_RULE = "no expectation"
EXPECTED = "expected change"
EXPECTED_AGAIN = "as expected again"
AS_BEFORE = "drifts as before"
NEW = "newly counted"
NOT_JUDGED = "not judged"

FAILING = {REGRESSION, FAILS_OTHERWISE, UNEXPECTED, NO_RULE}
"""The kinds for which the candidate does not qualify."""


@dataclass(frozen=True)
class Match:
    """A cell of the baseline and the candidate's that stands against it.

    `compared` counts the cases with an answer on both sides, of which `passed` pass at the
    candidate; `no_times` says why seconds cannot be compared, and `notes` what else is not the same
    on both sides. A run beside the one that decides (`candidate.apart`) answers none of them.
    """

    baseline: CellRun
    candidate: CellRun
    compared: int
    passed: int
    no_times: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A case that fails on a side. Rung, signature and reason are the candidate's, or those of the
    baseline for a repair; `before` is the baseline's signature where both fail.

    An empty `case` is the run as a whole, or no run at all where it is not `ran`: then a first rung
    says so. `apart` is what sets the run apart from the one that decides.
    """

    kind: str
    place: Place
    case: str
    rung: str | None
    signature: str
    reason: str | None
    before: str | None = None
    waiver: Waiver | None = None
    expired: Waiver | None = None
    ran: bool = True
    apart: str | None = None

    @property
    def fails(self) -> bool:
        """Whether the candidate does not qualify for it; an expired waiver makes anything fail."""
        return self.waiver is None and (self.kind in FAILING or self.expired is not None)


@dataclass(frozen=True)
class Drift:
    """A counter of a start, as the baseline and the candidate counted it; None is not counted.

    `wanted` is what the candidate's expectation says, None where it says nothing; `judged` tells
    whether an expectation of either side speaks of the counter. Where it stands `alone` the
    baseline has no count to hold it against. `apart` is what sets the run apart from the one that
    decides.
    """

    kind: str
    place: Place
    case: str
    start: str
    counter: str
    before: int | None
    after: int | None
    wanted: int | None = None
    judged: bool = False
    waiver: Waiver | None = None
    expired: Waiver | None = None
    alone: bool = False
    apart: str | None = None

    @property
    def fails(self) -> bool:
        """Whether the candidate does not qualify for it; an expired waiver makes anything fail."""
        return self.waiver is None and (self.kind in FAILING or self.expired is not None)


@dataclass(frozen=True)
class Flag:
    """An effective flag that is not the same on both sides of a case that was compared."""

    place: Place
    case: str
    flag: str
    before: object
    after: object


@dataclass(frozen=True)
class Unknown:
    """What has no answer. `blocks`: without it the candidate cannot qualify.

    `cell` is the environment that has no answer, `case` None where it is all of them; a `signature`
    is there where it can be waived. `rung` is the first one that keeps the environment from being
    asked with the wheels that there are, None where it can be; `decides` is the environment whose
    run would tell, where that is another.
    """

    cell: str
    platform: str
    case: str | None
    reason: str
    blocks: bool
    signature: str | None = None
    waiver: Waiver | None = None
    expired: Waiver | None = None
    rung: str | None = None
    decides: str | None = None


@dataclass(frozen=True)
class Time:
    """The seconds of a start in the runs of both sides, changed beyond noise. Never judged."""

    place: Place
    case: str
    start: str
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class Qualification:
    """The candidate against its baseline. Everything is in the order of its cells and cases.

    `idle` are waivers of a cell that was compared which waive nothing, `astray` those of the
    candidate that are of no such cell, and `elsewhere` counts those of other releases or platforms.
    `unread` counts records that could not be read, any of which might decide; `rungs` are what is
    known of both sides without a run.
    """

    asked: Query
    today: date
    matches: tuple[Match, ...] = ()
    failures: tuple[Failure, ...] = ()
    drifts: tuple[Drift, ...] = ()
    flags: tuple[Flag, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    times: tuple[Time, ...] = ()
    idle: tuple[Waiver, ...] = ()
    astray: tuple[Waiver, ...] = ()
    elsewhere: int = 0
    notes: tuple[str, ...] = ()
    unread: int = 0
    rungs: tuple[Rungs, ...] = ()

    @property
    def compared(self) -> int:
        """How many cases have an answer on both sides."""
        return sum(match.compared for match in self.matches)

    @property
    def passed(self) -> int:
        """How many of them pass at the candidate."""
        return sum(match.passed for match in self.matches)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that were asked for; where these are all, those that have a say in it."""
        if self.asked.platforms != PLATFORMS:
            return self.asked.platforms
        told: set[str] = {match.candidate.record.platform for match in self.matches}
        told |= {each.place.platform for each in self.failing}
        told |= {each.platform for each in self.blocking}
        return tuple(each for each in PLATFORMS if each in told)

    @property
    def failing(self) -> tuple[Failure | Drift, ...]:
        """What the candidate does not qualify for."""
        found: tuple[Failure | Drift, ...] = (*self.failures, *self.drifts)
        return tuple(each for each in found if each.fails)

    @property
    def blocking(self) -> tuple[Unknown, ...]:
        """What would have to be known."""
        return tuple(each for each in self.unknown if each.blocks and each.waiver is None)

    @cached_property
    def verdict(self) -> str:
        """Whether it is qualified, not, or too little is known."""
        if self.failing:
            return NOT_QUALIFIED
        if not self.passed or self.blocking or self.unread:
            return NOT_ENOUGH
        return QUALIFIED

    @property
    def exit_status(self) -> int:
        """0 qualified, 1 not, 3 not enough evidence, or 2 where records are bad too."""
        return 2 if self.unread and self.verdict == NOT_ENOUGH else _EXIT_STATUS[self.verdict]

    @property
    def waivers(self) -> tuple[tuple[Waiver, int], ...]:
        """Each waiver that waives something here, and how much."""
        return _counted(each.waiver for each in self._waivable)

    @property
    def expired(self) -> tuple[tuple[Waiver, int], ...]:
        """Each waiver that would waive something had it not expired, and how much."""
        return _counted(each.expired for each in self._waivable)

    @property
    def _waivable(self) -> tuple[Failure | Drift | Unknown, ...]:
        return (*self.failures, *self.drifts, *self.unknown)


def _counted(waivers: Iterable[Waiver | None]) -> tuple[tuple[Waiver, int], ...]:
    # By id, since a waiver holds a mapping and so has no hash.
    found = [each for each in waivers if each is not None]
    counts = Counter(each.id for each in found)
    return tuple((each, counts[each.id]) for each in {each.id: each for each in found}.values())


Waived = tuple["Waiver | None", "Waiver | None"]
"""The waiver that holds for something, and the one that has expired; at most one of them."""


@dataclass
class Findings:
    """Collects what cells, and pairs of runs, show; everything in the order of its finding."""

    waivers: Waivers
    today: date
    matches: list[Match] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    times: list[Time] = field(default_factory=list)

    def waived(self, finding: Finding) -> Waived:
        """The waiver that holds for it, or else the one that has expired."""
        waiver = self.waivers.waiving(finding, self.today)
        if waiver is not None and waiver.expired(self.today):
            return None, waiver
        return waiver, None

    def add_unknown(
        self,
        ran: CellRun,
        case: str | None,
        reason: str,
        failure: str | None = None,
        decides: str | None = None,
        waived: Waived = (None, None),
    ) -> None:
        """What leaves a case of a run without an answer, or the whole run where there is no case.

        A `failure` is the signature by which it can be waived; without one it is as `waived` says.
        """
        if failure is not None:
            waived = self.waived(Finding(ran.place, case or "", signature=failure))
        waiver, expired = waived
        self.unknown.append(
            Unknown(
                ran.record.cell,
                ran.record.platform,
                case or None,
                reason if ran.apart is None else f"with {ran.apart} it {reason}",
                True,
                failure,
                waiver,
                expired,
                decides=decides,
            )
        )

    def qualification(
        self,
        asked: Query,
        notes: tuple[str, ...],
        unread: int,
        releases: Releases,
        rungs: tuple[Rungs, ...],
    ) -> Qualification:
        """The qualification that they make, with the waivers that waived nothing."""
        found: list[Failure | Drift | Unknown] = [*self.failures, *self.drifts, *self.unknown]
        used = {
            waiver.id
            for each in found
            for waiver in (each.waiver, each.expired)
            if waiver is not None
        }
        places = [match.candidate.place for match in self.matches]
        of = [each for each in self.waivers.every if any(each.speaks_of(place) for place in places)]
        known = {minor_of(each.version) for each in getattr(releases, asked.project)}
        rest = [each for each in self.waivers.every if each not in of and each.id not in used]
        astray = tuple(each for each in rest if _is_astray(asked, each, known))
        return Qualification(
            asked=asked,
            today=self.today,
            matches=tuple(self.matches),
            failures=tuple(self.failures),
            drifts=tuple(self.drifts),
            flags=tuple(self.flags),
            unknown=tuple(self.unknown),
            times=tuple(self.times),
            idle=tuple(each for each in of if each.id not in used),
            astray=astray,
            elsewhere=len(rest) - len(astray),
            notes=notes,
            unread=unread,
            rungs=rungs,
        )


def _is_astray(asked: Query, waiver: Waiver, known: Container[str]) -> bool:
    """Whether a waiver that matches no cell speaks of the candidate, and so may be mistyped.

    `known` are the minor releases that there are of the project in question.
    """
    if not getattr(waiver, asked.project).contains(Version(asked.candidate)):
        return False
    if waiver.platform not in (None, *asked.platforms):
        return False
    if waiver.cell is None:
        return True
    named = factors(waiver.cell)
    minor = named.torch if asked.project == "torch" else str(named.vllm)
    of = minor == minor_of(asked.candidate) or minor not in known
    return of and (not asked.pythons or named.python in asked.pythons)
