"""Aligned tables in a width: a cell goes on below itself, or its row further right.

A table comes as lines of text, so its columns are found again: two blanks stand between them in
every line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product, zip_longest

from matrix.report.fitting.words import longest, sentence, wrapped

_GAP = 2  # blanks between two columns
_FURTHER = 4  # blanks before the lines of a row that follow its first one
_SMALL = 10  # a column of that width or less keeps it
_ENOUGH = 30  # a column as wide as this reads well, however long its cells are


@dataclass(frozen=True, kw_only=True)
class _Column:
    """The cells of a column from above, whether they stand at its right, and how wide it was."""

    cells: tuple[str, ...]
    right: bool
    before: int

    @property
    def natural(self) -> int:
        """Return the width in which each cell is one line."""
        return max(map(len, self.cells))

    @property
    def least(self) -> int:
        """Return the least width that reads well."""
        if self.right:
            return self._least_of_numbers
        least = max(_SMALL, min(self.natural // 2, _ENOUGH), *map(longest, self.cells))
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
        return sum(len(cell) > width for cell in self.cells)


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
    below: bool = False

    def rows(self) -> list[list[str]]:
        """Return the lines of each row; none of one that has no text here."""
        return [self._row(number) for number in range(len(self.columns[0].cells))]

    def cost(self, rows: Sequence[Sequence[str]]) -> tuple[int, int]:
        """Return how many signs of the rows are beyond the width, and the half lines they take.

        A cell below its row costs one more: it reads less well than one in its column.
        """
        lines = [line for row in rows for line in row]
        moved = self.below * self.columns[-1].broken(self.widths[-1])
        beyond = sum(max(len(line) - self.width, 0) for line in lines)
        return beyond, 2 * len(lines) + moved

    def _row(self, number: int) -> list[str]:
        *firsts, last = (column.cells[number] for column in self.columns)
        parts = [
            wrapped(cell, width, shell=self.shell)
            for cell, width in zip(firsts, self.widths, strict=False)
        ]
        if not any(firsts) and len(last) > self.widths[-1] and firsts:
            return self._alone(last)
        if self.below and len(last) > self.widths[-1]:
            return [*self._side_by_side([*parts, [""]]), *self._at(self.indent + _FURTHER, last)]
        return list(self._side_by_side([*parts, wrapped(last, self.widths[-1], shell=self.shell)]))

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
            indent = max(min(start, self.width - longest(cell)), indent)
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
    indent, columns = _columns(rows)
    if len(columns) == 1:
        if len(rows) > 1:
            return [lines for row in rows for lines in fitted_rows([row], width, shell=shell)]
        return [sentence(rows[0], width, shell=shell)]
    layouts = [
        _Layout(
            columns=columns, widths=widths, indent=indent, width=width, shell=shell, below=below
        )
        for widths, below in product(dict.fromkeys(_widths(columns, width - indent)), (False, True))
    ]
    if layouts:
        made = [(layout, layout.rows()) for layout in layouts]
        return min(made, key=lambda found: found[0].cost(found[1]))[1]
    parts = [layout.rows() for layout in _stacked(columns, indent, width, shell=shell)]
    return [[line for lines in row for line in lines] for row in zip(*parts, strict=True)]


def _columns(rows: Sequence[str]) -> tuple[int, list[_Column]]:
    """Return how far a table is indented, and its columns."""
    size = max(map(len, rows))
    padded = [row.ljust(size) for row in rows]
    blank = ["".join(marks).isspace() for marks in zip(*padded, strict=True)]
    indent = blank.index(False)
    starts = [
        place
        for place in range(indent + _GAP, size)
        if not blank[place] and all(blank[place - _GAP : place])
    ]
    ends = pairwise([indent, *starts, size])
    return indent, [_column([row[start:end] for row in padded]) for start, end in ends]


def _column(raw: Sequence[str]) -> _Column:
    """Return the column of cells as they stand in the lines."""
    size = max(len(cell.rstrip()) for cell in raw)
    filled = [cell[:size] for cell in raw if cell.strip()]
    ends, starts = (any(cell[place] == " " for cell in filled) for place in (-1, 0))
    right = starts and not ends
    cells = tuple(cell.strip() if right else cell.rstrip() for cell in raw)
    return _Column(cells=cells, right=right, before=len(raw[0]) - _GAP)


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
    found = list(wide)
    places = range(len(columns))
    while sum(found) > room:
        place = min(
            (place for place in places if found[place] > least[place]),
            key=lambda place: (columns[place].broken(found[place] - 1), -found[place]),
        )
        found[place] -= 1
    return found


def _stacked(
    columns: Sequence[_Column], indent: int, width: int, *, shell: bool
) -> Iterator[_Layout]:
    """Return the columns in groups that fit, each below the one before it and further right."""
    groups: list[list[_Column]] = [[]]
    for column in columns:
        room = width - indent - _FURTHER * (len(groups) > 1)
        taken = sum(other.natural + _GAP for other in groups[-1])
        if groups[-1] and taken + column.natural > room:
            groups.append([])
        groups[-1].append(column)
    for number, group in enumerate(groups):
        left = indent + _FURTHER * (number > 0)
        widths = [min(column.natural, width - left) for column in group]
        yield _Layout(columns=group, widths=widths, indent=left, width=width, shell=shell)
