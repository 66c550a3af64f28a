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
    """What would run, a line each, and a sum; with `every` also what would not, and why."""
    shown = [each for each in planned if each.runs or every]
    head = ["environment", "platform", "minutes", "known", "why"]
    rows = [
        [
            each.cell.name,
            each.platform,
            _minutes(each) if each.runs else "-",
            _known(each.progress),
            clip(clean(each.why), _WIDEST),
        ]
        for each in shown
    ]
    return "\n".join([*aligned([head, *rows], right=(2,)), summary(planned, every=every)]) + "\n"


def summary(planned: Sequence[Planned], *, every: bool = False) -> str:
    """How much would run, in one line.

    The minutes are those of earlier runs, where need be of the pair on another Python.
    """
    todo = [each for each in planned if each.runs]
    pruned = len(planned) - len(todo)
    cannot = f"; {pruned} cannot work{'' if every else ' (--all shows why)'}" if pruned else ""
    if not todo:
        return f"nothing to run{cannot}"
    known = [each.seconds for each in todo if each.seconds is not None]
    took = f"; {sum(known) / 60:.0f} minutes for the {len(known)} of known minutes" if known else ""
    return f"{len(todo)} to run{took}{cannot}"


def names(planned: Sequence[Planned]) -> str:
    """The environments to run, each once, as `tox -e` takes them; "" for none."""
    return ",".join(dict.fromkeys(each.cell.name for each in planned if each.runs))


def content(planned: Sequence[Planned], tests_version: int) -> str:
    """Return the plan as JSON, with what would not run, too. Always ASCII.

    `tests_version` is that of the startup tests as they are now.
    """
    cells = [
        {
            "name": each.cell.name,
            "platform": each.platform,
            "python": each.cell.python,
            "torch": each.cell.torch,
            "vllm": each.cell.vllm,
            "off_pin": each.progress.off_pin,
            "runs": each.runs,
            "stale": each.stale,
            "tests_changed": list(each.tests_changed),
            "why": each.why,
            "verdict": each.progress.verdict,
            "reached": each.progress.reached,
            "fails": each.progress.fails,
            "reason": each.progress.reason,
            "unknown": list(each.progress.unknown),
            "contradictions": list(each.progress.contradictions),
            "seconds": each.seconds,
            "seconds_of": each.seconds_of,
        }
        for each in planned
    ]
    whole = {"schema": _SCHEMA, "tests_version": tests_version, "cells": cells}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _known(progress: Progress) -> str:
    """What is known of a cell: the rung that it reached or fails at, and whether it is off-pin."""
    if progress.fails is not None:
        known = f"fails at {progress.fails}"
    else:
        known = f"{progress.reached or 'nothing'}{' ?' if progress.skipped else ''}"
    known += ", off-pin" if progress.off_pin else ""
    return known + (", contradicted" if progress.contradictions else "")


def _minutes(planned: Planned) -> str:
    """Of its own run as it is, of another Python's with a tilde."""
    if planned.seconds is None:
        return "-"
    own = planned.seconds_of == planned.cell.name
    return f"{'' if own else '~'}{planned.seconds / 60:.1f}"
