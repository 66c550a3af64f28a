"""All observations, by platform and case, by pair, and along each axis.

Pure. It is built once from all records; what surrounds one observation is read from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

from matrix._util.versions import parse_version
from matrix.attribution.flaky import representative
from matrix.attribution.observations import Observation, ObservationEnd, Runs, observe
from matrix.attribution.reasons import Along
from matrix.catalog.cells import Cell
from matrix.record.model import WHOLE_RUN, ErrorKind, Platform, Record
from matrix.rules.expectations import Expectations
from matrix.verdict.grid import ran_cell
from matrix.verdict.judge import CellVerdict, judge


class Judged(NamedTuple):
    """A record and its verdict; it stands for `runs` equal ones (`matrix.store.fingerprint`)."""

    record: Record
    verdict: CellVerdict
    runs: int = 1


def judge_records(
    records: Iterable[tuple[Path, Record]],
    runs: Mapping[Path, int],
    known: Iterable[tuple[Record, CellVerdict]],
    expectations: Expectations,
) -> list[Judged]:
    """Return the records that count, with their verdicts.

    Those are the ones with a number of `runs` that they stand for, and the `known` ones, whose
    verdict is there already.
    """
    verdicts = {id(record): verdict for record, verdict in known}
    return [
        Judged(record, verdicts.get(id(record)) or judge(record, expectations), runs.get(path, 1))
        for path, record in records
        if path in runs or id(record) in verdicts
    ]


class Point(NamedTuple):
    """One release along an axis, and the runs of the pair there."""

    release: Version
    runs: Runs


ReleasePair = tuple[str, str]
"""A torch and a vLLM release."""

AxisKey = tuple[str, str, Along, str]
"""A platform, a case, the package that changes, and the release of the other one."""


@dataclass(frozen=True, kw_only=True)
class RunsIndex:
    """The runs of each case on each platform by pair, and along each axis, from old to new."""

    cases: Mapping[tuple[str, str], Mapping[ReleasePair, Runs]]
    axes: Mapping[AxisKey, Sequence[Point]]

    @classmethod
    def of(
        cls,
        judged: Iterable[Judged | tuple[Record, CellVerdict]],
        environments: Mapping[str, Cell],
        late: str | None = None,
    ) -> RunsIndex:
        """Index all records but those that ran another cell than they name."""
        found: dict[tuple[str, str], dict[ReleasePair, list[Observation]]] = {}
        for observation in _observations(judged, environments, late):
            cell = observation.cell
            pairs = found.setdefault((observation.platform, observation.case), {})
            pairs.setdefault((cell.torch, cell.vllm), []).append(observation)
        cases = {
            key: {pair: Runs(observations) for pair, observations in pairs.items()}
            for key, pairs in found.items()
        }
        axes: dict[AxisKey, list[Point]] = {}
        for (platform, case), pairs_of_case in cases.items():
            for (torch, vllm), runs in pairs_of_case.items():
                torch_axis = axes.setdefault((platform, case, Along.TORCH, vllm), [])
                torch_axis.append(Point(parse_version(torch), runs))
                vllm_axis = axes.setdefault((platform, case, Along.VLLM, torch), [])
                vllm_axis.append(Point(parse_version(vllm), runs))
        for points in axes.values():
            points.sort(key=_release)
        return cls(cases=cases, axes=axes)

    def runs(self, platform: Platform, case: str, cell: Cell) -> Runs | None:
        """Return the runs of a case of a cell's pair, on any Python; None if there is none."""
        return self.cases.get((platform, case), {}).get((cell.torch, cell.vllm))

    def ran(self, platform: Platform, case: str, cell: Cell, *, stock: bool) -> bool:
        """Return whether a cell ran a case, so that one more run without flags adds nothing.

        With `stock`, a run in an environment that is not stock does not count.
        """
        runs = self.runs(platform, case, cell)
        if runs is not None and any(
            run.cell == cell and (run.is_stock or not stock) for run in runs
        ):
            # Where two sets of flags tie, one more run shows which are its own.
            return len(runs.own(cell.python)) < 2
        # A run that failed to import has no result for a case, and would fail again.
        whole = self.runs(platform, WHOLE_RUN, cell)
        return whole is not None and any(
            run.ended is ObservationEnd.FAILED for run in whole if run.cell == cell
        )

    def ran_apart(self, platform: Platform, case: str, cell: Cell) -> bool:
        """Return whether a cell ran a case, and never in an environment that is stock."""
        runs = self.runs(platform, case, cell) or self.runs(platform, WHOLE_RUN, cell) or ()
        here = [run.is_stock for run in runs if run.cell == cell]
        return bool(here) and not any(here)

    def representatives(self) -> Iterator[Observation]:
        """Yield the observation to attribute of each cell, platform and case.

        Where nothing shows which flags are a cell's own, there is one for each candidate.
        """
        for pairs in self.cases.values():
            for runs in pairs.values():
                for python in runs.pythons:
                    yield from map(representative, runs.own(python))

    def reference(
        self, own: Observation, pins: Mapping[str, str], *, changes: bool
    ) -> Observation | None:
        """Return what an observation without an expectation is compared with.

        Off-pin that is its vLLM under the torch that it pins. On-pin, where changes are asked for,
        it is the next older vLLM under the same torch.
        """
        platform, case, cell = own.platform, own.case, own.cell
        pin = pins.get(cell.vllm)
        if pin is not None and pin != cell.torch:
            pinned = self.cases[platform, case].get((pin, cell.vllm))
            return None if pinned is None else pinned.nearest(cell.python)
        if not changes:
            return None
        here = parse_version(cell.vllm)
        axis = self.axes[platform, case, Along.VLLM, cell.torch]
        older = [runs for release, runs in axis if release < here]
        return older[-1].nearest(cell.python) if older else None


def _release(point: Point) -> Version:
    return point.release


def _observations(
    judged: Iterable[Judged | tuple[Record, CellVerdict]],
    environments: Mapping[str, Cell],
    late: str | None,
) -> Iterator[Observation]:
    for record, verdict, runs in (Judged(*item) for item in judged):
        if record.error is not None and record.error.kind == ErrorKind.WRONG_CELL:
            continue
        cell = ran_cell(record) or environments.get(record.cell)
        if cell is not None:
            yield from observe(record, verdict, cell, late, runs)
