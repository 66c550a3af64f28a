"""The options and results of a candidate's run of one cell, for all code that runs cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.record.model import Platform


class NotRunError(MatrixError):
    """A cell that left no record; the message says why."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a cell is run: with these startup tests alone (empty: all), in a fresh environment.

    `jobs` is as in `matrix.run.rerun.Rerun`, `progress` stands before each line of progress.
    """

    cell: Cell
    platform: Platform
    cases: tuple[str, ...] = ()
    fresh: bool = False
    jobs: str | None = None
    progress: str = ""


class RunCell(Protocol):
    """A function that runs a cell."""

    def __call__(self, name: str, options: RunOptions) -> Path:
        """Run the environment of that name and return its record. Raises NotRunError."""


@dataclass(frozen=True, kw_only=True)
class CellNotRun:
    """A cell that should have run and left no record, and why."""

    cell: str
    reason: str
