"""A candidate release against its baseline: what broke, was mended, drifts, or is not known.

Pure. Each cell of the baseline is held against the candidate's of the same Python, platform and
other release, case by case. A candidate qualifies by answers alone, never by their absence:

- a failure that the baseline did not have, or has with another signature or at another rung, fails;
- so does a counter that changed, unless the candidate's own expectation wants its count, and one
  that did not change where the candidate's expectation wanted it to; but what no expectation may
  name (not among COUNTERS: how often a pattern matched) is told and not judged;
- a waiver takes a failure or a drift out of the verdict, and stays to be seen;
- where the first rungs (`matrix.rungs`) say that a cell of the candidate cannot work, and the
  baseline's could, that fails too, without a run; but what cannot be asked with the wheels that
  there are is nobody's failure, and no answer. That they pass is never an answer;
- without a failure, one case that has an answer (it passes or fails) at the baseline and none at
  the candidate, one that fails and has none at the baseline, or a record that is not whole, is too
  little evidence. So taking evidence away never makes a candidate qualify.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache, cached_property
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix.cells import Cell, CellError, factors
from matrix.errors import MatrixError
from matrix.expectations import COUNTERS, Expectations
from matrix.grid import Grid
from matrix.history import enough, shifted
from matrix.ladder import Climb
from matrix.ladder import ran as rungs_of
from matrix.records import PLATFORMS, STARTS, Case, Record, to_json
from matrix.releases import Releases, minor_of
from matrix.report.table import Entry, tabulate
from matrix.rungs import CANNOT_ASK, LOST, Asks, Rungs, change, failing, grid_of, rungs
from matrix.signatures import signature, signature_of
from matrix.verdicts import BROKEN_PAIR, INCOMPATIBLE, UNTESTED, CaseVerdict
from matrix.waivers import Finding, Place, Waiver, Waivers

__all__ = [
    "AS_BEFORE",
    "EXPECTED",
    "EXPECTED_AGAIN",
    "FAILS_AS_BEFORE",
    "FAILS_OTHERWISE",
    "MOST_RUNS",
    "NEW",
    "NOT_ENOUGH",
    "NOT_JUDGED",
    "NOT_QUALIFIED",
    "NO_RULE",
    "PROJECTS",
    "QUALIFIED",
    "REGRESSION",
    "REPAIR",
    "UNEXPECTED",
    "Aside",
    "Asked",
    "Drift",
    "Failure",
    "Flag",
    "Match",
    "Qualification",
    "QualifyError",
    "Ran",
    "Time",
    "Unknown",
    "is_asked",
    "qualify",
    "same_release",
    "versions_of",
]

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


_FAILING = {REGRESSION, FAILS_OTHERWISE, UNEXPECTED, NO_RULE}
_PASSED, _FAILED, _NOT_APPLICABLE, _UNKNOWN = "passed", "failed", "not applicable", "unknown"


MOST_RUNS = 20
"""How many runs of a cell, the newest, tell its seconds."""


class QualifyError(MatrixError):
    """A question that cannot be answered: names the option and the mend."""


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
    """The records that nobody read, for they decide nothing (`matrix.selection`).

    `releases` has the platform, torch and vLLM of all records, read or not; `counts` how many were
    left out of a cell, on a platform, with a torch and a vLLM.
    """

    releases: frozenset[tuple[str, str, str]] = frozenset()
    counts: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """A record that counts: the newest that decides of its cell, its file, and what ran in it.

    `runs` are the newest records of the cell with these very releases, for their seconds.
    """

    entry: Entry
    path: Path
    torch: str
    vllm: str
    runs: tuple[Record, ...] = ()

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


@dataclass(frozen=True)
class Match:
    """A cell of the baseline and the candidate's that stands against it.

    `compared` counts the cases with an answer on both sides, `no_times` says why seconds cannot be
    compared, and `notes` what else is not the same on both sides.
    """

    baseline: Ran
    candidate: Ran
    compared: int
    no_times: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A case that fails on a side. Rung, signature and reason are the candidate's, or those of the
    baseline for a repair; `before` is the baseline's signature where both fail.

    An empty `case` is the run as a whole, or no run at all where it is not `ran`: then a first rung
    says so.
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

    @property
    def fails(self) -> bool:
        """Whether the candidate does not qualify for it."""
        return self.kind in _FAILING and self.waiver is None


@dataclass(frozen=True)
class Drift:
    """A counter of a start, as the baseline and the candidate counted it; None is not counted.

    `wanted` is what the candidate's expectation says, None where it says nothing; `judged` tells
    whether an expectation of either side speaks of the counter.
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

    @property
    def fails(self) -> bool:
        """Whether the candidate does not qualify for it."""
        return self.kind in _FAILING and self.waiver is None


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

    `cell` is the environment that would answer, `case` None where it is all of them; `signature` is
    there where it can be waived. `rung` is the first one that keeps the environment from being
    asked with the wheels that there are; None where it can be.
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

    `idle` are waivers of a cell that was compared which waive nothing, `elsewhere` counts those of
    other cells; `unread` counts records that could not be read, any of which might decide. `rungs`
    are what is known of both sides without a run.
    """

    asked: Asked
    today: date
    matches: tuple[Match, ...] = ()
    failures: tuple[Failure, ...] = ()
    drifts: tuple[Drift, ...] = ()
    flags: tuple[Flag, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    times: tuple[Time, ...] = ()
    idle: tuple[Waiver, ...] = ()
    elsewhere: int = 0
    notes: tuple[str, ...] = ()
    unread: int = 0
    rungs: tuple[Rungs, ...] = ()

    @property
    def compared(self) -> int:
        """How many cases have an answer on both sides."""
        return sum(match.compared for match in self.matches)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms on which a case was compared."""
        ran = {match.candidate.record.platform for match in self.matches if match.compared}
        return tuple(each for each in PLATFORMS if each in ran)

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
        if not self.compared or self.blocking or self.unread:
            return NOT_ENOUGH
        return QUALIFIED

    @property
    def exit_status(self) -> int:
        """0 qualified, 1 not, 3 not enough evidence."""
        return _EXIT_STATUS[self.verdict]

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


