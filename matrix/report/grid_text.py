"""The grid on a terminal: newest first, in blocks of columns that fit its width, in colour."""

from __future__ import annotations

import itertools
import string
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matrix._util.console import LEAST_WIDTH, Terminal
from matrix._util.text import at_most, clean, clip, listed, plural
from matrix.record.model import Platform, Record
from matrix.report import marks, prediction, provisional
from matrix.report.grid_causes import cause_line, causes_of, predicted_lines, row_of
from matrix.report.terminal import DIM, painted
from matrix.verdict.grid import Grid, Square
from matrix.verdict.ladder import Progress
from matrix.verdict.prediction import Prediction
from matrix.verdict.predictions import NO_PREDICTIONS, Predictions
from matrix.verdict.states import Verdict

_NOTHING = "."
_GAP = 2  # between columns
_PIN = "* is the torch that a vLLM pins"
_SKIPPED = "?: a rung below was not asked"
_NO_ANSWER = "?: a rung below was not asked, or has no answer"
_MOST_OUTSIDE = 5
_NOT_ASKED = f"{_NOTHING}: off-pin, not asked"


@dataclass(frozen=True, kw_only=True)
class _GridCell:
    """The text of a place: the rung of the pair, its marks, the numbers of its causes.

    `state` names its colour; `no_answer`: a rung was asked, and its answer shows nothing.
    """

    word: str
    marks: tuple[str, ...] = ()
    notes: tuple[int, ...] = ()
    pinned: bool = False
    state: str = ""
    no_answer: bool = False

    def text(self, letters: dict[str, str]) -> str:
        """Return it as text; a mark that has a letter stands with the numbers of the causes."""
        plain = [mark for mark in self.marks if mark not in letters]
        notes = [*(letters[mark] for mark in self.marks if mark in letters), *map(str, self.notes)]
        noted = f" [{','.join(notes)}]" if notes else ""
        return f"{', '.join([self.word, *plain])}{noted}{' *' if self.pinned else ''}"


_Column = list[_GridCell]
"""The head of a column and what stands below it."""


def lines(
    grid: Grid,
    platforms: Sequence[Platform],
    predictions: Predictions = NO_PREDICTIONS,
    terminal: Terminal | None = None,
) -> str:
    """Return the grid of these platforms as aligned text, with causes and predictions below it.

    On a terminal with a width the columns stand in as many blocks as it takes, each with the vLLMs
    at its left; where one block is too wide, marks become letters that are explained below.
    """
    shown = terminal or Terminal()
    text: list[str] = []
    for platform in platforms:
        text += [*_platform(grid, platform, predictions, shown), ""]
    return "\n".join(text)


def outside_line(records: Sequence[Record]) -> str:
    """Return a line that names records that no square shows, at most five of them."""
    named = [_named(record) for record in records]
    return (
        f"the grid does not show {plural(len(records), 'record')} of releases or Pythons that are"
        f" not known: {listed(at_most(_MOST_OUTSIDE, named))}; `matrix table` shows every record,"
        " `matrix refresh` reads new releases"
    )


def _named(record: Record) -> str:
    """Return the cell of a record, with the versions that ran."""
    versions = [
        f"{label} {clip(clean(version), 30)}"
        for label, key in (("torch", "torch"), ("vLLM", "vllm"))
        if (version := record.version(key)) is not None
    ]
    ran = f" ({', '.join(versions)})" if versions else ""
    return f"{clean(record.cell)} on {record.platform}{ran}"


def blocks(widths: Sequence[int], key: int, width: int | None) -> list[list[int]]:
    """Return the places of columns of these widths in blocks that fit, the first ones first.

    Each block begins with a column of the width `key`. A column that fits nowhere has a block of
    its own. Without a `width` all are in one.

    >>> blocks([6, 6, 6], key=4, width=20), blocks([6, 30], key=4, width=20)
    ([[0, 1], [2]], [[0], [1]])
    """
    found: list[list[int]] = [[]]
    taken = key
    for place, wide in enumerate(widths):
        if width is not None and found[-1] and taken + _GAP + wide > width:
            found.append([])
            taken = key
        found[-1].append(place)
        taken += _GAP + wide
    return found


def _platform(
    grid: Grid, platform: Platform, predictions: Predictions, terminal: Terminal
) -> Iterator[str]:
    causes, numbers = causes_of(grid, platform, newest_first=True)
    key, columns = _columns(grid, platform, predictions, numbers)
    letters: dict[str, str] = {}
    parts = _blocks(key, columns, letters, terminal.width)
    if len(parts) > 1:
        letters = _letters(columns)
        parts = _blocks(key, columns, letters, terminal.width)
    for number, part in enumerate(parts, 1):
        which = f", {number} of {len(parts)}" if len(parts) > 1 else ""
        yield from [""] * (number > 1)
        yield from _wrapped(f"{platform}: vLLM below, torch to the right{which}", terminal)
        yield from _block([key, *(columns[place] for place in part)], letters, terminal)
    yield from _wrapped(_legend(columns), terminal)
    for mark, letter in letters.items():
        yield from _wrapped(f"  [{letter}] {mark}", terminal)
    for number, cause in enumerate(causes, 1):
        yield from _wrapped(f"  [{number}] {cause_line(grid, cause, clean)}", terminal)
    if predicted := predicted_lines(grid, platform, predictions, newest_first=True):
        yield from _wrapped(prediction.legend(predictions.accuracy), terminal)
        for line in predicted:
            yield from _wrapped(f"  {line}", terminal)


