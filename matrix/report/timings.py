"""The seconds of a record, split: what to show of them, and the ratio of warm to cold."""

from __future__ import annotations

from matrix._util.text import seconds
from matrix.record.model import Case, Record, Rung, Start

PARTS = ("import", "inspect", "load", "jit", "dynamo", "inductor")
"""The parts of a start with a column of their own; `save` and `artifacts_load` share one."""

_SAVE, _LOAD = "save", "artifacts_load"
_STEPS = ("config", "tokenizer", "engine", "device", "profile", "kv_cache", "warmup")
_UNNAMED = "unnamed"

FAILED_STEP = (
    "a step before the cases failed in one of the two runs alone, so its starts took longer;"
    " `matrix show` names it"
)
"""Why the seconds of two runs do not compare though jobs, tests and machine are the same."""


def warm_over_cold(case: Case) -> float | None:
    """Return the seconds of the warm start as a share of the cold one's; None if unknown.

    >>> warm_over_cold(Case(case="a", outcome="passed"))
    """
    total: dict[str, float | None] = {
        start.start: start.seconds.get("total") for start in case.starts
    }
    cold, warm = total.get("cold"), total.get("warm")
    return warm / cold if cold and warm is not None else None


def import_seconds(record: Record) -> float | None:
    """Return the seconds that the run's one import of torch and vLLM took, or None."""
    return next(
        (rung.seconds for rung in record.rungs if rung.rung == Rung.IMPORTS and rung.ok), None
    )


def is_split(start: Start) -> bool:
    """Tell whether the start has the parts of its seconds. Those of old records have none."""
    return any(part in start.seconds for part in (*PARTS, *_STEPS, _SAVE, _LOAD))


def other_steps(start: Start) -> float | None:
    """Return the seconds of the parts without a column of their own; None if there are none."""
    found = [start.seconds[part] for part in _STEPS if part in start.seconds]
    return sum(found) if found else None


def unnamed(start: Start) -> float | None:
    """Return the seconds of a start's total that no part has; None if it has no parts.

    Records from before the number have it too: their parts are known.

    >>> unnamed(Start(start="cold", seconds={"total": 9.0, "inductor": 6.5, "save": 0.5}))
    2.0
    """
    total = start.seconds.get("total")
    if _UNNAMED in start.seconds:
        return start.seconds[_UNNAMED]
    if total is None or not is_split(start):
        return None
    named = sum(start.seconds.get(part, 0.0) for part in (*PARTS, *_STEPS, _SAVE, _LOAD))
    return max(0.0, total - named)


def artifacts(start: Start) -> str:
    """Return the seconds of saving and of loading compiled artifacts in words, or a dash.

    >>> artifacts(Start(start="cold", seconds={"save": 0.31, "artifacts_load": 2.0}))
    'saved 0.3, loaded 2.0'
    """
    words = ((_SAVE, "saved"), (_LOAD, "loaded"))
    parts = (
        f"{word} {seconds(start.seconds[part])}" for part, word in words if part in start.seconds
    )
    return ", ".join(parts) or seconds(None)