def qualify(
    asked: Asked,
    records: Iterable[tuple[Path, Record]],
    expectations: Expectations,
    releases: Releases,
    waivers: Waivers,
    today: date,
    unread: int = 0,
    asks: Asks | None = None,
    aside: Aside | None = None,
) -> Qualification:
    """Hold the candidate against its baseline, the same for any order of the records.

    Of several records of a cell on a platform the newest that decides counts, as in the table.
    `asks` answers the first rungs; without it they are not known. `aside` is what was not read of
    many records. Raises QualifyError for a release that is unknown, or that is both candidate and
    baseline.
    """
    aside = aside or Aside()
    every = [
        (path, record, torch, vllm)
        for path, record in records
        if (versions := _versions(record, releases)) is not None
        for torch, vllm in [versions]
    ]
    held = aside.releases | {(told[1].platform, told[2], told[3]) for told in every}
    _check(asked, held, releases)
    chosen = [each for each in every if _is_asked(asked, each)]
    sides = {
        release: _newest(asked, release, chosen, expectations, releases)
        for release in (asked.baseline, asked.candidate)
    }
    notes = list(_notes(asked, every, sides, today, held, aside.counts))
    first = None if asks is None else _FirstRungs.of(asked, sides, releases, asks)
    builder = _Builder(asked, waivers, today, first)
    for key, baseline in sorted(sides[asked.baseline].items(), key=lambda item: _order(item[0])):
        candidate = sides[asked.candidate].get(key)
        if candidate is None:
            builder.missing(max(baseline.values(), key=lambda each: _patch(asked, each)))
        else:
            builder.match(*_pair(asked, baseline, candidate))
    more = sides[asked.candidate].keys() - sides[asked.baseline].keys()
    for key in sorted(more, key=_order):
        of = max(sides[asked.candidate][key].values(), key=lambda each: _patch(asked, each))
        notes.append(
            f"{of.record.cell} on {of.record.platform} has no baseline and was compared with"
            " nothing"
        )
    cells = [each.cell for each in builder.unknown if each.rung is None]
    cells += [each.candidate.record.cell for each in builder.matches]
    notes += _other_names(asked, dict.fromkeys(cells), releases)
    builder.never_ran(sides)
    return builder.done(tuple(notes), unread)


_Told = tuple[Path, Record, str, str]
_Key = tuple[str, str, str]
"""Of a cell without the project in question: platform, other release, Python."""


def _versions(record: Record, releases: Releases) -> tuple[str, str] | None:
    """The public releases that ran, or those that the cell's name stands for where none did.

    None for a record of neither: of an environment that was not the cell.
    """
    error = None if record.error is None else record.error.kind
    torch, vllm = (record.provenance.get(key) for key in ("torch", "vllm"))
    return versions_of(record.cell, torch, vllm, error, releases)


def versions_of(
    cell: str, torch: object, vllm: object, error: str | None, releases: Releases
) -> tuple[str, str] | None:
    """The public releases of a record that says these, or else those that its name stands for.

    None for a record of neither: of an environment that was not the cell.
    """
    if error == "wrong_cell":
        return None
    found = [_public(torch), _public(vllm)]
    if None in found:
        try:
            means = releases.resolve(cell)
        except CellError:
            return None
        named = means.torch, means.vllm
        found = [each or instead for each, instead in zip(found, named, strict=True)]
    first, second = found
    return None if first is None or second is None else (first, second)


