"""matrix.attribution.explain: the evidence of an attribution as a sentence of a person's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from matrix.attribution.explain import (
    of_line,
    on_pythons,
    or_missing,
    pair_of,
    shown_by,
    state_words,
    subject,
    through,
    too,
    when,
)
from matrix.attribution.neighbours import MACHINE, PACKAGES, TESTS, TORCH, VLLM, FlagChange, Line
from matrix.attribution.observations import FAILED, RAN, Key, Observation
from matrix.attribution.symptoms import DRIFTS, FAILS, Symptom
from matrix.catalog.cells import Cell

SAVED = "num_compiled_artifacts_saved"
WARM = "warm", SAVED
FAILURE = Symptom(FAILS, rung="starts warm", signature="KeyError: None")
DRIFT = Symptom(DRIFTS, start="warm", counter=SAVED, observed=3, wanted=0)
MINORS = [f"2.{minor}.{patch}" for minor in (9, 10, 11) for patch in (0, 1)]


def ran(
    torch: str = "2.12.0",
    vllm: str = "0.20.0",
    python: str = "3.11",
    counters: Mapping[Key, int] | None = None,
) -> Observation:
    cell = Cell(python, torch, vllm)
    return Observation(cell, "cpu", "a", "2026-11-22T18:00:00Z", RAN, counters=counters or {})


def line(
    what: str,
    before: Observation | None,
    *shows: Observation,
    after: Observation | None = None,
) -> Line:
    return Line(what, before, shows, after, again=False)


def test_a_line_along_torch_in_words() -> None:
    own, newer = ran(), ran("2.13.0")
    found = line(TORCH, ran("2.11.0", counters={WARM: 0}), own, newer, after=ran("2.14.0"))
    assert of_line(own, FAILURE, found) == (
        "vLLM 0.20.0 starts warm under torch 2.11.0 and 2.14.0 and fails to start warm under"
        " 2.12.0 and 2.13.0"
    )
    assert of_line(own, DRIFT, found) == (
        f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 2.14.0 and 3 under"
        " 2.12.0 and 2.13.0"
    )


def test_a_line_along_vllm_in_words() -> None:
    own = ran()
    found = line(VLLM, None, own, after=ran(vllm="0.21.0", counters={WARM: 2}))
    assert of_line(own, replace(FAILURE, rung="imports"), found) == (
        "torch 2.12.0 is imported with vLLM 0.21.0 and is not imported with 0.20.0"
    )
    # What is clean counts what it counts, which need not be what the cell should.
    assert of_line(own, replace(DRIFT, observed=None), found) == (
        f"torch 2.12.0 counts warm {SAVED} 2 with vLLM 0.21.0 and nothing with 0.20.0"
    )
    assert of_line(own, replace(DRIFT, observed=0), found) == (
        f"torch 2.12.0 counts warm {SAVED} 2 with vLLM 0.21.0 and 0 with 0.20.0"
    )


def test_the_neighbours_that_show_it_too_are_named_without_the_cell() -> None:
    own = ran()
    along_torch = line(TORCH, None, ran("2.11.0"), own, ran("2.13.0"))
    assert shown_by(own, along_torch) == "vLLM 0.20.0 under torch 2.11.0 and 2.13.0"
    along_vllm = line(VLLM, None, own, ran(vllm="0.21.0"))
    assert shown_by(own, along_vllm) == "torch 2.12.0 with vLLM 0.21.0"


def test_the_pythons_where_it_is_clean_are_named() -> None:
    own = ran(counters={WARM: 3})
    clean = [ran(python="3.10"), ran(python="3.12")]
    assert on_pythons(own, FAILURE, clean) == (
        "vLLM 0.20.0 under torch 2.12.0 starts warm on Python 3.10 and 3.12"
    )
    assert on_pythons(own, DRIFT, clean[:1]) == (
        f"vLLM 0.20.0 under torch 2.12.0 counts warm {SAVED} 0 on Python 3.10"
    )


@pytest.mark.parametrize(
    ("symptom", "seen", "clean", "said"),
    [
        (FAILURE, ran(), True, "starts warm"),
        (FAILURE, ran(), False, "fails to start warm"),
        (DRIFT, ran(counters={WARM: 3}), False, f"counts warm {SAVED} 3"),
        (DRIFT, ran(counters={WARM: 1}), False, f"counts warm {SAVED} 3"),
        (DRIFT, ran(counters={WARM: 1}), True, f"counts warm {SAVED} 1"),
        (DRIFT, ran(), True, f"counts warm {SAVED} 0"),
        (DRIFT, ran(counters={WARM: 3}), True, f"counts warm {SAVED} 0"),
        # The counters of what failed say nothing of what a clean one counts.
        (DRIFT, replace(ran(counters={WARM: 1}), ended=FAILED), True, f"counts warm {SAVED} 0"),
    ],
)
def test_what_an_observation_does(
    symptom: Symptom, seen: Observation, clean: bool, said: str
) -> None:
    assert state_words(symptom, seen, clean=clean) == said


def test_a_symptom_as_what_a_sentence_speaks_of() -> None:
    assert pair_of(ran().cell) == "vLLM 0.20.0 under torch 2.12.0"
    assert subject(ran(), FAILURE) == "the failure of vLLM 0.20.0 under torch 2.12.0"
    assert subject(ran(), DRIFT) == f"warm {SAVED} 3 of vLLM 0.20.0 under torch 2.12.0"


@pytest.mark.parametrize(
    ("versions", "before", "first", "last", "after", "said"),
    [
        (MINORS, None, "2.10.0", "2.10.0", None, ""),
        (MINORS, "2.9.1", "2.10.0", "2.11.0", None, "since 2.10"),
        # The first known of its minor release stands for it, whatever its patch.
        (MINORS, "2.9.1", "2.10.1", "2.10.1", None, "since 2.10"),
        (MINORS, "2.9.0", "2.9.1", "2.9.1", None, "since 2.9.1"),
        (MINORS, "2.9.0", "2.10.0", "2.10.0", None, "since a release after 2.9.0 and up to 2.10.0"),
        (MINORS, None, "2.9.0", "2.9.1", "2.10.0", "until 2.10, where it is gone"),
        (
            MINORS,
            None,
            "2.9.0",
            "2.9.0",
            "2.11.0",
            "until a release after 2.9.0 and up to 2.11.0, where it is gone",
        ),
        (
            MINORS,
            "2.9.1",
            "2.10.0",
            "2.10.1",
            "2.11.0",
            "since 2.10 and until 2.11, where it is gone",
        ),
        # A release that is written otherwise lies not between.
        (["2.9", "2.9.1.0", "2.10"], "2.9.1", "2.10.0", "2.10.0", None, "since 2.10"),
        ([], "2.9.0", "2.11.0", "2.11.0", None, "since 2.11"),
    ],
)
def test_when_it_came_and_went(
    versions: Sequence[str],
    before: str | None,
    first: str,
    last: str,
    after: str | None,
    said: str,
) -> None:
    assert when(TORCH, versions, before, first, last, after) == said


_versions = st.builds("2.{}.{}".format, st.integers(8, 12), st.integers(0, 3))


@given(st.lists(_versions, unique=True), _versions, _versions)
def test_it_is_told_as_exactly_as_the_runs_tell(known: list[str], one: str, other: str) -> None:
    low, high = sorted((one, other), key=Version)
    said = when(TORCH, known, low, high, high, None).removeprefix("since ")
    inner = [each for each in known if Version(low) < Version(each) < Version(high)]
    minor = high.rpartition(".")[0]
    if said == minor:
        assert not low.startswith(f"{minor}.")
        assert all(each.startswith(f"{minor}.") for each in inner)
    elif said == high:
        assert not inner
        assert low.startswith(f"{minor}.")
    else:
        assert said == f"a release after {low} and up to {high}"
        assert inner
        assert low.startswith(f"{minor}.") or not all(
            each.startswith(f"{minor}.") for each in inner
        )
    # What lies outside says nothing of it, and it goes as it came.
    assert when(TORCH, inner, low, high, high, None).removeprefix("since ") == said
    assert when(TORCH, known, None, low, low, high) == f"until {said}, where it is gone"


@pytest.mark.parametrize(
    ("decides", "said"),
    [
        (None, ", with another default of X (0 at torch 2.11.0, 1 here)"),
        (
            True,
            ", by the default of X (0 at torch 2.11.0, 1 here) alone: with the other value it is"
            " gone",
        ),
        (
            False,
            ", and not by the default of X (0 at torch 2.11.0, 1 here): with the other value it"
            " stays",
        ),
    ],
)
def test_a_flag_that_differs_is_told_with_what_runs_say_of_it(
    decides: bool | None, said: str
) -> None:
    found = line(TORCH, ran("2.11.0"), ran())
    assert through([FlagChange("X", 1, 0, decides)], found) == said


def test_flags_are_told_at_the_neighbour_of_their_line() -> None:
    found = line(VLLM, None, ran(), after=ran(vllm="0.21.0"))
    flags = [FlagChange("X", 1, 0), FlagChange("Y", "a", None)]
    assert through((), found) == ""
    assert through(flags, found) == (
        ", with another default of X (0 at vLLM 0.21.0, 1 here) and Y (None at vLLM 0.21.0, a here)"
    )


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({}, ""),
        ({TESTS: []}, " (the tests differ too, and may be it)"),
        ({MACHINE: ["x"]}, " (the machine differs too, and may be it: x)"),
        (
            {TESTS: [], MACHINE: ["x"], PACKAGES: ["y"]},
            " (the tests, the machine and other packages differ too, and may be it: x; y)",
        ),
        (
            {MACHINE: ["x"], PACKAGES: ["a", "b", "c"]},
            " (the machine and other packages differ too, and may be it: x; a and 2 more)",
        ),
    ],
)
def test_what_differs_too(beside: Mapping[str, Sequence[str]], said: str) -> None:
    assert too(beside) == said


def test_a_package_that_is_missing_is_said_to_be() -> None:
    assert or_missing(["5.2", None, "5.1"]) == "5.1, 5.2 and missing"
    assert or_missing([None]) == "missing"
