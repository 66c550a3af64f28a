from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from attributions import FLASHINFER
from matrix.attribution.observations import Observation, ObservationEnd, Runs, own_runs
from matrix.catalog.cells import Cell
from matrix.record.model import Platform, StartKind

CELL = Cell("3.11", "2.12.0", "0.20.0")
ON, OFF = {"VLLM_X": True}, {"VLLM_X": False}


def ran(
    day: int, flags: Mapping[str, object] = ON, *, complete: bool = True, future: bool = False
) -> Observation:
    started = f"2026-11-{day:02}T18:00:00Z"
    return Observation(
        cell=CELL,
        platform=Platform.CPU,
        case="a",
        started=started,
        ended=ObservationEnd.RAN,
        flags=flags,
        complete=complete,
        future_dated=future,
    )


def test_the_newest_with_the_flags_of_most_whole_runs_speaks() -> None:
    whole, newer = ran(1), ran(2, complete=False)
    others = [ran(day, OFF, complete=False) for day in (3, 4, 5)]
    assert Runs([whole, *others, newer]).representative("3.11") == newer


def test_two_sets_of_flags_with_as_many_runs_are_nobodys_own() -> None:
    one, other = ran(1, complete=False), ran(2, OFF, complete=False)
    assert Runs([one, other]).representative("3.11") is None
    assert own_runs([one, other], "3.11") == ([other], [one])
    again = ran(3, complete=False)
    assert Runs([one, other, again]).representative("3.11") == again


def test_flags_that_older_tests_did_not_note_make_no_difference() -> None:
    one, other = ran(1, {}), ran(2, {**ON, "VLLM_Y": 1})
    assert own_runs([one, other], "3.11") == ([other, one],)


def test_what_comes_from_the_future_is_the_oldest() -> None:
    assert Runs([ran(1), ran(2, future=True)]).representative("3.11") == ran(1)


def test_of_two_that_started_together_the_faulty_one_speaks() -> None:
    failed = replace(ran(1), ended=ObservationEnd.FAILED, faulty=True)
    for observations in ([failed, ran(1)], [ran(1), failed]):
        assert Runs(observations).representative("3.11") == failed


def test_what_says_nothing_or_is_of_another_python_does_not_speak() -> None:
    nothing = replace(ran(2), ended=ObservationEnd.NOTHING)
    other = replace(ran(3), cell=replace(CELL, python="3.12"))
    assert Runs([ran(1), nothing, other]).representative("3.11") == ran(1)
    assert own_runs([nothing, other], "3.11") == ()


@given(st.lists(st.tuples(st.integers(1, 28), st.booleans(), st.booleans()), min_size=1))
def test_one_more_run_tells_the_own_flags(drawn: list[tuple[int, bool, bool]]) -> None:
    every = [ran(day, {"VLLM_X": on}, complete=complete) for day, on, complete in drawn]
    found = own_runs(every, "3.11")
    assert 1 <= len(found) <= 2
    if len(found) == 2:
        assert len(own_runs([*every, ran(29, complete=False)], "3.11")) == 1


def on(python: str, day: int, flags: Mapping[str, object] = ON, **more: Any) -> Observation:
    return replace(ran(day, flags), cell=replace(CELL, python=python), **more)


def test_runs_are_newest_first_and_their_pythons_oldest_first() -> None:
    old, new, late = on("3.10", 1), on("3.9", 2), on("3.11", 3, future_dated=True)
    idle = on("3.12", 4, ended=ObservationEnd.NOTHING)
    for observations in itertools.permutations((old, new, late, idle)):
        runs = Runs(observations)
        assert list(runs) == [idle, new, old, late]
        assert list(runs) == list(runs)  # it can be read again
        # Also one on which nothing tells.
        assert runs.pythons == ("3.9", "3.10", "3.11", "3.12")


def test_the_nearest_is_of_this_python_and_else_of_the_oldest_that_speaks() -> None:
    here, older, newer = on("3.11", 1), on("3.10", 2), on("3.12", 3)
    assert Runs([newer, here, older]).nearest("3.11") == here
    assert Runs([newer, older]).nearest("3.11") == older
    assert Runs([newer, older]).nearest("3.12") == newer
    # Of two sets of flags nobody knows which is its own, so that another Python speaks.
    assert Runs([newer, older, on("3.10", 4, OFF)]).nearest("3.10") == newer
    assert Runs([on("3.10", 2, ended=ObservationEnd.NOTHING), newer]).nearest("3.10") == newer
    for none in ([], [on("3.11", 1, ended=ObservationEnd.NOTHING)], [here, on("3.11", 2, OFF)]):
        assert Runs(none).nearest("3.11") is None


_PYTHONS = ("3.9", "3.10", "3.11")
_some_runs = st.lists(
    st.builds(
        on,
        st.sampled_from(_PYTHONS),
        st.sampled_from((1, 1, 2, 3, 28)),
        st.sampled_from((ON, OFF, {}, {"VLLM_Y": 1})),
        ended=st.sampled_from(
            (ObservationEnd.RAN, ObservationEnd.RAN, ObservationEnd.FAILED, ObservationEnd.NOTHING)
        ),
        complete=st.booleans(),
        future_dated=st.booleans(),
        runs=st.integers(1, 3),
        tests=st.sampled_from((None, "sha256:1")),
        counters=st.sampled_from(({}, {(StartKind.COLD, "x"): 1}, {(StartKind.COLD, "x"): 2})),
    ),
)


@given(_some_runs, st.randoms())
def test_what_speaks_is_the_same_in_any_order_and_however_often(
    every: list[Observation], chance: random.Random
) -> None:
    shuffled = chance.sample(every, len(every))
    runs, other = Runs(every), Runs(shuffled)
    assert list(runs) == list(other)
    assert runs.pythons == tuple(
        python
        for python in _PYTHONS
        if python in {observation.cell.python for observation in every}
    )
    for python in (*_PYTHONS, "3.13"):
        own = runs.own(python)
        assert own == own_runs(shuffled, python) == other.own(python) == runs.own(python)
        for group in own:
            assert all(
                observation.cell.python == python and observation.ended != ObservationEnd.NOTHING
                for observation in group
            )
            newest = sorted(group, key=lambda observation: observation.age, reverse=True)
            assert list(group) == newest
        told = [runs.representative(wanted) for wanted in (python, *runs.pythons)]
        assert told[0] == (own[0][0] if len(own) == 1 else None)
        assert runs.nearest(python) == next(filter(None, told), None)


def test_a_run_that_is_not_stock_speaks_only_where_no_stock_one_does() -> None:
    stock, newer = ran(1), replace(ran(2), not_stock=(FLASHINFER,))
    assert own_runs([stock, newer], "3.11") == ([stock],)
    assert own_runs([newer], "3.11") == ([newer],)
    nothing = replace(ran(3), ended=ObservationEnd.NOTHING)
    assert own_runs([newer, nothing], "3.11") == ([newer],)