def _public(version: object) -> str | None:
    return _parsed(str(version))


@cache
def _parsed(version: str) -> str | None:
    try:
        return Version(version).public
    except InvalidVersion:
        return None


def _check(asked: Asked, held: Iterable[tuple[str, str, str]], releases: Releases) -> None:
    name = PROJECTS[asked.project]
    published = releases.torch if asked.project == "torch" else releases.vllm
    ran = {torch if asked.project == "torch" else vllm for _, torch, vllm in held}
    known = sorted({each.version for each in published} | ran, key=Version)
    for option, wanted in ((asked.project, asked.candidate), ("baseline", asked.baseline)):
        if _same(wanted, known) is None:
            near = ", ".join(_nearest(wanted, known)) or "none"
            raise QualifyError(
                f"--{option} {wanted}: no release of {name} that is known here, and no record is of"
                f" it; the nearest: {near}"
            )
    if Version(asked.candidate) == Version(asked.baseline):
        earlier = [each for each in known if Version(each) < Version(asked.candidate)]
        mend = f"such as {earlier[-1]}" if earlier else "an earlier one"
        raise QualifyError(
            f"--baseline {asked.baseline}: is the candidate itself; name another release, {mend}"
        )


def _same(wanted: str, known: Iterable[str]) -> str | None:
    return next((each for each in known if Version(each) == Version(wanted)), None)


def _nearest(wanted: str, known: Sequence[str]) -> list[str]:
    """The known versions next to the wanted one, and the newest that it may be the beginning of."""
    below = [each for each in known if Version(each) < Version(wanted)][-1:]
    above = [each for each in known if Version(each) > Version(wanted)][:1]
    longer = [each for each in known if each.startswith(f"{wanted}.")][-1:]
    return list(dict.fromkeys([*below, *above, *longer]))


def _release(project: str, told: _Told) -> str:
    _, _, torch, vllm = told
    return torch if project == "torch" else vllm


def is_asked(asked: Asked, cell: str, platform: str, other: str) -> bool:
    """Whether the question is of this cell, on this platform, with that release of the other."""
    return (
        platform in asked.platforms
        and (not asked.pythons or factors(cell).python in asked.pythons)
        and (asked.under is None or asked.under.contains(other, prereleases=True))
    )


def _is_asked(asked: Asked, told: _Told) -> bool:
    _, record, _, _ = told
    return is_asked(asked, record.cell, record.platform, _release(asked.other, told))


def same_release(one: str, other: str) -> bool:
    """Whether two texts name one release: 2.12 and 2.12.0 do."""
    return Version(one) == Version(other)


def _newest(
    asked: Asked,
    release: str,
    chosen: Sequence[_Told],
    expectations: Expectations,
    releases: Releases,
) -> Mapping[_Key, Mapping[str, Ran]]:
    """The records of one release that count, by cell and by the other project's exact release."""
    ran = {_release(asked.project, told) for told in chosen}
    wanted = {each for each in ran if same_release(each, release)}
    groups: dict[tuple[str, str], list[tuple[Path, Record]]] = {}
    for told in chosen:
        path, record, torch, vllm = told
        if _release(asked.project, told) in wanted:
            groups.setdefault((torch, vllm), []).append((path, record))
    found: dict[_Key, dict[str, Ran]] = {}
    for (torch, vllm), of in groups.items():
        for entry in tabulate(_contenders(of), expectations, releases=releases).entries:
            paths = sorted(path for path, record in of if record is entry.record)
            side = Ran(entry, paths[0], torch, vllm, _runs(entry.record, of))
            other = vllm if asked.project == "torch" else torch
            # A cell's name means a minor release of vLLM; torch must be the very same.
            under = minor_of(other) if asked.other == "vllm" else other
            found.setdefault((entry.record.platform, under, side.python), {})[other] = side
    return found


def _contenders(of: Iterable[tuple[Path, Record]]) -> list[tuple[Path, Record]]:
    """Without those that the newest whole record of their cell replaces anyway, unjudged."""
    told = list(of)
    newest: dict[tuple[str, str], str] = {}
    for _, record in told:
        key = record.cell, record.platform
        if record.finished and not record.error and record.cases and not record.deselected:
            newest[key] = max(record.started, newest.get(key, ""))
    return [
        (path, record)
        for path, record in told
        if record.started >= newest.get((record.cell, record.platform), "")
    ]


