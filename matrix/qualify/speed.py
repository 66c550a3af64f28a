"""The seconds of two sides that took turns, compared round by round. Never judged. Pure.

A **round** is one run of the baseline and one of the candidate, one right after the other on one
machine. The **ratio** of a round is how many times the baseline's seconds the candidate takes: the
geometric mean over the cases. That of several rounds is the geometric mean of theirs, so to swap
the two sides inverts it, and its **spread** is the smallest and the largest ratio of a round.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix.qualify.query import Side
from matrix.qualify.runs import MissingAnswer, cut_short
from matrix.qualify.unlike import UnlikeCode, unlike_code
from matrix.record.model import STARTS, Outcome, Record, StartKind
from matrix.record.start_seconds import compared_seconds

SLOWDOWN = 1.15
"""From how many times the baseline's seconds on a candidate is slower.

As PyTorch's dashboard of benchmarks has it, on a geometric mean over cases.
"""
LEAST_ROUNDS = 2
"""The fewest rounds of which a ratio is made: one alone has no spread."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One run of each side, one right after the other."""

    baseline: Record
    candidate: Record

    @property
    def records(self) -> Mapping[Side, Record]:
        """The run of each side."""
        return {Side.BASELINE: self.baseline, Side.CANDIDATE: self.candidate}


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The seconds of one start in each round: the geometric means over the cases, oldest first."""

    start: StartKind
    cases: int
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Return how many times the baseline's seconds the candidate takes, round by round."""
        return tuple(after / before for before, after in zip(self.before, self.after, strict=True))

    @property
    def ratio(self) -> float:
        """Return the geometric mean of the ratios of the rounds."""
        return geometric_mean(self.ratios)

    @property
    def slower(self) -> bool:
        """Return whether the candidate is slower by more than what counts as a slowdown."""
        return self.ratio > SLOWDOWN

    @property
    def steady(self) -> bool:
        """Return whether the same side is slower in every round."""
        return min(self.ratios) > 1 or max(self.ratios) < 1


class SpeedCode(StrEnum):
    """Why the speeds of two sides are not compared, though their runs are alike."""

    TOO_FEW_RUNS = "too few runs"
    NOT_IN_TURNS = "not in turns"
    NO_CASE = "no case"


class NoSpeed(NamedTuple):
    """Why the speeds are not compared; each side has so many runs that could be."""

    code: SpeedCode | UnlikeCode
    baseline: int
    candidate: int


class DroppedCode(StrEnum):
    """Why a run drops out of the rounds by itself, and its round with it."""

    CUT_SHORT = "cut short"
    CASE = "case"


class Dropped(NamedTuple):
    """A run of a cell that drops out of the rounds, and why.

    `missing` is how it was cut short, `case` the first one that did not pass, and `outcome` how
    that ended. Where the seconds of the two runs of a round do not compare, the candidate's run is
    named.
    """

    side: Side
    cell: str
    started: str
    code: DroppedCode | UnlikeCode
    missing: MissingAnswer | None = None
    case: str | None = None
    outcome: Outcome | None = None


class Measured(NamedTuple):
    """The result of rounds: if `speeds` is empty, `no_speed` has the reason."""

    speeds: tuple[Speed, ...] = ()
    no_speed: NoSpeed | None = None
    dropped: tuple[Dropped, ...] = ()


def measure(rounds: Iterable[Round]) -> Measured:
    """Return the speeds of both sides by their rounds, over the cases that every one of them ran.

    A case that never passes on one side does not count. A run in which another one fails, or which
    did not come to its end, drops out, and its round with it.
    """
    ordered = sorted(rounds, key=_when)
    records = [record for pair in ordered for record in pair.records.values()]
    ended = [_Run.of(record) for record in records if cut_short(record) is None]
    common = set.intersection(*(set(run.outcomes) for run in ended)) if ended else set()
    cases = common.intersection(*(_passed_once(map(_Run.of, side)) for side in _sides(ordered)))
    dropped, kept = [], []
    for pair in ordered:
        reasons = list(_dropped(pair, cases))
        dropped += reasons
        if not reasons:
            kept.append(pair)
    if not cases or len(kept) < LEAST_ROUNDS:
        code = SpeedCode.TOO_FEW_RUNS if cases else SpeedCode.NO_CASE
        no_speed = NoSpeed(code=code, baseline=len(kept), candidate=len(kept))
        return Measured(no_speed=no_speed, dropped=tuple(dropped))
    return Measured(speeds=tuple(_speeds(kept, cases)), dropped=tuple(dropped))


