"""matrix.attribution.neighbours: a line of cells around one, and what else differs on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.attribution.neighbours import MACHINE, PACKAGES, TESTS, TORCH, Line, besides, walk
from matrix.attribution.observations import RAN, Observation
from matrix.attribution.symptoms import CLEAN, SHOWS, SILENT
from matrix.catalog.cells import Cell

GPU, SYSTEM = "the gpu's name", "the system"


def ran(day: int = 1, setting: Mapping[str, str] | None = None, **more: Any) -> Observation:
    cell, started = Cell("3.11", "2.12.0", "0.20.0"), f"2026-11-{day:02}T18:00:00Z"
    return Observation(cell, "cpu", "a", started, RAN, setting=setting or {}, **more)


def walked(states: str) -> tuple[list[int], int | None, bool]:
    """The days of what is found on a line of the first letters of these states."""
    named = {each[0]: each for each in (SHOWS, CLEAN)} | {"-": SILENT}
    days = [(named[each], ran(day)) for day, each in enumerate(states, 1)]
    shows, clean, again = walk(days)
    told = [int(each.started[8:10]) for each in shows]
    return told, None if clean is None else int(clean.started[8:10]), again


@pytest.mark.parametrize(
    ("states", "found"),
    [
        ("", ([], None, False)),
        ("---", ([], None, False)),
        ("ss", ([1, 2], None, False)),
        ("c", ([], 1, False)),
        ("-s-sc", ([2, 4], 5, False)),
        ("scc", ([1], 2, False)),
        ("sc-s", ([1], 2, True)),
        ("cs", ([], 1, True)),
    ],
)
def test_a_line_goes_outwards_to_the_first_clean_one(
    states: str, found: tuple[list[int], int | None, bool]
) -> None:
    assert walked(states) == found


@given(st.text("sc-", max_size=20))
def test_a_line_is_what_shows_then_the_clean_one_then_what_is_beyond(states: str) -> None:
    near, clean, beyond = states.partition("c")
    shows, at, again = walked(states)
    assert shows == [day for day, each in enumerate(near, 1) if each == "s"]
    assert at == (len(near) + 1 if clean else None)
    assert again == ("s" in beyond)


@given(st.text("sc-", max_size=20))
def test_what_says_nothing_changes_no_line(states: str) -> None:
    spoken = [day for day, each in enumerate(states, 1) if each != "-"]
    shows, clean, again = walked(states.replace("-", ""))
    assert walked(states) == (
        [spoken[at - 1] for at in shows],
        None if clean is None else spoken[clean - 1],
        again,
    )


@pytest.mark.parametrize("before", [None, ran(1)])
@pytest.mark.parametrize("after", [None, ran(3)])
@pytest.mark.parametrize("again", [False, True])
def test_a_line_changes_where_a_clean_one_bounds_it(
    before: Observation | None, after: Observation | None, again: bool
) -> None:
    line = Line(TORCH, before, (ran(2),), after, again)
    assert line.clean == tuple(each for each in (before, after) if each)
    assert line.nearest == (before or after)
    assert line.changes == (bool(line.clean) and not again)


def beside(
    own: Observation,
    there: Observation,
    shows: Sequence[Observation] = (),
    clean: Sequence[Observation] = (),
    *,
    packages: bool = True,
    machine: bool = True,
) -> Mapping[str, Sequence[str]]:
    every = [own, *shows], [there, *clean]
    return besides(own, there, *every, packages=packages, machine=machine)


def test_the_machine_and_the_packages_that_differ_are_told_with_how() -> None:
    own = ran(setting={"transformers": "5.1", "numpy": "2.0", SYSTEM: "Debian", GPU: "H100"})
    there = ran(setting={"transformers": "5.2", "numpy": "2.0", SYSTEM: "Suse", GPU: "H100"})
    system, package = f"{SYSTEM} Suse there, Debian here", "transformers 5.2 there, 5.1 here"
    found = beside(own, there)
    assert found == {MACHINE: [system], PACKAGES: [package]}
    assert list(found) == [MACHINE, PACKAGES]
    assert beside(own, there, packages=False) == {MACHINE: [system]}
    assert beside(own, there, machine=False) == {PACKAGES: [package]}


def test_several_packages_are_told_by_name() -> None:
    own, there = ({name: version for name in ("z", "b", "a")} for version in "12")
    told = beside(ran(setting=own), ran(setting=there))[PACKAGES]
    assert told == [f"{name} 2 there, 1 here" for name in ("a", "b", "z")]


def test_what_one_of_the_two_does_not_tell_is_no_difference() -> None:
    assert beside(ran(setting={"a": "1"}), ran(setting={"b": "1"})) == {}
    assert beside(ran(tests=None), ran(tests="f")) == {}
    assert beside(ran(tests="f"), ran(tests=None)) == {}


def test_other_tests_are_told_first_unless_a_run_of_each_kind_had_the_same() -> None:
    own, there = ran(setting={SYSTEM: "Debian"}, tests="f"), ran(setting={SYSTEM: "S"}, tests="g")
    assert list(beside(own, there)) == [TESTS, MACHINE]
    assert beside(own, there)[TESTS] == []
    assert TESTS not in beside(own, there, [replace(own, tests="g")])
    assert TESTS not in beside(own, there, clean=[replace(there, tests="f")])
    # That one does not tell its tests says nothing against it, but that one of each does not.
    unknown = replace(own, tests=None)
    assert TESTS in beside(own, there, [replace(own, tests="h")], [unknown])
    assert TESTS not in beside(own, there, [unknown], [unknown])
    assert beside(own, replace(there, tests="f")) == {MACHINE: [f"{SYSTEM} S there, Debian here"]}


def test_what_is_the_same_in_one_that_shows_and_one_that_is_clean_is_no_cause() -> None:
    own, there = ran(setting={"a": "1"}), ran(setting={"a": "2"})
    assert beside(own, there, [ran(setting={"a": "2"})]) == {}
    assert beside(own, there, clean=[ran(setting={"a": "1"})]) == {}
    other = [ran(setting={"a": "3"})], [ran(setting={"a": "4"})]
    assert beside(own, there, *other) == {PACKAGES: ["a 2 there, 1 here"]}
    # Two that both lack it are the same in that.
    assert beside(own, there, [ran()], [ran()]) == {}


_settings = st.dictionaries(st.sampled_from(("a", "b", GPU, SYSTEM)), st.sampled_from("123"))
_runs = st.lists(st.builds(ran, setting=_settings), max_size=3)


@given(_runs, _runs, _settings, _settings, st.booleans(), st.booleans())
def test_only_what_could_be_the_cause_is_told(
    shows: list[Observation],
    clean: list[Observation],
    here: Mapping[str, str],
    beyond: Mapping[str, str],
    packages: bool,
    machine: bool,
) -> None:
    own, there = ran(setting=here), ran(setting=beyond)
    found = beside(own, there, shows, clean, packages=packages, machine=machine)
    told = {
        said.rpartition(" there")[0].rpartition(" ")[0] for some in found.values() for said in some
    }
    for key in ("a", "b", GPU, SYSTEM):
        kept = {each.setting.get(key) for each in (own, *shows)}
        differs = key in here and key in beyond and here[key] != beyond[key]
        asked = machine if key in (GPU, SYSTEM) else packages
        alone = kept.isdisjoint(each.setting.get(key) for each in (there, *clean))
        assert (key in told) == (differs and asked and alone)
    assert beside(own, own, shows, clean) == {}
