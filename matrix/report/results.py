"""Many records on a terminal: lists, differences, and what pruning would delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matrix.report.text import aligned, clean, clip, seconds

if TYPE_CHECKING:
    from matrix.engines.history import Listed

__all__ = ["late_lines", "listed_json", "listed_lines"]

_MOST_LATE = 10


def late_lines(late: Sequence[tuple[str, str]]) -> list[str]:
    """One line for each record (path, start) from the future; the first ten."""
    lines = [
        f"{path}: started at {started}, ahead of this machine's clock; it counts as the oldest of"
        " its cell: set the clock of the machine that ran it"
        for path, started in late[:_MOST_LATE]
    ]
    more = len(late) - _MOST_LATE
    return [*lines, f"and {more} more records from the future"] if more > 0 else lines


def listed_lines(listed: Sequence[Listed]) -> str:
    """The records as an aligned table, and how many they are."""
    head = ["started", "cell", "platform", "verdict", "torch", "vLLM", "Python", "cases"]
    head += ["seconds", "record"]
    rows = [head]
    for each in listed:
        verdict = each.verdict if each.whole else f"{each.verdict} (part)"
        rows.append(
            [
                each.started,
                each.cell,
                each.platform,
                verdict,
                clip(clean(each.torch), 30),
                clip(clean(each.vllm), 30),
                clip(clean(each.python), 20),
                f"{each.passed}/{each.cases}",
                seconds(each.seconds),
                clean(each.paths[0]) + (f" (and {len(each.paths) - 1} more)" * (len(each.paths) > 1)),
            ]
        )
    count = f"{len(listed)} record{'' if len(listed) == 1 else 's'}"
    lines = aligned(rows, right=(7, 8)) if listed else []
    return "\n".join([*lines, count]) + "\n"


def listed_json(listed: Sequence[Listed]) -> str:
    """The records as a JSON list, one object a record."""
    rows = [
        {
            "cell": each.cell,
            "platform": each.platform,
            "started": each.started,
            "torch": each.torch,
            "vllm": each.vllm,
            "python": each.python,
            "verdict": each.verdict,
            "whole": each.whole,
            "error": each.error,
            "cases": each.cases,
            "passed": each.passed,
            "seconds": each.seconds,
            "content": f"sha256:{each.content}",
            "paths": list(each.paths),
        }
        for each in listed
    ]
    return json.dumps(rows, indent=1) + "\n"
