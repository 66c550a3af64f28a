"""A plan as aligned text, as names of tox environments, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from matrix._util.text import aligned, clean, clip
from matrix.verdict.ladder import Progress
from matrix.verdict.plan import Planned

_SCHEMA = 2
_WIDEST = 100


def lines(planned: Sequence[Planned], *, every: bool = False) -> str:
    """Return what would run, a line each, and a sum; with `every` also the rest, and why."""
    shown = [item for item in planned if item.runs or every]
    head = ["environment", "platform", "minutes", "known", "why"]
    rows = [
        [
            item.cell.name,
            item.platform,
            _minutes(item) if item.runs else "-",
            _known(item.progress),
            clip(clean(item.why), _WIDEST),
        ]
        for item in shown
    ]
    return "\n".join([*aligned([head, *rows], right=(2,)), summary(planned, every=every)]) + "\n"


def summary(planned: Sequence[Planned], *, every: bool = False) -> str:
    """Return how much would run, in one line.

    The minutes are those of earlier runs, if necessary of the pair on another Python.
    """
    todo = [item for item in planned if item.runs]
    pruned = len(planned) - len(todo)
    cannot = f"; {pruned} cannot work{'' if every else ' (--all shows why)'}" if pruned else ""
    if not todo:
        return f"nothing to run{cannot}"
    known = [item.seconds for item in todo if item.seconds is not None]
    took = f"; {sum(known) / 60:.0f} minutes for the {len(known)} of known minutes" if known else ""
    return f"{len(todo)} to run{took}{cannot}"


def names(planned: Sequence[Planned]) -> str:
    """Return the environments to run, each once, as `tox -e` takes them; "" for none."""
    return ",".join(dict.fromkeys(item.cell.name for item in planned if item.runs))


def content(planned: Sequence[Planned], tests_version: int) -> str:
    """Return the plan as JSON, with what would not run, too. Always ASCII.

    `tests_version` is that of the startup tests as they are now.
    """
    cells = [
        {
            "name": item.cell.name,
            "platform": item.platform,
            "python": item.cell.python,
            "torch": item.cell.torch,
            "vllm": item.cell.vllm,
            "off_pin": item.progress.off_pin,
            "runs": item.runs,
            "stale": item.stale,
            "tests_changed": list(item.tests_changed),
            "why": item.why,
            "verdict": item.progress.verdict,
            "reached": item.progress.reached,
            "fails": item.progress.fails,
            "reason": item.progress.reason,
            "unknown": list(item.progress.unknown),
            "contradictions": list(item.progress.contradictions),
            "seconds": item.seconds,
            "seconds_of": item.seconds_of,
        }
        for item in planned
    ]
    whole = {"schema": _SCHEMA, "tests_version": tests_version, "cells": cells}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _known(progress: Progress) -> str:
    """Return what is known of a cell: the rung that it reached or fails at; whether off-pin."""
    if progress.fails is not None:
        known = f"fails at {progress.fails}"
    else:
        known = f"{progress.reached or 'nothing'}{' ?' if progress.skipped else ''}"
    known += ", off-pin" if progress.off_pin else ""
    return known + (", contradicted" if progress.contradictions else "")


def _minutes(planned: Planned) -> str:
    """Return the minutes of the cell's own run, or those of another Python with a tilde."""
    if planned.seconds is None:
        return "-"
    own = planned.seconds_of == planned.cell.name
    return f"{'' if own else '~'}{planned.seconds / 60:.1f}"
