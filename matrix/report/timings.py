"""The seconds of a record, split: what to show of them, and the ratio of warm to cold."""

from __future__ import annotations

from matrix._util.text import seconds
from matrix.record.model import Case, Record, Start

PARTS = ("inspect", "load", "dynamo", "inductor")
"""The parts of a start with a column of their own; beside them are `save` and `artifacts_load`."""

_SAVE, _LOAD = "save", "artifacts_load"


def warm_over_cold(case: Case) -> float | None:
    """The seconds of the warm start as a share of the cold one's, or None where one is not known.

    >>> warm_over_cold(Case(case="a", outcome="passed"))
    """
    total: dict[str, float | None] = {each.start: each.seconds.get("total") for each in case.starts}
    cold, warm = total.get("cold"), total.get("warm")
    return warm / cold if cold and warm is not None else None


def import_seconds(record: Record) -> float | None:
    """The seconds in which the run imported torch and vLLM, once for all its starts, or None."""
    return next((each.seconds for each in record.rungs if each.rung == "imports" and each.ok), None)


def is_split(start: Start) -> bool:
    """Tell whether the start says more of its seconds than their sum. Old records do not."""
    return any(part in start.seconds for part in (*PARTS, _SAVE, _LOAD))


def artifacts(start: Start) -> str:
    """The seconds of saving and of loading compiled artifacts in words, or a dash.

    >>> artifacts(Start(start="cold", seconds={"save": 0.31, "artifacts_load": 2.0}))
    'saved 0.3, loaded 2.0'
    """
    words = ((_SAVE, "saved"), (_LOAD, "loaded"))
    said = (
        f"{word} {seconds(start.seconds[part])}" for part, word in words if part in start.seconds
    )
    return ", ".join(said) or seconds(None)
