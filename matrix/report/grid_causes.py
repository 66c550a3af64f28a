"""Why pairs of the grid fail, each reason once, and where: for every text of the grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from matrix._util.text import listed, spans
from matrix.record.model import Platform, Rung
from matrix.report import prediction
from matrix.report.reasons import reason_words
from matrix.verdict.grid import Grid, Square
from matrix.verdict.predictions import Predictions
from matrix.verdict.states import Verdict

_FailsAt = Rung | Literal[Verdict.UNTESTED]
"""Where a pair fails; untested is one that ran and shows nothing of it."""


@dataclass(frozen=True, kw_only=True)
class GridCause:
    """One reason for which pairs fail, and the pairs, as places of the shown rows and columns."""

    rung: _FailsAt
    reason: str
    python: str
    places: tuple[tuple[int, int], ...]


def predicted_lines(
    grid: Grid, platform: Platform, predictions: Predictions, *, newest_first: bool = False
) -> list[str]:
    """Return a line for each shown pair that has a prediction."""
    return [
        f"{_where(grid, [(row, column)])}: {prediction.sentence(found)}"
        for row in _order(len(grid.rows), newest_first=newest_first)
        for column, square in row_of(grid, platform, row)
        if (found := predictions.at(square)) is not None
    ]


def row_of(grid: Grid, platform: Platform, row: int) -> Iterable[tuple[int, Square]]:
    """Yield the squares of a shown row, each with the place of its column, the oldest first."""
    vllm = grid.rows[row].version
    for column, torch in enumerate(grid.columns):
        yield column, grid.squares[platform, torch.version, vllm]


def causes_of(
    grid: Grid, platform: Platform, *, newest_first: bool = False
) -> tuple[list[GridCause], dict[tuple[int, int], list[int]]]:
    """Return the reasons of the platform, each once, and their numbers by place in the grid.

    They come in the order of the rows and columns that are read.
    """
    places: dict[tuple[_FailsAt, str, str], list[tuple[int, int]]] = {}
    for row in _order(len(grid.rows), newest_first=newest_first):
        squares = list(row_of(grid, platform, row))
        for column in _order(len(squares), newest_first=newest_first):
            for key in _reasons(squares[column][1]):
                places.setdefault(key, []).append((row, column))
    causes = [
        GridCause(rung=rung, reason=reason, python=python, places=tuple(found))
        for (rung, reason, python), found in places.items()
    ]
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, cause in enumerate(causes, 1):
        for place in cause.places:
            numbers.setdefault(place, []).append(number)
    return causes, numbers


def _reasons(square: Square) -> Iterable[tuple[_FailsAt, str, str]]:
    """Yield why the pair fails, and why on some Pythons only: rung, reason, those Pythons."""
    shown = square.shown
    if shown.ran is not None and shown.fails is None and shown.verdict == Verdict.UNTESTED:
        yield Verdict.UNTESTED, reason_words(shown.ran.reason), ""
    if shown.fails is not None:
        yield shown.fails, reason_words(shown.cause), ""
    elif shown.without is not None:
        yield Rung.LINKS, reason_words(shown.without_cause or shown.without), ""
    if shown.fails is None and shown.resolves_unknown is not None:
        why = reason_words(shown.resolves_unknown)
        yield Rung.RESOLVES, f"no answer, as the index lacked it: {why}", ""
    if all(cell.fails in (None, Rung.DECLARED) for cell in square.cells):
        return
    for group in square.groups:
        first = group[0]
        # A Python that a release does not support shows nothing about the pair.
        if first.fails is None or first.fails is Rung.DECLARED:
            continue
        if (first.fails, cause := reason_words(first.cause)) == (
            shown.fails,
            reason_words(shown.cause),
        ):
            continue
        yield (
            first.fails,
            cause,
            listed([progress.cell.python for progress in group]),
        )


def cause_line(grid: Grid, cause: GridCause, escape: Callable[[str], str]) -> str:
    """Return a reason with the pairs that fail for it; `escape` makes its text safe to show."""
    python = f" on Python {cause.python}" if cause.python else ""
    return f"{_where(grid, cause.places)}{python}: {cause.rung}: {escape(cause.reason)}"


def _where(grid: Grid, places: Iterable[tuple[int, int]]) -> str:
    """Return places of the grid in words; rows with the same columns share a part."""
    by_row: dict[int, list[int]] = {}
    for row, column in sorted(places):
        by_row.setdefault(row, []).append(column)
    by_columns: dict[tuple[int, ...], list[int]] = {}
    for row, columns in by_row.items():
        by_columns.setdefault(tuple(columns), []).append(row)
    return "; ".join(
        f"vLLM {spans([vllm.version for vllm in grid.rows], rows)} under torch "
        f"{spans([torch.version for torch in grid.columns], columns)}"
        for columns, rows in by_columns.items()
    )


def _order(count: int, *, newest_first: bool) -> Sequence[int]:
    return range(count)[::-1] if newest_first else range(count)