def _columns(
    grid: Grid,
    platform: Platform,
    predictions: Predictions,
    numbers: dict[tuple[int, int], list[int]],
) -> tuple[_Column, list[_Column]]:
    """Return the column of the vLLMs, and all others, the newest first."""
    order = range(len(grid.rows))[::-1]
    key = [_GridCell(word=word) for word in ("vLLM", *(grid.rows[row].version for row in order))]
    pins = [_GridCell(word=word) for word in ("pins", *(grid.rows[row].torch for row in order))]
    columns = [[_GridCell(word=release.version)] for release in grid.columns]
    for row in order:
        for column, square in row_of(grid, platform, row):
            notes = tuple(numbers.get((row, column), ()))
            columns[column].append(_cell(square, notes, predictions.at(square)))
    return key, [pins, *reversed(columns)]


def _blocks(
    key: _Column, columns: Sequence[_Column], letters: dict[str, str], width: int | None
) -> list[list[int]]:
    return blocks([_width(column, letters) for column in columns], _width(key, letters), width)


def _block(
    columns: Sequence[_Column], letters: dict[str, str], terminal: Terminal
) -> Iterator[str]:
    widths = [_width(column, letters) for column in columns]
    for row in zip(*columns, strict=True):
        line, blank = "", 0
        for cell, width in zip(row, widths, strict=True):
            text = cell.text(letters)
            line += " " * blank + painted(text, cell.state, colour=terminal.colour)
            blank = width - len(text) + _GAP
        yield line


def _width(column: _Column, letters: dict[str, str]) -> int:
    return max(len(cell.text(letters)) for cell in column)


def _letters(columns: Sequence[_Column]) -> dict[str, str]:
    """Return a letter for each mark, in the order in which they are read."""
    rows = zip(*columns, strict=True)
    every = dict.fromkeys(mark for row in rows for cell in row for mark in cell.marks)
    words = itertools.chain.from_iterable(
        itertools.product(string.ascii_lowercase, repeat=size) for size in (1, 2, 3)
    )
    return {mark: "".join(word) for mark, word in zip(every, words, strict=False)}


def _legend(columns: Sequence[_Column]) -> str:
    """Return what the signs mean that these columns have; "" if there is none."""
    cells = [cell for column in columns for cell in column[1:]]
    used = [
        (_PIN, any(cell.pinned for cell in cells)),
        (
            _NO_ANSWER if any(cell.no_answer for cell in cells) else _SKIPPED,
            any(cell.word.endswith(" ?") for cell in cells),
        ),
        (_NOT_ASKED, any(cell.word == _NOTHING for cell in cells)),
    ]
    return "; ".join(words for words, is_used in used if is_used)


def _wrapped(line: str, terminal: Terminal) -> list[str]:
    """Return a line as lines that fit the terminal; those that follow stand further right."""
    if not line:
        return []
    if terminal.width is None:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(
        line,
        max(terminal.width, LEAST_WIDTH),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cell(square: Square, notes: tuple[int, ...], predicted: Prediction | None) -> _GridCell:
    found = square.shown
    word = f"no {found.fails}" if found.fails is not None else _reached(found)
    apart: list[str] = []
    if found.verdict == Verdict.COMPATIBLE:
        apart.append(marks.short(found.ran))
    if found.verdict == Verdict.DRIFT:
        word = "drift"
    elif found.fails is None and found.provisional is not None:
        apart.append(provisional.PROVISIONAL)
    if found.verdict != Verdict.COMPATIBLE and found.ran is not None and found.ran.part:
        apart.append(marks.part(found.ran.part))
    apart.append(prediction.short(predicted))
    return _GridCell(
        word=word,
        marks=tuple(filter(None, apart)),
        notes=notes,
        pinned=not square.off_pin,
        state=_state(found, word),
        no_answer=found.resolves_unknown is not None,
    )


def _state(found: Progress, word: str) -> str:
    """Return what the colour of a place is of: a verdict, or that nobody asked."""
    if found.verdict in {Verdict.COMPATIBLE, Verdict.DRIFT}:
        return found.verdict
    if found.fails is not None:
        return Verdict.INCOMPATIBLE
    if found.ran is not None:
        return Verdict.UNTESTED
    return DIM if word == _NOTHING else ""


def _reached(found: Progress) -> str:
    return f"{found.reached or _NOTHING}{' ?' if found.skipped else ''}"
