"""The seconds of a start that are compared between runs, and whether two runs compare. Pure.

The one rule for all comparisons: `results diff`, `upgrade`, and both that `qualify` makes.
"""

from __future__ import annotations

from matrix._util.enums import StrEnum
from matrix.record.environment import hardware
from matrix.record.model import Record, Start
from matrix.record.startup_tests import load_startup_tests


class Unlike(StrEnum):
    """Why the seconds of two runs do not compare, whatever they ran.

    `JOBS`: another number of cases ran side by side. `TESTS`: the startup tests of the two take
    another time, or may. `MACHINE`: the platform, the GPU or the processor is another. `STEPS`: a
    step that does something once for all cases failed in one run alone, where each case did it.
    """

    JOBS = "cases side by side"
    TESTS = "startup tests"
    MACHINE = "machine"
    STEPS = "steps before the cases"


def unlike(before: Record, after: Record) -> frozenset[Unlike]:
    """Return why the seconds of two runs do not compare; nothing if they do.

    They do if both ran with as many cases side by side, on machines of one kind, with startup tests
    that take the same time, and the same steps before the cases failed, if any. A record that does
    not know such a step counts as one where it did not fail.
    """
    found = set()
    if before.jobs != after.jobs:
        found.add(Unlike.JOBS)
    if load_startup_tests().differ(before, after, seconds=True):
        found.add(Unlike.TESTS)
    if before.platform != after.platform or hardware(before) != hardware(after):
        found.add(Unlike.MACHINE)
    if _failed_steps(before) != _failed_steps(after):
        found.add(Unlike.STEPS)
    return frozenset(found)


def _failed_steps(record: Record) -> list[bool]:
    """Return of each step before the cases whether it failed."""
    steps = record.cpp_compiler, record.inspections
    return [step is not None and step.reason is not None for step in steps]


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
