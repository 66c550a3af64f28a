"""Which record of a cell counts, for the table, plans, qualifications and attributions alike.

Pure. The records of one cell on one platform compete by these rules:

1. A record of an environment that is not **stock** does not count where a stock one has an answer,
   whether older or newer: it is evidence about its environment, the other about the pair. Where
   nobody knows whether an environment was stock, it passes for stock.
2. Of the rest a record that is older than the newest **conclusive** one does not count. A record is
   conclusive if its run came to its end with every case of the startup tests, or if it shows a
   failure. One in which a package that is not as vLLM requires kept a case from an answer is not.
3. Of the rest the one with the worst **fault** counts: a case that fails, or drifts, does so
   however many cases were not run. Of several with the same fault the newest counts.
4. Of those without a fault the one with the most **evidence** counts: a conclusive record, then
   one with an answer of some case, then one without any answer. So a run of some of the cases, a
   run that was refused, and a run whose arguments selected nothing never replace a better record.
   Of several with as much evidence the newest counts.

Of two that started in the same second the choice falls on what they say and then on their paths,
so that it does not depend on the order in which a disk lists them. A record that started in the
future (`late_from`) is older than all others.

The rules are data here, and nowhere else: `RUN_ORDER` is what sorts runs, `SUPERSESSIONS` are
rules 1 and 2. `standing` applies them in Python, and `matrix.store.precedence_sql` renders the very
same values as the SQL by which an index leaves out what cannot count by any expectations. Rules 3
and 4 need verdicts, which SQL does not have: `pick` alone chooses among the others. Laws hold both
equal for random records (`tests/store/test_precedence_sql.py`, `tests/store/test_store.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from matrix.record.content import content_hash
from matrix.record.model import Record
from matrix.record.stock import not_stock
from matrix.verdict.judge import CellVerdict, Expects, judge
from matrix.verdict.states import Verdict
from matrix.verdict.stock import departures_of, hindrance

_FUTURE_DAYS = 1
"""How many days a record's start may lie ahead of the reader's clock: zones and drift, no more."""


class FaultLevel(IntEnum):
    """The severity of a fault in a record that further cases could not undo."""

    NONE = 0
    DRIFTS = 1
    FAILS = 2


FAULTS = {Verdict.INCOMPATIBLE: FaultLevel.FAILS, Verdict.DRIFT: FaultLevel.DRIFTS}
"""The fault of each verdict that tells of one."""


class EvidenceLevel(IntEnum):
    """The level of evidence of a record about its cell."""

    NOTHING = 0
    """No case has an answer."""
    PARTIAL = 1
    """Some case has an answer, and others may be missing."""
    CONCLUSIVE = 2
    """The run ended with every case, or it shows a failure, which no more cases could take back."""


class Column(NamedTuple):
    """One key that sorts runs: the value of a column.

    `at_most`: the key is instead whether the value is at most that parameter; without a
    limit where None.
    """

    name: str
    at_most: str | None = None


RUN_ORDER = (Column("started", at_most="late"), Column("started"))
"""What sorts the runs of a cell from old to new."""


class Minimum(NamedTuple):
    """A test of a run: whether a value, by its name in `Contender`, is so much or more."""

    value: str
    least: int

    def holds(self, contender: Contender) -> bool:
        """Return whether a run passes the test."""
        found: int = getattr(contender, self.value)
        return found >= self.least


class Supersession(NamedTuple):
    """Which runs do not count where another run of the cell passes all the tests `by`.

    With `older` those that are older than the newest one which passes them; else those that fail
    one of the tests `keeps`.
    """

    by: tuple[Minimum, ...]
    keeps: tuple[Minimum, ...] = ()
    older: bool = False


_STOCK = Minimum("is_stock", least=True)

SUPERSESSIONS = (
    Supersession(by=(_STOCK, Minimum("evidence", least=EvidenceLevel.PARTIAL)), keeps=(_STOCK,)),
    Supersession(by=(Minimum("evidence", least=EvidenceLevel.CONCLUSIVE),), older=True),
)
"""Rules 1 and 2, in this order: each is of the runs that those before it leave."""


class RunOrder(NamedTuple):
    """The values of `RUN_ORDER`: sorts the runs of a cell from old to new."""

    today: bool
    """Whether the run does not come from the future."""
    started: str


def late_from(now: datetime) -> str:
    """Return the start, in UTC as in a record, after which a record comes from the future.

    Such a record is used, and named, but counts as older than all others: one machine with a wrong
    clock would else hide every run of its cell for years. Where all records are of the future, it
    is the reader's clock that is wrong, and none is.

    >>> late_from(datetime(2026, 11, 22, 18))
    '2026-11-23T18:00:00Z'
    """
    return f"{now + timedelta(days=_FUTURE_DAYS):%Y-%m-%dT%H:%M:%SZ}"


def run_order(started: str, late: str | None) -> RunOrder:
    """Return what sorts a run that started then; what started after `late` is from the future.

    >>> run_order("2099-01-01T00:00:00Z", "2026-11-23T18:00:00Z") < run_order("2026", None)
    True
    """
    return RunOrder(late is None or started <= late, started)


class Contender(Protocol):
    """A run that may count, as far as the rule needs it."""

    @property
    def fault(self) -> FaultLevel:
        """The worst fault that it shows."""

    @property
    def evidence(self) -> EvidenceLevel:
        """Its level of evidence."""

    @property
    def is_stock(self) -> bool:
        """Whether no package is known to depart from what its vLLM requires."""

    @property
    def order(self) -> RunOrder:
        """When it started."""

    @property
    def content(self) -> str:
        """A digest of its content; read only if two runs are equal in all else."""

    @property
    def path(self) -> str:
        """Its path."""


ContenderT = TypeVar("ContenderT", bound=Contender)


def pick(contenders: Iterable[ContenderT]) -> ContenderT:
    """Return the contender that counts. Raises ValueError if there is none."""
    ranks = [(_rank(contender), contender) for contender in standing(contenders)]
    best = max(rank for rank, _ in ranks)
    equal = [contender for rank, contender in ranks if rank == best]
    return equal[0] if len(equal) == 1 else max(equal, key=lambda one: (one.content, one.path))


def standing(
    contenders: Iterable[ContenderT], rules: Sequence[Supersession] = SUPERSESSIONS
) -> list[ContenderT]:
    """Return the contenders without those that others supersede."""
    every = list(contenders)
    for by, keeps, older in rules:
        superseding = _passing(every, by)
        if superseding and older:
            last = max(contender.order for contender in superseding)
            every = [contender for contender in every if contender.order >= last]
        elif superseding:
            every = _passing(every, keeps)
    return every


def _passing(contenders: Iterable[ContenderT], tests: tuple[Minimum, ...]) -> list[ContenderT]:
    return [contender for contender in contenders if all(test.holds(contender) for test in tests)]


def _rank(contender: Contender) -> tuple[FaultLevel, EvidenceLevel, RunOrder]:
    """Return what sorts the runs that no conclusive one supersedes; the last one counts."""
    evidence = EvidenceLevel.NOTHING if contender.fault else contender.evidence
    return contender.fault, evidence, contender.order


@dataclass(frozen=True, kw_only=True)
class JudgedRecord:
    """A record that may count, with its file and its verdict."""

    file: Path
    record: Record
    verdict: CellVerdict
    order: RunOrder

    @property
    def fault(self) -> FaultLevel:
        """The fault of its verdict."""
        return fault_of(self.verdict)

    @property
    def evidence(self) -> EvidenceLevel:
        """Its level of evidence."""
        return evidence_of(self.record, self.verdict)

    @property
    def is_stock(self) -> bool:
        """Whether no package is known to depart from what its vLLM requires."""
        return not self.verdict.not_stock

    @property
    def content(self) -> str:
        """The digest of what it says."""
        return content_hash(self.record)

    @property
    def path(self) -> str:
        """The path of its file."""
        return str(self.file)


def pick_record(
    records: Sequence[tuple[Path, Record]], expectations: Expects, late: str | None = None
) -> JudgedRecord:
    """Return the one of some records of one cell on one platform that counts, judged.

    What started after `late` is from the future. Records that cannot count next to a complete one
    are not judged. Raises ValueError if there are no records.
    """
    possible = records
    if len(records) > 1:
        runs = [_Unjudged.of(path, record, late) for path, record in records]
        possible = [(run.file, run.record) for run in _possible(runs)]
    return pick(
        JudgedRecord(
            file=path,
            record=record,
            verdict=judge(record, expectations),
            order=run_order(record.started, late),
        )
        for path, record in possible
    )


@dataclass(frozen=True, kw_only=True)
class _Unjudged:
    """A record with the least that it can say, whatever its verdict; no fault is known."""

    file: Path
    record: Record
    order: RunOrder
    evidence: EvidenceLevel
    is_stock: bool
    fault: FaultLevel = FaultLevel.NONE

    @classmethod
    def of(cls, path: Path, record: Record, late: str | None) -> _Unjudged:
        """Return what a record says for certain."""
        whole = answers_all(record)
        return cls(
            file=path,
            record=record,
            order=run_order(record.started, late),
            evidence=EvidenceLevel.CONCLUSIVE if whole else EvidenceLevel.NOTHING,
            is_stock=is_stock(record),
        )

    content = path = ""


def _possible(runs: Sequence[_Unjudged]) -> list[_Unjudged]:
    """Return the runs without those that cannot count next to a complete one."""
    stock = [run for run in runs if run.is_stock]
    if any(run.evidence for run in stock):
        return standing(runs)
    # A complete one that is not stock does not stand against a stock one with an answer.
    return [*standing(stock), *standing(run for run in runs if not run.is_stock)]


def is_stock(record: Record) -> bool:
    """Return whether no package is known to depart from what the vLLM of the record requires."""
    return not not_stock(departures_of(record))


def fault_of(verdict: CellVerdict) -> FaultLevel:
    """Return the fault in a verdict."""
    return FAULTS.get(verdict.verdict, FaultLevel.NONE)


def answers_all(record: Record) -> bool:
    """Return whether the run came to its end with every case, and no package hindered any."""
    return record.is_complete and hindrance(record) is None


def evidence_of(record: Record, verdict: CellVerdict) -> EvidenceLevel:
    """Return how much a judged record can say; the same whatever expectations judged it."""
    if answers_all(record) or fault_of(verdict) is FaultLevel.FAILS:
        return EvidenceLevel.CONCLUSIVE
    # A case has a rung where something is known of it: it got there, or could not.
    answered = any(case.rung is not None for case in verdict.cases)
    return EvidenceLevel.PARTIAL if answered else EvidenceLevel.NOTHING
