"""How a run whose packages are not as its vLLM requires is marked, in every form of the table."""

from __future__ import annotations

from matrix.record.model import Departure
from matrix.record.stock import NOT_STOCK, differing
from matrix.verdict.judge import CellVerdict

UNKNOWN = "not known whether stock"


def mark(verdict: CellVerdict, most: int = 4) -> str:
    """Return `not stock: without flashinfer-python, ray`, at most so many names; "" where stock."""
    return f"{NOT_STOCK}: {differing(verdict.not_stock, most)}" if verdict.not_stock else ""


def values(departure: Departure) -> dict[str, object]:
    """Return a package that is not as required as JSON values."""
    return {
        "name": departure.name,
        "required": departure.required,
        "installed": departure.installed,
        "why": departure.why,
        "by": departure.by,
    }


def standing(verdict: CellVerdict) -> str:
    """Return the mark; else that the packages were as required, or that nobody knows."""
    if verdict.departures is None:
        return UNKNOWN
    return mark(verdict) or "as required"
