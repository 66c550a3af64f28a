"""Two releases on the rungs that need no run: what the cheap rungs know of one against the other.

Pure. What passes these rungs is not known to start, so nothing here ever qualifies a release. What
fails at one where the baseline does not has lost something, and the rung says whose word it was:

- *resolves* speaks of what both releases ask for: a regression;
- *links* speaks of how a wheel was built. A vLLM is built for the torch that it pins, and its
  extensions in C++ load with no other; so where the baseline is the pin and the candidate is not,
  the question **cannot be asked** with the wheels that there are, and nobody broke anything. Only
  what torch's stable ABI promises to keep is a regression there, and so is what links no longer
  though it did off-pin, or though it is the pin;
- *declared* leaves a Python out: nothing can be asked on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from packaging.version import Version

from matrix.cells import Cell
from matrix.grid import Grid, Seen, survey
from matrix.ladder import CHEAP, PASSED, UNKNOWN, Answer, Climb, Step
from matrix.records import RUNGS
from matrix.releases import Releases

__all__ = [
    "CANNOT_ASK",
    "FAILS_TOO",
    "LOST",
    "MENDED",
    "NO_BASELINE",
    "Asks",
    "Rungs",
    "Standing",
    "change",
    "failing",
    "grid_of",
    "rungs",
]

LOST = "regression"
CANNOT_ASK = "cannot be asked"
FAILS_TOO = "fails as before"
MENDED = "repair"
NO_BASELINE = "the baseline was not asked"
"""How the candidate stands on the first rungs where it does not pass them as the baseline does."""


class Asks(Protocol):
    """What answers the rungs *resolves* and *links*; None of a cell that nobody asked."""

    def resolves(self, cell: Cell, platform: str) -> Answer | None:
        """Whether a resolver finds a full set of packages."""

    def links(self, cell: Cell) -> Answer | None:
        """Whether that torch exports what vLLM's core imports."""


@dataclass(frozen=True)
class Standing:
    """Where one side `fails` on the first rungs, or else the highest that it passed."""

    passed: str | None
    fails: str | None = None


@dataclass(frozen=True)
class Rungs:
    """The first rungs of both sides, with those releases of the other project that fare alike.

    `kind` is None where neither side fails. `pythons` are those of which it holds, where it does
    not of all.
    """

    platform: str
    baseline: Standing
    candidate: Standing
    kind: str | None
    reason: str | None
    others: tuple[str, ...]
    pythons: tuple[str, ...] = ()


def grid_of(
    releases: Releases, project: str, versions: Iterable[str], asks: Asks, seen: Seen
) -> Grid:
    """The ladder of these releases of a project with every release of the other one."""
    wanted = {Version(each) for each in versions}
    kept = tuple(each for each in getattr(releases, project) if Version(each.version) in wanted)
    return survey(
        replace(releases, **{project: kept}), resolves=asks.resolves, links=asks.links, seen=seen
    )


def failing(climb: Climb) -> Step | None:
    """The first rung where the cell fails without a run to say so, or None."""
    return climb.steps[RUNGS.index(climb.fails)] if climb.fails in CHEAP and climb.fails else None


def change(baseline: Climb, candidate: Climb) -> str | None:
    """How the candidate stands against the baseline; None where neither fails at a first rung."""
    before, after = failing(baseline), failing(candidate)
    if after is None:
        return MENDED if before is not None else None
    if before is not None:
        return FAILS_TOO
    if after.rung == "declared":
        return CANNOT_ASK
    if baseline.steps[RUNGS.index(after.rung)].state == UNKNOWN:
        return NO_BASELINE
    built_for_baseline = candidate.off_pin and not baseline.off_pin
    if after.rung == "links" and built_for_baseline and not after.promised:
        return CANNOT_ASK
    return LOST


def rungs(
    pairs: Mapping[tuple[str, str], Iterable[tuple[str, Climb, Climb]]],
) -> tuple[Rungs, ...]:
    """The first rungs by platform, those that fare alike together, and not what says nothing.

    `pairs` has, by platform and release of the other project, the climbs of each Python: of the
    baseline and of the candidate.
    """
    groups: dict[Rungs, list[str]] = {}
    for (platform, other), of in pairs.items():
        told = [each for each in of if not _nowhere(each[1], each[2])]
        found: dict[Rungs, list[str]] = {}
        for python, before, after in told:
            kind, standing = change(before, after), _standing(after)
            if standing == Standing(None):
                continue
            first = failing(after) or failing(before)
            reason = None if first is None else first.cause or first.reason
            key = Rungs(platform, _standing(before), standing, kind, reason, ())
            found.setdefault(key, []).append(python)
        for key, pythons in found.items():
            some = tuple(pythons) if len(pythons) < len(told) else ()
            groups.setdefault(replace(key, pythons=some), []).append(other)
    return tuple(replace(key, others=tuple(others)) for key, others in groups.items())


def _nowhere(baseline: Climb, candidate: Climb) -> bool:
    """Whether the other release is on neither side for this Python."""
    return baseline.fails == candidate.fails == "declared"


def _standing(climb: Climb) -> Standing:
    cheap = climb.steps[: len(CHEAP)]
    step = failing(climb)
    if step is not None:
        return Standing(None, step.rung)
    return Standing(next((each.rung for each in reversed(cheap) if each.state == PASSED), None))
