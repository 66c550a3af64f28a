"""What two runs show besides counters: defaults, kernels, compiled code, speed. Never judged.

Pure. Records from before these observations have none of them, and say nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matrix._util.enums import StrEnum
from matrix.qualify.runs import CaseState, CellRun, hardware, outcome
from matrix.record.defaults import DefaultsCompared, compare_defaults
from matrix.record.model import STARTS, CellRef, Outcome, Record, StartKind
from matrix.store.stats import median
from matrix.verdict.recompiles import WrittenCode, written_code

SLOWDOWN = 1.15
"""From how many times the baseline's seconds on a candidate is slower.

As PyTorch's dashboard of benchmarks has it, on a geometric mean over cases.
"""
LEAST_RUNS = 2
"""The fewest runs of each side whose geometric means are compared."""


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """One of Inductor's numbers of a start that is not the same on both sides."""

    case: str
    start: StartKind
    metric: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class WarmCode:
    """The compiled code that the candidate's warm start of a case wrote, and the baseline's.

    `before` is None where the baseline does not know.
    """

    case: str
    before: WrittenCode | None
    after: WrittenCode


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The seconds of one start on both sides: the geometric mean over the cases, run by run."""

    start: StartKind
    cases: int
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Return how many times the baseline's seconds the candidate takes, by the medians."""
        return median(self.after) / median(self.before)

    @property
    def slower(self) -> bool:
        """Return whether the candidate is slower by more than what counts as a slowdown."""
        return self.ratio > SLOWDOWN

    @property
    def overlap(self) -> bool:
        """Return whether the two sides have seconds in common."""
        return max(self.before) >= min(self.after) and max(self.after) >= min(self.before)


class SpeedCode(StrEnum):
    """Why the speeds of two sides are not compared."""

    OTHER_JOBS = "other jobs"
    OTHER_MACHINE = "other machine"
    TOO_FEW_RUNS = "too few runs"
    NOT_IN_TURNS = "not in turns"
    NO_CASE = "no case"


@dataclass(frozen=True, kw_only=True)
class NoSpeed:
    """Why the speeds are not compared; each side has so many runs that could be."""

    code: SpeedCode
    baseline: int
    candidate: int


@dataclass(frozen=True, kw_only=True)
class Unjudged:
    """What two runs of a cell show besides their counters.

    `defaults` is None where a side does not know its own; `lacks` then names the side, where only
    one does not. `speeds` is empty where `no_speed` says why.
    """

    place: CellRef
    defaults: DefaultsCompared | None = None
    lacks: str | None = None
    metrics: tuple[MetricChange, ...] = ()
    warm_code: tuple[WarmCode, ...] = ()
    speeds: tuple[Speed, ...] = ()
    no_speed: NoSpeed | None = None


def unjudged(baseline: CellRun, candidate: CellRun) -> Unjudged:
    """Return what the two runs that decide a cell show besides their counters."""
    before, after = baseline.record, candidate.record
    lacks = None
    if (before.defaults is None) != (after.defaults is None):
        lacks = "baseline" if before.defaults is None else "candidate"
    no_speed = _no_speed(baseline, candidate)
    speeds = () if no_speed else tuple(_speeds(baseline.timed, candidate.timed))
    if no_speed is None and not speeds:
        no_speed = _reason(SpeedCode.NO_CASE, baseline, candidate)
    return Unjudged(
        place=candidate.place,
        defaults=compare_defaults(before.defaults, after.defaults),
        lacks=lacks,
        metrics=tuple(_metrics(baseline, candidate)),
        warm_code=tuple(_warm_code(baseline, candidate)),
        speeds=speeds,
        no_speed=no_speed,
    )


def _metrics(baseline: CellRun, candidate: CellRun) -> Iterator[MetricChange]:
    for case in candidate.record.cases:
        old, new = outcome(baseline, case.case), outcome(candidate, case.case)
        if (old.state, new.state) != (CaseState.PASSED, CaseState.PASSED):
            continue
        assert old.case is not None
        for start in STARTS:
            first, second = old.case.started(start), case.started(start)
            before = first.metrics if first else None
            after = second.metrics if second else None
            if before is None or after is None:
                continue
            for metric in sorted(before.keys() & after.keys()):
                if before[metric] != after[metric]:
                    yield MetricChange(
                        case=case.case,
                        start=start,
                        metric=metric,
                        before=before[metric],
                        after=after[metric],
                    )


def _warm_code(baseline: CellRun, candidate: CellRun) -> Iterator[WarmCode]:
    known = {case.case: written_code(case) for case in baseline.record.cases}
    for case in candidate.record.cases:
        written = written_code(case)
        if written is not None and written.files:
            yield WarmCode(case=case.case, before=known.get(case.case), after=written)


def _no_speed(baseline: CellRun, candidate: CellRun) -> NoSpeed | None:
    """Return why the seconds of the two sides are not comparable, or None where they are."""
    code = None
    if baseline.record.jobs != candidate.record.jobs:
        code = SpeedCode.OTHER_JOBS
    elif hardware(baseline.record) != hardware(candidate.record):
        code = SpeedCode.OTHER_MACHINE
    elif min(len(baseline.timed), len(candidate.timed)) < LEAST_RUNS:
        code = SpeedCode.TOO_FEW_RUNS
    elif not _in_turns(baseline.timed, candidate.timed):
        code = SpeedCode.NOT_IN_TURNS
    return None if code is None else _reason(code, baseline, candidate)


def _reason(code: SpeedCode, baseline: CellRun, candidate: CellRun) -> NoSpeed:
    return NoSpeed(code=code, baseline=len(baseline.timed), candidate=len(candidate.timed))


def _in_turns(before: Sequence[Record], after: Sequence[Record]) -> bool:
    """Return whether the runs of one side lie among those of the other, as A B A B do."""
    first, second = ([record.started for record in side] for side in (before, after))
    return min(first) < max(second) and min(second) < max(first)


def _speeds(before: Sequence[Record], after: Sequence[Record]) -> Iterator[Speed]:
    """Yield the speeds of the starts, over the cases that every run of both sides has."""
    for start in STARTS:
        runs = [[_seconds(record, start) for record in side] for side in (before, after)]
        cases = set.intersection(*(set(run) for side in runs for run in side))
        if cases:
            first, second = (tuple(_geometric_mean(run, cases) for run in side) for side in runs)
            yield Speed(start=start, cases=len(cases), before=first, after=second)


def _seconds(record: Record, start: StartKind) -> Mapping[str, float]:
    """Return the seconds of a start in each case that passed and was timed."""
    found = {}
    for case in record.cases:
        seen = case.started(start)
        total = seen.seconds.get("total", 0.0) if seen else 0.0
        if case.outcome == Outcome.PASSED and total > 0:
            found[case.case] = total
    return found


def _geometric_mean(seconds: Mapping[str, float], cases: set[str]) -> float:
    return math.exp(math.fsum(math.log(seconds[case]) for case in sorted(cases)) / len(cases))
