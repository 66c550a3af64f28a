"""Why a plan has a cell, as codes with operands.

Pure. `matrix.report.plan` makes the sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from matrix._util.enums import StrEnum
from matrix.catalog.projects import Project
from matrix.record.model import Departure, ErrorKind
from matrix.verdict.reasons import VerdictReason


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
    CASES_UNTESTED = "cases untested"
    OTHER_BUILD = "other build"
    OTHER_FILE = "other file"
    OTHER_PACKAGES = "other packages"
    OTHER_MACHINE = "other machine"
    OTHER_GPU = "other gpu"
    OTHER_DRIVER = "other driver"
    OTHER_FLAGS = "other flags"
    TOO_OLD = "too old"
    FORCED = "forced"
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


class CasesUntested(NamedTuple):
    """Its run came to its end, and these cases have no answer for a reason of the machine's."""

    cases: tuple[str, ...]
    code: Literal[PlanCode.CASES_UNTESTED] = PlanCode.CASES_UNTESTED


class KeyPart(StrEnum):
    """A part of the key of a cell (`matrix.verdict.run_key`), in the order of `PlanReason`."""

    RELEASES = "releases"
    TESTS = "tests"
    FILES = "files"
    PACKAGES = "packages"
    MACHINE = "machine"
    GPU = "gpu"
    DRIVER = "driver"
    FLAGS = "flags"


class OtherBuild(NamedTuple):
    """Its run had another build of the candidate of this name, by these identities."""

    candidate: str
    ran: str
    here: str
    code: Literal[PlanCode.OTHER_BUILD] = PlanCode.OTHER_BUILD


class OtherFile(NamedTuple):
    """Its run had another wheel of the project, by these digests of the file or of what it holds.

    The version is the same.
    """

    project: Project
    ran: str
    here: str
    code: Literal[PlanCode.OTHER_FILE] = PlanCode.OTHER_FILE


class PackageChange(NamedTuple):
    """A package that a run had in the version `ran`, and would have in another; None: not there."""

    name: str
    ran: str | None
    here: str | None


class OtherPackages(NamedTuple):
    """The packages of its run differ from those of its environment here.

    Without an environment they differ from what the resolver answered on the day `resolved`.
    """

    changes: tuple[PackageChange, ...]
    resolved: str | None = None
    code: Literal[PlanCode.OTHER_PACKAGES] = PlanCode.OTHER_PACKAGES


class OtherMachine(NamedTuple):
    """It ran on another kind of processor, such as `aarch64`."""

    ran: str
    here: str
    code: Literal[PlanCode.OTHER_MACHINE] = PlanCode.OTHER_MACHINE


class OtherGpu(NamedTuple):
    """It ran on another kind of GPU than each that is here."""

    ran: str
    here: tuple[str, ...]
    code: Literal[PlanCode.OTHER_GPU] = PlanCode.OTHER_GPU


class OtherDriver(NamedTuple):
    """It ran with another NVIDIA driver, by the first two numbers of its version."""

    ran: str
    here: str
    code: Literal[PlanCode.OTHER_DRIVER] = PlanCode.OTHER_DRIVER


class FlagChange(NamedTuple):
    """A flag that a run had with this value, and that is asked for with another."""

    name: str
    ran: str
    asked: str


class RanWithOtherFlags(NamedTuple):
    """Its run had other values of the flags that are asked for."""

    flags: tuple[FlagChange, ...]
    code: Literal[PlanCode.OTHER_FLAGS] = PlanCode.OTHER_FLAGS


class TooOld(NamedTuple):
    """Its run is `days` whole days old, and more than `most` days."""

    days: int
    most: int
    code: Literal[PlanCode.TOO_OLD] = PlanCode.TOO_OLD


class Forced(NamedTuple):
    """It ran on that day and would run as it did, and is asked for all the same."""

    day: str
    code: Literal[PlanCode.FORCED] = PlanCode.FORCED


class Running(NamedTuple):
    """A run of it continues `since` then.

    Where its end will not stand for the cell, it has the releases `other`, or is `partial`.
    """

    since: str
    other: RanOtherReleases | None = None
    partial: bool = False
    code: Literal[PlanCode.RUNNING] = PlanCode.RUNNING

    @property
    def stands(self) -> bool:
        """Whether the cell will have a record that holds when the run ends."""
        return self.other is None and not self.partial


class NotStale(NamedTuple):
    """It ran on that day, and would run as it did; "" if its record does not say when."""

    day: str
    code: Literal[PlanCode.NOT_STALE] = PlanCode.NOT_STALE


class ObservedLess(NamedTuple):
    """It ran on that day, and its record lacks what a qualification compares besides counters."""

    day: str
    code: Literal[PlanCode.OBSERVED_LESS] = PlanCode.OBSERVED_LESS


class CannotWork(NamedTuple):
    """The static checks say that the cell cannot work."""

    reason: VerdictReason | None
    code: Literal[PlanCode.CANNOT_WORK] = PlanCode.CANNOT_WORK


KeyDifference = (
    RanOtherReleases
    | OtherBuild
    | UnknownTests
    | TestsChanged
    | OtherFile
    | OtherPackages
    | OtherMachine
    | OtherGpu
    | OtherDriver
    | RanWithOtherFlags
)
"""A part of the key of a cell in which a record differs from what would run here and now."""

StaleReason = (
    NeverRan
    | EndedEarly
    | RanUnfinished
    | PackageFailed
    | RanNotStock
    | Partial
    | NoCase
    | CasesUntested
    | KeyDifference
    | TooOld
    | Forced
)
"""Why a record does not stand for a cell as it would run now."""

PlanReason = StaleReason | Running | NotStale | ObservedLess | CannotWork
"""Why a plan has a cell."""


class BroughtCode(StrEnum):
    """The reason why a pair is in a plan."""

    NEW = "new"
    BESIDE = "beside"


@dataclass(frozen=True, kw_only=True)
class Brought:
    """The reason for a pair in a plan: it has that release, or is next to such a pair."""

    code: BroughtCode
    project: Project
    version: str
