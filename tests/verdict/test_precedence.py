"""matrix.verdict.precedence: which record of a cell counts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import LATE, RAY, drifted, failed, idle, make, passed, some_records
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Record,
    RunError,
    Rung,
    RungResult,
    StartKind,
)
from matrix.rules.expectations import Expectations, Expected, Nearest, Situation
from matrix.verdict.judge import judge
from matrix.verdict.precedence import (
    EvidenceLevel,
    FaultLevel,
    RunOrder,
    evidence_of,
    fault_of,
    is_stock,
    pick,
    pick_record,
    run_order,
)
from rules import ANY_CASE

GREEN = make()
RED = make(cases=(passed, failed))
PART = make(deselected=3)
RED_PART = make(cases=(failed,), deselected=3)
DRIFT = make(cases=(passed, drifted))
DRIFT_PART = make(cases=(drifted,), deselected=3)
TYPO = make(cases=(), deselected=4)
USAGE = make(
    cases=(), error=RunError(kind=ErrorKind.INTERNAL, reason="pytest did not accept its arguments")
)
NO_GPU = make(cases=(), error=RunError(kind=ErrorKind.NO_GPU, reason="there is none"))
CUT = make(error=RunError(kind=ErrorKind.INTERRUPTED, reason="by SIGINT"))
DIED = make(finished=False)
NOTHING_APPLIES = make(cases=(idle,))
NO_IMPORT = make(
    cases=(),
    rungs=(RungResult(rung=Rung.IMPORTS, ok=False, reason="x"),),
    error=RunError(kind=ErrorKind.IMPORTS, reason="x"),
)
OTHER_CELL = make(error=RunError(kind=ErrorKind.WRONG_CELL, reason="torch is missing"))


def at(day: int, record: Record) -> Record:
    return Record(
        **{
            **vars(record),
            "provenance": {**record.provenance, "started": f"2026-11-{day:02}T18:00:00Z"},
        }
    )


def counts(*oldest_first: Record, late: str | None = None) -> Record:
    """Return the record that counts of some that started on days in a row, whatever their order."""
    records = [(Path(f"{day}.json"), at(day, record)) for day, record in enumerate(oldest_first, 1)]
    picked = {
        pick_record(order, ANY_CASE, late).file
        for order in ([*records], records[::-1], records[1:] + records[:1])
    }
    (path,) = picked
    return oldest_first[int(path.stem) - 1]


@pytest.mark.parametrize("better", [GREEN, RED, PART, RED_PART, DRIFT_PART, CUT, NO_IMPORT])
@pytest.mark.parametrize("empty", [TYPO, USAGE, NO_GPU, OTHER_CELL])
def test_a_run_without_an_answer_replaces_nothing_better(better: Record, empty: Record) -> None:
    assert counts(better, empty) is better
    assert counts(empty, better) is better


@pytest.mark.parametrize("part", [PART, CUT, DIED])
def test_a_part_without_a_fault_replaces_no_complete_record(part: Record) -> None:
    for complete in (GREEN, RED, NOTHING_APPLIES):
        assert counts(complete, part) is complete
        assert counts(part, complete) is complete


def test_a_fault_counts_however_little_ran() -> None:
    for fault in (RED_PART, DRIFT_PART, NO_IMPORT):
        assert counts(GREEN, fault) is fault
        assert counts(GREEN, fault, PART, TYPO) is fault
        assert counts(GREEN, fault, GREEN) is not fault
    assert counts(RED, NO_IMPORT) is NO_IMPORT
    assert counts(RED, DRIFT_PART) is RED
    assert counts(DRIFT_PART, RED_PART) is RED_PART
    assert counts(RED_PART, DRIFT_PART) is RED_PART


def test_of_as_much_evidence_the_newest_counts() -> None:
    other = make(total=61.0)
    assert counts(GREEN, other) is other
    assert counts(PART, CUT) is CUT
    assert counts(NO_GPU, TYPO) is TYPO


def test_of_the_same_fault_the_newest_counts_however_little_ran() -> None:
    assert counts(DRIFT, DRIFT_PART) is DRIFT_PART
    assert counts(RED, RED_PART) is RED_PART


def test_a_record_older_than_a_complete_one_is_not_judged() -> None:
    @dataclass
    class Counting:
        asked: int = 0

        def expect(self, situation: Situation, start: StartKind) -> Mapping[str, Expected]:
            self.asked += 1
            return ANY_CASE.expect(situation, start)

        def nearest(
            self,
            situation: Situation,
            start: StartKind,
            expected: Mapping[str, Expected] | None = None,
        ) -> Mapping[str, Nearest]:
            return ANY_CASE.nearest(situation, start, expected)

    def asked_of(*records: Record) -> int:
        counting = Counting()
        pick_record(
            [(Path(f"{day}.json"), at(day, record)) for day, record in enumerate(records, 1)],
            counting,
        )
        return counting.asked

    assert asked_of(RED, GREEN) == asked_of(GREEN) > 0
    assert asked_of(PART, GREEN) == asked_of(GREEN)
    assert asked_of(GREEN, PART) == asked_of(GREEN) + asked_of(PART)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A contender that knows nothing of records; its content may not be read."""

    day: int
    fault: FaultLevel = FaultLevel.NONE
    evidence: EvidenceLevel = EvidenceLevel.PARTIAL
    is_stock: bool = True
    path: str = ""

    @property
    def order(self) -> RunOrder:
        return RunOrder(True, f"2026-11-{self.day:02}")

    @property
    def content(self) -> str:
        raise AssertionError("two runs of different seconds are chosen by their content")


