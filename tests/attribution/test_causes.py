"""The hard functions behind the rules: boundaries along an axis, and what else differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from matrix._util.versions import minor_of
from matrix.attribution.confounders import confounders
from matrix.attribution.neighbours import find_boundary
from matrix.attribution.observations import Observation, ObservationEnd
from matrix.attribution.reasons import ConfounderKind, Precision
from matrix.attribution.rules import boundary
from matrix.attribution.symptoms import State
from matrix.catalog.cells import Cell
from matrix.record.model import Platform

GPU, SYSTEM = "the gpu's name", "the system"
MACHINE, PACKAGES, TESTS = ConfounderKind.MACHINE, ConfounderKind.PACKAGES, ConfounderKind.TESTS


def ran(day: int = 1, environment: Mapping[str, str] | None = None, **more: Any) -> Observation:
    return Observation(
        cell=Cell("3.11", "2.12.0", "0.20.0"),
        platform=Platform.CPU,
        case="a",
        started=f"2026-11-{day:02}T18:00:00Z",
        ended=ObservationEnd.RAN,
        environment=environment or {},
        **more,
    )


def walked(states: str) -> tuple[list[int], int | None, bool]:
    """Return the days of what is next to a cell, by the first letters of the neighbours' states."""
    named = {"s": State.SHOWS, "c": State.CLEAN, "-": State.SILENT}
    neighbours = [(named[letter], ran(day)) for day, letter in enumerate(states, 1)]
    shows, clean, intermittent = find_boundary(neighbours)
    days = [int(run.started[8:10]) for run in shows]
    return days, None if clean is None else int(clean.started[8:10]), intermittent


@given(st.text("sc-", max_size=20))
def test_an_axis_is_what_shows_it_then_the_clean_one_then_what_lies_beyond(states: str) -> None:
    near, clean, beyond = states.partition("c")
    shows, day, intermittent = walked(states)
    assert shows == [day for day, letter in enumerate(near, 1) if letter == "s"]
    assert day == (len(near) + 1 if clean else None)
    assert intermittent == ("s" in beyond)


@given(st.text("sc-", max_size=20))
def test_silent_neighbours_change_no_axis(states: str) -> None:
    days = [day for day, letter in enumerate(states, 1) if letter != "-"]
    shows, clean, intermittent = walked(states.replace("-", ""))
    assert walked(states) == (
        [days[place - 1] for place in shows],
        None if clean is None else days[clean - 1],
        intermittent,
    )


MINORS = [f"2.{minor}.{patch}" for minor in (9, 10, 11) for patch in (0, 1)]


@pytest.mark.parametrize(
    ("known", "low", "high", "precision"),
    [
        (MINORS, "2.9.1", "2.10.0", Precision.MINOR),
        # The first known one of a minor release stands for it, whatever its patch.
        (MINORS, "2.9.1", "2.10.1", Precision.MINOR),
        (MINORS, "2.9.0", "2.9.1", Precision.RELEASE),
        (MINORS, "2.9.0", "2.10.0", Precision.RANGE),
        (MINORS, "2.9.0", "2.11.0", Precision.RANGE),
        # Another spelling of a release does not lie between it and the next.
        (["2.9", "2.9.1.0", "2.10"], "2.9.1", "2.10.0", Precision.MINOR),
        ([], "2.9.0", "2.11.0", Precision.MINOR),
    ],
)
def test_a_change_is_located(
    known: Sequence[str], low: str, high: str, precision: Precision
) -> None:
    assert boundary(known, low, high).precision is precision


_versions = st.builds("2.{}.{}".format, st.integers(8, 12), st.integers(0, 3))


@given(st.lists(_versions, unique=True), _versions, _versions)
def test_a_change_is_located_as_exactly_as_the_runs_show(
    known: list[str], one: str, other: str
) -> None:
    low, high = sorted((one, other), key=Version)
    found = boundary(known, low, high)
    assert (found.low, found.high) == (low, high)
    inner = [release for release in known if Version(low) < Version(release) < Version(high)]
    same_minor = minor_of(low) == minor_of(high)
    if found.precision is Precision.MINOR:
        assert not same_minor
        assert {minor_of(release) for release in inner} <= {minor_of(high)}
    elif found.precision is Precision.RELEASE:
        assert same_minor and not inner
    else:
        assert inner
        assert (
            same_minor
            or {minor_of(release) for release in inner} > {minor_of(high)}
            or (minor_of(high) not in {minor_of(release) for release in inner})
        )
    # What lies outside changes nothing.
    assert boundary(inner, low, high) == found


def differ(
    own: Observation,
    clean: Observation,
    shows: Sequence[Observation] = (),
    cleans: Sequence[Observation] = (),
    ignore: ConfounderKind | None = None,
) -> dict[ConfounderKind, list[tuple[str, str | None, str | None]]]:
    found = confounders(
        own, clean, all_shows=[own, *shows], all_clean=[clean, *cleans], ignore=ignore
    )
    assert len({confounder.kind for confounder in found}) == len(found)
    return {
        confounder.kind: [(change.name, change.here, change.there) for change in confounder.changes]
        for confounder in found
    }


