"""Many records on a terminal: lists, differences, and what pruning would delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matrix._util.text import aligned, clean, clip, plural, seconds
from matrix.store.stats import LEAST

if TYPE_CHECKING:
    from matrix.store.diff import Diff
    from matrix.store.listing import Listed
    from matrix.store.retention import Stored

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
    rows = [head]
    for each in listed:
        verdict = str(each.verdict) if each.complete else f"{each.verdict} (part)"
        if each.running:
            verdict = "running"
        rows.append(
            [
                each.started,
                each.cell,
                each.platform,
                verdict,
                clip(clean(each.torch), 30),
                clip(clean(each.vllm), 30),
                clip(clean(each.python), 20),
                f"{each.passed}/{each.cases - each.not_applicable}",
                seconds(each.seconds),
                clean(each.paths[0])
                + (f" (and {len(each.paths) - 1} more)" * (len(each.paths) > 1)),
            ]
        )
    count = plural(len(listed), "record")
    lines = aligned(rows, right=(7, 8)) if listed else []
    return "\n".join([*lines, count]) + "\n"


def listed_json(listed: Sequence[Listed]) -> str:
    """Return the records as a JSON list, one object a record."""
    rows = [
        {
            "cell": each.cell,
            "platform": each.platform,
            "started": each.started,
            "torch": each.torch,
            "vllm": each.vllm,
            "python": each.python,
            "verdict": each.verdict,
            "whole": each.complete,
            "running": each.running,
            "error": each.error,
            "cases": each.cases,
            "passed": each.passed,
            "not_applicable": each.not_applicable,
            "seconds": each.seconds,
            "content": f"sha256:{each.content}",
            "paths": list(each.paths),
        }
        for each in listed
    ]
    return json.dumps(rows, indent=1) + "\n"


def diff_lines(diff: Diff, names: Sequence[str], *, history: int) -> str:
    """Return what differs, by aspect; of seconds those beyond noise, and the number of the rest.

    `history` is how many records there were to tell noise by.
    """
    lines = []
    if not diff.one_cell:
        cells = [f"{each.cell} on {each.platform}" for each in (diff.before, diff.after)]
        lines = [f"different cells: {' and '.join(cells)}"]
    rows = [
        [side, record.cell, record.platform, record.started, verdict.verdict, clean(name)]
        for side, record, verdict, name in zip(
            ("before", "after"), (diff.before, diff.after), diff.verdicts, names, strict=True
        )
    ]
    lines += aligned(rows)
    for aspect, title in _TITLES.items():
        changes = diff.of(aspect)
        shown = [each for each in changes if each.notable]
        if shown:
            lines += ["", title]
            lines += aligned(
                [
                    [
                        f"  {clip(clean(each.where), 70)}",
                        clip(clean(each.what), 60),
                        _side(each.before),
                        "->",
                        _side(each.after),
                    ]
                    for each in shown
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
            "record": name,
        }
        for side, record, verdict, name in sides
    }
    content["changes"] = [
        {
            "aspect": each.aspect,
            "where": each.where,
            "what": each.what,
            "before": each.before,
            "after": each.after,
            "notable": each.notable,
        }
        for each in diff.changes
    ]
    return json.dumps(content, indent=1) + "\n"


def prune_lines(
    gone: Sequence[Stored], paths: Sequence[str], kept: int, *, done: int | None
) -> str:
    """Return what was or would be deleted, one file a line, and what stays.

    `done` is how many of the files were deleted, None where none should be. Where it is not all of
    them, nobody knows of how many records every file went, so that files alone are counted.
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
    """Why other seconds are no change."""
    if not diff.one_cell:
        return ", which do not compare between cells"
    if diff.before.jobs != diff.after.jobs:
        return ", which do not compare: as many cases did not run side by side"
    known = plural(history, "record")
    if history < LEAST:
        return f"; {known} of the cell before it: too few to tell noise ({LEAST} needed)"
    return f", none of them beyond noise as far as {known} of the cell tell"


def _side(value: str | None) -> str:
    return "none" if value is None else clip(clean(value), 100)
