"""The surroundings of an observation: axes along torch and vLLM, other Pythons, platforms.

Pure. A neighbour differs in one thing only: its torch, its vLLM, its Python or its platform.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from packaging.version import Version

from matrix._util.versions import distance, parse_version
from matrix.attribution.observations import Observation, OwnRuns, Runs, have_same_flags
from matrix.attribution.reasons import Along, RunDifference
from matrix.attribution.runs_index import Point, ReleasePair, RunsIndex
from matrix.attribution.symptoms import State, Symptom, state_of
from matrix.catalog.cells import Cell
from matrix.record.model import PLATFORMS, Platform

_DIFFERENCES = {Along.TORCH: RunDifference.TORCH, Along.VLLM: RunDifference.VLLM}


def release_along(cell: Cell, along: Along) -> str:
    """Return a cell's release of the package that changes along an axis."""
    return cell.torch if along is Along.TORCH else cell.vllm


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The neighbours of a cell along torch or vLLM, by what they say of one symptom.

    `shows` are the cell and the neighbours around it that show the symptom, with nothing clean
    between them, from old to new; `before` and `after` are the clean ones next to these.
    `intermittent` is set where a release beyond a clean one shows it again.
    """

    along: Along
    before: Observation | None
    shows: tuple[Observation, ...]
    after: Observation | None
    intermittent: bool

    @property
    def changes(self) -> bool:
        """Return whether it has a clean neighbour, and is not intermittent."""
        return bool(self.clean) and not self.intermittent

    @property
    def clean(self) -> tuple[Observation, ...]:
        """Return the one or two clean neighbours around those that show it, or none."""
        return tuple(run for run in (self.before, self.after) if run is not None)

    @property
    def nearest_clean(self) -> Observation:
        """Return the clean neighbour to compare the cell with: the older one if there is one."""
        return self.clean[0]

    def release(self, run: Observation) -> str:
        """Return a neighbour's release along this axis."""
        return release_along(run.cell, self.along)


def find_boundary(
    neighbours: Iterable[tuple[State, Observation]],
) -> tuple[list[Observation], Observation | None, bool]:
    """Return what shows the symptom up to the first clean neighbour, that one, and if more follow.

    The neighbours are those on one side of the cell, from it outwards.
    """
    shows: list[Observation] = []
    clean: Observation | None = None
    for state, run in neighbours:
        if state is State.CLEAN and clean is None:
            clean = run
        elif state is State.SHOWS and clean is not None:
            return shows, clean, True
        elif state is State.SHOWS:
            shows.append(run)
    return shows, clean, False


class _Sides(NamedTuple):
    """The own runs of the pairs along an axis on one Python, from the cell outwards."""

    older: Sequence[OwnRuns]
    newer: Sequence[OwnRuns]