def _runs(record: Record, records: Iterable[tuple[Path, Record]]) -> tuple[Record, ...]:
    """Of the newest runs of the cell, one case at a time, those on such a machine."""
    found = {
        each.started: each
        for _, each in records
        if (each.cell, each.platform, each.jobs) == (record.cell, record.platform, 1)
    }
    newest = (found[started] for started in sorted(found)[-MOST_RUNS:])
    return tuple(each for each in newest if _hardware(each) == _hardware(record))


def _order(key: _Key) -> tuple[int, Version, Version]:
    platform, under, python = key
    return PLATFORMS.index(platform), Version(under), Version(python)


def _patch(asked: Asked, ran: Ran) -> Version:
    return Version(ran.vllm if asked.other == "vllm" else ran.torch)


def _pair(
    asked: Asked, baseline: Mapping[str, Ran], candidate: Mapping[str, Ran]
) -> tuple[Ran, Ran]:
    """The newest patch that both ran, else the newest of each."""
    both = sorted(baseline.keys() & candidate.keys(), key=Version)
    if both:
        return baseline[both[-1]], candidate[both[-1]]
    first, second = (
        max(of.values(), key=lambda each: _patch(asked, each)) for of in (baseline, candidate)
    )
    return first, second


def _notes(
    asked: Asked,
    every: Sequence[_Told],
    sides: Mapping[str, Mapping[_Key, Mapping[str, Ran]]],
    today: date,
    held: Iterable[tuple[str, str, str]],
    aside: Mapping[tuple[str, str, str, str], int],
) -> Iterator[str]:
    name = PROJECTS[asked.project]
    for platform in asked.platforms:
        lacking = [
            release
            for release in (asked.baseline, asked.candidate)
            if platform not in {on for on, _, _ in sides[release]}
        ]
        at = 1 if asked.project == "torch" else 2
        those = {each[at] for each in held if each[0] == platform}
        narrowed = " that was asked for" if any(_same(each, those) for each in lacking) else ""
        some = ", ".join(sorted(those, key=Version)) or "no release"
        if lacking:
            yield (
                f"no record of {name} {' or '.join(lacking)} on {platform}{narrowed}; it has"
                f" records of {some}"
            )
    cells: dict[tuple[str, str, str, str], list[tuple[Path, Record]]] = {}
    for path, record, torch, vllm in every:
        cells.setdefault((record.cell, record.platform, torch, vllm), []).append((path, record))
    for release in (asked.baseline, asked.candidate):
        for of in sides[release].values():
            for ran in of.values():
                key = ran.record.cell, ran.record.platform, ran.torch, ran.vllm
                yield from _oddities(ran, cells[key], aside.get(key, 0), today)


def _other_names(asked: Asked, cells: Iterable[str], releases: Releases) -> Iterator[str]:
    """The environments that run another patch than the candidate, for a name is of a minor."""
    for cell in cells:
        try:
            named = releases.resolve(cell)
        except CellError:
            continue
        means = named.torch if asked.project == "torch" else named.vllm
        if Version(means) != Version(asked.candidate):
            yield (
                f"tox -e {cell} installs {PROJECTS[asked.project]} {means}, which is not the"
                f" candidate {asked.candidate}"
            )


def _oddities(
    ran: Ran, of: Sequence[tuple[Path, Record]], aside: int, today: date
) -> Iterator[str]:
    """What is odd about a record, or about the others of its cell."""
    if ran.record.started[:10] > today.isoformat():
        yield f"{ran.path} says that it started on {ran.record.started}, which is yet to come"
    text = to_json(ran.record)
    others = [(path, record) for path, record in of if path != ran.path]
    copies = [
        path
        for path, record in others
        if record.started == ran.record.started and to_json(record) == text
    ]
    older = len(others) - len(copies) + aside
    if older:
        yield (
            f"{ran.path} decides for {ran.record.cell} on {ran.record.platform}, and"
            f" {_plural(older, 'other record')} of it {'does' if older == 1 else 'do'} not"
        )
    if copies:
        copied = ", ".join(sorted(map(str, copies)))
        yield f"{ran.path} is there more than once ({copied}) and counts once"


