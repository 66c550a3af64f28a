"""The words for packages that are not as their vLLM requires, in every form of the table."""

from __future__ import annotations

from collections.abc import Sequence

from matrix._util.text import clean, clip
from matrix.record.model import Departure, Why
from matrix.verdict.judge import CellVerdict

NOT_STOCK = "not stock"
"""The words for an environment with such packages."""

UNKNOWN = "not known whether stock"

_NAME = 60  # characters of a name or a version, which a record may make as long as it likes


def mark(found: Sequence[Departure], most: int = 4) -> str:
    """Return `not stock: without flashinfer-python, ray`, at most so many names; "" if stock."""
    return f"{NOT_STOCK}: {differing(found, most)}" if found else ""


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
    return mark(verdict.not_stock) or "as required"


def described(departure: Departure) -> str:
    """Return how a package differs, in a few words, for people.

    >>> described(Departure(name="ray", required="ray>=2.48", installed=None, why=Why.MISSING))
    'ray>=2.48 is missing'
    """
    name, required, version = departure.name, departure.required, departure.installed
    return {
        Why.MISSING: f"{required} is missing",
        Why.OTHER_VERSION: f"{name} is {version}, not {required}",
        Why.OVERRIDDEN: f"{name} is {version}, an override of {required}",
        Why.OTHER_TORCH: f"{name} {version} is for {required}",
        Why.TWO_VERSIONS: f"{name} is there as {version}",
        Why.UNREADABLE: f"the metadata of {name} {version} cannot be read",
    }[departure.why]


def differing(found: Sequence[Departure], most: int = 4) -> str:
    """Return how packages differ, in a few words; those that are missing come first."""
    missing = [_short(departure.name) for departure in found if departure.why is Why.MISSING]
    others = [_other(departure) for departure in found if departure.why is not Why.MISSING]
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