def _sides(cell: Cell, along: Along, points: Sequence[Point]) -> _Sides:
    here = parse_version(release_along(cell, along))
    older: list[OwnRuns] = []
    newer: list[OwnRuns] = []
    for release, runs in points:
        own = runs.own(cell.python)
        if own and release != here:
            (older if release < here else newer).append(own)
    return _Sides(older[::-1], newer)


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """All runs of one case that bear on one observation.

    `pairs` are the runs of the case on its platform by pair, and `same` those of its own pair.
    `axes` are the pairs along torch and along vLLM, from old to new, and `sides` those of them that
    have own runs on its Python. `platforms` are the runs of its pair on the other platforms.
    """

    own: Observation
    pairs: Mapping[ReleasePair, Runs]
    same: Runs
    axes: Mapping[Along, Sequence[Point]]
    sides: Mapping[Along, _Sides]
    platforms: Mapping[Platform, Runs]

    @classmethod
    def of(cls, own: Observation, index: RunsIndex) -> Neighbourhood:
        """Return what surrounds an observation of the index."""
        cell, platform, case = own.cell, own.platform, own.case
        pairs = index.cases[platform, case]
        axes = {
            Along.TORCH: index.axes[platform, case, Along.TORCH, cell.vllm],
            Along.VLLM: index.axes[platform, case, Along.VLLM, cell.torch],
        }
        elsewhere = {
            other: index.runs(other, case, cell) for other in PLATFORMS if other != platform
        }
        return cls(
            own=own,
            pairs=pairs,
            same=pairs[cell.torch, cell.vllm],
            axes=axes,
            sides={along: _sides(cell, along, points) for along, points in axes.items()},
            platforms={name: runs for name, runs in elsewhere.items() if runs is not None},
        )

    def axis(self, symptom: Symptom, along: Along) -> Axis:
        """Return the neighbours along torch or vLLM on the same Python."""
        older, newer = (
            find_boundary(self._neighbour(symptom, own) for own in side)
            for side in self.sides[along]
        )
        near_older, before, beyond_older = older
        near_newer, after, beyond_newer = newer
        return Axis(
            along=along,
            before=before,
            shows=(*reversed(near_older), self.own, *near_newer),
            after=after,
            intermittent=beyond_older or beyond_newer,
        )

    def _state(self, symptom: Symptom, run: Observation) -> State:
        """Return what a run says of the symptom of the own one.

        It is not clean where only one of the two is stock: the packages may be the cause.
        """
        state = state_of(symptom, run)
        return State.SILENT if state is State.CLEAN and self._is_apart(run) else state

    def _is_apart(self, run: Observation) -> bool:
        """Return whether only one of a run and the own one is stock."""
        return run.is_stock != self.own.is_stock

    def _neighbour(self, symptom: Symptom, own: OwnRuns) -> tuple[State, Observation]:
        """Return what a pair on the same Python says of the symptom, and in which run.

        Where nothing shows which flags are the pair's own, it says something only if the runs with
        each of them agree.
        """
        run = own[0][0]
        state = self._state(symptom, run)
        if len(own) > 1:
            if any(self._state(symptom, group[0]) is not state for group in own):
                state = State.SILENT
            alike = (group[0] for group in own if have_same_flags(group[0].flags, self.own.flags))
            run = next(alike, run)
        return state, run

    def neighbours(self, symptom: Symptom, along: Along) -> list[tuple[State, Observation]]:
        """Return what each pair along torch or vLLM on the same Python says, from old to new."""
        older, newer = self.sides[along]
        return [self._neighbour(symptom, own) for own in (*reversed(older), *newer)]

    def clean_pythons(self, symptom: Symptom) -> tuple[Observation, ...]:
        """Return the runs of the same pair on other Pythons, if some are clean and none shows it.

        Runs with other flags do not count.
        """
        clean = []
        for python in self.same.pythons:
            run = None if python == self.own.cell.python else self.same.representative(python)
            if run is None or not have_same_flags(run.flags, self.own.flags):
                continue
            state = self._state(symptom, run)
            if state is State.SHOWS:
                return ()
            if state is State.CLEAN:
                clean.append(run)
        return tuple(clean)

    def clean_on_other_python(self, symptom: Symptom) -> Observation | None:
        """Return the nearest clean neighbour along an axis that differs in its Python, too."""
        here = self.own.cell
        candidates: list[tuple[tuple[tuple[int, ...], bool, tuple[Version, ...]], Observation]] = []
        for (torch, vllm), runs in self.pairs.items():
            if (torch == here.torch) == (vllm == here.vllm):
                continue
            steps = distance(torch, here.torch), distance(vllm, here.vllm)
            apart = tuple(map(sum, zip(*steps, strict=True)))
            for python in runs.pythons:
                run = None if python == here.python else runs.representative(python)
                if run is not None and self._state(symptom, run) is State.CLEAN:
                    order = (
                        apart,
                        vllm != here.vllm,
                        tuple(map(parse_version, (python, torch, vllm))),
                    )
                    candidates.append((order, run))
        return min(candidates, key=lambda item: item[0])[1] if candidates else None

    def clean_platform(self, symptom: Symptom) -> Observation | None:
        """Return a clean run of the same pair on another platform, on the same Python if it can."""
        for runs in self.platforms.values():
            run = runs.nearest(self.own.cell.python)
            if run is not None and self._state(symptom, run) is State.CLEAN:
                return run
        return None

    def clean_but_apart(
        self, symptom: Symptom
    ) -> tuple[tuple[RunDifference | None, Observation], ...]:
        """Return the runs that would be clean if not only one of them and the own one were stock.

        Each comes with what else it differs in: nothing, or one thing. There is one at most for
        each difference, the nearest.
        """
        here = self.own.cell
        candidates: list[tuple[RunDifference | None, Iterable[Observation | None]]] = [
            (None, (run for run in self.same if run.cell == here)),
            *(
                (_DIFFERENCES[along], (own[0][0] for own in [*sides.older, *sides.newer]))
                for along, sides in self.sides.items()
            ),
            (
                RunDifference.PYTHON,
                (
                    self.same.representative(python)
                    for python in self.same.pythons
                    if python != here.python
                ),
            ),
            (
                RunDifference.PLATFORM,
                (runs.representative(here.python) for runs in self.platforms.values()),
            ),
        ]
        found = []
        for differs, runs in candidates:
            clean = (
                run
                for run in runs
                if run is not None and self._is_apart(run) and state_of(symptom, run) is State.CLEAN
            )
            nearest = next(clean, None)
            if nearest is not None:
                found.append((differs, nearest))
        return tuple(found)

    def runs_by_state(
        self, symptom: Symptom, along: Along
    ) -> Mapping[State, Sequence[Observation]]:
        """Return all runs along an axis on the same Python, by what they say of the symptom."""
        found: dict[State, list[Observation]] = {state: [] for state in State}
        for _, runs in self.axes[along]:
            for run in runs:
                if run.cell.python == self.own.cell.python:
                    found[self._state(symptom, run)].append(run)
        return found

    def runs_with_flags(
        self, home: Observation, other: Observation, flags: Iterable[str]
    ) -> Iterator[Observation]:
        """Yield the runs of one cell with another cell's values of these flags, newest first."""
        swapped = {flag: other.flags[flag] for flag in flags}
        wanted = {**home.flags, **swapped}
        for run in self.pairs[home.cell.torch, home.cell.vllm]:
            noted = run.cell == home.cell and set(swapped) <= set(run.flags)
            if noted and not self._is_apart(run) and have_same_flags(wanted, run.flags):
                yield run
