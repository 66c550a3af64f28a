"""The observations of each run of each case, and the runs that represent their pair.

Pure. A record says with which flags a case ran, but not whether these are the defaults of its
releases or were given to the run. So the runs of one cell are grouped by their flags, and its
**own** runs are the group with the most complete runs, then the most runs. If two groups tie,
nothing shows which flags are its own; one more run without given flags decides that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from matrix._util.enums import StrEnum
from matrix._util.versions import parse_version
from matrix.catalog.cells import Cell
from matrix.record.environment import environment_of
from matrix.record.model import (
    STARTS,
    WHOLE_RUN,
    Case,
    Defaults,
    Departure,
    Outcome,
    Platform,
    Rank,
    Record,
    Rung,
    Start,
    StartKind,
)
from matrix.record.signature import signature
from matrix.record.startup_tests import identity_of_tests
from matrix.rules.counters import COUNTERS
from matrix.verdict.events import StartEvent, telling
from matrix.verdict.judge import CaseVerdict, CellVerdict, blames_pair
from matrix.verdict.precedence import EvidenceLevel, FaultLevel, RunOrder
from matrix.verdict.reasons import VerdictReason, failure_key, recorded, rung_reason
from matrix.verdict.states import Verdict
from matrix.verdict.stock import blamed


class ObservationEnd(StrEnum):
    """How an observation ended: both starts ran, it failed at a rung, or it has no result."""

    RAN = "ran"
    FAILED = "failed"
    NOTHING = "nothing"


FAILING_RUNGS = (
    Rung.BUILDS,
    Rung.RESOLVES,
    Rung.IMPORTS,
    Rung.STARTS_COLD,
    Rung.STARTS_WARM,
)
"""The rungs at which a run can fail."""

CounterKey = tuple[StartKind, str] | tuple[StartKind, str, int]
"""A start and a counter, and the rank where that is not the first one of the start."""

MACHINE_KEY_PREFIX = "the "
"""What the properties of the machine begin with in an environment; packages never do."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The result of one case in one run of a cell on a platform, as far as runs are compared.

    `counters` and `expected` are by start, counter and other rank. `logged` is what its starts only
    logged that may explain those, the likeliest first. `environment` is the machine and the
    packages other than torch's family, `complete` whether the run had every case, `applies` whether
    the case is for this cell. `defaults` are those of torch's configs, None if they are not
    known. `tests` names the version of the startup tests (`matrix.record.startup_tests`).
    `not_stock` is how its packages differ from what its vLLM requires. `future_dated` is set where
    the run started after this machine's clock allows (`matrix.verdict.precedence.late_from`).
    `runs` is how many equivalent runs it stands for, of which it is the newest
    (`matrix.store.fingerprint`).
    """

    cell: Cell
    platform: Platform
    case: str
    started: str
    ended: ObservationEnd
    rung: Rung | None = None
    signature: str | None = None
    reason: VerdictReason | None = None
    counters: Mapping[CounterKey, int] = field(default_factory=dict)
    expected: Mapping[CounterKey, int] = field(default_factory=dict)
    logged: tuple[StartEvent, ...] = ()
    flags: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tests: str | None = None
    complete: bool = True
    faulty: bool = False
    applies: bool = True
    not_stock: tuple[Departure, ...] = ()
    future_dated: bool = False
    runs: int = 1
    defaults: Defaults | None = None

    @property
    def is_stock(self) -> bool:
        """Return whether nothing is known by which its environment is not stock."""
        return not self.not_stock

    @property
    def fault(self) -> FaultLevel:
        """Return the worst fault that it shows."""
        if not self.faulty:
            return FaultLevel.NONE
        return FaultLevel.FAILS if self.ended is ObservationEnd.FAILED else FaultLevel.DRIFTS

    @property
    def evidence(self) -> EvidenceLevel:
        """Return how much the run can say of the case."""
        conclusive = self.complete or self.fault is FaultLevel.FAILS
        return EvidenceLevel.CONCLUSIVE if conclusive else EvidenceLevel.PARTIAL

    @property
    def order(self) -> RunOrder:
        """Return when the run started, as a sort key from old to new."""
        return RunOrder(today=not self.future_dated, started=self.started)

    @property
    def age(self) -> tuple[RunOrder, bool, str]:
        """Return the sort key from old to new; of two with one start the faulty one is newer."""
        return self.order, self.faulty, self.signature or ""

    @property
    def content(self) -> str:
        """Return everything in it as text, mappings in the order of their keys."""
        return repr(
            [
                sorted(value.items()) if isinstance(value, Mapping) else value
                for value in vars(self).values()
            ]
        )

    @property
    def path(self) -> str:
        """Return no path: it is of a run, and the content decides between two of one age."""
        return ""


def newest_first(observations: Iterable[Observation]) -> list[Observation]:
    """Return the runs from new to old; those of one age are sorted by their content.

    So two runs that started in the same second have one order, whatever that of the records.
    """
    found = sorted(observations, key=_age, reverse=True)
    ages = Counter(map(_age, found))
    if len(ages) == len(found):
        return found
    return sorted(
        found,
        # The content takes long to write out, and is compared only between runs of one age.
        key=lambda run: (run.age, run.content if ages[run.age] > 1 else ""),
        reverse=True,
    )


def _age(observation: Observation) -> tuple[RunOrder, bool, str]:
    return observation.age


def observe(
    record: Record, verdict: CellVerdict, cell: Cell, late: str | None = None, runs: int = 1
) -> tuple[Observation, ...]:
    """Return what a judged record observed of the run as a whole, and of each case.

    A run that started after `late` is future-dated (`matrix.verdict.precedence.late_from`). `runs`
    is how many runs the record stands for.
    """
    make = partial(
        Observation,
        cell=cell,
        platform=record.platform,
        started=record.started,
        environment=environment_of(record),
        tests=identity_of_tests(record),
        complete=record.is_complete,
        not_stock=verdict.not_stock,
        future_dated=late is not None and record.started > late,
        runs=runs,
        defaults=record.defaults,
    )
    found = [_observe_run(record, verdict, make)]
    for seen, judged in zip(record.cases, verdict.cases, strict=True):
        make_case = partial(make, case=seen.case, flags={**record.flags, **seen.flags})
        if judged.verdict == Verdict.INCOMPATIBLE:
            observation = make_case(
                ended=ObservationEnd.FAILED,
                rung=judged.rung,
                signature=judged.signature or signature(seen.reason or "") or None,
                reason=judged.reason,
                counters=_counters(seen),
                faulty=True,
            )
        elif judged.fails_at is not None:  # packages were not as the vLLM requires
            observation = make_case(ended=ObservationEnd.NOTHING)
        elif seen.outcome == Outcome.PASSED and all(map(seen.started, STARTS)):
            observation = make_case(
                ended=ObservationEnd.RAN,
                counters=_counters(seen),
                expected=_expected(judged),
                faulty=judged.verdict == Verdict.DRIFT,
                logged=telling(judged.events),
            )
        else:
            applies = judged.verdict != Verdict.NOT_APPLICABLE
            observation = make_case(ended=ObservationEnd.NOTHING, applies=applies)
        found.append(observation)
    return tuple(found)


def _observe_run(record: Record, verdict: CellVerdict, make: partial[Observation]) -> Observation:
    """Return what the run as a whole observed: whether the pair resolved and imported."""
    failed = next((rung for rung in record.rungs if not rung.ok), None)
    rung: Rung
    reason: VerdictReason | None
    if record.error is not None and blames_pair(record.error):
        rung, reason = Rung(record.error.kind), recorded(record.error.reason)
    elif failed is not None and failed.rung in FAILING_RUNGS and record.error is None:
        rung, reason = failed.rung, rung_reason(failed)
    else:
        imported = any(rung.ok and rung.rung == Rung.IMPORTS for rung in record.rungs)
        return make(
            case=WHOLE_RUN, ended=ObservationEnd.RAN if imported else ObservationEnd.NOTHING
        )
    if verdict.not_stock or blamed(
        verdict.departures, failure_key(reason)
    ):  # a fault of packages is not the pair's
        return make(case=WHOLE_RUN, ended=ObservationEnd.NOTHING)
    return make(
        case=WHOLE_RUN,
        ended=ObservationEnd.FAILED,
        rung=rung,
        signature=signature(failure_key(reason)) or None,
        reason=reason,
        faulty=True,
    )


def have_same_flags(here: Mapping[str, object], there: Mapping[str, object]) -> bool:
    """Return whether two runs agree in the flags that both recorded: older tests recorded fewer.

    >>> have_same_flags({"VLLM_X": True}, {"VLLM_X": True, "VLLM_Y": 1})
    True
    >>> have_same_flags({"VLLM_X": 1}, {"VLLM_X": 0})
    False
    """
    return all(there[flag] == value for flag, value in here.items() if flag in there)


OwnRuns = tuple[Sequence[Observation], ...]
"""Runs with a pair's own flags, newest first: one sequence for each candidate for these flags."""