@dataclass(frozen=True)
class _Answer:
    """What one side says of a case."""

    state: str
    reason: str | None = None
    rung: str | None = None
    signature: str = ""
    case: Case | None = None
    verdict: CaseVerdict | None = None
    flags: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _FirstRungs:
    """The ladder of both releases with every release of the other project."""

    asked: Asked
    grid: Grid
    baseline: str
    candidate: str

    @classmethod
    def of(
        cls,
        asked: Asked,
        sides: Mapping[str, Mapping[_Key, Mapping[str, Ran]]],
        releases: Releases,
        asks: Asks,
    ) -> _FirstRungs | None:
        """None where one of the two is no published release, of which these rungs know nothing."""
        published = [each.version for each in getattr(releases, asked.project)]
        named = [_same(each, published) for each in (asked.baseline, asked.candidate)]
        if None in named:
            return None
        baseline, candidate = (str(each) for each in named)
        seen = {
            (Cell(each.python, each.torch, each.vllm), each.record.platform): rungs_of(
                each.record, each.entry.verdict
            )
            for side in sides.values()
            for of in side.values()
            for each in of.values()
        }
        grid = grid_of(releases, asked.project, (baseline, candidate), asks, seen)
        return cls(asked, grid, baseline, candidate)

    def pair(self, other: str, python: str, platform: str) -> tuple[Climb, Climb] | None:
        """The climbs of the baseline and of the candidate with that release of the other one."""
        found = [
            self.grid.climb(self.cell(each, other, python), platform)
            for each in (self.baseline, self.candidate)
        ]
        before, after = found
        return None if before is None or after is None else (before, after)

    def cell(self, release: str, other: str, python: str) -> Cell:
        """The cell of a release of the project in question with one of the other."""
        torch, vllm = (release, other) if self.asked.project == "torch" else (other, release)
        return Cell(python, torch, vllm)

    def every(self) -> Mapping[tuple[str, str], list[tuple[str, Climb, Climb]]]:
        """What was asked for, by platform and release of the other project: on each Python.

        Of the other project those releases that a grid shows: the newest patches, and what ran.
        """
        shown = self.grid.rows if self.asked.other == "vllm" else self.grid.columns
        under = self.asked.under
        others = [
            each.version
            for each in shown
            if under is None or under.contains(each.version, prereleases=True)
        ]
        pythons = [each for each in self.grid.pythons if each in (self.asked.pythons or (each,))]
        return {
            (platform, other): [
                (python, *pair)
                for python in pythons
                if (pair := self.pair(other, python, platform)) is not None
            ]
            for platform in self.asked.platforms
            for other in others
        }


