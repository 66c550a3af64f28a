"""Which records stand for a release, cell by cell, and what else is known of each cell.

Pure. Of several records of a cell with the same releases the newest that decides counts, as in the
table. It hides none of these:

- a run with other *flags*, whichever is newer: the newest of each kind stands beside it;
- another run of the very same kind (releases, flags and tests) that *failed*;
- a record with cases that does not say which torch or vLLM ran: it stands for no release, and the
  name of its cell is no answer to that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.versions import minor_of
from matrix.catalog.cells import CellError, factors
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, Case, Record, to_json, whole
from matrix.record.signatures import signature_of
from matrix.record.startup_tests import load_startup_tests
from matrix.rules.expectations import COUNTERS, Expectations
from matrix.rules.waivers import Place
from matrix.verdict.table import Entry, tabulate

__all__ = [
    "MOST_RUNS",
    "WRONG_CELL",
    "Aside",
    "Asked",
    "Key",
    "Ran",
    "Side",
    "Told",
    "Unsaid",
    "age",
    "hardware",
    "is_asked",
    "may_be_asked",
    "named",
    "newest",
    "oldest_first",
    "order",
    "patch",
    "release",
    "same_release",
    "side",
    "unsaid",
    "versions",
    "versions_of",
]

MOST_RUNS = 20
"""How many runs of a cell, the newest, tell its seconds."""

WRONG_CELL = "wrong_cell"
"""The kind of error of a run in an environment that was not its cell."""


@dataclass(frozen=True)
class Asked:
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
class Aside:
    """The records that nobody read, for they decide nothing (`matrix.qualify.load`).

    `releases` has the platform, torch and vLLM of all records, read or not; `counts` how many were
    left out of a cell, on a platform, with a torch and a vLLM.
    """

    releases: frozenset[tuple[str, str, str]] = frozenset()
    counts: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)


Told = tuple[Path, Record, str, str]
"""A record with its file and the exact releases of torch and vLLM that ran."""

Key = tuple[str, str, str]
"""Of a cell without the project in question: platform, other release, Python."""


@dataclass(frozen=True)
class Ran:
    """A record that counts: the newest that decides of its cell, its file, and what ran in it.

    `runs` are the newest records of the cell with these very releases, for their seconds; `again`
    the others of the same flags and tests, the newest first; `beside` the one that decides of each
    set of other flags. `apart` is what sets this one apart from the record that decides, where it
    stands beside one: its flags, or an older patch of the other project.
    """

    entry: Entry
    path: Path
    torch: str
    vllm: str
    runs: tuple[Record, ...] = ()
    again: tuple[Ran, ...] = ()
    beside: tuple[Ran, ...] = ()
    apart: str | None = None

    @property
    def record(self) -> Record:
        """The record itself."""
        return self.entry.record

    @property
    def place(self) -> Place:
        """Where it ran."""
        return Place(self.record.cell, self.record.platform, self.torch, self.vllm)

    @property
    def python(self) -> str:
        """The minor release of Python."""
        return self.entry.factors.python


Side = Mapping[Key, Mapping[str, Ran]]
"""The records of one release that count, by cell and by the other project's exact release.

