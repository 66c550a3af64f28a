"""The whole grid: every torch with every vLLM, on every Python and platform, and how far each gets.

Pure: it puts the ladder of each cell together from what was asked before. Nothing is run here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from packaging.specifiers import SpecifierSet

from matrix._util.versions import minor_of
from matrix.catalog.cells import (
    Cell,
    CellError,
    axis_of,
    build_of,
    cell_of,
    factor_of,
    factors,
    is_meant,
)
from matrix.catalog.projects import Project
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases, newest
from matrix.checks.declared import Declarations
from matrix.checks.lookup import Answer, Answers
from matrix.record.model import PLATFORMS, Platform, Record, Rung
from matrix.verdict.judge import CellVerdict
from matrix.verdict.ladder import Progress, RunEvidence, assess, badness, evidence_of, level

Resolves = Callable[[Cell, Platform], Answer | None]
Links = Callable[[Cell], Answer | None]
RunsSeen = Mapping[tuple[Cell, str], RunEvidence]


@dataclass(frozen=True, kw_only=True)
class Square:
    """One pair of releases on a platform, with the progress of its cell on each Python."""

    torch: str
    vllm: str
    platform: Platform
    cells: tuple[Progress, ...]

    @property
    def shown(self) -> Progress:
        """The progress that stands for the pair.

        Of the Pythons that the pair ran on, the worst. Without a run, of those that both releases
        support, the one with the most answers, and of these the one that gets highest: a Python
        that fails alone says more about the Python than about the pair.
        """
        ran_on = [
            (badness(progress.verdict, progress.reached, progress.ran), place)
            for place, progress in enumerate(self.cells)
            if progress.ran is not None and progress.ran.is_informative
        ]
        if ran_on:
            return self.cells[min(ran_on)[1]]
        fit = [progress for progress in self.cells if progress.fails != Rung.DECLARED]
        # Cells with the very same steps get equally far: the first stands for them.
        distinct: dict[int, Progress] = {}
        for progress in fit or self.cells:
            distinct.setdefault(id(progress.steps), progress)
        return max(
            distinct.values(),
            key=lambda progress: (
                progress.answered,
                progress.fails is None,
                level(progress.reached),
            ),
        )

    @property
    def off_pin(self) -> bool:
        """Whether this vLLM pins another torch."""
        return self.cells[0].off_pin

    def on_python(self, python: str) -> Progress | None:
        """Return the progress of the cell on this Python; None without that cell."""
        return next((progress for progress in self.cells if progress.cell.python == python), None)

    @property
    def groups(self) -> tuple[tuple[Progress, ...], ...]:
        """The Pythons that get equally far for the same reason, together."""
        found: dict[object, list[Progress]] = {}
        for progress in self.cells:
            key = (
                progress.verdict,
                progress.reached,
                progress.fails,
                progress.reason,
                progress.without,
                progress.unknown,
                progress.not_stock,
                () if progress.ran is None else progress.ran.again,
                None if progress.provisional is None else progress.provisional.comparison,
            )
            found.setdefault((key, progress.contradictions), []).append(progress)
        return tuple(tuple(group) for group in found.values())


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The squares of all releases, and which of them a person wants to see.

    `squares` by platform, torch and vLLM, in that order.
    """

    torch: tuple[Torch, ...]
    vllm: tuple[Vllm, ...]
    pythons: tuple[str, ...]
    squares: Mapping[tuple[Platform, str, str], Square]

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of the squares, `cuda` first."""
        return tuple(dict.fromkeys(platform for platform, _, _ in self.squares))

    @cached_property
    def rows(self) -> tuple[Vllm, ...]:
        """The vLLM releases to show: the newest patch of each minor, and of each torch it pins.

        Older ones are there where they ran.
        """
        shown = shown_vllm(self.vllm) | self._ran("vllm")
        return tuple(release for release in self.vllm if release.version in shown)

    @cached_property
    def columns(self) -> tuple[Torch, ...]:
        """The torch releases to show: the newest patch of each minor, what is pinned, what ran."""
        shown = shown_torch(self.torch) | self._ran("torch")
        shown |= {release.torch for release in self.rows}
        return tuple(release for release in self.torch if release.version in shown)

    def counts(self, platform: Platform) -> Counter[tuple[str, str | None]]:
        """Return how many pairs `reached` a rung or none, or `fails` at one."""
        return Counter(standing(square.shown) for square in self._of(platform))

    def cell_counts(self, platform: Platform) -> Counter[tuple[str, str | None]]:
        """Return how many cells, each pair on each Python, `reached` a rung or none, or `fails`."""
        return Counter(
            standing(progress) for square in self._of(platform) for progress in square.cells
        )

    def only(self, torch: SpecifierSet | None, vllm: SpecifierSet | None) -> Grid:
        """Return the grid that shows these releases only; None means all of them."""
        return replace(
            self,
            torch=tuple(release for release in self.torch if _accepts(torch, release.version)),
            vllm=tuple(release for release in self.vllm if _accepts(vllm, release.version)),
        )

    def within(self, platforms: Iterable[Platform]) -> Grid:
        """Return the grid without the squares of other platforms and of releases not shown.

        Its counts are of these squares alone.
        """
        kept = set(platforms)
        torch = {release.version for release in self.torch}
        vllm = {release.version for release in self.vllm}
        squares = {
            place: square
            for place, square in self.squares.items()
            if place[0] in kept and place[1] in torch and place[2] in vllm
        }
        return replace(self, squares=squares)

    def progress(self, cell: Cell, platform: Platform) -> Progress | None:
        """Return what is known of a cell, or None if the grid does not have it."""
        square = self.squares.get((platform, cell.torch, cell.vllm))
        return None if square is None else square.on_python(cell.python)

    def ruled_out(self, cells: Mapping[str, Cell], platform: Platform) -> set[str]:
        """Return which of these cells a check rules out, by their names here."""
        known = {name: self.progress(cell, platform) for name, cell in cells.items()}
        return {name for name, found in known.items() if found is not None and found.ruled_out}

    def _of(self, platform: Platform) -> Iterable[Square]:
        return (square for place, square in self.squares.items() if place[0] == platform)

    def _ran(self, what: str) -> set[str]:
        cells = (progress for square in self.squares.values() for progress in square.cells)
        return {getattr(progress.cell, what) for progress in cells if progress.ran is not None}


def shown_vllm(releases: Iterable[Vllm]) -> set[str]:
    """Return the newest patch of each minor release, and of each torch that it pins."""
    return _newest((release, (axis_of(release.version), release.torch)) for release in releases)


def shown_torch(releases: Iterable[Torch]) -> set[str]:
    """Return the newest patch of each minor release."""
    return _newest((release, axis_of(release.version)) for release in releases)


def _newest(releases: Iterable[tuple[Torch | Vllm, object]]) -> set[str]:
    """Return the last release of each key, one that was not yanked if there is one."""
    newest: dict[object, Torch | Vllm] = {}
    for release, key in releases:
        if key not in newest or release.yanked is None or newest[key].yanked is not None:
            newest[key] = release
    return {release.version for release in newest.values()}


def standing(progress: Progress) -> tuple[str, str | None]:
    """Return where a cell stands: it `fails` at a rung, or `reached` one, or none.

    A cell that fails has reached what lies below, and counts once.
    """
    if progress.fails is not None:
        return "fails", progress.fails
    return "reached", progress.reached


def survey(
    releases: Releases,
    *,
    resolves: Resolves = lambda _cell, _platform: None,
    links: Links = lambda _cell: None,
    seen: RunsSeen | None = None,
) -> Grid:
    """Return the grid of all these releases by `resolves`, `links` and the records (`seen`).

    `resolves` and `links` are called for a cell only if both releases support its Python.
    """
    declarations, seen = Declarations(releases), seen or {}
    places = [(torch, vllm) for torch in releases.every_torch for vllm in releases.every_vllm]
    squares: dict[tuple[Platform, str, str], Square] = {}
    for torch, vllm in places:
        found: dict[Platform, list[Progress]] = {platform: [] for platform in PLATFORMS}
        # The Pythons of a pair mostly get the same answers.
        known: dict[object, dict[object, Progress]] = {}
        for python in releases.pythons:
            cell = Cell(python, torch.version, vllm.version)
            declared = declarations.of(cell)
            linked = links(cell) if declared.fits else None
            alike = known.setdefault((declared, linked), {})
            for platform in PLATFORMS:
                resolved = resolves(cell, platform) if declared.fits else None
                ran = seen.get((cell, platform))
                same = platform, resolved
                if ran is None and same in alike:
                    found[platform].append(alike[same].of(cell))
                    continue
                progress = assess(
                    cell, platform, declared, resolves=resolved, links=linked, ran=ran
                )
                found[platform].append(progress)
                if ran is None:
                    alike[same] = progress
        for platform, cells in found.items():
            squares[platform, torch.version, vllm.version] = Square(
                torch=torch.version, vllm=vllm.version, platform=platform, cells=tuple(cells)
            )
    return Grid(
        torch=releases.every_torch,
        vllm=releases.every_vllm,
        pythons=releases.pythons,
        squares={
            (platform, torch.version, vllm.version): squares[platform, torch.version, vllm.version]
            for platform in PLATFORMS
            for torch, vllm in places
            if releases.pythons
        },
    )


def grid_of(
    judged: Iterable[tuple[Record, CellVerdict]], releases: Releases, answers: Answers
) -> Grid:
    """Return the grid of all these releases by the static answers and these records."""
    seen = runs(judged, releases)
    return survey(releases, resolves=answers.resolves, links=answers.links, seen=seen)


def environments(releases: Releases) -> Mapping[str, Cell]:
    """Return every environment by its full name, with its cell, in the order of the cells.

    It is the cell of `Releases.resolve`, whether the Python fits or not: the newest patch of vLLM
    that pins a torch of that minor, with this pin, else the newest patch of each.
    """
    torch = {minor_of(release.version): release.version for release in newest(releases.torch)}
    vllm = {minor_of(release.version): release.version for release in newest(releases.vllm)}
    pairs = {(t, v): (torch[t], vllm[v]) for t in torch for v in vllm}
    pairs |= {
        minors: (release.torch, release.version) for minors, release in releases.pinning.items()
    }
    pairs |= _pairs_of_candidates(releases, torch, vllm)
    cells = (Cell(python, *pair) for python in releases.pythons for pair in pairs.values())
    return {cell.name: cell for cell in cells}


def _pairs_of_candidates(
    releases: Releases, torch: Mapping[str, str], vllm: Mapping[str, str]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the pairs that candidates make, with the newest patches and with each other."""
    candidates = releases.candidates
    own = {candidate.name: candidate.key for candidate in candidates.of(Project.TORCH)}
    every = {**vllm, **{candidate.name: candidate.key for candidate in candidates.of(Project.VLLM)}}
    found = {(t, v): (own[t], every[v]) for t in own for v in every}
    for candidate in candidates.of(Project.VLLM):
        pin = candidate.pins["torch"]
        pins = {minor_of(pin): pin} if pin in {row.version for row in releases.torch} else {}
        found |= {
            (t, candidate.name): (version, candidate.key)
            for t, version in {**torch, **pins}.items()
        }
    return found


