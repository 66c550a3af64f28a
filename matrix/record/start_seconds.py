"""The seconds of a start that are compared between runs. Pure."""

from __future__ import annotations

from matrix.record.model import Start


def compared_seconds(start: Start) -> float | None:
    """Return the seconds of a start without those of `inspect`; None if it was not timed.

    A run asks the classes of its models once, before its cases; where that failed, and before
    version 25 of the startup tests, each cold start asks.

    >>> compared_seconds(Start(start="cold", seconds={"total": 61.5, "inspect": 9.5}))
    52.0
    >>> compared_seconds(Start(start="warm", seconds={}))
    """
    total = start.seconds.get("total")
    return None if total is None else total - start.seconds.get("inspect", 0.0)
