"""The question of a qualification: the releases to compare, the cells, and the rules.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from matrix._util.enums import StrEnum
from matrix._util.versions import minor_of, parse_version
from matrix.catalog.cells import CellError, factors, public_key
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, ErrorKind, Platform
from matrix.rules.expectations import Expectations
from matrix.rules.waivers import Waivers

MOST_RUNS = 20
"""The most runs of a cell, the newest, whose seconds are compared."""


class Side(StrEnum):
    """The side of a comparison to which a cell belongs."""

    BASELINE = "baseline"
    CANDIDATE = "candidate"


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which release of a project is compared with which, and where.

    Empty `pythons` mean every Python; `under` narrows the releases of the other project, and so do
    `others`, which are exact ones (empty: all). Of candidates these are release keys. `cases` are
    the startup tests that it is about, by their functions (empty: all).
    """

    project: Project
    candidate: str
    baseline: str
    platforms: tuple[Platform, ...] = PLATFORMS
    pythons: tuple[str, ...] = ()
    under: SpecifierSet | None = None
    others: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()

    @property
    def other(self) -> Project:
        """Return the other project, under whose releases both are compared."""
        return Project.VLLM if self.project is Project.TORCH else Project.TORCH

    def release(self, torch: str, vllm: str) -> str:
        """Return the one of these two releases that is of the project in question."""
        return torch if self.project is Project.TORCH else vllm

    def other_release(self, torch: str, vllm: str) -> str:
        """Return the one of these two releases that is of the other project."""
        return vllm if self.project is Project.TORCH else torch

    def compares(self, release: str) -> bool:
        """Return whether a release is the candidate or the baseline."""
        return same_release(release, self.candidate) or same_release(release, self.baseline)

    def covers(self, cell: str, platform: Platform, other: str) -> bool:
        """Return whether the query is about this cell on this platform.

        `other` is the release of the other project that ran in it.
        """
        return (
            platform in self.platforms
            and (not self.pythons or factors(cell).python in self.pythons)
            and self.accepts(other)
        )

    def accepts(self, other: str) -> bool:
        """Return whether the query is about this release of the other project."""
        if self.others and not any(same_release(other, asked) for asked in self.others):
            return False
        return self.under is None or self.under.contains(other, prereleases=True)


@dataclass(frozen=True, kw_only=True)
class Context:
    """The rules that judge records.

    A record that started after `late` (`matrix.verdict.precedence.late_from`) is future-dated and
    counts as older than all others; None accepts every date.
    """

    expectations: Expectations
    releases: Releases
    waivers: Waivers
    today: date
    late: str | None = None


class CellReleases(NamedTuple):
    """A cell on a platform with the exact releases that ran in it."""

    cell: str
    platform: Platform
    torch: str
    vllm: str


class PlatformReleases(NamedTuple):
    """The exact releases of one run on a platform."""

    platform: Platform
    torch: str
    vllm: str


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """The records that were not read, because they decide nothing (`matrix.qualify.load`).

    `releases` are those of all records, read or not; `counts` says how many records of a cell with
    these releases were not read.
    """

    releases: frozenset[PlatformReleases] = frozenset()
    counts: Mapping[CellReleases, int] = field(default_factory=dict)


class Observed(NamedTuple):
    """The releases that ran, from a record or its summary; `error` is its kind."""

    cell: str
    platform: Platform
    torch: object
    vllm: object
    error: str | None
    has_cases: bool


def releases_of(observed: Observed, releases: Releases) -> tuple[str, str] | None:
    """Return the public releases of torch and vLLM of a record, or None if they are unknown.

    The record's own versions count; those that the name of its cell means stand in only where no
    case ran. They are unknown where cases ran with unnamed versions, and where the environment was
    not the cell.
    """
    if observed.error == ErrorKind.WRONG_CELL:
        return None
    torch, vllm = _public(observed.torch), _public(observed.vllm)
    if torch is not None and vllm is not None:
        return torch, vllm
    if observed.has_cases:
        return None
    try:
        named = releases.resolve(observed.cell)
    except CellError:
        return None
    return torch or named.torch, vllm or named.vllm


def may_match(query: Query, observed: Observed, releases: Releases) -> bool:
    """Return whether a record of unknown releases may be one that the query is about.

    A release that the record does not name is taken for any of the minor release in its cell's
    name.
    """
    try:
        named = releases.resolve(observed.cell)
    except CellError:
        return False
    unknown = observed.error == ErrorKind.WRONG_CELL
    torch, vllm = (None if unknown else _public(v) for v in (observed.torch, observed.vllm))
    other = query.other_release(torch or named.torch, vllm or named.vllm)
    if not query.covers(observed.cell, observed.platform, other):
        return False
    exact, parts = query.release(torch or "", vllm or ""), factors(observed.cell)
    if exact:
        return query.compares(exact)
    minor = parts.torch if query.project is Project.TORCH else parts.vllm
    return minor in (minor_of(query.candidate), minor_of(query.baseline))


def _public(text: object) -> str | None:
    try:
        return public_key(str(text))
    except InvalidVersion:
        return None


def same_release(one: str, other: str) -> bool:
    """Return whether two spellings name one release, as 2.12 and 2.12.0 do."""
    return parse_version(one) == parse_version(other)


def find_release(wanted: str, known: Iterable[str]) -> str | None:
    """Return the first known release that is the wanted one, as it is spelled there."""
    return next((release for release in known if same_release(release, wanted)), None)


def oldest_first(releases: Iterable[str]) -> list[str]:
    """Return the releases in their order, two spellings of one release by their text."""
    return sorted(releases, key=lambda text: (parse_version(text), text))
