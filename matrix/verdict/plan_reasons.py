"""Why a plan has a cell, as codes with operands.

Pure. `matrix.report.plan` makes the sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
    CANNOT_WORK = "cannot work"


@dataclass(frozen=True, kw_only=True)
class NeverRan:
    """The cell never ran."""

    code: ClassVar[PlanCode] = PlanCode.NEVER_RAN


@dataclass(frozen=True, kw_only=True)
class RanOtherReleases:
    """Its run had this torch and this vLLM."""

    code: ClassVar[PlanCode] = PlanCode.OTHER_RELEASES
    torch: str
    vllm: str


@dataclass(frozen=True, kw_only=True)
class EndedEarly:
    """Its run ended early, and not because of the pair."""

    code: ClassVar[PlanCode] = PlanCode.ENDED_EARLY
    kind: ErrorKind


@dataclass(frozen=True, kw_only=True)
class NotFinished:
    """Its run did not finish."""

    code: ClassVar[PlanCode] = PlanCode.NOT_FINISHED


@dataclass(frozen=True, kw_only=True)
class PackageFailed:
    """A package that is not as its vLLM requires kept its run, or a case of it, from an answer."""

    code: ClassVar[PlanCode] = PlanCode.PACKAGE_FAILED
    departure: Departure


@dataclass(frozen=True, kw_only=True)
class NotStock:
    """The environment of its run was not stock, by these packages."""

    code: ClassVar[PlanCode] = PlanCode.NOT_STOCK
    departures: tuple[Departure, ...]


@dataclass(frozen=True, kw_only=True)
class Partial:
    """Its run had some of the cases."""

    code: ClassVar[PlanCode] = PlanCode.PARTIAL
    held: int
    total: int


@dataclass(frozen=True, kw_only=True)
class NoCase:
    """Its run had no case."""

    code: ClassVar[PlanCode] = PlanCode.NO_CASE


@dataclass(frozen=True, kw_only=True)
class UnknownTests:
    """Its run had startup tests that this checkout does not know."""

    code: ClassVar[PlanCode] = PlanCode.UNKNOWN_TESTS


@dataclass(frozen=True, kw_only=True)
class TestsChanged:
    """The startup tests changed since its run: what of them, by version."""

    __test__: ClassVar[bool] = False  # pytest collects names that begin so
    code: ClassVar[PlanCode] = PlanCode.TESTS_CHANGED
    changes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A run of it goes on `since` then.

    Where its end will not stand for the cell, it has the releases `other`, or is `partial`.
    """

    code: ClassVar[PlanCode] = PlanCode.RUNNING
    since: str
    other: RanOtherReleases | None = None
    partial: bool = False

    @property
    def stands(self) -> bool:
        """Whether the end of the run will stand for the cell."""
        return self.other is None and not self.partial


@dataclass(frozen=True, kw_only=True)
class NotStale:
    """It ran on that day, and would run as it did; "" where its record does not say when."""

    code: ClassVar[PlanCode] = PlanCode.NOT_STALE
    day: str


@dataclass(frozen=True, kw_only=True)
class CannotWork:
    """The static checks say that the cell cannot work."""

    code: ClassVar[PlanCode] = PlanCode.CANNOT_WORK
    reason: Reason | None


StaleReason = (
    NeverRan
    | RanOtherReleases
    | EndedEarly
    | NotFinished
    | PackageFailed
    | NotStock
    | Partial
    | NoCase
    | UnknownTests
    | TestsChanged
)
"""Why a record does not stand for a cell as it would run now."""

PlanReason = StaleReason | Running | NotStale | CannotWork
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
