"""Two records compared, and which seconds are noise."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import matrix
from histories import CELLS, make, nights
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.model import CheckedCompile, Rank, Record
from matrix.record.writer import write
from matrix.report.diff import diff_json, diff_lines
from matrix.store.diff import Aspect, differences
from matrix.store.stats import FLOOR_SECONDS, FLOOR_SHARE, beyond_noise, shifted
from matrix.store.summary import times
from rules import ANY_CASE, ANY_CASE_TEXT

BEFORE = nights(4)[-1]
SLOW = make(started="2026-11-09T18:00:00Z", total=200.0)


def told(after: Record, history: int = 4) -> list[str]:
    """Return what is reported of the seconds from `BEFORE` to this, after so many records."""
    diff = differences(BEFORE, after, ANY_CASE, times(nights(4)[-history:] if history else []))
    return diff_lines(diff, ("a", "b"), history=history).splitlines()


def test_seconds_beyond_noise_are_told() -> None:
    assert told(SLOW)[0].startswith("before  ")
    assert "  moe_startup[mega_aot=1] cold  total  60.0  ->  200.0" in told(SLOW)
    assert told(make(started="2026-11-09T18:00:00Z", total=61.0))[-1] == (
        "1 start took other seconds, none of them beyond the noise of 4 records of the cell"
    )


@pytest.mark.parametrize(
    ("more", "cells"),
    [
        ({"cell": CELLS[1]}, f"{CELLS[0]} on cpu and {CELLS[1]} on cpu"),
        ({"platform": "cuda"}, f"{CELLS[0]} on cpu and {CELLS[0]} on cuda"),
    ],
)
def test_another_cell_is_said_first_and_its_seconds_do_not_compare(
    more: dict[str, Any], cells: str
) -> None:
    lines = told(make(started="2026-11-09T18:00:00Z", total=200.0, **more))
    assert lines[0] == f"different cells: {cells}"
    assert "1 start took other seconds, which do not compare between cells" in lines
    assert "200.0" not in "\n".join(lines)


def test_what_another_rank_counts_differs_too() -> None:
    def ranked(saved: int) -> Record:
        [case, *others] = BEFORE.cases
        cold, *rest = case.starts
        counted = {**cold.counters, "num_compiled_artifacts_saved": saved}
        ranks = (Rank(rank=0, counters=cold.counters), Rank(rank=1, counters=counted))
        on_two = replace(case, starts=(replace(cold, ranks=ranks), *rest))
        return replace(BEFORE, cases=(on_two, *others))

    diff = differences(ranked(3), ranked(4), ANY_CASE, times([]))
    [change] = diff.of(Aspect.COUNTER)
    assert (change.where, change.before, change.after) == (
        f"{BEFORE.cases[0].case} cold rank 1",
        "3",
        "4",
    )
    assert differences(ranked(3), BEFORE, ANY_CASE, times([])).of(Aspect.COUNTER) == ()


def test_defaults_and_numbers_of_inductor_differ_where_both_know_them() -> None:
    def knowing(on: bool | None) -> Record:
        if on is None:
            return BEFORE
        [case, *others] = BEFORE.cases
        cold, *rest = case.starts
        counted = replace(cold, metrics={"generated_kernel_count": 20 + on})
        return replace(
            BEFORE,
            cases=(replace(case, starts=(counted, *rest)), *others),
            defaults={"torch._inductor.config": {"fusion": on, "sizes": [1]}},
            cache_check={compiled: {"hits": int(on)} for compiled in CheckedCompile},
        )

    def changes(before: bool | None, after: bool | None) -> list[tuple[object, ...]]:
        diff = differences(knowing(before), knowing(after), ANY_CASE)
        return [
            (change.aspect, change.what, change.before, change.after) for change in diff.changes
        ]

    assert changes(before=True, after=False) == [
        ("metric", "generated_kernel_count", "21", "20"),
        *[("counter", "hits", "1", "0")] * 3,
        ("default", "torch._inductor.config.fusion", "true", "false"),
    ]
    assert changes(before=None, after=True) == changes(before=True, after=True) == []


def test_few_records_tell_no_noise() -> None:
    for history, count in ((0, "0 records"), (1, "1 record"), (2, "2 records")):
        assert told(SLOW, history)[-1] == (
            f"1 start took other seconds; {count} of the cell before it:"
            " too few to estimate noise (3 needed)"
        )


def test_other_jobs_do_not_compare() -> None:
    other = replace(SLOW, provenance={**SLOW.provenance, "jobs": 8})
    lines = told(other)
    assert any("the two ran another number of cases side by side" in line for line in lines)
    assert "200.0" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"cpp_compiler": CppCompiler(seconds=1.0, reason="no g++")}, ["steps before the cases"]),
        ({"cpp_compiler": CppCompiler(seconds=1.0)}, []),
        ({"inspections": Inspections(seconds=1.0, reason="no")}, ["steps before the cases"]),
        ({"jobs": 8}, ["cases side by side"]),
        ({"machine": "aarch64"}, ["machine"]),
        ({"cpu": {"model": "Xeon", "cores": 64}}, ["machine"]),
        ({"jobs": 8, "machine": "aarch64"}, ["cases side by side", "machine"]),
        ({}, []),
    ],
)
def test_the_command_compares_seconds_of_runs_of_one_kind_alone(
    tmp_path: Path, changed: dict[str, Any], differs: list[str]
) -> None:
    for number, record in enumerate(nights(4)):
        write(record, tmp_path / "records" / f"{CELLS[0]}.{number}.json")
    steps = {key: value for key, value in changed.items() if key in ("cpp_compiler", "inspections")}
    facts = {key: value for key, value in changed.items() if key not in steps}
    slow = replace(SLOW, provenance={**SLOW.provenance, **facts}, **steps)
    write(slow, tmp_path / "records" / f"{CELLS[0]}.slow.json")
    (tmp_path / "rules.toml").write_text(ANY_CASE_TEXT, encoding="utf-8")
    names = [f"records/{CELLS[0]}.{name}.json" for name in (3, "slow")]
    asked = ("results", "diff", *names, "--expectations", "rules.toml")
    shown = matrix(tmp_path, *asked).stdout
    assert ("cold  total  60.0  ->  200.0" in shown) is (not differs)
    assert ("1 start took other seconds, which do not compare: " in shown) is bool(differs)
    content = json.loads(matrix(tmp_path, *asked, "--json").stdout)
    assert content["seconds_differ_by"] == differs
    assert [
        change["notable"] for change in content["changes"] if change["aspect"] == "seconds"
    ] == [not differs]


def test_startup_tests_that_take_another_time_do_not_compare() -> None:
    tests = {"commit": None, "version": 26}
    lines = told(replace(SLOW, provenance={**SLOW.provenance, "tests": tests}))
    assert any("take different times" in line for line in lines)
    assert "200.0" not in "\n".join(lines)


def test_a_partial_record_says_how_many_of_the_cases_it_has() -> None:
    before, after = told(replace(SLOW, deselected=8))[:2]
    assert " of " not in before and ", 1 of 9 cases  " in after
    diff = differences(BEFORE, replace(SLOW, deselected=8), ANY_CASE, times([]))
    found = json.loads(diff_json(diff, ("a", "b")))["after"]
    assert (found["cases"], found["total_cases"]) == (1, 9)


@given(st.lists(st.floats(0, 1e4), max_size=2), st.floats(0, 1e4))
def test_few_values_tell_no_noise(before: list[float], value: float) -> None:
    assert not beyond_noise(before, value)
    assert not shifted(before[:1], [value])
    assert not shifted([], [value] * 9)


@given(st.lists(st.floats(1, 1e4), min_size=3, max_size=9), st.floats(0, 1e5))
def test_noise_is_the_same_for_any_order_and_never_below_the_floors(
    before: list[float], value: float
) -> None:
    assert beyond_noise(before, value) == beyond_noise(before[::-1], value)
    middle = sorted(before)[len(before) // 2]
    if len(before) % 2 and beyond_noise(before, value):
        assert abs(value - middle) > max(FLOOR_SECONDS, FLOOR_SHARE * middle)


def test_a_noisy_history_hides_more() -> None:
    assert beyond_noise([60, 61, 59, 60], 75)
    assert not beyond_noise([60, 75, 48, 60, 70], 75)
    assert not beyond_noise([60, 61, 59, 60], 68)
    assert beyond_noise([60, 61, 59, 60], 45)
    assert not beyond_noise([2.0, 2.0, 2.0], 3.9)


def test_small_samples_must_part() -> None:
    assert shifted([60, 61, 62], [80, 81, 79])
    assert shifted([60, 61], [80, 81, 79, 80, 82])
    assert not shifted([60, 61], [80, 81])
    assert not shifted([60, 61, 80], [80, 81, 79])
    assert not shifted([60, 61, 62], [63, 64, 65])
