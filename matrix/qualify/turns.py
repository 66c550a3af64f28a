"""The rounds of timings of a candidate: how many are left, how long they take, what they show.

Pure. The sides of each pairing take turns on one machine: baseline, candidate, baseline, candidate.
A round counts for these builds and for the startup tests as they are now. One with a run that was
cut short is not among those done, so it is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matrix.catalog.cells import Cell
from matrix.qualify.model import Match, Qualification
from matrix.qualify.query import Side
from matrix.qualify.runs import CaseState, CellRun, cut_short, outcome
from matrix.qualify.seconds import CellEstimate
from matrix.qualify.speed import Round, measure
from matrix.record.model import Platform
from matrix.record.startup_tests import StartupTests, load_startup_tests
from matrix.verdict.grid import is_of

if TYPE_CHECKING:
    from matrix.qualify.candidate_plan import CandidatePlan, PlannedPair

TIMED = ("small_startup",)
"""The startup tests, by their functions, that are timed: all would take many times longer."""


@dataclass(frozen=True, kw_only=True)
class PlannedRounds:
    """How many rounds of two cells are wanted and done, and how long a run of each takes."""

    wanted: int
    done: int
    baseline: CellEstimate
    candidate: CellEstimate

    @property
    def left(self) -> int:
        """How many rounds are left."""
        return max(self.wanted - self.done, 0)

    @property
    def seconds(self) -> float | None:
        """The seconds of the rounds that are left; None if unknown."""
        if self.baseline.run is None or self.candidate.run is None:
            return None if self.left else 0.0
        return self.left * (self.baseline.run + self.candidate.run)


def rounds_between(
    baseline: Cell,
    candidate: Cell,
    platform: Platform,
    rounds: Iterable[Round],
    tests: StartupTests,
) -> tuple[Round, ...]:
    """Return the rounds of these two cells, of these very builds, with the startup tests of now."""
    cells = {Side.BASELINE: baseline, Side.CANDIDATE: candidate}
    return tuple(
        pair
        for pair in rounds
        if all(
            record.cell == cells[side].name
            and record.platform == platform
            and is_of(record, cells[side])
            and tests.version_of(record) == tests.current
            for side, record in pair.records.items()
        )
    )


def done(rounds: Iterable[Round]) -> int:
    """Return how many rounds came to their end on both sides, whether their cases passed or not."""
    return sum(
        all(cut_short(record) is None for record in pair.records.values()) for pair in rounds
    )


def with_rounds(
    found: Qualification, plan: CandidatePlan, rounds: Iterable[Round]
) -> Qualification:
    """Return the qualification with the speeds of these rounds, where a pairing of it has any.

    Its other pairings keep the speeds that their records show.
    """
    every, tests = list(rounds), load_startup_tests()
    own = {
        (pair.baseline.cell.name, pair.candidate.cell.name): rounds_between(
            pair.baseline.cell, pair.candidate.cell, plan.asked.platform, every, tests
        )
        for pair in plan.pairs
    }
    matches = (_with_rounds(match, own.get(_names(match), ())) for match in found.matches)
    return replace(found, matches=tuple(matches))


def _with_rounds(match: Match, rounds: tuple[Round, ...]) -> Match:
    if match.unjudged is None or not rounds:
        return match
    return replace(match, unjudged=match.unjudged.with_speed(measure(rounds)))


@dataclass(frozen=True, kw_only=True)
class Untimed:
    """Two cells that take no turns: no case that would be timed passes on that side.

    `side` is None if a side has no record that could be compared.
    """

    baseline: str
    candidate: str
    side: Side | None


def why_untimed(found: Qualification, pair: PlannedPair) -> Untimed | None:
    """Return why no round of these two cells helps; None if both have a case that passes."""
    names = pair.baseline.cell.name, pair.candidate.cell.name
    match = next(
        (
            match
            for match in found.matches
            if _names(match) == names and match.candidate.variant is None
        ),
        None,
    )
    if match is None:
        return Untimed(baseline=names[0], candidate=names[1], side=None)
    runs = {Side.BASELINE: match.baseline, Side.CANDIDATE: match.candidate}
    side = next((side for side, run in runs.items() if not _passes(run)), None)
    if side is None:
        return None
    return Untimed(baseline=names[0], candidate=names[1], side=side)


def _passes(run: CellRun) -> bool:
    return any(
        outcome(run, case.case).state is CaseState.PASSED
        for case in run.record.cases
        if case.case.partition("[")[0] in TIMED
    )


def _names(match: Match) -> tuple[str, str]:
    return match.baseline.place.cell, match.candidate.place.cell
