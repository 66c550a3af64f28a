"""Aligned tables in a width: a cell goes on below itself, or its row further right.

A table comes as lines of text, so its columns are found again: two blanks stand between them in
every line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product, zip_longest

from matrix.report.fitting.words import is_command, longest, sentence, wrapped

_GAP = 2  # blanks between two columns
_FURTHER = 4  # blanks before the lines of a row that follow its first one
_SMALL = 10  # a column of that width or less keeps it
_ENOUGH = 30  # a column as wide as this reads well, however long its cells are
_SAMPLE = 200  # rows by which the layout of a table is chosen
_TOGETHER = 10  # of these stand one below the other

_PART = re.compile(r"\S+(?:\s\S+)*")  # of a line: all up to two blanks


@dataclass(frozen=True, kw_only=True)
class _Column:
    """The cells of a column from above, whether they stand at its right, and how wide it was.

    Without `shell` a command stays on one line; in the `last` column it then stands below its row.
    """

    cells: tuple[str, ...]
    right: bool
    before: int
    shell: bool
    last: bool
    longest: int = field(init=False)
    """The number of the cell with the longest word."""
    _lengths: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Look at each cell once: a table is fitted to many widths."""
        number, most = 0, 0
        for place, cell in enumerate(self.cells):
            if len(cell) > most and (size := self._word(cell)) > most:
                number, most = place, size
        object.__setattr__(self, "longest", number)
        object.__setattr__(self, "_lengths", tuple(sorted(map(len, self.cells))))

    def _word(self, cell: str) -> int:
        if self.shell or not is_command(cell):
            return longest(cell)
        return 0 if self.last else len(cell)

    @property
    def natural(self) -> int:
        """Return the width in which each cell is one line."""
        return self._lengths[-1]

    @property
    def least(self) -> int:
        """Return the least width that reads well."""
        if self.right:
            return self._least_of_numbers
        word = self._word(self.cells[self.longest])
        least = max(_SMALL, min(self.natural // 2, _ENOUGH), word)
        return min(self.natural, least)

    @property
    def least_last(self) -> int:
        """Return the least width of a last column, whose long cells can stand below their rows."""
        if self.right:
            return self._least_of_numbers
        first = self.cells[0]
        heading = longest(first) if len(first) <= _ENOUGH else 0  # longer, it is no heading
        return min(self.natural, max(_SMALL, heading))

    @property
    def _least_of_numbers(self) -> int:
        """Return the least width in which a number is one line; its heading may be several."""
        return max(longest(self.cells[0]), *map(len, self.cells[1:] or self.cells))

    def broken(self, width: int) -> int:
        """Return how many cells are longer than a width."""
        return len(self.cells) - bisect_right(self._lengths, width)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Columns side by side: how wide each is, and where the first begins.

    `below`: a last cell that is longer than its column stands below its row.
    """

    columns: Sequence[_Column]
    widths: Sequence[int]
    indent: int
    width: int
    shell: bool
    wrapped: Callable[[str, int], Sequence[str]]
    below: bool = False

    def rows(self, numbers: Iterable[int] | None = None) -> list[list[str]]:
        """Return the lines of these rows, or of all; none of one that has no text here."""
        every = range(len(self.columns[0].cells)) if numbers is None else numbers
        return [self._row(number) for number in every]

    def cost(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Return how many signs of these rows are beyond the width, and the half lines they take.

        A cell below its row costs one more: it reads less well than one in its column. A command
        that nobody may break costs the same in each layout.
        """
        rows = self.rows(numbers)
        cells = [self.columns[-1].cells[number] for number in numbers] if self.below else ()
        moved = sum(self._is_long(cell) and not self._is_whole(cell) for cell in cells)
        beyond = sum(
            max(len(line) - self.width, 0)
            for row in rows
            for line in row
            if not self._is_whole(line)
        )
        return beyond, 2 * sum(map(len, rows)) + moved

    def _is_long(self, cell: str) -> bool:
        return len(cell) > self.widths[-1]

    def _is_whole(self, cell: str) -> bool:
        """Return whether a cell is a command that nobody may break."""
        return not self.shell and is_command(cell)

    def _row(self, number: int) -> list[str]:
        *firsts, last = (column.cells[number] for column in self.columns)
        parts = [
            self.wrapped(cell, width) for cell, width in zip(firsts, self.widths, strict=False)
        ]
        if not any(firsts) and self._is_long(last) and firsts:
            return self._alone(last)
        if self._is_long(last) and firsts and (self.below or self._is_whole(last)):
            return [*self._side_by_side([*parts, [""]]), *self._at(self.indent + _FURTHER, last)]
        return list(self._side_by_side([*parts, self.wrapped(last, self.widths[-1])]))

    def _side_by_side(self, cells: Sequence[Sequence[str]]) -> Iterator[str]:
        for parts in zip_longest(*cells, fillvalue=""):
            line = (" " * _GAP).join(
                part.rjust(width) if column.right else part.ljust(width)
                for part, column, width in zip(parts, self.columns, self.widths, strict=True)
            )
            if line.strip():
                yield " " * self.indent + line.rstrip()

    def _alone(self, cell: str) -> list[str]:
        """Return the last cell of a row without others, as far right as its words let it."""
        indent = self.indent + _FURTHER
        if not self.below:
            start = self.indent + sum(self.widths[:-1]) + _GAP * len(self.widths[:-1])
            word = len(cell) if self._is_whole(cell) else longest(cell)
            indent = max(min(start, self.width - word), indent)
        return self._at(indent, cell)

    def _at(self, indent: int, cell: str) -> list[str]:
        blanks = " " * indent
        return wrapped(blanks + cell.lstrip(), self.width, blanks, shell=self.shell)


def fitted_rows(rows: Sequence[str], width: int, *, shell: bool = True) -> list[list[str]]:
    """Return the lines of each row of an aligned table in this width.

    Where all rows fit, they stay as they are. Without `shell` a cell that is a command stays on one
    line.

    >>> fitted_rows(["when   why", "day 1  it never ran on this GPU"], 30)
    [['when   why'], ['day 1  it never ran on this', '       GPU']]
    """
    if max(map(len, rows)) <= width:
        return [[row] for row in rows]
    indent, columns = _columns(rows, shell=shell)
    if len(columns) == 1:
        if len(rows) > 1:
            return [lines for row in rows for lines in fitted_rows([row], width, shell=shell)]
        return [sentence(rows[0], width, shell=shell)]
    layout = partial(
        _Layout, width=width, shell=shell, wrapped=cache(partial(wrapped, shell=shell))
    )
    ways = product(dict.fromkeys(_widths(columns, width - indent)), (False, True))
    layouts = [
        layout(columns=columns, widths=widths, indent=indent, below=below) for widths, below in ways
    ]
    if layouts:
        sample = _sample(columns)
        return min(layouts, key=lambda found: found.cost(sample)).rows()
    parts = [
        layout(columns=group, widths=widths, indent=left).rows()
        for group, widths, left in _stacked(columns, indent, width)
    ]
    return [[line for lines in row for line in lines] for row in zip(*parts, strict=True)]


def _sample(columns: Sequence[_Column]) -> list[int]:
    """Return the numbers of some rows, among them those with the longest words.

    They stand together in groups: every fifth row may be alike.
    """
    size = len(columns[0].cells)
    if size <= _SAMPLE:
        return list(range(size))
    firsts = range(0, size - _TOGETHER, size * _TOGETHER // _SAMPLE)
    every = {first + place for first in firsts for place in range(_TOGETHER)}
    return sorted(every | {column.longest for column in columns})


def _columns(rows: Sequence[str], *, shell: bool) -> tuple[int, list[_Column]]:
    """Return how far a table is indented, and its columns.

    A column begins after two places that are blank in each row.
    """
    found = sorted({part.span() for row in rows for part in _PART.finditer(row)})
    indent, reach = found[0]
    starts = []
    for start, end in found:
        if start - reach >= _GAP:
            starts.append(start)
        reach = max(reach, end)
    ends = [*starts, reach + _GAP]
    made = partial(_Column, shell=shell)
    return indent, [
        _column(
            [row[start:end] for row in rows], end - start - _GAP, partial(made, last=end > reach)
        )
        for start, end in zip([indent, *starts], ends, strict=True)
    ]


def _column(raw: Sequence[str], before: int, made: Callable[..., _Column]) -> _Column:
    """Return the column of cells as they stand in the lines."""
    cells = tuple(cell.rstrip() for cell in raw)
    size = max(map(len, cells))
    ends = any(len(cell) < size for cell in cells if cell)
    right = not ends and any(cell[0] == " " for cell in cells if cell)
    if right:
        cells = tuple(cell.strip() for cell in cells)
    return made(cells=cells, right=right, before=before)


def _widths(columns: Sequence[_Column], room: int) -> Iterator[tuple[int, ...]]:
    """Return the widths of the columns in the ways that fit, those that change least first."""
    room -= _GAP * (len(columns) - 1)
    *firsts, last = columns
    before = [*(column.before for column in firsts), last.natural]
    natural = [column.natural for column in columns]
    every = [column.least for column in columns]
    for wide, least in (
        (before, [*before[:-1], last.least]),
        (natural, [*natural[:-1], last.least]),
        (natural, every),
        (natural, [*natural[:-1], last.least_last]),
        (natural, [*every[:-1], last.least_last]),
    ):
        if sum(least) <= room:
            yield tuple(_shrunk(columns, wide, least, room))


def _shrunk(
    columns: Sequence[_Column], wide: Sequence[int], least: Sequence[int], room: int
) -> list[int]:
    """Return the widths, narrower where the fewest cells get longer than their column."""
    places = range(len(columns))
    # What it must have lost in the end it loses at once.
    found = [min(wide[place], room - sum(least) + least[place]) for place in places]
    while sum(found) > room:
        place = min(
            (place for place in places if found[place] > least[place]),
            key=lambda place: (columns[place].broken(found[place] - 1), -found[place]),
        )
        found[place] -= 1
    return found


def _stacked(
    columns: Sequence[_Column], indent: int, width: int
) -> Iterator[tuple[list[_Column], list[int], int]]:
    """Return the columns in groups that fit, each below the one before it and further right.

    With the widths of the columns, and where the first of them begins.
    """
    groups: list[list[_Column]] = [[]]
    for column in columns:
        room = width - indent - _FURTHER * (len(groups) > 1)
        taken = sum(other.natural + _GAP for other in groups[-1])
        if groups[-1] and taken + column.natural > room:
            groups.append([])
        groups[-1].append(column)
    for number, group in enumerate(groups):
        left = indent + _FURTHER * (number > 0)
        yield group, [min(column.natural, width - left) for column in group], left
