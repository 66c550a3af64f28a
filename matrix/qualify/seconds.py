"""How long a cell takes, by the recorded seconds of the nearest cell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrix._util.versions import distance
from matrix.catalog.cells import Cell, CellError, cell_of
from matrix.record.model import Case, Record
from matrix.verdict.grid import ran_cell

Nearness = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
"""What sorts cells by how far they are from one: vLLM, torch, Python."""


@dataclass(frozen=True, kw_only=True)
class CellEstimate:
    """How long a cell may take: the seconds of its run, and those of making its environment.

    `run_of` and `environment_of` are the cells whose seconds these are. None if nobody knows.
    """

    run: float | None = None
    run_of: str | None = None
    environment: float | None = None
    environment_of: str | None = None

    @property
    def total(self) -> float | None:
        """The seconds of both, as far as they are known; None if the run's are not."""
        return None if self.run is None else self.run + (self.environment or 0.0)


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The seconds of the newest complete run of each cell, and of each environment."""

    runs: Mapping[Cell, float]
    environments: Mapping[Cell, float]

    @classmethod
    def of(
        cls,
        records: Iterable[Record],
        functions: Sequence[str] = (),
        environments: Mapping[str, float] | None = None,
    ) -> Seconds:
        """Return the seconds of some records of one platform, for these startup tests alone.

        A run of some cases counts where it has as many of these tests as any run. `environments`
        are the seconds of making one, by the full versions of `key_of`.
        """
        newest: dict[Cell, Record] = {}
        every = list(records)
        most = max((len(_own(record, functions)) for record in every), default=0)
        for record in every:
            cell = ran_cell(record)
            whole = record.is_complete or (
                record.finished
                and record.error is None
                and len(_own(record, functions)) == most > 0
            )
            if cell is None or not whole:
                continue
            if cell not in newest or newest[cell].started < record.started:
                newest[cell] = record
        runs = {cell: seconds_of(record, functions) for cell, record in newest.items()}
        made = {
            cell: seconds
            for key, seconds in (environments or {}).items()
            if (cell := _cell_of_key(key)) is not None
        }
        return cls(
            runs={cell: seconds for cell, seconds in runs.items() if seconds > 0},
            environments=made,
        )

    def estimate(self, cell: Cell) -> CellEstimate:
        """Return how long a cell may take, by its own seconds or those of the nearest cell."""
        run, made = _nearest(cell, self.runs), _nearest(cell, self.environments)
        return CellEstimate(
            run=None if run is None else self.runs[run],
            run_of=None if run is None else run.name,
            environment=None if made is None else self.environments[made],
            environment_of=None if made is None else made.name,
        )


def seconds_of(record: Record, functions: Sequence[str] = ()) -> float:
    """Return the seconds of a run, without those of the cases that are not of these functions."""
    whole = record.provenance.get("seconds")
    seconds = float(whole) if isinstance(whole, (int, float)) else 0.0
    if not functions:
        return seconds
    own = _own(record, functions)
    if not own:
        return 0.0
    own_seconds = sum(case.seconds for case in own)
    others = sum(case.seconds for case in record.cases if case not in own)
    if record.jobs > 1:  # seconds of cases overlap
        return sum(rung.seconds for rung in record.rungs) + own_seconds if others else seconds
    return max(seconds - others, own_seconds)


def _own(record: Record, functions: Sequence[str]) -> list[Case]:
    """Return the cases of these functions; of none, none."""
    return [case for case in record.cases if case.case.partition("[")[0] in functions]


def key_of(cell: Cell) -> str:
    """Return the text that stands for a cell where environments are kept by it."""
    return f"{cell.python} {cell.torch} {cell.vllm}"


def _cell_of_key(key: str) -> Cell | None:
    try:
        python, torch, vllm = key.split(" ")
        return cell_of(python, torch, vllm)
    except (ValueError, CellError):
        return None


def _nearest(wanted: Cell, cells: Iterable[Cell]) -> Cell | None:
    # Two builds of one version are as far from each other as from themselves.
    return min(cells, key=lambda cell: (cell != wanted, _far(cell, wanted), cell), default=None)


def _far(cell: Cell, wanted: Cell) -> Nearness:
    return (
        distance(cell.vllm, wanted.vllm),
        distance(cell.torch, wanted.torch),
        distance(cell.python, wanted.python),
    )
