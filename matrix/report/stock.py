"""How a run whose packages are not as its vLLM requires is marked, in every form of the table."""

from __future__ import annotations

from collections.abc import Sequence

from matrix._util.text import clean, clip
from matrix.record.model import Departure, Why
from matrix.verdict.judge import CellVerdict

NOT_STOCK = "not stock"
UNKNOWN = "not known whether stock"
_NAME = 60  # characters of a name or a version, which a record may make as long as it likes


def mark(verdict: CellVerdict, most: int = 4) -> str:
    """Return `not stock: without flashinfer-python, ray`, at most so many names; "" where stock."""
    return f"{NOT_STOCK}: {differing(verdict.not_stock, most)}" if verdict.not_stock else ""


def standing(verdict: CellVerdict) -> str:
    """Return the mark; else that the packages were as required, or that nobody knows."""
    if verdict.departures is None:
        return UNKNOWN
    return mark(verdict) or "as required"


def differing(found: Sequence[Departure], most: int = 4) -> str:
    """Return how packages differ, in a few words; those that are missing come first."""
    missing = [_short(each.name) for each in found if each.why is Why.MISSING]
    others = [_other(each) for each in found if each.why is not Why.MISSING]
    shown = [f"without {', '.join(missing[:most])}"] if missing else []
    shown += others[: max(0, most - len(missing))]
    left = max(0, len(found) - most)
    return ", ".join([*shown, *([f"and {left} more"] if left else [])])


def _other(departure: Departure) -> str:
    name, version = _short(departure.name), _short(departure.installed or "")
    if departure.why is Why.OTHER_TORCH:
        return f"with {name} {version} for another torch"
    if departure.why is Why.UNREADABLE:
        return f"with unreadable metadata of {name}"
    return f"with {name} {version}"


def _short(text: str) -> str:
    return clip(clean(text), _NAME)