def rounds_of(before: Iterable[Record], after: Iterable[Record]) -> tuple[Round, ...]:
    """Return the rounds among the runs of two sides: neighbours in time, each in one round alone.

    Runs of both sides that began in one second were not in turns, and are in no round.
    """
    sides = {Side.BASELINE: list(before), Side.CANDIDATE: list(after)}
    starts = [{record.started for record in records} for records in sides.values()]
    both = set.intersection(*starts)
    runs = sorted(
        ((side, record) for side, records in sides.items() for record in records),
        key=lambda run: run[1].started,
    )
    found, waiting = [], None
    for side, record in runs:
        if record.started in both:
            waiting = None
        elif waiting is None or waiting[0] is side:
            waiting = side, record
        else:
            pair = {side: record, waiting[0]: waiting[1]}
            found.append(Round(baseline=pair[Side.BASELINE], candidate=pair[Side.CANDIDATE]))
            waiting = None
    return tuple(found)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of one positive number or more; in any order it is the same.

    >>> geometric_mean([2.0, 8.0])
    4.0
    """
    return math.exp(math.fsum(map(math.log, values)) / len(values))


class _Run(NamedTuple):
    """How each case that a run timed, or that did not pass, ended."""

    record: Record
    outcomes: Mapping[str, Outcome]

    @classmethod
    def of(cls, record: Record) -> _Run:
        timed = _timed(record)
        outcomes = {
            case.case: case.outcome
            for case in record.cases
            if case.outcome is not Outcome.NOT_APPLICABLE
            and (case.outcome is not Outcome.PASSED or case.case in timed)
        }
        return cls(record=record, outcomes=outcomes)

    @property
    def passed(self) -> set[str]:
        return {case for case, outcome in self.outcomes.items() if outcome is Outcome.PASSED}


def _timed(record: Record) -> Collection[str]:
    return set.intersection(*(set(_seconds(record, start)) for start in STARTS))


def _seconds(record: Record, start: StartKind) -> Mapping[str, float]:
    """Return the seconds of a start in each case that passed and was timed."""
    found = {}
    for case in record.cases:
        seen = case.started(start)
        total = (compared_seconds(seen) or 0.0) if seen else 0.0
        if case.outcome == Outcome.PASSED and total > 0:
            found[case.case] = total
    return found


def _when(pair: Round) -> tuple[str, ...]:
    return tuple(sorted((pair.baseline.started, pair.candidate.started)))


def _sides(rounds: Sequence[Round]) -> Iterator[list[Record]]:
    yield [pair.baseline for pair in rounds]
    yield [pair.candidate for pair in rounds]


def _passed_once(runs: Iterable[_Run]) -> set[str]:
    return {case for run in runs if cut_short(run.record) is None for case in run.passed}


def _dropped(pair: Round, cases: Collection[str]) -> Iterator[Dropped]:
    """Yield why a round does not count; each of its runs is named once."""
    found = False
    for side, record in pair.records.items():
        code: DroppedCode | UnlikeCode | None = None
        missing, failing, outcome = cut_short(record), None, None
        outcomes = _Run.of(record).outcomes
        if missing is not None:
            code = DroppedCode.CUT_SHORT
        elif bad := sorted(case for case in cases if outcomes[case] is not Outcome.PASSED):
            code, failing, outcome = DroppedCode.CASE, bad[0], outcomes[bad[0]]
        elif side is Side.CANDIDATE and not found:
            code = unlike_code(pair.baseline, pair.candidate)
        if code is not None:
            found = True
            yield Dropped(
                side=side,
                cell=record.cell,
                started=record.started,
                code=code,
                missing=missing,
                case=failing,
                outcome=outcome,
            )


def _speeds(rounds: Sequence[Round], cases: Collection[str]) -> Iterator[Speed]:
    for start in STARTS:
        before, after = (
            tuple(_mean_of(record, start, cases) for record in side) for side in _sides(rounds)
        )
        yield Speed(start=start, cases=len(cases), before=before, after=after)


def _mean_of(record: Record, start: StartKind, cases: Collection[str]) -> float:
    seconds = _seconds(record, start)
    return geometric_mean([seconds[case] for case in sorted(cases)])
