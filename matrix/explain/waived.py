"""The issues that this project's own data name for a failure: waivers with its signature."""

from __future__ import annotations

from functools import cache

from matrix.rules.waivers import load_waivers


def links_of(signature: str) -> tuple[str, ...]:
    """Return the issues of the waivers that are of this signature."""
    return _links().get(signature, ()) if signature else ()


@cache
def _links() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for waiver in load_waivers().every:
        if waiver.signature:
            found[waiver.signature] = (*found.get(waiver.signature, ()), waiver.link)
    return found
