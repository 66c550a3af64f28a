"""Comparisons besides counters: defaults, kernels, compiled code, speed. Not judged here.

Pure. Records from before these observations have none of them, and say nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from matrix.qualify.runs import CaseState, CellRun, outcome
from matrix.qualify.speed import (
    LEAST_ROUNDS,
    Dropped,
    Measured,
    NoSpeed,
    Speed,
    SpeedCode,
    measure,
    rounds_of,
)
from matrix.qualify.unlike import UnlikeCode, unlike_code
from matrix.record.defaults import DefaultsCompared, compare_defaults
from matrix.record.environment import hardware
from matrix.record.model import STARTS, CacheKind, CellRef, Start, StartKind
from matrix.record.startup_tests import load_startup_tests
from matrix.verdict.recompiles import WrittenCode, written_code

_CODE = (CacheKind.GENERATED, CacheKind.COMPILED)
_BYTES = tuple(f"caches.{kind}.bytes" for kind in _CODE)
_KERNELS, _NODES = "generated_kernel_count", "ir_nodes_pre_fusion"  # of torch._inductor.metrics


class MetricChange(NamedTuple):
    """One of Inductor's numbers of a start that is not the same on both sides.

    With them go the bytes of the code that it generated and compiled (`caches.generated.bytes`).
    """

    case: str
    start: StartKind
    metric: str
    before: int
    after: int


class WarmCode(NamedTuple):
    """The compiled code that the candidate's warm start of a case wrote, and the baseline's.

    `before` is None if the baseline does not know.
    """

    case: str
    before: WrittenCode | None
    after: WrittenCode


@dataclass(frozen=True, kw_only=True)
class Unjudged:
    """The comparison of two runs of a cell besides their counters.

    `defaults` is None if a side does not know its own; `lacks` then names the side, where only
    one does not. `speeds` is empty if `no_speed` says why; `dropped` are runs that do not count
    in them.
    """

    place: CellRef
    defaults: DefaultsCompared | None = None
    lacks: str | None = None
    metrics: tuple[MetricChange, ...] = ()
    warm_code: tuple[WarmCode, ...] = ()
    speeds: tuple[Speed, ...] = ()
    no_speed: NoSpeed | None = None
    dropped: tuple[Dropped, ...] = ()

    def with_speed(self, measured: Measured) -> Unjudged:
        """Return the same, with these speeds instead of its own."""
        return replace(
            self,
            speeds=measured.speeds,
            no_speed=measured.no_speed,
            dropped=measured.dropped,
        )

    @property
    def fuses_less(self) -> tuple[MetricChange, ...]:
        """Return where Inductor makes more kernels of as many nodes, cold: it fuses less.

        A change of what is compiled changes the nodes too.
        """
        other_nodes = self._of(_NODES)
        return tuple(
            change
            for change in self.metrics
            if change.metric == _KERNELS
            and change.start == StartKind.COLD
            and change.after > change.before
            and (change.case, change.start) not in other_nodes
        )

    @property
    def other_code(self) -> tuple[str, ...]:
        """Return the cases for which Inductor generates other code of as many nodes and kernels."""
        counted = self._of(_NODES) | self._of(_KERNELS)
        return tuple(sorted(case for case, start in self._of(*_BYTES) - counted))

    def _of(self, *metrics: str) -> set[tuple[str, StartKind]]:
        """Return the starts, by their case, in which one of these numbers differs."""
        return {(change.case, change.start) for change in self.metrics if change.metric in metrics}


def unjudged(baseline: CellRun, candidate: CellRun) -> Unjudged:
    """Return what the two runs that decide a cell show besides their counters."""
    before, after = baseline.record, candidate.record
    lacks = None
    if (before.defaults is None) != (after.defaults is None):
        lacks = "baseline" if before.defaults is None else "candidate"
    found = Unjudged(
        place=candidate.place,
        defaults=compare_defaults(before.defaults, after.defaults),
        lacks=lacks,
        metrics=tuple(_metrics(baseline, candidate)),
        warm_code=tuple(_warm_code(baseline, candidate)),
    )
    return found.with_speed(_measured(baseline, candidate))


def _metrics(baseline: CellRun, candidate: CellRun) -> Iterator[MetricChange]:
    """Yield the numbers that differ of cases that pass on both sides, by the same startup tests.

    What Inductor generates and compiles in a cold start has the same bytes in every run of one
    torch on one machine (torch 2.11.0, runs of two days): another size is other code.
    """
    same_machine = hardware(baseline.record) == hardware(candidate.record)
    tests = load_startup_tests()
    for case in candidate.record.cases:
        old, new = outcome(baseline, case.case), outcome(candidate, case.case)
        if (old.state, new.state) != (CaseState.PASSED, CaseState.PASSED):
            continue
        if tests.differ(baseline.record, candidate.record, case.case, unjudged=True):
            continue
        assert old.case is not None
        for start in STARTS:
            first, second = old.case.started(start), case.started(start)
            before = _numbers(first, with_code=same_machine)
            after = _numbers(second, with_code=same_machine)
            for metric in sorted(before.keys() & after.keys()):
                if before[metric] != after[metric]:
                    yield MetricChange(
                        case=case.case,
                        start=start,
                        metric=metric,
                        before=before[metric],
                        after=after[metric],
                    )


def _numbers(start: Start | None, *, with_code: bool) -> Mapping[str, int]:
    """Return what is known of Inductor's numbers in a start, cold with the bytes of its code."""
    if start is None:
        return {}
    found = dict(start.metrics or {})
    if with_code and start.start == StartKind.COLD:
        caches = start.caches or {}
        found |= {
            name: caches[kind].bytes
            for kind, name in zip(_CODE, _BYTES, strict=True)
            if kind in caches
        }
    return found


def _warm_code(baseline: CellRun, candidate: CellRun) -> Iterator[WarmCode]:
    known = {case.case: written_code(case) for case in baseline.record.cases}
    for case in candidate.record.cases:
        written = written_code(case)
        if written is not None and written.files:
            yield WarmCode(case=case.case, before=known.get(case.case), after=written)


def _measured(baseline: CellRun, candidate: CellRun) -> Measured:
    """Return the speeds of the two sides, or why their seconds are not comparable."""
    rounds = rounds_of(baseline.timed, candidate.timed)
    code: SpeedCode | UnlikeCode | None = unlike_code(baseline.record, candidate.record)
    if code is None and min(len(baseline.timed), len(candidate.timed)) < LEAST_ROUNDS:
        code = SpeedCode.TOO_FEW_RUNS
    elif code is None and len(rounds) < LEAST_ROUNDS:
        code = SpeedCode.NOT_IN_TURNS
    if code is None:
        return measure(rounds)
    many = {"baseline": len(baseline.timed), "candidate": len(candidate.timed)}
    return Measured(no_speed=NoSpeed(code=code, **many))