def runs(
    judged: Iterable[tuple[Record, CellVerdict]], releases: Releases
) -> Mapping[tuple[Cell, str], RunEvidence]:
    """Return what the newest records show, by the cell that ran: the versions, not its name."""
    cell_of_record = cell_finder(releases)
    found: dict[tuple[Cell, str], RunEvidence] = {}
    for record, verdict in judged:
        cell = cell_of_record(record)
        if cell is not None:
            found[cell, record.platform] = evidence_of(record, verdict)
    return found


def cell_finder(releases: Releases) -> Callable[[Record], Cell | None]:
    """Return what finds the cell that ran: of its versions, else what its name stands for now."""
    names: dict[str, Cell] = {}

    def found(record: Record) -> Cell | None:
        cell = ran_cell(record)
        if cell is None:
            if not names:
                names.update(environments(releases))
            cell = names.get(record.cell)
        return cell

    return found


def outside(
    grid: Grid,
    judged: Iterable[tuple[Record, CellVerdict]],
    releases: Releases,
    asked: Mapping[str, SpecifierSet],
) -> tuple[Record, ...]:
    """Return the records that no square shows, since a release or Python of theirs is not known.

    `grid` is that of all these releases. `asked` are the specifiers of torch and vLLM that a person
    wants to see: a record of other releases is left out here, one that knows no release is not.
    """
    cell_of_record = cell_finder(releases)
    found = []
    for record, _ in judged:
        cell = cell_of_record(record)
        if cell is None or (
            grid.progress(cell, record.platform) is None
            and _accepts(asked.get("torch"), cell.torch)
            and _accepts(asked.get("vllm"), cell.vllm)
        ):
            found.append(record)
    return tuple(found)


def ran_cell(record: Record) -> Cell | None:
    """Return the cell of the versions that ran; None if the record does not have both."""
    torch, vllm = record.version("torch"), record.version("vllm")
    if torch is None or vllm is None:
        return None
    try:
        return cell_of(factors(record.cell).python, torch, vllm)
    except CellError:
        return None


def is_of(record: Record, cell: Cell) -> bool:
    """Return whether a record is of these releases, as far as it knows them.

    A record that knows no release is of its cell as the name stands for it now.
    """
    ran = ran_cell(record)
    if ran is not None:
        return ran == cell
    for project, own in ((Project.TORCH, cell.torch), (Project.VLLM, cell.vllm)):
        if record.build(project) != build_of(own):
            return False
        version = record.version(project)
        if version is not None and factor_of(project, version) != factor_of(project, own):
            return False
    return True


def _accepts(wanted: SpecifierSet | None, version: str) -> bool:
    return wanted is None or is_meant(wanted, version)
