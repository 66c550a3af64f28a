"""How a comparison with the nearest expectations is marked, in every form of the table."""

from __future__ import annotations

from matrix._util.text import listed
from matrix.rules.expectations import Difference
from matrix.rules.provisional import Provisional

PROVISIONAL = "provisional"


def mark(found: Provisional) -> str:
    """Return `provisional: as vLLM 0.33`, or `provisional: differs from vLLM 0.33`."""
    how = "differs from" if found.differences else "as"
    return f"{PROVISIONAL}: {how} {listed(list(found.releases))}"


def values(found: Provisional | None) -> dict[str, object] | None:
    """Return the comparison as JSON values; None where there is none."""
    if found is None:
        return None
    return {
        "releases": list(found.releases),
        "differences": [difference(counter) for counter in found.differences],
    }


def difference(found: Difference) -> dict[str, object]:
    """Return a counter that differs as JSON values."""
    return {
        "start": found.start,
        "counter": found.counter,
        "expected": found.expected,
        "observed": found.observed,
        "rule": found.rule,
    }
