"""The result of a refresh of the known releases, for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from matrix._util.text import clean

if TYPE_CHECKING:
    from matrix.catalog.refresh import Refreshed


def render(done: Refreshed, shown: str, *, check: bool = False) -> str:
    """Return the changes, a line each, what the index lists no more, and their number.

    `shown` is the path of the releases' file. With `check` the changes are those that a refresh
    would make.
    """
    rows: list[tuple[str, ...]] = [
        (change.kind, change.project, change.version, change.what) for change in done.changes
    ]
    rows += [
        ("gone", *release, "the index does not list it; its row stays") for release in done.gone
    ]
    rows = [tuple(clean(cell) for cell in row) for row in rows]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    count = Counter(change.kind for change in done.changes)
    summary = ", ".join(f"{number} {kind}" for kind, number in count.items()) or "nothing new"
    would = " (nothing written)" if check else f"; metadata read of {done.read}"
    failed = f"; {len(done.failures)} failed" if done.failures else ""
    lines.append(f"{shown}: {summary}{would}{failed}")
    return "".join(f"{line}\n" for line in lines)
