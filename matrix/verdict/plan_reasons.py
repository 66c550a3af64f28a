"""Why a plan has a cell, as codes with operands.

Pure. `matrix.report.plan` makes the sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from matrix._util.enums import StrEnum
from matrix.record.model import Departure, ErrorKind
from matrix.verdict.reasons import Reason


class PlanCode(StrEnum):
    """Why a cell would run, would run as it did, or cannot work."""

    NEVER_RAN = "never ran"
    OTHER_RELEASES = "other releases"
    ENDED_EARLY = "ended early"
    NOT_FINISHED = "not finished"
    PACKAGE_FAILED = "package failed"
    NOT_STOCK = "not stock"
    PARTIAL = "partial"
    NO_CASE = "no case"
    UNKNOWN_TESTS = "unknown tests"
    TESTS_CHANGED = "tests changed"
    RUNNING = "running"
    NOT_STALE = "not stale"
    OBSERVED_LESS = "observed less"
    CANNOT_WORK = "cannot work"


class NeverRan(NamedTuple):
    """The cell never ran."""

    code: Literal[PlanCode.NEVER_RAN] = PlanCode.NEVER_RAN


class RanOtherReleases(NamedTuple):
    """Its run had this torch and this vLLM."""

    torch: str
    vllm: str
    code: Literal[PlanCode.OTHER_RELEASES] = PlanCode.OTHER_RELEASES


class EndedEarly(NamedTuple):
    """Its run ended early, and not because of the pair."""

    kind: ErrorKind
    code: Literal[PlanCode.ENDED_EARLY] = PlanCode.ENDED_EARLY


class RanUnfinished(NamedTuple):
    """Its run did not finish."""

    code: Literal[PlanCode.NOT_FINISHED] = PlanCode.NOT_FINISHED


class PackageFailed(NamedTuple):
    """A package that is not as its vLLM requires kept its run, or a case of it, from an answer."""

    departure: Departure
    code: Literal[PlanCode.PACKAGE_FAILED] = PlanCode.PACKAGE_FAILED


class RanNotStock(NamedTuple):
    """The environment of its run was not stock, by these packages."""

    departures: tuple[Departure, ...]
    code: Literal[PlanCode.NOT_STOCK] = PlanCode.NOT_STOCK


class Partial(NamedTuple):
    """Its run had some of the cases."""

    held: int
    total: int
    code: Literal[PlanCode.PARTIAL] = PlanCode.PARTIAL


class NoCase(NamedTuple):
    """Its run had no case."""

    code: Literal[PlanCode.NO_CASE] = PlanCode.NO_CASE


class UnknownTests(NamedTuple):
    """Its run had startup tests that this checkout does not know."""

    code: Literal[PlanCode.UNKNOWN_TESTS] = PlanCode.UNKNOWN_TESTS


class TestsChanged(NamedTuple):
    """The startup tests changed since its run: what of them, by version."""

    changes: tuple[str, ...]
    code: Literal[PlanCode.TESTS_CHANGED] = PlanCode.TESTS_CHANGED


class Running(NamedTuple):
    """A run of it goes on `since` then.

    Where its end will not stand for the cell, it has the releases `other`, or is `partial`.
    """

    since: str
    other: RanOtherReleases | None = None
    partial: bool = False
    code: Literal[PlanCode.RUNNING] = PlanCode.RUNNING

    @property
    def stands(self) -> bool:
        """Whether the end of the run will stand for the cell."""
        return self.other is None and not self.partial


class NotStale(NamedTuple):
    """It ran on that day, and would run as it did; "" where its record does not say when."""

    day: str
    code: Literal[PlanCode.NOT_STALE] = PlanCode.NOT_STALE


class ObservedLess(NamedTuple):
    """It ran on that day, and its record lacks what a qualification compares besides counters."""

    day: str
    code: Literal[PlanCode.OBSERVED_LESS] = PlanCode.OBSERVED_LESS


class CannotWork(NamedTuple):
    """The static checks say that the cell cannot work."""

    reason: Reason | None
    code: Literal[PlanCode.CANNOT_WORK] = PlanCode.CANNOT_WORK


StaleReason = (
    NeverRan
    | RanOtherReleases
    | EndedEarly
    | RanUnfinished
    | PackageFailed
    | RanNotStock
    | Partial
    | NoCase
    | UnknownTests
    | TestsChanged
)
"""Why a record does not stand for a cell as it would run now."""

PlanReason = StaleReason | Running | NotStale | ObservedLess | CannotWork
"""Why a plan has a cell."""


class BroughtCode(StrEnum):
    """What brought a pair into a plan."""

    NEW = "new"
    BESIDE = "beside"


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What brought a pair into a plan: it is of that release, or beside a pair of it."""

    code: BroughtCode
    project: str
    version: str
