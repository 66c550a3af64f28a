"""The issues that this project's own data name for a failure: waivers with its signature. Pure."""

from __future__ import annotations

from matrix.rules.waivers import Waivers


def links_of(signature: str, waivers: Waivers) -> tuple[str, ...]:
    """Return the issues of the waivers that are of this signature."""
    return tuple(waiver.link for waiver in waivers.every if waiver.signature == signature)
