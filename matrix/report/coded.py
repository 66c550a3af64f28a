"""Reasons as JSON values: their codes and operands, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

from matrix.record.model import WHOLE_RUN, Departure
from matrix.report import stock
from matrix.report.facts import asked_words, facts_words
from matrix.report.provisional import difference, release_words
from matrix.report.reasons import reason_words
from matrix.rules.expectations import Difference
from matrix.rules.provisional import NearestRelease
from matrix.verdict.reasons import VerdictReason


def named(case: str) -> str | None:
    """Return the name of a case, or None for the run as a whole, which is null in JSON."""
    return None if case == WHOLE_RUN else case


def coded(reason: Any) -> dict[str, object]:  # noqa: ANN401 - a reason of any room
    """Return the code of a reason and its operands: its fields, without those that are not set.

    A `detail`, which is the reason of a verdict, is its sentence, and has its own code and operands
    as `because`; so have `packages` their parts as `departures`. The facts of a check
    have their words as `text`, the day of its question as `by`.
    """
    operands: dict[str, object] = {}
    for name in _names(reason):
        value = getattr(reason, name)
        if name == "code" or value is None:
            continue
        operands[name] = operand(value)
        if name in ("detail", "pin") and isinstance(value, VerdictReason):
            operands[name] = reason_words(value)
            operands |= {"because": coded(value)} if name == "detail" else {}
        elif name == "packages":
            operands |= {
                "packages": list(map(stock.described, value)),
                "departures": operand(value),
            }
        elif name == "facts":
            operands["text"] = facts_words(value)
        elif name == "asked":
            operands["by"] = asked_words(value)
    return {"code": reason.code, "operands": operands}


def because(reason: Any) -> dict[str, object] | None:  # noqa: ANN401 - as in `coded`
    """Return the code of a reason and its operands; None if there is no reason."""
    return None if reason is None else coded(reason)


def operand(value: Any) -> object:  # noqa: ANN401 - an operand of any type
    """Return an operand as a JSON value."""
    if value is None or isinstance(value, (str, int, float)):  # most are
        return value
    if isinstance(value, (Departure, Difference)):
        return stock.values(value) if isinstance(value, Departure) else difference(value)
    if isinstance(value, NearestRelease):
        return release_words(value)
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "code"):
        return coded(value)
    if is_dataclass(value) or hasattr(value, "_fields"):
        return {name: operand(getattr(value, name)) for name in _names(value)}
    if isinstance(value, tuple):
        return [operand(item) for item in value]
    return value


def _names(value: Any) -> Sequence[str]:  # noqa: ANN401 - a NamedTuple or a dataclass
    return [field.name for field in fields(value)] if is_dataclass(value) else value._fields