@dataclass
class _Builder:
    """Collects what each pair of cells shows."""

    asked: Asked
    waivers: Waivers
    today: date
    first: _FirstRungs | None = None
    matches: list[Match] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    times: list[Time] = field(default_factory=list)

    def done(self, notes: tuple[str, ...], unread: int) -> Qualification:
        """The qualification, with the waivers that waived nothing."""
        found: list[Failure | Drift | Unknown] = [*self.failures, *self.drifts, *self.unknown]
        used = {
            waiver.id
            for each in found
            for waiver in (each.waiver, each.expired)
            if waiver is not None
        }
        places = [match.candidate.place for match in self.matches]
        of = [each for each in self.waivers.every if any(each.speaks_of(place) for place in places)]
        return Qualification(
            asked=self.asked,
            today=self.today,
            matches=tuple(self.matches),
            failures=tuple(self.failures),
            drifts=tuple(self.drifts),
            flags=tuple(self.flags),
            unknown=tuple(self.unknown),
            times=tuple(self.times),
            idle=tuple(each for each in of if each.id not in used),
            elsewhere=len(self.waivers.every) - len(of),
            notes=notes,
            unread=unread,
            rungs=() if self.first is None else rungs(self.first.every()),
        )

    def missing(self, baseline: Ran) -> None:
        """A cell of the baseline that the candidate never ran."""
        releases = {"torch": baseline.torch, "vllm": baseline.vllm}
        releases[self.asked.project] = self.asked.candidate
        try:
            cell = Cell(baseline.python, releases["torch"], releases["vllm"]).name
        except CellError:
            cell = baseline.record.cell
        place = Place(cell, baseline.record.platform, **releases)
        pair = self._climbs(baseline)
        kind = None if pair is None else change(*pair)
        if pair is not None and kind == LOST:
            self._lost(place, pair[1], baseline)
            return
        why = "never ran"
        if pair is not None and kind == CANNOT_ASK:
            why = _cannot_ask(pair[1])
        elif pair is not None and pair[1].reached is not None and pair[1].fails is None:
            why = f"never ran ({pair[1].reached} is as far as is known, and no answer)"
        self._cell_unknown(place, baseline, why, pair[1] if kind == CANNOT_ASK and pair else None)

    def never_ran(self, sides: Mapping[str, Mapping[_Key, Mapping[str, Ran]]]) -> None:
        """What the candidate lost at a first rung with its own pin, where the baseline never ran.

        Off-pin nobody ever promised that, nor saw it: it is told among the rungs, and not judged.
        """
        if self.first is None:
            return
        known = {(platform, under) for side in sides.values() for platform, under, _ in side}
        for (platform, other), every in self.first.every().items():
            under = minor_of(other) if self.asked.other == "vllm" else other
            lost = [
                each for each in every if not each[2].off_pin and change(each[1], each[2]) == LOST
            ]
            if lost and (platform, under) not in known:
                climb = lost[0][2]
                cell = climb.cell
                place = Place(cell.name, platform, cell.torch, cell.vllm)
                self._lost(place, climb, None, [python for python, _, _ in lost])

    def _climbs(self, baseline: Ran, candidate: Ran | None = None) -> tuple[Climb, Climb] | None:
        """How far both sides get, by the releases of the candidate's cell where that ran."""
        if self.first is None:
            return None
        ran = candidate or baseline
        other = ran.vllm if self.asked.other == "vllm" else ran.torch
        return self.first.pair(other, ran.python, ran.record.platform)

    def _lost(
        self, place: Place, climb: Climb, baseline: Ran | None, pythons: Sequence[str] = ()
    ) -> None:
        """A regression that a first rung shows. It is one failure, whatever cases there are."""
        step = failing(climb)
        assert step is not None
        reason = step.reason or f"fails at {step.rung}"
        broken = None if baseline is None else _broken(baseline)
        kind, before = REGRESSION, None
        if broken is not None:
            kind, before = FAILS_OTHERWISE, signature(broken[1]) or broken[0]
        found = signature(step.cause or reason) or step.rung
        waiver, expired = self._waived(Finding(place, "", signature=found))
        if len(pythons) > 1:
            reason += f"; so on Python {', '.join(pythons)}"
        self.failures.append(
            Failure(kind, place, "", step.rung, found, reason, before, waiver, expired, False)
        )

    def _cell_unknown(
        self, place: Place, baseline: Ran, why: str, cannot: Climb | None = None
    ) -> None:
        """No answer of a whole cell; `cannot` is its climb where it cannot be asked."""
        names = [case.case for case in baseline.record.cases] or [""]
        states = [_answer(baseline, name).state for name in names]
        passed, failed = states.count(_PASSED), states.count(_FAILED)
        parts = [f"{passed} passed"] if passed else []
        parts += [f"{failed} failed"] if failed else []
        reason = f"{why}; of its cases {' and '.join(parts or ['none has an answer'])}"
        reason += f" at {baseline.record.cell}"
        step = None if cannot is None else failing(cannot)
        found = waiver = expired = None
        if step is not None:
            found = signature(step.cause or step.reason or step.rung) or step.rung
            waiver, expired = self._waived(Finding(place, "", signature=found))
        self.unknown.append(
            Unknown(
                place.cell,
                place.platform,
                None,
                reason,
                bool(parts),
                found,
                waiver,
                expired,
                None if step is None else step.rung,
            )
        )

    def match(self, baseline: Ran, candidate: Ran) -> None:
        """Two cells, case by case."""
        names = sorted({case.case for ran in (baseline, candidate) for case in ran.record.cases})
        no_times = _no_times(baseline, candidate)
        compared = before = 0
        pair = self._climbs(baseline, candidate)
        broke = not candidate.record.cases and _broken(candidate) is not None
        if pair is not None and broke and change(*pair) == CANNOT_ASK:
            # The run failed, as it had to: it says no more than the wheels do.
            names, before = [], 1
            self._cell_unknown(candidate.place, baseline, _cannot_ask(pair[1]), pair[1])
        for name in names or ([] if before else [""]):
            old, new = _answer(baseline, name), _answer(candidate, name)
            answered = {old.state, new.state} <= {_PASSED, _FAILED}
            compared += answered
            known = len(self.unknown)
            if not answered:
                self._unanswered(candidate, name, old, new)
            elif _FAILED in (old.state, new.state):
                self._failure(candidate, name, old, new)
            else:
                self._counters(candidate, name, old, new)
                if no_times is None:
                    self._times(baseline, candidate, name)
            before += len(self.unknown) - known
        if not before:
            self._parts(baseline, candidate)
        self.matches.append(
            Match(baseline, candidate, compared, no_times, tuple(_differs(baseline, candidate)))
        )

    def _unanswered(self, candidate: Ran, name: str, old: _Answer, new: _Answer) -> None:
        cell, platform = candidate.record.cell, candidate.record.platform
        if new.state == _FAILED:
            # Nobody can say whether it is a regression, and it must not go by unseen.
            reason = f"fails ({new.reason}), and at the baseline it {_said(old)}"
            self._add_unknown(candidate, name, reason, True, new.signature)
        elif new.state == _NOT_APPLICABLE and old.state == _PASSED:
            reason = f"passed at the baseline, and now does not apply: {new.reason}"
            self._add_unknown(candidate, name, reason, True, new.signature)
        elif new.state == _UNKNOWN and old.state in (_PASSED, _FAILED):
            reason = f"{old.state} at the baseline, and now {_said(new)}"
            self.unknown.append(Unknown(cell, platform, name, reason, True))

    def _add_unknown(
        self, candidate: Ran, case: str, reason: str, blocks: bool, failure: str
    ) -> None:
        waiver, expired = self._waived(Finding(candidate.place, case, signature=failure))
        self.unknown.append(
            Unknown(
                candidate.record.cell,
                candidate.record.platform,
                case,
                reason,
                blocks,
                failure,
                waiver,
                expired,
            )
        )

    def _parts(self, baseline: Ran, candidate: Ran) -> None:
        """A record that is not whole, where no case has told of it yet."""
        for side, ran in (("baseline", baseline), ("candidate", candidate)):
            record = ran.record
            if _broken(ran) is not None:
                continue
            why = f"holds {ran.entry.part}" if ran.entry.part else _cut_short(record)
            if why:
                reason = f"the record of the {side} {why}"
                self.unknown.append(Unknown(record.cell, record.platform, None, reason, True))

    def _failure(self, candidate: Ran, name: str, old: _Answer, new: _Answer) -> None:
        if new.state == _PASSED:
            self.failures.append(
                Failure(REPAIR, candidate.place, name, old.rung, old.signature, old.reason)
            )
            return
        kind, before = REGRESSION, None
        if old.state == _FAILED:
            same = (old.rung, old.signature) == (new.rung, new.signature)
            kind, before = FAILS_AS_BEFORE if same else FAILS_OTHERWISE, old.signature
        waiver, expired = self._waived(Finding(candidate.place, name, signature=new.signature))
        self.failures.append(
            Failure(
                kind,
                candidate.place,
                name,
                new.rung,
                new.signature,
                new.reason,
                before,
                waiver,
                expired,
            )
        )

    def _counters(self, candidate: Ran, name: str, old: _Answer, new: _Answer) -> None:
        assert old.case and new.case and old.verdict and new.verdict
        self.flags += [
            Flag(candidate.place, name, flag, old.flags.get(flag), new.flags.get(flag))
            for flag in sorted(old.flags.keys() | new.flags.keys())
            if old.flags.get(flag) != new.flags.get(flag)
        ]
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
                kind = _kind(
                    before, after, [counter in of for of in rules], [counter in of for of in off]
                )
                if kind == NO_RULE and counter not in COUNTERS:
                    kind = NOT_JUDGED
                if kind is None:
                    continue
                waiver = expired = None
                if kind in _FAILING or kind == AS_BEFORE:
                    waiver, expired = self._waived(
                        Finding(candidate.place, name, None, start, counter, after)
                    )
                self.drifts.append(
                    Drift(
                        kind,
                        candidate.place,
                        name,
                        start,
                        counter,
                        before,
                        after,
                        rules[1][counter].value if counter in rules[1] else None,
                        any(counter in of for of in rules),
                        waiver,
                        expired,
                    )
                )

    def _times(self, baseline: Ran, candidate: Ran, name: str) -> None:
        for start in STARTS:
            before, after = (_seconds(ran.runs, name, start) for ran in (baseline, candidate))
            if shifted(before, after):
                self.times.append(Time(candidate.place, name, start, before, after))

    def _waived(self, finding: Finding) -> tuple[Waiver | None, Waiver | None]:
        """The waiver that holds for it, or else the one that has expired."""
        waiver = self.waivers.waiving(finding, self.today)
        if waiver is not None and waiver.expired(self.today):
            return None, waiver
        return waiver, None


