"""Many records on a terminal: lists, and what pruning would delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matrix._util.text import aligned, clean, clip, plural, seconds
from matrix.report import provisional
from matrix.report.stock import NOT_STOCK

if TYPE_CHECKING:
    from pathlib import Path

    from matrix.store.listing import Listed
    from matrix.store.merge import Merged
    from matrix.store.retention import Stored

_MOST_LATE = 10
_MOST_REFUSED = 20


def late_lines(late: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each of the first ten records (path, start) from the future."""
    lines = [
        f"{path}: started at {started}, ahead of this machine's clock; it counts as the oldest of"
        " its cell: set the clock of the machine that ran it"
        for path, started in late[:_MOST_LATE]
    ]
    more = len(late) - _MOST_LATE
    return [*lines, f"and {more} more records from the future"] if more > 0 else lines


def listed_lines(listed: Sequence[Listed]) -> str:
    """Return the records as an aligned table, and their number."""
    head = ["started", "cell", "platform", "verdict", "cases", "seconds", "torch", "vLLM"]
    head += ["Python", "record"]
    rows = [head, *map(_row, listed)]
    count = plural(len(listed), "record")
    lines = aligned(rows, right=(4, 5)) if listed else []
    return "\n".join([*lines, count]) + "\n"


def _row(record: Listed) -> list[str]:
    more = len(record.paths) - 1
    return [
        record.started,
        record.cell,
        record.platform,
        _listed_verdict(record),
        f"{record.passed}/{record.cases - record.not_applicable}",
        seconds(record.seconds),
        clip(clean(record.torch), 30),
        clip(clean(record.vllm), 30),
        clip(clean(record.python), 20),
        clean(record.paths[0]) + (f" (and {more} more)" if more else ""),
    ]


def _listed_verdict(record: Listed) -> str:
    """Return the verdict of a record with its marks: `compatible, 1 of 9 cases, not stock`.

    One that is provisional is `untested, provisional: as vLLM 0.33`.

    A run that ended before all cases of its choice is marked `ended early`.
    """
    if record.running:
        return "running"
    marks = [str(record.verdict)]
    if record.provisional is not None:
        marks.append(provisional.mark(record.provisional))
    if record.deselected:
        marks.append(f"{record.cases} of {record.total_cases} cases")
    elif not record.complete:
        marks.append("ended early")
    if record.stock is False:
        marks.append(NOT_STOCK)
    return ", ".join(marks)


def listed_json(listed: Sequence[Listed]) -> str:
    """Return the records as a JSON list, one object a record."""
    rows = [
        {
            "cell": record.cell,
            "platform": record.platform,
            "started": record.started,
            "torch": record.torch,
            "vllm": record.vllm,
            "python": record.python,
            "verdict": record.verdict,
            "provisional": provisional.values(record.provisional),
            "whole": record.complete,
            "running": record.running,
            "error": record.error,
            "cases": record.cases,
            "total_cases": record.total_cases,
            "passed": record.passed,
            "not_applicable": record.not_applicable,
            "seconds": record.seconds,
            "stock": record.stock,
            "content": f"sha256:{record.content}",
            "paths": list(record.paths),
        }
        for record in listed
    ]
    return json.dumps(rows, indent=1) + "\n"


def prune_lines(
    gone: Sequence[Stored], paths: Sequence[str], kept: int, *, done: int | None
) -> str:
    """Return what was or would be deleted, one file a line, and what stays.

    `done` is how many of the files were deleted, None if none should be. If only some were
    deleted, it is not known which records lost all their files, so only files are counted.
    """
    lines = [clean(path) for path in paths]
    records = plural(len(gone), "record")
    if done is not None:
        lines = [f"deleted {records} ({plural(done, 'file')}); {kept} stay"]
        if done < len(paths):
            every, left = plural(len(paths), "file"), plural(len(paths) - done, "file")
            lines = [
                f"deleted {done} of {every}; {plural(kept, 'other record')} stay",
                f"{left} already gone, or written meanwhile and kept",
            ]
    elif gone:
        files = plural(len(paths), "file")
        lines.append(f"{records} ({files}) would be deleted, {kept} stay; --yes deletes them")
    else:
        lines.append(f"nothing to delete, {kept} records stay")
    return "\n".join(lines) + "\n"


def refused_lines(merged: Merged) -> list[str]:
    """Return a line for each of the first twenty things that a merge refused."""
    lines = [str(error) for error in merged.refused[:_MOST_REFUSED]]
    more = len(merged.refused) - _MOST_REFUSED
    return [*lines, f"and {more} more that were rejected"] if more > 0 else lines


def merged_line(merged: Merged, into: Path) -> str:
    """Return in one line what a merge did: records, and the files that went with them."""
    found = plural(merged.new + merged.known, "record")
    parts = [f"{merged.new} new", f"{merged.known} there already"]
    if merged.renamed:
        parts[0] += f" ({merged.renamed} under a free name)"
    if merged.beside:
        parts.append(f"{plural(merged.beside, 'log or JUnit file')}")
    refused = f"; {len(merged.refused)} refused" if merged.refused else ""
    return f"{clean(str(into))}: {found}, {', '.join(parts)}{refused}\n"
