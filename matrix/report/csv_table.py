"""The whole table as CSV, one row a cell and platform, for a spreadsheet.

A spreadsheet runs what begins with `=`, `+`, `-` or `@`; such a text gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from matrix._util.text import clean
from matrix.catalog.cells import Cell
from matrix.record.model import StartKind
from matrix.report import marks, prediction
from matrix.report.model import Report
from matrix.report.reasons import reason_words
from matrix.report.stock import differing
from matrix.verdict.grid import ran_cell
from matrix.verdict.ladder import Progress, highest
from matrix.verdict.table import Entry

CSV_FILE = "compatibility.csv"
_COLUMNS = (
    "cell",
    "platform",
    "python",
    "torch",
    "vllm",
    "off_pin",
    "stock",
    "verdict",
    "reached",
    "fails",
    "reason",
    "ran",
    "record",
    "cases",
    "cold_seconds",
    "warm_seconds",
    "part",
    "recompiles_warm",
    "predicted",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(report: Report, environments: Mapping[str, Cell] | None = None) -> str:
    """Return every cell of the grid with its record, then the records of no cell of the grid.

    The `environments` by name say which cell a name installs: `cell` is empty if that is another
    patch release than the row's. Of what ran, it is the name of its record. The seconds are the
    sums over the cases that have both starts. What is predicted stands in a column of its own.
    """
    squares = report.grid.squares.values() if report.grid is not None else ()
    known = {
        (progress.cell, progress.platform): progress
        for square in squares
        for progress in square.cells
    }
    entries: dict[tuple[Cell, str], Entry] = {}
    apart: list[Entry] = []
    for entry in report.table.entries:
        cell = ran_cell(entry.record) or (environments or {}).get(entry.record.cell)
        if cell is not None and (cell, entry.record.platform) in known:
            entries[cell, entry.record.platform] = entry
        else:
            apart.append(entry)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for key, progress in known.items():
        if ran := entries.get(key):
            name = ran.record.cell
        else:
            name = progress.cell.name
            if environments is not None and environments.get(name) != progress.cell:
                name = ""
        predicted = prediction.short(report.predictions.of_progress(progress))
        writer.writerow((*_row(name, progress, ran), predicted))
    writer.writerows((*_alone(entry), "") for entry in apart)
    return out.getvalue()


def _row(name: str, progress: Progress, entry: Entry | None) -> Iterable[object]:
    cell = progress.cell
    reason = (entry.verdict.reason if entry else None) or progress.reason
    start = (
        name,
        progress.platform,
        cell.python,
        cell.torch,
        cell.vllm,
        _yes(value=progress.off_pin),
        _stock(entry),
    )
    end = (
        progress.verdict,
        progress.reached or "",
        progress.fails or "",
        _safe(reason_words(reason)),
    )
    return (*start, *end, *_ran(entry))


def _alone(entry: Entry) -> Iterable[object]:
    named, found = entry.factors, entry.record.provenance
    torch, vllm = (_safe(str(found.get(key) or "")) for key in ("torch", "vllm"))
    cell = entry.record.cell, entry.record.platform, named.python, torch, vllm
    verdict, seen = entry.verdict, entry.ran
    end = (
        verdict.verdict,
        highest(seen.passed) or "",
        seen.fails or "",
        _safe(reason_words(verdict.reason)),
    )
    return *cell, _yes(value=entry.off_pin), _stock(entry), *end, *_ran(entry)


def _ran(entry: Entry | None) -> tuple[object, ...]:
    if entry is None:
        return ("",) * 7
    both = [
        (cold.seconds.get("total", 0.0), warm.seconds.get("total", 0.0))
        for case in entry.record.cases
        if (cold := case.started(StartKind.COLD)) and (warm := case.started(StartKind.WARM))
    ]
    sums = (f"{sum(seconds):.1f}" for seconds in zip(*both, strict=True)) if both else ("", "")
    return (entry.date, _safe(entry.file), len(entry.record.cases), *sums, *_marked(entry))


def _marked(entry: Entry) -> tuple[object, object]:
    """Return how many of the cases a partial run has, and the cases that recompile warm."""
    return marks.part(entry.part), _safe(" ".join(entry.verdict.recompiling))


def _stock(entry: Entry | None) -> str:
    """Return whether a run's packages were as its vLLM requires: yes, unknown, or how not."""
    if entry is None:
        return ""
    if entry.verdict.departures is None:
        return "unknown"
    found = entry.verdict.not_stock
    return _safe(f"no: {differing(found, most=len(found))}") if found else "yes"


def _yes(*, value: bool) -> str:
    return "yes" if value else "no"


def _safe(text: str | None) -> str:
    """Return the text as one line that a spreadsheet does not run as a formula."""
    line = clean(text or "")
    return f"'{line}" if line.startswith(_FORMULA) else line