def _cannot_ask(candidate: Climb) -> str:
    """Why the question cannot be asked of a cell, in words that blame nobody."""
    step, cell = failing(candidate), candidate.cell
    assert step is not None
    why = step.cause or step.reason or "no reason given"
    if step.rung != "links":
        return f"cannot be asked: {why}"
    pins = candidate.steps[0].reason or f"vLLM {cell.vllm} pins another torch"
    return (
        f"cannot be asked with these wheels: {pins}, was built for that, and does not link with"
        f" {cell.torch} ({why})"
    )


def _kind(
    before: int | None, after: int | None, ruled: Sequence[bool], off: Sequence[bool]
) -> str | None:
    """What a counter's two counts are, or None where nothing is to be told.

    `ruled` and `off`, of the baseline and the candidate: an expectation speaks of it, and it is not
    as that says.
    """
    if off[1]:
        return AS_BEFORE if before == after and off[0] else UNEXPECTED
    if before == after:
        return None
    if ruled[1]:
        return EXPECTED_AGAIN if off[0] else EXPECTED
    if before is None:
        return NEW
    return NO_RULE


def _count(counters: Mapping[str, int], counter: str) -> int | None:
    """A count; torch, whose counters have a group before a dot, keeps none until it is raised."""
    return counters.get(counter, 0 if "." in counter else None)