`side` puts the cells in their `order`, and the releases of a cell oldest first, whatever the order
of the records: what goes through a side finds the same things in the same order.
"""


@dataclass(frozen=True)
class Unsaid:
    """A record that stands for no release: `why`, and whether what it found `blocks` an answer."""

    path: Path
    record: Record
    why: str
    blocks: bool


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


@cache
def _public(version: str) -> str | None:
    try:
        return Version(version).public
    except InvalidVersion:
        return None


def release(project: str, told: Told) -> str:
    """The exact release of a project that ran."""
    _, _, torch, vllm = told
    return torch if project == "torch" else vllm


def same_release(one: str, other: str) -> bool:
    """Whether two texts name one release: 2.12 and 2.12.0 do."""
    return Version(one) == Version(other)


def named(wanted: str, known: Iterable[str]) -> str | None:
    """The first of the known releases that is the wanted one, as it is written there."""
    return next((each for each in known if same_release(each, wanted)), None)


def is_asked(asked: Asked, cell: str, platform: str, other: str) -> bool:
    """Whether the question is of this cell, on this platform, with that release of the other."""
    return (
        platform in asked.platforms
        and (not asked.pythons or factors(cell).python in asked.pythons)
        and (asked.under is None or asked.under.contains(other, prereleases=True))
    )


def may_be_asked(
    asked: Asked, cell: str, platform: str, torch: object, vllm: object, releases: Releases
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


def unsaid(
    asked: Asked,
    records: Iterable[tuple[Path, Record]],
    chosen: Iterable[Told],
    releases: Releases,
    late: str | None,
) -> list[Unsaid]:
    """The records that may be asked for and stand for no release: of each cell the newest.

    One that is older than a record of its cell that does stand for a release is left out.
    """
    newest: dict[tuple[str, str], tuple[bool, str]] = {}
    for told in chosen:
        ran, (_, record, _, _) = release(asked.project, told), told
        if any(same_release(ran, each) for each in (asked.candidate, asked.baseline)):
            key = record.cell, record.platform
            newest[key] = max(age(record.started, late), newest.get(key, (False, "")))
    found: dict[tuple[str, str, bool], tuple[Path, Record]] = {}
    for path, record in sorted(records, key=lambda each: str(each[0])):
        at = record.cell, record.platform, _is_wrong(record)
        torch, vllm = (None if at[2] else record.provenance.get(of) for of in ("torch", "vllm"))
        if versions(record, releases) is None and may_be_asked(
            asked, record.cell, record.platform, torch, vllm, releases
        ):
            old = age(record.started, late)
            if at not in found or old > age(found[at][1].started, late):
                found[at] = path, record
    return [
        Unsaid(path, record, _unsaid_why(record, wrong), not wrong)
        for (cell, platform, wrong), (path, record) in sorted(found.items(), key=lambda of: of[0])
        if age(record.started, late) >= newest.get((cell, platform), (False, ""))
    ]


def _is_wrong(record: Record) -> bool:
    return record.error is not None and record.error.kind == WRONG_CELL


def _unsaid_why(record: Record, wrong: bool) -> str:
    if wrong and record.error is not None:
        return f"ran in an environment that is not this cell ({record.error.reason})"
    return "does not say which torch and vLLM ran its cases"


def side(
    asked: Asked,
    version: str,
    chosen: Iterable[Told],
    expectations: Expectations,
    releases: Releases,
    late: str | None = None,
) -> Side:
    """The records of one release that count. What started after `late` is of the future.

    Where the same releases ran under two names of a cell, the newer run stands.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[Path, Record]]] = {}
    for told in chosen:
        path, record, torch, vllm = told
        if same_release(release(asked.project, told), version):
            groups.setdefault((torch, vllm, record.cell, record.platform), []).append(
                (path, record)
            )
    runs = [
        _of_cell(torch, vllm, of, expectations, releases, late)
        for (torch, vllm, _, _), of in sorted(groups.items())
    ]
    found: dict[Key, dict[str, Ran]] = {}
    for ran in sorted(runs, key=lambda ran: age(ran.record.started, late)):
        other = ran.vllm if asked.project == "torch" else ran.torch
        # A cell's name means a minor release of vLLM; torch must be the very same.
        under = minor_of(other) if asked.other == "vllm" else other
        found.setdefault((ran.record.platform, under, ran.python), {})[other] = ran
    return {
        key: {other: found[key][other] for other in oldest_first(found[key])}
        for key in sorted(found, key=order)
    }


def _of_cell(
    torch: str,
    vllm: str,
    of: Sequence[tuple[Path, Record]],
    expectations: Expectations,
    releases: Releases,
    late: str | None,
) -> Ran:
    def standing(some: Sequence[tuple[Path, Record]]) -> Ran:
        contenders = _contenders(some, late)
        [entry] = tabulate(contenders, expectations, releases=releases, late=late).entries
        path = min(path for path, record in some if record is entry.record)
        return Ran(entry, path, torch, vllm)

    first, tests = standing(of), load_startup_tests()
    flags, ended = _flags(first.record), _ended(first.record)
    groups: dict[tuple[tuple[str, str], ...], list[tuple[Path, Record]]] = {}
    again = []
    for path, record in of:
        differ = _differ(flags, _flags(record))
        if differ:
            groups.setdefault(differ, []).append((path, record))
        elif not tests.differ(record, first.record) and _ended(record) != ended:
            again.append((path, record))
    # A copy of a run tells no more than the run does: of copies the first path is named.
    again.sort(key=lambda each: each[0])
    again.sort(key=lambda each: (age(each[1].started, late), to_json(each[1])), reverse=True)
    return replace(
        first,
        runs=_runs(first.record, of, late),
        again=tuple(standing([each]) for each in again),
        beside=tuple(
            replace(standing(some), apart=", ".join(f"{flag}={value}" for flag, value in differ))
            for differ, some in sorted(groups.items())
        ),
    )