def own_runs(runs: Iterable[Observation], python: str) -> OwnRuns:
    """Return the runs on a Python that have a result and a pair's own flags, newest first.

    Where nothing shows which flags are its own (see above), the result has one sequence for each
    candidate; it is empty if no run has a result. Runs that are not stock are left out where a
    stock one has a result.
    """
    usable = [
        run for run in runs if run.ended is not ObservationEnd.NOTHING and run.cell.python == python
    ]
    usable = [run for run in usable if run.is_stock] or usable
    if len(usable) < 2:
        return (usable,) if usable else ()
    groups: list[list[Observation]] = []
    for run in newest_first(usable):
        group = next((runs for runs in groups if have_same_flags(runs[0].flags, run.flags)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)

    def weight(group: Sequence[Observation]) -> tuple[int, int]:
        return sum(run.runs for run in group if run.complete), sum(run.runs for run in group)

    most = max(map(weight, groups))
    return tuple(group for group in groups if weight(group) == most)


class Runs:
    """The runs of one case of one pair on a platform, newest first, and which represent it."""

    def __init__(self, runs: Iterable[Observation]) -> None:
        self.every = tuple(newest_first(runs))
        pythons = {run.cell.python for run in self.every}
        self.pythons = tuple(sorted(pythons, key=parse_version))
        """The Pythons that they were on, oldest first."""
        self._own = {python: own_runs(self.every, python) for python in self.pythons}

    def __iter__(self) -> Iterator[Observation]:
        """Iterate over all runs on any Python, newest first."""
        return iter(self.every)

    def own(self, python: str) -> OwnRuns:
        """Return the same as `own_runs`."""
        return self._own.get(python, ())

    def representative(self, python: str) -> Observation | None:
        """Return the newest run with the pair's own flags on that Python.

        Return None if there is none, or where nothing shows which flags are its own.
        """
        own = self.own(python)
        return own[0][0] if len(own) == 1 else None

    def nearest(self, python: str) -> Observation | None:
        """Return the representative on this Python or, without one, on the oldest that has one."""
        others = (other for other in self.pythons if other != python)
        found = (self.representative(candidate) for candidate in (python, *others))
        return next((run for run in found if run is not None), None)


def _counters(case: Case) -> dict[CounterKey, int]:
    found: dict[CounterKey, int] = {
        (start.start, counter): value
        for start in case.starts
        for counter, value in start.counters.items()
    }
    for start, rank, counter in _of_other_ranks(case):
        found[start.start, counter, rank.rank] = rank.counters.get(counter, 0)
    return found


def _expected(judged: CaseVerdict) -> dict[CounterKey, int]:
    """Return what each counter should be; without a rule, that of a rank is the first one's."""
    found: dict[CounterKey, int] = {
        (start, counter): wanted.value
        for start, rules in judged.expected.items()
        for counter, wanted in rules.items()
    }
    if judged.observed is not None:
        for start, rank, counter in _of_other_ranks(judged.observed):
            first = start.counters.get(counter, 0)
            found[start.start, counter, rank.rank] = found.get((start.start, counter), first)
    return found


def _of_other_ranks(case: Case) -> Iterator[tuple[Start, Rank, str]]:
    """Yield the counters, which rules may name, of each rank but the first of its start."""
    for start in case.starts:
        for rank in (start.ranks or ())[1:]:
            for counter in sorted(COUNTERS & (start.counters.keys() | rank.counters.keys())):
                yield start, rank, counter
