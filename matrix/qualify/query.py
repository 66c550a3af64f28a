"""What a qualification asks: a candidate, a baseline, and where they are compared.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.versions import minor_of, parse_version
from matrix.catalog.cells import CellError, factors
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, Record

WRONG_CELL = "wrong_cell"
"""The kind of error of a run in an environment that was not its cell."""


@dataclass(frozen=True)
class Query:
    """Which release of `project` (torch or vllm) is held against which, and where.

    No `pythons` is every Python; `under` narrows the releases of the other project.
    """

    project: str
    candidate: str
    baseline: str
    platforms: tuple[str, ...] = PLATFORMS
    pythons: tuple[str, ...] = ()
    under: SpecifierSet | None = None

    @property
    def other(self) -> str:
        """The other project, under whose releases both are compared."""
        return "vllm" if self.project == "torch" else "torch"


@dataclass(frozen=True)
class Skipped:
    """The records that nobody read, for they decide nothing (`matrix.qualify.load`).

    `releases` has the platform, torch and vLLM of all records, read or not; `counts` how many were
    left out of a cell, on a platform, with a torch and a vLLM.
    """

    releases: frozenset[tuple[str, str, str]] = frozenset()
    counts: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)


def versions_of(
    cell: str, torch: object, vllm: object, error: str | None, cases: bool, releases: Releases
) -> tuple[str, str] | None:
    """The public releases of a record that says these, or those of its name where no case ran.

    None for a record of neither: of an environment that was not the cell, or one with `cases` that
    does not say which releases they ran with.
    """
    if error == WRONG_CELL:
        return None
    found = [_public(str(torch)), _public(str(vllm))]
    if None in found:
        if cases:
            return None
        try:
            means = releases.resolve(cell)
        except CellError:
            return None
        named = means.torch, means.vllm
        found = [each or instead for each, instead in zip(found, named, strict=True)]
    first, second = found
    return None if first is None or second is None else (first, second)


def versions(record: Record, releases: Releases) -> tuple[str, str] | None:
    """As `versions_of`, of a record."""
    error = None if record.error is None else record.error.kind
    torch, vllm = (record.provenance.get(key) for key in ("torch", "vllm"))
    return versions_of(record.cell, torch, vllm, error, bool(record.cases), releases)


def _public(text: str) -> str | None:
    try:
        return parse_version(text).public
    except InvalidVersion:
        return None


def same_release(one: str, other: str) -> bool:
    """Whether two texts name one release: 2.12 and 2.12.0 do."""
    return Version(one) == Version(other)


def named(wanted: str, known: Iterable[str]) -> str | None:
    """The first of the known releases that is the wanted one, as it is written there."""
    return next((each for each in known if same_release(each, wanted)), None)


def is_asked(asked: Query, cell: str, platform: str, other: str) -> bool:
    """Whether the question is of this cell, on this platform, with that release of the other."""
    return (
        platform in asked.platforms
        and (not asked.pythons or factors(cell).python in asked.pythons)
        and (asked.under is None or asked.under.contains(other, prereleases=True))
    )


def may_be_asked(
    asked: Query, cell: str, platform: str, torch: object, vllm: object, releases: Releases
) -> bool:
    """Whether a record that does not say all of its releases may be one that is asked for.

    What it does not say is held to be of the minor release that the name of its cell has.
    """
    try:
        means = releases.resolve(cell)
    except CellError:
        return False
    said = {"torch": _public(str(torch)), "vllm": _public(str(vllm))}
    other = said[asked.other] or (means.vllm if asked.other == "vllm" else means.torch)
    if not is_asked(asked, cell, platform, other):
        return False
    exact, name = said[asked.project], factors(cell)
    minor = name.torch if asked.project == "torch" else name.vllm
    return any(
        same_release(exact, each) if exact is not None else minor_of(each) == minor
        for each in (asked.candidate, asked.baseline)
    )


def age(started: str, late: str | None) -> tuple[bool, str]:
    """What orders records by when they started: one from the future is older than all others."""
    return late is None or started <= late, started


def oldest_first(versions: Iterable[str]) -> list[str]:
    """The releases in their order, and the spellings of one release by their text."""
    return sorted(versions, key=lambda text: (Version(text), text))