def _contenders(of: Iterable[tuple[Path, Record]], late: str | None) -> list[tuple[Path, Record]]:
    """Without those that the newest whole record replaces anyway, unjudged."""
    told = list(of)
    newest = max((age(record.started, late) for _, record in told if whole(record)), default=None)
    return [
        (path, record)
        for path, record in told
        if newest is None or age(record.started, late) >= newest
    ]


def _flags(record: Record) -> Mapping[tuple[str, str], str]:
    """The effective flags of the run and of each of its cases, as text."""
    found = {("", flag): value for flag, value in record.flags.items()}
    for case in record.cases:
        found.update({(case.case, flag): value for flag, value in case.flags.items()})
    return {key: json.dumps(value, default=str) for key, value in found.items()}


def _differ(
    own: Mapping[tuple[str, str], str], other: Mapping[tuple[str, str], str]
) -> tuple[tuple[str, str], ...]:
    """The flags that both runs know and that are not the same, as the other one has them."""
    both = own.keys() & other.keys()
    return tuple(sorted({(key[1], other[key]) for key in both if own[key] != other[key]}))


def _ended(record: Record) -> object:
    """How a run and its cases ended: runs that are equal in it fail and drift alike."""
    error = record.error and (record.error.kind, record.error.reason)
    broken = [(each.rung, each.reason) for each in record.rungs if not each.ok]
    cases = sorted(
        (each.case, each.outcome, signature_of(each) or "", _counts(each)) for each in record.cases
    )
    return error, broken, cases


def _counts(case: Case) -> list[tuple[str, list[tuple[str, int]]]]:
    """The counters of a case of which an expectation may speak."""
    return [
        (each.start, sorted(one for one in each.counters.items() if one[0] in COUNTERS))
        for each in case.starts
    ]


def _runs(
    record: Record, records: Iterable[tuple[Path, Record]], late: str | None
) -> tuple[Record, ...]:
    """Of the newest runs of the cell, one case at a time, on such a machine, with its flags."""
    found: dict[tuple[bool, str], list[Record]] = {}
    for _, each in records:
        if each.jobs == 1:
            found.setdefault(age(each.started, late), []).append(each)
    newest = (each for old in sorted(found)[-MOST_RUNS:] for each in _without_copies(found[old]))
    flags = _flags(record)
    return tuple(
        each
        for each in newest
        if hardware(each) == hardware(record) and not _differ(flags, _flags(each))
    )


def _without_copies(of: Sequence[Record]) -> Iterable[Record]:
    """The records of one second, each once, whatever the order in which a disk lists them."""
    if len(of) == 1:
        return of
    found = {to_json(each): each for each in of}
    return (found[text] for text in sorted(found))


def hardware(record: Record) -> tuple[object, ...]:
    """The machine as far as a record knows it; a driver is no hardware."""
    gpu = record.provenance.get("gpu")
    name = gpu.get("name") if isinstance(gpu, dict) else None
    return record.provenance.get("machine"), record.provenance.get("cpu"), name


def order(key: Key) -> tuple[int, Version, str, Version]:
    """What orders the cells: platform, the other project's release, Python."""
    platform, under, python = key
    return PLATFORMS.index(platform), Version(under), under, Version(python)


def oldest_first(versions: Iterable[str]) -> list[str]:
    """The releases in their order, and the spellings of one release by their text."""
    return sorted(versions, key=lambda text: (Version(text), text))


def patch(asked: Asked, ran: Ran) -> Version:
    """The exact release of the other project."""
    return Version(ran.vllm if asked.other == "vllm" else ran.torch)


def newest(asked: Asked, of: Mapping[str, Ran]) -> Ran:
    """Of the records of a cell that of the newest patch of the other project."""
    return max(of.values(), key=lambda each: patch(asked, each))
