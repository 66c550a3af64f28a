"""Which runs would decide an attribution, or show more: environments that have not run yet.

Pure. It names only environments that can work: without those that ran already, those that a static
check rules out and, off-pin on CUDA, those that are not known to link. Where the failing run is
stock, a run that is not stock does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrix._util.versions import distance, parse_version
from matrix.attribution import reasons
from matrix.attribution.bisect import BisectionOutcome, bisect
from matrix.attribution.extensions import Features
from matrix.attribution.model import FlagDifference, MissingRun
from matrix.attribution.neighbours import Axis, Neighbourhood, release_along
from matrix.attribution.observations import Observation
from matrix.attribution.runs_index import RunsIndex
from matrix.attribution.symptoms import State, Symptom, state_of
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, Platform
from matrix.verdict.grid import Grid

_FLAG_VALUES = {True: "1", False: "0"}
_REPEATABLE = (reasons.ConfounderKind.TESTS, reasons.ConfounderKind.MACHINE)
"""What one more run in the same environment brings up to date; packages stay as they were."""


@dataclass(frozen=True, kw_only=True)
class Planner:
    """The cells that ran, the cells that could run, and the torch that each vLLM pins.

    `environments` are the cells by name, and `along` the same along each axis of a Python.
    """

    index: RunsIndex
    grid: Grid | None
    pins: Mapping[str, str]
    environments: Mapping[str, Cell]
    along: Mapping[tuple[str, reasons.Along, str], Sequence[tuple[str, Cell]]]

    @classmethod
    def of(
        cls,
        index: RunsIndex,
        grid: Grid | None,
        releases: Releases,
        environments: Mapping[str, Cell],
    ) -> Planner:
        """Return a planner for the runs of an index."""
        along: dict[tuple[str, reasons.Along, str], list[tuple[str, Cell]]] = {}
        for name, cell in environments.items():
            along.setdefault((cell.python, reasons.Along.VLLM, cell.torch), []).append((name, cell))
            along.setdefault((cell.python, reasons.Along.TORCH, cell.vllm), []).append((name, cell))
        pins = {release.version: release.torch for release in releases.vllm}
        return cls(index=index, grid=grid, pins=pins, environments=environments, along=along)

    def can_run(self, name: str, platform: Platform) -> Cell | None:
        """Return the cell of an environment, or None if a static check rules it out.

        Off-pin, where vLLM's extensions are loaded, None also stands for an environment that is not
        known to link: most do not.
        """
        cell = self.environments.get(name)
        progress = None if cell is None or self.grid is None else self.grid.progress(cell, platform)
        if progress is None:
            return cell
        doubtful = progress.off_pin and "links" in progress.unknown
        return None if progress.ruled_out or doubtful else cell

    def _can_repeat(self, run: Observation) -> bool:
        """Return whether the environment of a run is still that of the same cell, and can run."""
        return self.can_run(run.cell.name, run.platform) == run.cell

    def repeat(self, own: Observation) -> list[MissingRun]:
        """Return one more run of the same cell, which shows whether it is flaky."""
        return [_missing(own, reasons.QuestionCode.FLAKY)] if self._can_repeat(own) else []

    def repeat_minor(self, own: Observation) -> list[MissingRun]:
        """Return the same, also where the environment now has other patches of the releases."""
        if self.can_run(own.cell.name, own.platform) is None:
            return []
        return [_missing(own, reasons.QuestionCode.FLAKY)]

    def repeat_older(
        self, own: Observation, clean: Observation, confounders: Iterable[reasons.Confounder]
    ) -> list[MissingRun]:
        """Return the older of two runs once more, where their tests or machines differ too."""
        kinds = tuple(found.kind for found in confounders if found.kind in _REPEATABLE)
        older = min(own, clean, key=lambda run: run.age)
        if not kinds or not self._can_repeat(older):
            return []
        return [_missing(older, reasons.QuestionCode.CAUSE, *kinds)]

    def with_flags(
        self,
        around: Neighbourhood,
        symptom: Symptom,
        clean: Observation,
        flags: Sequence[FlagDifference],
    ) -> list[MissingRun]:
        """Return the same cell with the flags of its clean neighbour, where no run decides yet.

        Where such a run was clean with other tests, it is the cell with its own flags and these
        tests.
        """
        own = around.own
        undecided = bool(flags) and flags[0].decides is None
        switches = all(type(change.there) is bool for change in flags)
        if not undecided or not switches or not self._can_repeat(own):
            return []
        runs = around.runs_with_flags(own, clean, [change.flag for change in flags])
        if any(state_of(symptom, run) is State.CLEAN for run in runs):
            return [_missing(own, reasons.QuestionCode.FLAG_OR_TESTS)]
        given = tuple((change.flag, _FLAG_VALUES[bool(change.there)]) for change in flags)
        question = reasons.Question(code=reasons.QuestionCode.FLAG)
        return [
            MissingRun(name=own.cell.name, platform=own.platform, question=question, flags=given)
        ]

    def nearest_untried(self, own: Observation, along: reasons.Along) -> list[MissingRun]:
        """Return the run along an axis that is the likeliest to be clean.

        Along torch that is the pin; then the nearest older release, then the nearest newer one.
        """
        here = release_along(own.cell, along)

        def rank(cell: Cell) -> tuple[bool, bool, tuple[int, int, int]]:
            release = release_along(cell, along)
            off_pin = along is reasons.Along.VLLM or self.pins.get(cell.vllm) != cell.torch
            newer = parse_version(release) > parse_version(here)
            return off_pin, newer, distance(release, here)

        cells = sorted(self._untried(own, along), key=rank)
        return [self._cause(own, cell, own.platform, str(along)) for cell in cells[:1]]

    def stock(
        self, own: Observation, clean: Observation, differs: reasons.RunDifference | None
    ) -> list[MissingRun]:
        """Return the stock run of the one that is not stock, of a cell and a clean run."""
        run, subject = clean, str(differs)
        if not own.is_stock:
            run, subject = own, str(reasons.ConfounderKind.PACKAGES)
        elif differs is None:  # of the same cell: one more stock run tells whether it is flaky
            return self.repeat(own)
        elif differs is reasons.RunDifference.PYTHON:
            subject = own.cell.python
        if not self._can_repeat(run):
            return []
        return [self._cause(own, run.cell, run.platform, subject)]

    def _cause(self, own: Observation, cell: Cell, platform: Platform, subject: str) -> MissingRun:
        """Return the run of a cell which shows whether the subject is the cause."""
        return MissingRun(
            name=cell.name,
            platform=platform,
            question=reasons.Question(code=reasons.QuestionCode.CAUSE, subjects=(subject,)),
            stock=self.index.ran_apart(platform, own.case, cell),
        )

    def halving(self, own: Observation, axis: Axis) -> list[MissingRun]:
        """Return the run halfway between the last clean release and the first that shows it."""
        if axis.before is None:
            return []
        untried = self._untried(own, axis.along)
        cells = {release_along(cell, axis.along): cell for cell in untried}
        low, high = axis.release(axis.before), axis.release(axis.shows[0])
        inner = [
            release
            for release in cells
            if parse_version(low) < parse_version(release) < parse_version(high)
        ]
        releases = [low, *sorted(inner, key=parse_version), high]
        middle = bisect(releases, {low: BisectionOutcome.GOOD, high: BisectionOutcome.BAD}).next
        if middle is None:
            return []
        question = reasons.Question(
            code=reasons.QuestionCode.FIRST_RELEASE, subjects=(str(axis.along),)
        )
        cell = cells[middle]
        stock = self.index.ran_apart(own.platform, own.case, cell)
        return [MissingRun(name=cell.name, platform=own.platform, question=question, stock=stock)]

    def extension(
        self,
        own: Observation,
        along: reasons.Along,
        extensions: tuple[str, ...],
        features: Features,
    ) -> list[MissingRun]:
        """Return the run which shows whether extensions that do not link in the cell are the cause.

        Along the axis that is the nearest one in which they do not link either: clean, or not.
        Without one it is the nearest along the other axis in which they link.
        """
        question = reasons.Question(code=reasons.QuestionCode.EXTENSION, subjects=extensions)
        other = reasons.Along.VLLM if along is reasons.Along.TORCH else reasons.Along.TORCH
        for axis, wanted in ((along, False), (other, True)):
            here = release_along(own.cell, axis)
            alike: dict[int, list[Cell]] = {}
            for cell in self._untried(own, axis):
                links = features(cell) or {}
                count = [links.get(extension) for extension in extensions].count(wanted)
                alike.setdefault(count, []).append(cell)
            most = max(alike, default=0)
            if most:
                cell = min(alike[most], key=lambda cell: distance(release_along(cell, axis), here))
                stock = self.index.ran_apart(own.platform, own.case, cell)
                run = MissingRun(
                    name=cell.name, platform=own.platform, question=question, stock=stock
                )
                return [run]
        return []

    def one_difference(
        self, own: Observation, clean: Observation, differs: reasons.RunDifference
    ) -> list[MissingRun]:
        """Return the runs between a cell and a clean one that differs in its Python, too."""
        python = own.cell.python
        same_python = Cell(python, clean.cell.torch, clean.cell.vllm)
        other_python = Cell(clean.cell.python, own.cell.torch, own.cell.vllm)
        return [
            self._cause(own, cell, platform, subject)
            for cell, platform, subject in (
                (same_python, clean.platform, str(differs)),
                (other_python, own.platform, python),
            )
            if self.can_run(cell.name, platform) == cell
            and not self.index.ran(platform, own.case, cell, stock=own.is_stock)
        ]

    def other_platforms(self, own: Observation) -> list[MissingRun]:
        """Return the same pair on the other platform."""
        question = reasons.Question(
            code=reasons.QuestionCode.ONE_PLATFORM, subjects=(own.platform,)
        )
        name = own.cell.name
        return [
            MissingRun(
                name=name,
                platform=platform,
                question=question,
                stock=self.index.ran_apart(platform, own.case, own.cell),
            )
            for platform in PLATFORMS
            if platform != own.platform
            and not self.index.ran(platform, own.case, own.cell, stock=own.is_stock)
            and self.can_run(name, platform) is not None
        ]

    def _untried(self, own: Observation, along: reasons.Along) -> list[Cell]:
        """Return the cells along an axis, on the same Python, that can run and did not."""
        stays = own.cell.vllm if along is reasons.Along.TORCH else own.cell.torch
        here = release_along(own.cell, along)
        return [
            cell
            for name, cell in self.along.get((own.cell.python, along, stays), ())
            if release_along(cell, along) != here
            and not self.index.ran(own.platform, own.case, cell, stock=own.is_stock)
            and self.can_run(name, own.platform) is not None
        ]


def _missing(run: Observation, code: reasons.QuestionCode, *subjects: str) -> MissingRun:
    """Return one more run in the environment of this one."""
    question = reasons.Question(code=code, subjects=tuple(map(str, subjects)))
    return MissingRun(name=run.cell.name, platform=run.platform, question=question)
