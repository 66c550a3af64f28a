from __future__ import annotations

import doctest
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from matrix import observations as module
from matrix.cells import Cell
from matrix.observations import FAILED, NOTHING, RAN, Observation, Runs, own_runs

CELL = Cell("3.11", "2.12.0", "0.20.0")
ON, OFF = {"VLLM_X": True}, {"VLLM_X": False}


def ran(
    day: int, flags: Mapping[str, object] = ON, *, whole: bool = True, late: bool = False
) -> Observation:
    started = f"2026-11-{day:02}T18:00:00Z"
    return Observation(CELL, "cpu", "a", started, RAN, flags=flags, whole=whole, late=late)


def test_the_newest_with_the_flags_of_most_whole_runs_speaks() -> None:
    whole, newer = ran(1), ran(2, whole=False)
    others = [ran(day, OFF, whole=False) for day in (3, 4, 5)]
    assert Runs([whole, *others, newer]).speaks("3.11") == newer


def test_two_sets_of_flags_with_as_many_runs_are_nobodys_own() -> None:
    one, other = ran(1, whole=False), ran(2, OFF, whole=False)
    assert Runs([one, other]).speaks("3.11") is None
    assert own_runs([one, other], "3.11") == ([other], [one])
    again = ran(3, whole=False)
    assert Runs([one, other, again]).speaks("3.11") == again


def test_flags_that_older_tests_did_not_note_make_no_difference() -> None:
    one, other = ran(1, {}), ran(2, {**ON, "VLLM_Y": 1})
    assert own_runs([one, other], "3.11") == ([other, one],)


def test_what_comes_from_the_future_is_the_oldest() -> None:
    assert Runs([ran(1), ran(2, late=True)]).speaks("3.11") == ran(1)


def test_of_two_that_started_together_the_faulty_one_speaks() -> None:
    failed = replace(ran(1), ended=FAILED, faulty=True)
    for every in ([failed, ran(1)], [ran(1), failed]):
        assert Runs(every).speaks("3.11") == failed


def test_what_says_nothing_or_is_of_another_python_does_not_speak() -> None:
    nothing = replace(ran(2), ended=NOTHING)
    other = replace(ran(3), cell=replace(CELL, python="3.12"))
    assert Runs([ran(1), nothing, other]).speaks("3.11") == ran(1)
    assert own_runs([nothing, other], "3.11") == ()


@given(st.lists(st.tuples(st.integers(1, 28), st.booleans(), st.booleans()), min_size=1))
def test_one_more_run_tells_the_own_flags(drawn: list[tuple[int, bool, bool]]) -> None:
    every = [ran(day, {"VLLM_X": on}, whole=whole) for day, on, whole in drawn]
    found = own_runs(every, "3.11")
    assert 1 <= len(found) <= 2
    if len(found) == 2:
        assert len(own_runs([*every, ran(29, whole=False)], "3.11")) == 1


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0