def _answer(ran: Ran, name: str) -> _Answer:
    """What the record says of a case."""
    record = ran.record
    for case, verdict in zip(record.cases, ran.entry.verdict.cases, strict=True):
        if case.case == name:
            return replace(_answered(case, verdict), flags={**record.flags, **case.flags})
    broken = _broken(ran)
    if broken is not None:
        rung, why = broken
        return _Answer(_FAILED, why, rung, signature(why) or rung)
    if record.deselected:
        return _Answer(_UNKNOWN, f"was not asked for: the record holds {ran.entry.part}")
    return _Answer(_UNKNOWN, _cut_short(record) or "is no case of the record")


def _answered(case: Case, verdict: CaseVerdict) -> _Answer:
    why = verdict.reason or case.outcome.replace("_", " ")
    if case.outcome == "not_applicable":
        return _Answer(_NOT_APPLICABLE, why, None, signature(why), case, verdict)
    if verdict.verdict == INCOMPATIBLE:
        found = signature_of(case) or signature(why)
        return _Answer(_FAILED, why, verdict.rung, found, case, verdict)
    started = all(case.started(start) for start in STARTS)
    if (
        case.outcome != "passed"
        or not started
        or (verdict.verdict == UNTESTED and not verdict.rung)
    ):
        return _Answer(_UNKNOWN, why, None, "", case, verdict)
    return _Answer(_PASSED, None, None, "", case, verdict)


def _broken(ran: Ran) -> tuple[str, str] | None:
    """The rung and the reason for which the whole run failed, by the pair's own fault."""
    error = ran.record.error
    if error is not None:
        return (error.kind, error.reason or error.kind) if error.kind in BROKEN_PAIR else None
    for rung in ran.record.rungs:
        if not rung.ok:
            return rung.rung, rung.reason or f"failed at {rung.rung}"
    return None


def _cut_short(record: Record) -> str | None:
    """How the run ended before its time, or None."""
    if record.error is not None:
        return f"ended early: {record.error.reason or record.error.kind.replace('_', ' ')}"
    if not record.finished:
        return "did not finish"
    return None if record.cases else "holds no case"


def _said(answer: _Answer) -> str:
    if answer.state == _NOT_APPLICABLE:
        return f"does not apply: {answer.reason}"
    if answer.case is not None:
        return f"has no answer: {answer.reason}"
    return str(answer.reason)


def _no_times(baseline: Ran, candidate: Ran) -> str | None:
    """Why the seconds of two cells cannot be compared, or None."""
    most = max(baseline.record.jobs, candidate.record.jobs)
    if most > 1:
        return f"not comparable: up to {most} cases ran side by side"
    if _hardware(baseline.record) != _hardware(candidate.record):
        return "not comparable: other machine"
    before, after = len(baseline.runs), len(candidate.runs)
    if not enough([0.0] * before, [0.0] * after):
        return (
            f"not comparable: {_plural(before, 'run')} of the baseline and {after} of the candidate"
            " tell no noise; three of each do"
        )
    return None


def _seconds(runs: Iterable[Record], name: str, start: str) -> tuple[float, ...]:
    """The total seconds of a start of a case in those of the runs in which it passed."""
    return tuple(
        seen.seconds["total"]
        for record in runs
        for case in record.cases
        if case.case == name and case.outcome == "passed"
        for seen in [case.started(start)]
        if seen is not None and "total" in seen.seconds
    )


def _hardware(record: Record) -> tuple[object, ...]:
    """The machine as far as a record knows it; a driver is no hardware."""
    gpu = record.provenance.get("gpu")
    name = gpu.get("name") if isinstance(gpu, dict) else None
    return record.provenance.get("machine"), record.provenance.get("cpu"), name


def _differs(baseline: Ran, candidate: Ran) -> Iterator[str]:
    """What a reader must know of two records that should differ by one release alone."""
    if baseline.vllm != candidate.vllm and baseline.torch != candidate.torch:
        yield (
            f"no patch of vLLM {minor_of(baseline.vllm)} ran on both sides: vLLM {candidate.vllm}"
            f" is held against {baseline.vllm}"
        )
    for key, what in (("tests", "the startup tests"), ("model_source", "the models' source")):
        first, second = (ran.record.provenance.get(key) for ran in (baseline, candidate))
        if key == "tests":
            first, second = (
                of.get("fingerprint") if isinstance(of, dict) else None for of in (first, second)
            )
        if first != second:
            yield f"{what} changed between the two records"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
