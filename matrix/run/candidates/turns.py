"""Time the two sides of each pairing in turns: baseline, candidate, baseline, candidate.

They run one after the other and never at once, each in the environment that it has. A run in an
environment that was just made reads and compiles files for the first time, so it does not count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from matrix._util.reported import Say
from matrix.qualify.candidate_plan import CandidatePlan, PlannedCell, PlannedPair
from matrix.qualify.model import Qualification
from matrix.qualify.turns import TIMED, Untimed, why_untimed
from matrix.record.model import Platform
from matrix.run.candidates.options import CellNotRun, NotRunError, RunCell, RunOptions

ONE_CASE = "1"
"""How many cases run side by side in a turn by default: two at once slow each other down."""


class TurnLog(Protocol):
    """A log that knows the existing environments, and notes the rounds that were made."""

    def has_environment(self, name: str) -> bool:
        """Return whether the environment of that name was made already."""

    def add_round(self, platform: Platform, baseline: Path, candidate: Path) -> None:
        """Note that these two records are a round."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The result of the turns: the cells that could not run, and the pairings without turns."""

    not_run: tuple[CellNotRun, ...] = ()
    untimed: tuple[Untimed, ...] = ()


def take_turns(
    plan: CandidatePlan, found: Qualification, run: RunCell, say: Say, log: TurnLog
) -> Taken:
    """Make the rounds that are left, and note each that has both its records.

    A pairing of which one side never passes is left out. Where a cell leaves no record, its pairing
    stops and the others continue.
    """
    pairs, untimed = [], []
    for pair in plan.pairs:
        if pair.rounds is None or not pair.rounds.left:
            continue
        why = why_untimed(found, pair)
        if why is None:
            pairs.append(pair)
        else:
            untimed.append(why)
    turns = _Turns(plan=plan, run=run, say=say, log=log, left=_all_turns(pairs))
    not_run = []
    for pair in pairs:
        before = turns.left
        try:
            turns.take(pair)
        except _StoppedError as stopped:
            not_run.append(stopped.not_run)
            turns.left = before - _all_turns([pair])
    return Taken(not_run=tuple(not_run), untimed=tuple(untimed))


def _all_turns(pairs: list[PlannedPair]) -> int:
    return sum(2 * pair.rounds.left for pair in pairs if pair.rounds is not None)


class _StoppedError(Exception):
    """A cell left no record."""

    def __init__(self, not_run: CellNotRun) -> None:
        super().__init__(not_run.reason)
        self.not_run = not_run


@dataclass(kw_only=True)
class _Turns:
    """The turns of a qualification: `left` of them, and how long the last one of each cell took."""

    plan: CandidatePlan
    run: RunCell
    say: Say
    log: TurnLog
    left: int
    took: dict[str, float] = field(default_factory=dict)

    def take(self, pair: PlannedPair) -> None:
        """Make the rounds of one pairing. Raises _StoppedError."""
        assert pair.rounds is not None
        for planned in (pair.baseline, pair.candidate):
            if not self.log.has_environment(planned.cell.name):
                where = "in its new environment, which does not count"
                self._run(planned, f"{planned.cell.name} ({planned.side}) {where}")
        for number in range(pair.rounds.done + 1, pair.rounds.wanted + 1):
            paths = []
            for planned in (pair.baseline, pair.candidate):
                what = f"round {number} of {pair.rounds.wanted}: {planned.cell.name}"
                self.say(f"{what} ({planned.side}; {self._rest(pair)})")
                paths.append(self._run(planned, what))
                self.left -= 1
            self.log.add_round(self.plan.asked.platform, *paths)

    def _run(self, planned: PlannedCell, what: str) -> Path:
        options = RunOptions(
            cell=planned.cell,
            platform=self.plan.asked.platform,
            cases=TIMED,
            jobs=self.plan.asked.jobs or ONE_CASE,
            progress=what,
        )
        began = time.monotonic()
        try:
            path = self.run(planned.cell.name, options)
        except NotRunError as error:
            self.say(f"{what}: {error}")
            raise _StoppedError(CellNotRun(cell=planned.cell.name, reason=str(error))) from None
        self.took[planned.cell.name] = time.monotonic() - began
        self.say(f"{what}: {self.took[planned.cell.name]:.0f} s, record {path}")
        return path

    def _rest(self, pair: PlannedPair) -> str:
        """Return how many turns are left, and how long they take as far as it is known."""
        assert pair.rounds is not None
        words = "the last turn" if self.left == 1 else f"{self.left} turns left"
        known = (
            self.took.get(pair.baseline.cell.name, pair.rounds.baseline.run),
            self.took.get(pair.candidate.cell.name, pair.rounds.candidate.run),
        )
        seconds = [value for value in known if value is not None]
        if not seconds:
            return words
        minutes = self.left * sum(seconds) / len(seconds) / 60
        return f"{words}, about {max(minutes, 1):.0f} min"
