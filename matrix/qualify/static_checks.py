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

from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.checks.lookup import Answer
from matrix.qualify.query import (
    Query,
    named,
)
from matrix.qualify.runs import ReleaseRuns
from matrix.record.model import RUNGS
from matrix.verdict.grid import Grid, Seen, survey
from matrix.verdict.ladder import CHEAP, Progress, RunEvidence, Step, evidence_of
from matrix.verdict.states import StepState

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


@dataclass(frozen=True)
class FirstRungs:
    """The ladder of both releases with every release of the other project."""

    asked: Query
    grid: Grid
    baseline: str
    candidate: str

    @classmethod
    def of(
        cls,
        asked: Query,
        sides: tuple[ReleaseRuns, ReleaseRuns],
        releases: Releases,
        asks: Asks,
    ) -> FirstRungs | None:
        """None where one of the two is no published release, of which these rungs know nothing."""
        published = [each.version for each in getattr(releases, asked.project)]
        baseline, candidate = (named(each, published) for each in (asked.baseline, asked.candidate))
        if baseline is None or candidate is None:
            return None
        seen: dict[tuple[Cell, str], RunEvidence] = {
            (Cell(each.python, each.torch, each.vllm), each.record.platform): evidence_of(
                each.record, each.entry.verdict
            )
            for side in sides
            for of in side.values()
            for each in of.values()
        }
        grid = _grid_of(releases, asked.project, (baseline, candidate), asks, seen)
        return cls(asked, grid, baseline, candidate)

    def pair(self, other: str, python: str, platform: str) -> tuple[Progress, Progress] | None:
        """The progress of the baseline and of the candidate with that release of the other one."""
        found = [
            self.grid.progress(self._cell(each, other, python), platform)
            for each in (self.baseline, self.candidate)
        ]
        before, after = found
        return None if before is None or after is None else (before, after)

    def every(self) -> Mapping[tuple[str, str], list[tuple[str, Progress, Progress]]]:
        """What was asked for, by platform and release of the other project: on each Python.

        Of the other project those releases that a grid shows: the newest patches, and what ran.
        """
        shown = self.grid.rows if self.asked.other == "vllm" else self.grid.columns
        under = self.asked.under
        others = [
            each.version
            for each in shown
            if under is None or under.contains(each.version, prereleases=True)
        ]
        pythons = [each for each in self.grid.pythons if each in (self.asked.pythons or (each,))]
        return {
            (platform, other): [
                (python, *pair)
                for python in pythons
                if (pair := self.pair(other, python, platform)) is not None
            ]
            for platform in self.asked.platforms
            for other in others
        }

    def _cell(self, release: str, other: str, python: str) -> Cell:
        """The cell of a release of the project in question with one of the other."""
        torch, vllm = (release, other) if self.asked.project == "torch" else (other, release)
        return Cell(python, torch, vllm)


def _grid_of(
    releases: Releases, project: str, versions: Iterable[str], asks: Asks, seen: Seen
) -> Grid:
    """The ladder of these releases of a project with every release of the other one."""
    wanted = {Version(each) for each in versions}
    kept = tuple(each for each in getattr(releases, project) if Version(each.version) in wanted)
    return survey(
        replace(releases, **{project: kept}), resolves=asks.resolves, links=asks.links, seen=seen
    )


def failing(progress: Progress) -> Step | None:
    """The first rung where the cell fails without a run to say so, or None."""
    return (
        progress.steps[RUNGS.index(progress.fails)]
        if progress.fails in CHEAP and progress.fails
        else None
    )


def change(baseline: Progress, candidate: Progress) -> str | None:
    """How the candidate stands against the baseline; None where neither fails at a first rung."""
    before, after = failing(baseline), failing(candidate)
    if after is None:
        return MENDED if before is not None else None
    if before is not None:
        return FAILS_TOO
    if after.rung == "declared":
        return CANNOT_ASK
    if baseline.steps[RUNGS.index(after.rung)].state == StepState.UNKNOWN:
        return NO_BASELINE
    built_for_baseline = candidate.off_pin and not baseline.off_pin
    if after.rung == "links" and built_for_baseline and not after.promised:
        return CANNOT_ASK
    return LOST


def why_not_asked(candidate: Progress) -> str:
    """Why the question cannot be asked of a cell, in words that blame nobody."""
    step, cell = failing(candidate), candidate.cell
    assert step is not None
    why = step.cause or step.reason or "no reason given"
    if step.rung != "links":
        return f"cannot be asked: {why}"
    pins = candidate.steps[0].reason or f"vLLM {cell.vllm} pins another torch"
    return (
        f"cannot be asked with these wheels: {pins}, was built for that, and does not link with"
        f" {cell.torch} ({why})"
    )


def rungs(
    pairs: Mapping[tuple[str, str], Iterable[tuple[str, Progress, Progress]]],
) -> tuple[Rungs, ...]:
    """The first rungs by platform, those that fare alike together, and not what says nothing.

    `pairs` has, by platform and release of the other project, the progress of each Python: of the
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


def _nowhere(baseline: Progress, candidate: Progress) -> bool:
    """Whether the other release is on neither side for this Python."""
    return baseline.fails == candidate.fails == "declared"


def _standing(progress: Progress) -> Standing:
    cheap = progress.steps[: len(CHEAP)]
    step = failing(progress)
    if step is not None:
        return Standing(None, step.rung)
    return Standing(
        next((each.rung for each in reversed(cheap) if each.state == StepState.PASSED), None)
    )