def test_a_conclusive_run_supersedes_every_older_one() -> None:
    drifts = Run(day=1, fault=FaultLevel.DRIFTS)
    same_second = Run(day=2, fault=FaultLevel.DRIFTS)
    conclusive = Run(day=2, evidence=EvidenceLevel.CONCLUSIVE)
    newer = Run(day=3, fault=FaultLevel.DRIFTS)
    assert pick([drifts, conclusive]) is conclusive
    assert pick([drifts, conclusive, newer]) is newer
    # It is not older, so its fault counts.
    assert pick([drifts, conclusive, same_second]) is same_second


def not_stock(record: Record) -> Record:
    return replace(record, departures=(RAY,))


@pytest.mark.parametrize("other", [GREEN, DRIFT, RED, PART, DRIFT_PART, NO_IMPORT])
@pytest.mark.parametrize("stock", [GREEN, RED, DRIFT, PART, RED_PART, NO_IMPORT, NOTHING_APPLIES])
def test_a_record_that_is_not_stock_replaces_no_stock_one(stock: Record, other: Record) -> None:
    for departures in (None, ()):
        better = replace(stock, departures=departures)
        assert counts(better, not_stock(other)) is better
        assert counts(not_stock(other), better) is better
        assert counts(better, not_stock(other), not_stock(GREEN)) is better


def test_a_record_that_is_not_stock_counts_where_no_stock_one_has_an_answer() -> None:
    for empty in (TYPO, NO_GPU, OTHER_CELL):
        for other in map(not_stock, (GREEN, DRIFT, PART)):
            assert counts(other, empty) is other
            assert counts(empty, other) is other
    older, newer, part = not_stock(GREEN), not_stock(DRIFT), not_stock(PART)
    assert counts(older, newer) is newer
    assert counts(older, part) is older
    failing = not_stock(RED)  # what fails there is not known, and is not conclusive
    assert counts(older, failing) is older


def test_an_older_stock_record_is_judged_beside_a_complete_one_that_is_not() -> None:
    part = replace(PART, departures=())
    assert counts(part, not_stock(GREEN)) is part
    assert counts(not_stock(GREEN), part) is part


