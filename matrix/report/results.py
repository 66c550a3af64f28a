"""Many records on a terminal: lists, differences, and what pruning would delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matrix._util.text import aligned, clean, clip, plural, seconds
from matrix.record.stock import NOT_STOCK
from matrix.store.stats import LEAST

if TYPE_CHECKING:
    from matrix.record.model import Record
    from matrix.store.diff import Diff
    from matrix.store.listing import Listed
    from matrix.store.retention import Stored
    from matrix.verdict.judge import CellVerdict

_MOST_LATE = 10
_TITLES = {
    "verdict": "verdict",
    "case": "cases",
    "counter": "counters",
    "seconds": "seconds",
    "package": "packages",
    "flag": "flags",
    "provenance": "provenance",
}


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
    head = ["started", "cell", "platform", "verdict", "torch", "vLLM", "Python", "cases"]
    head += ["seconds", "record"]
    rows = [head, *map(_row, listed)]
    count = plural(len(listed), "record")
    lines = aligned(rows, right=(7, 8)) if listed else []
    return "\n".join([*lines, count]) + "\n"


def _row(record: Listed) -> list[str]:
    more = len(record.paths) - 1
    return [
        record.started,
        record.cell,
        record.platform,
        _listed_verdict(record),
        clip(clean(record.torch), 30),
        clip(clean(record.vllm), 30),
        clip(clean(record.python), 20),
        f"{record.passed}/{record.cases - record.not_applicable}",
        seconds(record.seconds),
        clean(record.paths[0]) + (f" (and {more} more)" if more else ""),
    ]


def _listed_verdict(record: Listed) -> str:
    """Return the verdict of a record with its marks: `compatible, 1 of 9 cases, not stock`.

    A run that ended before all cases of its choice is marked `ended early`.
    """
    if record.running:
        return "running"
    marks = [str(record.verdict)]
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


def diff_lines(diff: Diff, names: Sequence[str], *, history: int) -> str:
    """Return what differs, by aspect; of seconds those beyond noise, and the number of the rest.

    `history` is the number of records from which the noise is known.
    """
    lines = []
    if not diff.one_cell:
        cells = [f"{record.cell} on {record.platform}" for record in (diff.before, diff.after)]
        lines = [f"different cells: {' and '.join(cells)}"]
    rows = [
        [side, record.cell, record.platform, record.started, _judged(record, verdict), clean(name)]
        for side, record, verdict, name in zip(
            ("before", "after"), (diff.before, diff.after), diff.verdicts, names, strict=True
        )
    ]
    lines += aligned(rows)
    for aspect, title in _TITLES.items():
        changes = diff.of(aspect)
        shown = [change for change in changes if change.notable]
        if shown:
            lines += ["", title]
            lines += aligned(
                [
                    [
                        f"  {clip(clean(change.where), 70)}",
                        clip(clean(change.what), 60),
                        _side(change.before),
                        "->",
                        _side(change.after),
                    ]
                    for change in shown
                ]
            )
        if len(shown) < len(changes):
            count = plural(len(changes) - len(shown), "start")
            lines += ["", f"{count} took other seconds{_why_no_change(diff, history)}"]
    if not diff.changes:
        lines += ["", "nothing differs but when they ran"]
    return "\n".join(lines) + "\n"


def diff_json(diff: Diff, names: Sequence[str]) -> str:
    """Return the differences as JSON."""
    sides = zip(("before", "after"), (diff.before, diff.after), diff.verdicts, names, strict=True)
    content: dict[str, object] = {
        side: {
            "cell": record.cell,
            "platform": record.platform,
            "started": record.started,
            "verdict": verdict.verdict,
            "cases": len(record.cases),
            "total_cases": record.total_cases,
            "record": name,
        }
        for side, record, verdict, name in sides
    }
    content["changes"] = [
        {
            "aspect": change.aspect,
            "where": change.where,
            "what": change.what,
            "before": change.before,
            "after": change.after,
            "notable": change.notable,
        }
        for change in diff.changes
    ]
    return json.dumps(content, indent=1) + "\n"


def prune_lines(
    gone: Sequence[Stored], paths: Sequence[str], kept: int, *, done: int | None
) -> str:
    """Return what was or would be deleted, one file a line, and what stays.

    `done` is how many of the files were deleted, None where none should be. If only some were
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
                f"{left} gone already, or written meanwhile and left",
            ]
    elif gone:
        files = plural(len(paths), "file")
        lines.append(f"{records} ({files}) would be deleted, {kept} stay; --yes deletes them")
    else:
        lines.append(f"nothing to delete, {kept} records stay")
    return "\n".join(lines) + "\n"


def _why_no_change(diff: Diff, history: int) -> str:
    """Return why other seconds do not count as a change."""
    if not diff.one_cell:
        return ", which do not compare between cells"
    if diff.before.jobs != diff.after.jobs:
        return ", which do not compare: as many cases did not run side by side"
    known = plural(history, "record")
    if history < LEAST:
        return f"; {known} of the cell before it: too few to tell noise ({LEAST} needed)"
    return f", none of them beyond noise as far as {known} of the cell tell"


def _judged(record: Record, verdict: CellVerdict) -> str:
    """Return the verdict of a record, with how many cases a partial one has."""
    if not record.deselected:
        return str(verdict.verdict)
    return f"{verdict.verdict}, {len(record.cases)} of {record.total_cases} cases"


def _side(value: str | None) -> str:
    return "none" if value is None else clip(clean(value), 100)
