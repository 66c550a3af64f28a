import doctest
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given

from histories import CELLS, LATE, make, nights, some_records
from matrix.record.model import Record
from matrix.record.reader import read
from matrix.rules.expectations_file import load_expectations, parse_expectations
from matrix.store import summary as history
from matrix.store.summary import late_from, summarise, times
from matrix.verdict.judge import judge
from matrix.verdict.precedence import Evidence
from matrix.verdict.states import Verdict
from matrix.verdict.table import tabulate
from rules import ANY_CASE

ROOT = Path(__file__).parents[2]


def test_the_examples_hold() -> None:
    assert doctest.testmod(history).failed == 0


@given(some_records)
def test_no_expectation_takes_back_a_failure(record: Record) -> None:
    bare = judge(record, parse_expectations("", "none.toml")).verdict
    for rules in (ANY_CASE, load_expectations()):
        assert (judge(record, rules).verdict == Verdict.INCOMPATIBLE) == (
            bare == Verdict.INCOMPATIBLE
        )


@given(some_records, some_records)
def test_alike_as_judged_is_of_one_verdict(one: Record, other: Record) -> None:
    if summarise(one).verdict_key == summarise(other).verdict_key:
        assert judge(one, ANY_CASE).verdict == judge(other, ANY_CASE).verdict


def test_a_real_record_is_summarised() -> None:
    record = read(ROOT / "results" / "cpu" / "py311-torch210-vllm019.json")
    told = summarise(record)
    assert (told.complete, told.evidence, told.torch, len(told.cases)) == (
        True,
        Evidence.CONCLUSIVE,
        "2.10.0+cu128",
        9,
    )
    assert told.cases[0].cold == record.cases[0].starts[0].seconds["total"]
    slower = make(total=61.0)
    assert summarise(slower).verdict_key == summarise(make()).verdict_key
    assert summarise(slower).content != summarise(make()).content
    assert summarise(make(saved=1)).verdict_key != summarise(make()).verdict_key


def test_times_are_of_runs_with_as_many_jobs_and_count_once() -> None:
    runs = [make(started=f"2026-11-0{day}T00:00:00Z", total=60.0 + day) for day in (3, 1, 2)]
    beside = make(started="2026-11-02T12:00:00Z", total=200.0)
    beside = Record(**{**vars(beside), "provenance": {**beside.provenance, "jobs": 8}})
    told = times([*runs, beside, runs[0]])
    assert told.times(CELLS[0], "cpu", "moe_startup[mega_aot=1]", "cold") == (
        ("2026-11-01T00:00:00Z", 61.0),
        ("2026-11-02T00:00:00Z", 62.0),
        ("2026-11-03T00:00:00Z", 63.0),
    )
    assert told.times(CELLS[0], "cuda", "moe_startup[mega_aot=1]", "cold") == ()


def test_a_record_from_the_future_hides_no_other() -> None:
    late = late_from(datetime(2026, 11, 22, 18, tzinfo=timezone.utc))
    now = (Path("now.json"), make(saved=1))
    future = (Path("future.json"), make(started="2099-01-01T00:00:00Z"))
    for records, limit, shown in (
        ([now, future], None, "future.json"),
        ([future, now], late, "now.json"),
        ([future], late, "future.json"),
    ):
        table = tabulate(records, ANY_CASE, late=limit)
        assert [each.file for each in table.entries] == [shown]


@pytest.mark.parametrize("started", ["2026-11-23T18:00:00Z", "2026-11-22T18:00:00Z"])
def test_a_day_ahead_is_not_the_future(started: str) -> None:
    assert started <= late_from(datetime(2026, 11, 22, 18, tzinfo=timezone.utc))


def test_a_record_of_the_future_takes_no_times_away() -> None:
    past = nights(3)
    wrong = make(started="2031-01-01T00:00:00Z")
    other = replace(wrong, provenance={**wrong.provenance, "jobs": 8})
    assert times([*past, other], LATE) == times(past)
    assert times([other], LATE) == times([other]) != times([])