@given(st.lists(some_records, min_size=1, max_size=6), st.sampled_from((LATE, None)))
def test_no_record_that_is_not_stock_counts_beside_a_stock_one_with_an_answer(
    records: list[Record], late: str | None
) -> None:
    picked = pick_record(
        [(Path(f"{n}.json"), run) for n, run in enumerate(records)], ANY_CASE, late
    )
    stock = [record for record in records if is_stock(record)]
    if any(evidence_of(record, judge(record, ANY_CASE)) for record in stock):
        assert is_stock(picked.record)


@given(st.lists(some_records, min_size=1, max_size=6), st.sampled_from((LATE, None)))
def test_nothing_counts_that_is_older_than_a_conclusive_record(
    records: list[Record], late: str | None
) -> None:
    picked = pick_record(
        [(Path(f"{n}.json"), run) for n, run in enumerate(records)], ANY_CASE, late
    )
    for record in records:
        same = is_stock(record) or not picked.is_stock
        if same and evidence_of(record, judge(record, ANY_CASE)) is EvidenceLevel.CONCLUSIVE:
            assert picked.order >= run_order(record.started, late)


def test_a_record_of_the_future_is_the_oldest() -> None:
    assert counts(GREEN, RED, late="2026-11-01T20:00:00Z") is GREEN
    assert counts(PART, NO_GPU, late="2026-11-01T20:00:00Z") is PART
    assert counts(RED, late="2026-10-01T00:00:00Z") is RED


@given(st.lists(some_records, min_size=1, max_size=6), st.sampled_from((LATE, None)), st.randoms())
def test_what_does_not_count_can_be_left_out(
    records: list[Record], late: str | None, random: object
) -> None:
    """In any order, and with any of the others gone, the same record counts."""
    named = [(Path(f"{number}.json"), record) for number, record in enumerate(records)]
    picked = pick_record(named, ANY_CASE, late)
    random.shuffle(named)  # type: ignore[attr-defined]
    for count in range(len(named)):
        kept = [pair for pair in named[count:] if pair[0] != picked.file]
        again = pick_record([*kept, (picked.file, picked.record)], ANY_CASE, late)
        assert again.file == picked.file


@given(some_records)
def test_expectations_do_not_change_the_evidence(record: Record) -> None:
    bare = evidence_of(record, judge(record, Expectations(rules=())))
    assert bare is evidence_of(record, judge(record, ANY_CASE))


def test_what_a_record_can_say() -> None:
    none = (
        (DIED, EvidenceLevel.PARTIAL),
        (CUT, EvidenceLevel.PARTIAL),
        (PART, EvidenceLevel.PARTIAL),
    )
    for record, evidence in (
        *none,
        (GREEN, EvidenceLevel.CONCLUSIVE),
        (NOTHING_APPLIES, EvidenceLevel.CONCLUSIVE),
        (NO_IMPORT, EvidenceLevel.CONCLUSIVE),
        (RED_PART, EvidenceLevel.CONCLUSIVE),
        (TYPO, EvidenceLevel.NOTHING),
        (OTHER_CELL, EvidenceLevel.NOTHING),
        (
            make(finished=False, cases=(Case(case="a", outcome=Outcome.RUNNING),)),
            EvidenceLevel.NOTHING,
        ),
    ):
        assert evidence_of(record, judge(record, ANY_CASE)) is evidence
    assert fault_of(judge(DRIFT_PART, ANY_CASE)) is FaultLevel.DRIFTS
    assert run_order("2026", None) > run_order("2025", None)


def test_there_must_be_a_record() -> None:
    with pytest.raises(ValueError, match="empty"):
        pick_record([], ANY_CASE)


@pytest.mark.parametrize("order", list(itertools.permutations((GREEN, RED, RED_PART))))
def test_of_one_second_the_worst_counts(order: tuple[Record, ...]) -> None:
    named = [(Path(f"{number}.json"), record) for number, record in enumerate(order)]
    assert pick_record(named, ANY_CASE).record in (RED, RED_PART)
