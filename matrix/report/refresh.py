"""What a refresh of the known releases did, for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from matrix._util.text import clean

if TYPE_CHECKING:
    from matrix.catalog.refresh import Refreshed


def render(done: Refreshed, shown: str, *, check: bool = False) -> str:
    """The changes, a line each, what the index lists no more, and their number; `shown`: the file.

    With `check` the changes are those that a refresh would make.
    """
    rows: list[tuple[str, ...]] = [
        (each.kind, each.project, each.version, each.what) for each in done.changes
    ]
    rows += [("gone", *each, "the index does not list it; its row stays") for each in done.gone]
    rows = [tuple(clean(cell) for cell in row) for row in rows]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    count = Counter(each.kind for each in done.changes)
    told = ", ".join(f"{number} {kind}" for kind, number in count.items()) or "nothing new"
    would = " (nothing written)" if check else f"; metadata read of {done.read}"
    failed = f"; {len(done.failures)} failed" if done.failures else ""
    lines.append(f"{shown}: {told}{would}{failed}")
    return "".join(f"{line}\n" for line in lines)
