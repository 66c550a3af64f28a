"""The cells that would run, and why, by releases and existing records.

Pure. The cheap rungs prune what cannot work, and the key of a cell (`matrix.verdict.run_key`) shows
which records hold for what would run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.nearest import suggested
from matrix._util.versions import distance, minor_of, neighbours, parse_version
from matrix.catalog.cells import Cell, is_meant
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.record.model import PLATFORMS, Platform, Record
from matrix.record.startup_tests import StartupTests
from matrix.verdict import plan_reasons as reasons
from matrix.verdict.grid import Grid, environments, ran_cell
from matrix.verdict.ladder import Progress
from matrix.verdict.run_key import Here, RunKey
from matrix.verdict.stale import MaxAge, Staleness, staleness, standing_record


class PlanError(MatrixError):
    """A filter or a release that cannot be used: says which option, and what to write."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The request of a plan. `stale` leaves out cells whose record holds.

    `new` and `neighbours` are releases (`("torch", "2.15.0")`): the cells of the one, and the cells
    next to those of the other; both bring off-pin pairs with them. A record that is older than
    `max_age` is stale; with `force` each is.
    """

    torch: SpecifierSet | None = None
    vllm: SpecifierSet | None = None
    python: SpecifierSet | None = None
    platforms: tuple[Platform, ...] = PLATFORMS
    stale: bool = False
    off_pin: bool = False
    new: tuple[tuple[Project, str], ...] = ()
    neighbours: tuple[tuple[Project, str], ...] = ()
    max_age: MaxAge | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One cell on one platform: why it would run, or why it cannot work (`runs` is false).

    `brought` is what brought its pair into the plan, where the plan is of certain pairs.
    `stale` is false if its record stands for what would run (`matrix.verdict.stale`); where a
    part of the key differs, `also` are the other parts that do. `not_compared` are those that
    nobody knows. `tests_changed` are the versions of the startup tests that can affect the record.
    `seconds` is how long its last run took, or that of its pair on another Python (`seconds_of`);
    None without one.
    """

    cell: Cell
    platform: Platform
    runs: bool
    stale: bool
    why: reasons.PlanReason
    progress: Progress
    brought: reasons.Brought | None = None
    seconds: float | None = None
    seconds_of: str | None = None
    tests_changed: tuple[int, ...] = ()
    also: tuple[reasons.KeyDifference, ...] = ()
    not_compared: tuple[reasons.KeyPart, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether a record holds for the cell, so that it need not run."""
        return not self.stale and not isinstance(self.why, reasons.Running)


def plan(
    grid: Grid,
    releases: Releases,
    records: Iterable[Record],
    tests: StartupTests,
    wanted: Wanted,
    *,
    running: Mapping[tuple[str, str], Record] | None = None,
    here: Here | None = None,
) -> tuple[Planned, ...]:
    """Every cell that is asked for, by platform, vLLM, torch and Python.

    `records` has the newest of each cell on each platform, in any order; `tests` are the
    versions of the startup tests; `running` has the records of runs that continue, by cell and
    platform. `here` knows the environments and the machine that would run; without it they are not
    compared. A cell that the cheap rungs exclude is in it with `runs` false.
    Raises PlanError if `new` or `neighbours` names what no environment runs.
    """
    names = {cell: name for name, cell in environments(releases).items()}
    pairs: dict[tuple[str, str], list[str]] = {}
    for cell, name in names.items():
        pairs.setdefault((cell.torch, cell.vllm), []).append(name)
    runs = _Runs(
        names=names,
        pairs=pairs,
        newest={(record.cell, record.platform): record for record in records},
        running=running or {},
        tests=tests,
        wanted=wanted,
        here=here,
    )
    chosen = _chosen(names, releases, wanted)
    return tuple(
        planned
        for platform in PLATFORMS
        if platform in wanted.platforms
        for cell, brought in chosen.items()
        if (progress := grid.progress(cell, platform)) is not None
        and (wanted.off_pin or brought is not None or _is_meant(progress, wanted))
        and ((planned := _planned(progress, brought, runs)).stale or not wanted.stale)
    )


def _is_meant(progress: Progress, wanted: Wanted) -> bool:
    """Tell whether a cell is planned without --off-pin: on-pin, or of a torch candidate by name."""
    named = wanted.torch is not None and progress.cell.torch_build is not None
    return named or not progress.off_pin


def _planned(progress: Progress, brought: reasons.Brought | None, runs: _Runs) -> Planned:
    """Return the plan of one cell on a platform."""
    cell, platform = progress.cell, progress.platform
    found = runs.staleness(cell, platform, off_pin=progress.off_pin)
    seconds, seconds_of = runs.seconds(cell, platform)
    return Planned(
        cell=cell,
        platform=platform,
        runs=not progress.ruled_out,
        stale=found.stale,
        why=reasons.CannotWork(reason=progress.reason) if progress.ruled_out else found.why,
        progress=progress,
        brought=brought,
        seconds=seconds,
        seconds_of=seconds_of,
        tests_changed=found.tests_changed,
        also=found.also,
        not_compared=found.not_compared,
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Whether the record does not hold for a cell, and why."""

    stale: bool
    why: reasons.PlanReason
    tests_changed: tuple[int, ...] = ()
    also: tuple[reasons.KeyDifference, ...] = ()
    not_compared: tuple[reasons.KeyPart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """The runs: the newest record of each environment on each platform, and unfinished runs.

    `names` has the environments by cell, `pairs` those of a torch and a vLLM, oldest Python first.
    """

    names: Mapping[Cell, str]
    pairs: Mapping[tuple[str, str], Sequence[str]]
    newest: Mapping[tuple[str, str], Record]
    running: Mapping[tuple[str, str], Record]
    tests: StartupTests
    wanted: Wanted
    here: Here | None

    def staleness(self, cell: Cell, platform: Platform, *, off_pin: bool) -> _Found:
        """Return whether the cell would run as it did, and measure the same."""
        name = self.names[cell]
        record, running = self.newest.get((name, platform)), self.running.get((name, platform))
        if running is not None:
            why = _running(cell, running)
            if why.stands:
                return _Found(stale=False, why=why)
            if record in (None, running):
                return _Found(stale=True, why=why)
        if record is None:
            return _Found(stale=True, why=reasons.NeverRan())
        now = self._key(cell, platform, off_pin=off_pin)
        found = staleness(record, now, self.tests)
        if found.reason is not None and self.here is not None:
            others = self.here.others(name, platform)
            other = standing_record(record, found, now, self.tests, others)
            if other is not None:
                record, found = other, staleness(other, now, self.tests)
        return self._by_age(record, found)

    def _key(self, cell: Cell, platform: Platform, *, off_pin: bool) -> RunKey:
        if self.here is None:
            return RunKey(cell=cell)
        return self.here.key(cell, platform, off_pin=off_pin)

    def _by_age(self, record: Record, found: Staleness) -> _Found:
        """Return what was found of a record; one that stands can be too old, or not wanted."""
        why: reasons.StaleReason | None = found.reason
        if why is None and self.wanted.max_age is not None:
            why = self.wanted.max_age.exceeded(record)
        if why is None and self.wanted.force:
            why = reasons.Forced(day=record.started[:10])
        return _Found(
            stale=why is not None,
            why=reasons.NotStale(day=record.started[:10]) if why is None else why,
            tests_changed=found.tests_changed,
            also=found.also,
            not_compared=found.not_compared,
        )

    def seconds(self, cell: Cell, platform: Platform) -> tuple[float | None, str | None]:
        """Return how long the last run of the cell took, and its environment.

        If it has none, those of its pair on the newest Python that has one.
        """
        of_pair = reversed(self.pairs[cell.torch, cell.vllm])
        return _seconds(self.newest.get((name, platform)) for name in (self.names[cell], *of_pair))


def parse_release(text: str, option: str) -> tuple[Project, str]:
    """Return the project and the version of `torch==2.15.0`; a minor release is enough.

    Raises PlanError, which names the option.
    """
    name, equals, version = text.partition("==")
    name = name.strip().lower()
    try:
        parsed = parse_version(version)
    except InvalidVersion:
        parsed = None
    if equals and name not in tuple(Project):
        unknown = (
            f"{option} {text!r}: {name!r} is neither torch nor vllm; write it as torch==2.15.0"
        )
        raise PlanError(suggested(unknown, name, Project))
    if not equals or parsed is None:
        raise PlanError(f"{option} {text!r}: is not a release; write it as torch==2.15.0")
    return Project(name), parsed.public


def _chosen(
    named: Iterable[Cell], releases: Releases, wanted: Wanted
) -> Mapping[Cell, reasons.Brought | None]:
    """Return the cells of these releases and Pythons in order, with what brought each in."""
    cells = list(named)
    brought = _brought(cells, releases, wanted)
    asked = {
        "torch": _accepted(wanted.torch, (cell.torch for cell in cells)),
        "vllm": _accepted(wanted.vllm, (cell.vllm for cell in cells)),
        "python": _accepted(wanted.python, releases.pythons),
    }
    torch = {release.version: index for index, release in enumerate(releases.every_torch)}
    vllm = {release.version: index for index, release in enumerate(releases.every_vllm)}
    kept = [
        cell
        for cell in cells
        if cell.torch in asked["torch"]
        and cell.vllm in asked["vllm"]
        and cell.python in asked["python"]
        and (brought is None or (cell.torch, cell.vllm) in brought)
    ]
    # Within a pair they keep the order of the Pythons.
    kept.sort(key=lambda cell: (vllm[cell.vllm], torch[cell.torch]))
    return {cell: brought[cell.torch, cell.vllm] if brought else None for cell in kept}


def _accepted(wanted: SpecifierSet | None, versions: Iterable[str]) -> frozenset[str]:
    every = frozenset(versions)
    if wanted is None:
        return every
    return frozenset(version for version in every if is_meant(wanted, version))


def _brought(
    cells: Iterable[Cell], releases: Releases, wanted: Wanted
) -> dict[tuple[str, str], reasons.Brought] | None:
    """Return the pairs that `new` and `neighbours` mean, each with which; None without both."""
    if not wanted.new and not wanted.neighbours:
        return None
    table = _Pairs((cell for cell in cells if not cell.builds), releases)
    found: dict[tuple[str, str], reasons.Brought] = {}
    for name, version in wanted.neighbours:
        for pair in table.beside(name, version):
            found[pair] = reasons.Brought(
                code=reasons.BroughtCode.BESIDE, project=name, version=version
            )
    for name, version in wanted.new:
        for pair in table.of(name, version):
            found[pair] = reasons.Brought(
                code=reasons.BroughtCode.NEW, project=name, version=version
            )
    return found


class _Pairs:
    """The pairs of the environments, as a table of minor releases, with their neighbours."""

    def __init__(self, cells: Iterable[Cell], releases: Releases) -> None:
        self.at = {
            (minor_of(cell.torch), minor_of(cell.vllm)): (cell.torch, cell.vllm) for cell in cells
        }
        self.torch = sorted({torch for torch, _ in self.at}, key=Version)
        self.vllm = sorted({vllm for _, vllm in self.at}, key=Version)
        pins = {release.version: release.torch for release in releases.vllm}
        self.pinned = {minors for minors, (torch, vllm) in self.at.items() if pins[vllm] == torch}

    def of(self, name: Project, version: str) -> list[tuple[str, str]]:
        """Return the pairs of a release: a vLLM with its pin, a torch under each vLLM that pins it.

        A torch without such a vLLM is paired with the nearest vLLM on either side.
        """
        return [self.at[minors] for minors in self._minors(name, version)]

    def beside(self, name: Project, version: str) -> list[tuple[str, str]]:
        """Return the adjacent pairs: the same vLLM under the next torch, and the other way."""
        own = self._minors(name, version)
        near = [
            pair
            for torch, vllm in own
            for pair in (
                *((near_torch, vllm) for near_torch in _next(self.torch, torch)),
                *((torch, near_vllm) for near_vllm in _next(self.vllm, vllm)),
            )
        ]
        return [self.at[pair] for pair in near if pair in self.at and pair not in own]

    def _minors(self, name: Project, version: str) -> list[tuple[str, str]]:
        known, place = (self.torch, 0) if name is Project.TORCH else (self.vllm, 1)
        minor = minor_of(version)
        runs = {pair[place] for minors, pair in self.at.items() if minors[place] == minor}
        if minor not in known or (version not in runs and version != minor):
            instead = f"of {minor} it is {' and '.join(sorted(runs, key=Version))}"
            near = min(known, key=lambda release: distance(release, minor), default="none")
            raise PlanError(
                f"{name}=={version}: no environment runs it; "
                f"{instead if runs else f'the nearest is {near}'}"
            )
        own = [
            minors
            for minors, pair in self.at.items()
            if minors in self.pinned and version in (minors[place], pair[place])
        ]
        if own or name == "vllm":
            return own
        pinned = sorted(self.pinned, key=lambda minors: Version(minors[1]))
        older = [vllm for torch, vllm in pinned if Version(torch) < Version(minor)]
        newer = [vllm for torch, vllm in pinned if Version(torch) > Version(minor)]
        return [(minor, vllm) for vllm in dict.fromkeys((*older[-1:], *newer[:1]))]


def _next(every: Sequence[str], one: str) -> list[str]:
    """Return the versions just below and just above one, which need not be among them."""
    return neighbours(one, [version for version in every if version != one])


def _running(cell: Cell, running: Record) -> reasons.Running:
    """Return since when a run continues, and why its end will not stand for the cell."""
    ran = ran_cell(running)
    if ran is not None and ran != cell:
        other = reasons.RanOtherReleases(torch=ran.torch, vllm=ran.vllm)
        return reasons.Running(since=running.started, other=other)
    return reasons.Running(since=running.started, partial=bool(running.deselected))


def _seconds(records: Iterable[Record | None]) -> tuple[float | None, str | None]:
    """How long the first whole run of these took, and its cell."""
    for record in records:
        if record is None or not record.finished or record.error or record.deselected:
            continue
        took = record.provenance.get("seconds")
        if isinstance(took, (int, float)) and took > 0:
            return float(took), record.cell
    return None, None