def test_the_machine_and_the_packages_that_differ_are_named_with_their_values() -> None:
    own = ran(environment={"numpy": "2.0", "z": "1", "b": "1", SYSTEM: "Debian", GPU: "H100"})
    clean = ran(environment={"numpy": "2.0", "z": "2", "b": "2", SYSTEM: "Suse", GPU: "H100"})
    machine, packages = [(SYSTEM, "Debian", "Suse")], [("b", "1", "2"), ("z", "1", "2")]
    found = differ(own, clean)
    assert found == {MACHINE: machine, PACKAGES: packages}
    assert list(found) == [MACHINE, PACKAGES]
    assert differ(own, clean, ignore=PACKAGES) == {MACHINE: machine}
    assert differ(own, clean, ignore=MACHINE) == {PACKAGES: packages}


def test_what_one_of_the_two_does_not_record_is_no_difference() -> None:
    """Each run has its machine; a run that lists no package says nothing of packages."""
    assert differ(ran(environment={SYSTEM: "Debian"}), ran(environment={GPU: "H100"})) == {}
    assert differ(ran(environment={"a": "1"}), ran(environment={SYSTEM: "Debian"})) == {}
    assert differ(ran(environment={SYSTEM: "Debian"}), ran(environment={"a": "1"})) == {}
    assert differ(ran(tests=None), ran(tests="f")) == {}
    assert differ(ran(tests="f"), ran(tests=None)) == {}


def test_a_package_that_one_side_lacks_differs_as_another_version_does() -> None:
    own, clean = ran(environment={"a": "1", "b": "1"}), ran(environment={"b": "1", "c": "2"})
    assert differ(own, clean) == {PACKAGES: [("a", "1", None), ("c", None, "2")]}
    assert differ(own, clean, [clean]) == {}
    # What a run without a list has is unknown, and takes no doubt away.
    unlisted = ran(environment={SYSTEM: "Debian"})
    assert differ(own, clean, [unlisted], [unlisted]) == differ(own, clean)
    assert differ(own, clean, ignore=PACKAGES) == {}


def test_other_tests_come_first_unless_a_run_of_each_kind_had_the_same() -> None:
    own = ran(environment={SYSTEM: "Debian"}, tests="f")
    clean = ran(environment={SYSTEM: "Suse"}, tests="g")
    assert list(differ(own, clean)) == [TESTS, MACHINE]
    assert differ(own, clean)[TESTS] == []
    assert TESTS not in differ(own, clean, [replace(own, tests="g")])
    assert TESTS not in differ(own, clean, (), [replace(clean, tests="f")])
    # One run without a version of its tests excludes nothing, but one of each kind does.
    unknown = replace(own, tests=None)
    assert TESTS in differ(own, clean, [replace(own, tests="h")], [unknown])
    assert TESTS not in differ(own, clean, [unknown], [unknown])


_environments = st.dictionaries(st.sampled_from(("a", "b", GPU, SYSTEM)), st.sampled_from("123"))
_runs = st.lists(st.builds(ran, environment=_environments), max_size=3)
_kinds = st.sampled_from((None, MACHINE, PACKAGES))


@given(_runs, _runs, _environments, _environments, _kinds)
def test_only_what_could_be_the_cause_is_named(
    shows: list[Observation],
    cleans: list[Observation],
    here: Mapping[str, str],
    there: Mapping[str, str],
    ignore: ConfounderKind | None,
) -> None:
    """What is the same in a run that shows the symptom and in a clean one is no cause."""

    def value(environment: Mapping[str, str], name: str) -> str | None:
        lists = name in ("a", "b") and not {"a", "b"}.isdisjoint(environment)
        return environment.get(name, "missing" if lists else None)

    own, clean = ran(environment=here), ran(environment=there)
    found = differ(own, clean, shows, cleans, ignore)
    named = {name for changes in found.values() for name, _, _ in changes}
    for name in ("a", "b", GPU, SYSTEM):
        kept, gone = (
            {value(run.environment, name) for run in runs} - {None}
            for runs in ((own, *shows), (clean, *cleans))
        )
        old, new = value(there, name), value(here, name)
        differs = None not in (old, new) and old != new
        asked = ignore is not (MACHINE if name in (GPU, SYSTEM) else PACKAGES)
        assert (name in named) == (differs and asked and kept.isdisjoint(gone))
    assert differ(own, own, shows, cleans) == {}


@given(_runs, _runs, _environments, _environments, _kinds)
def test_what_differs_is_the_same_from_both_sides(
    shows: list[Observation],
    cleans: list[Observation],
    here: Mapping[str, str],
    there: Mapping[str, str],
    ignore: ConfounderKind | None,
) -> None:
    own, clean = ran(environment=here), ran(environment=there)
    turned = {
        kind: [(name, old, new) for name, new, old in changes]
        for kind, changes in differ(clean, own, cleans, shows, ignore).items()
    }
    assert differ(own, clean, shows, cleans, ignore) == turned
    assert differ(own, ran(environment=dict(here)), shows, cleans, ignore) == {}
