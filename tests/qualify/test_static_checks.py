"""matrix.qualify.static_checks: two releases on the rungs that need no run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from made import NO, NO_RULES, RELEASES, YES, Answers, Told, make, passed
from matrix.catalog.cells import Cell
from matrix.checks.declared import Declared
from matrix.checks.lookup import Answer
from matrix.qualify.query import Query, versions
from matrix.qualify.runs import ReleaseRuns, side
from matrix.qualify.static_checks import (
    CANNOT_ASK,
    FAILS_TOO,
    LOST,
    MENDED,
    NO_BASELINE,
    FirstRungs,
    Rungs,
    Standing,
    change,
    failing,
    rungs,
    why_not_asked,
)
from matrix.record.model import ErrorKind, RunError
from matrix.verdict.ladder import Progress, assess

PIN = Declared(True, False, True)
OFF = Declared(False, True, True, "vLLM 0.20.2 pins torch 2.11.0")
UNFIT = Declared(False, False, False, "torch 2.12.1 has no wheel for Python 3.11")
PROMISED = replace(NO, promised=True)
ASKED = Query("torch", "2.12.1", "2.11.0")
_TORCH, _VLLM = ("2.11.0", "2.12.0", "2.12.1", "2.13.0"), ("0.19.1", "0.20.1", "0.20.2", "0.21.0")
TOLD = replace(
    RELEASES,
    torch=tuple(each for each in RELEASES.torch if each.version in _TORCH),
    vllm=tuple(each for each in RELEASES.vllm if each.version in _VLLM),
)


def at(
    declared: Declared,
    resolves: Answer | None = None,
    links: Answer | None = None,
    torch: str = "2.12.1",
) -> Progress:
    return assess(Cell("3.11", torch, "0.20.2"), "cuda", declared, resolves=resolves, links=links)


_CLIMBS = st.builds(
    at,
    st.sampled_from((PIN, OFF, UNFIT)),
    st.sampled_from((None, YES, NO)),
    st.sampled_from((None, YES, NO, PROMISED)),
)


@pytest.mark.parametrize(
    ("baseline", "candidate", "kind"),
    [
        (at(PIN), at(PIN), None),
        (at(PIN, YES, YES), at(OFF, YES, YES), None),
        # An off-pin cell does not fail for its pin alone.
        (at(PIN), at(OFF), None),
        (at(PIN, NO), at(PIN, YES), MENDED),
        (at(PIN, YES, NO), at(PIN), MENDED),
        (at(PIN, NO), at(PIN, YES, NO), FAILS_TOO),
        (at(UNFIT), at(UNFIT), FAILS_TOO),
        # A Python that a release leaves out asks nothing.
        (at(PIN, YES, YES), at(UNFIT), CANNOT_ASK),
        (at(PIN, YES), at(PIN, NO), LOST),
        (at(PIN, YES), at(OFF, NO), LOST),
        (at(PIN), at(PIN, NO), NO_BASELINE),
        (at(PIN, YES), at(PIN, YES, NO), NO_BASELINE),
        # Built for the baseline: nobody promised that it links with another torch,
        (at(PIN, YES, YES), at(OFF, YES, NO), CANNOT_ASK),
        # but for the stable ABI, or its own pin, or where it did off-pin.
        (at(PIN, YES, YES), at(OFF, YES, PROMISED), LOST),
        (at(PIN, YES, YES), at(PIN, YES, NO), LOST),
        (at(OFF, YES, YES), at(OFF, YES, NO), LOST),
        (at(OFF, YES, YES), at(PIN, YES, NO), LOST),
    ],
)
def test_how_the_candidate_stands(
    baseline: Progress, candidate: Progress, kind: str | None
) -> None:
    assert change(baseline, candidate) == kind


@given(_CLIMBS, _CLIMBS)
def test_only_a_candidate_that_fails_has_lost(baseline: Progress, candidate: Progress) -> None:
    kind = change(baseline, candidate)
    fails = failing(baseline) is not None, failing(candidate) is not None
    if fails == (False, True):
        assert kind in (LOST, CANNOT_ASK, NO_BASELINE)
    else:
        of = {(False, False): None, (True, False): MENDED, (True, True): FAILS_TOO}
        assert kind == of[fails]
    assert change(candidate, candidate) == (FAILS_TOO if fails[1] else None)


@given(_CLIMBS)
def test_the_step_that_fails_is_the_one_of_the_climb(one: Progress) -> None:
    step = failing(one)
    assert (None if step is None else step.rung) == one.fails


def test_a_rung_that_a_run_shows_is_no_first_rung() -> None:
    candidate = make("2.12.1", error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol: f"))
    told = first(Answers(otherwise=YES), after=side_of("2.12.1", candidate))
    pair = told.pair("0.20.2", "3.11", "cpu")
    assert pair is not None
    broke = pair[1]
    assert broke.fails == "imports" and failing(broke) is None


def test_why_a_question_cannot_be_asked_blames_nobody() -> None:
    assert why_not_asked(at(UNFIT)) == (
        "cannot be asked: torch 2.12.1 has no wheel for Python 3.11"
    )
    assert why_not_asked(at(OFF, YES, NO)) == (
        "cannot be asked with these wheels: vLLM 0.20.2 pins torch 2.11.0, was built for that,"
        " and does not link with 2.12.1 (`_C` needs c10::f())"
    )
    # Without a cause, the reason.
    assert "(it misses g)" in why_not_asked(at(OFF, YES, Answer(False, "it misses g")))
    assert "(no reason given)" in why_not_asked(at(OFF, YES, Answer(False)))


def test_releases_that_fare_alike_are_told_together() -> None:
    good, lost = (at(PIN, YES, YES), at(OFF, YES, YES)), (at(PIN, YES, YES), at(PIN, NO))
    told = rungs(
        {
            ("cuda", "0.19.1"): [("3.11", *good), ("3.12", *good)],
            ("cuda", "0.20.2"): [("3.11", *good), ("3.12", *lost)],
            ("cuda", "0.21.0"): [("3.11", *good), ("3.12", *good)],
            ("cpu", "0.21.0"): [("3.11", *good)],
        }
    )
    links = Standing("links")
    assert told == (
        Rungs("cuda", links, links, None, None, ("0.19.1", "0.21.0")),
        Rungs("cuda", links, links, None, None, ("0.20.2",), ("3.11",)),
        Rungs(
            *("cuda", links, Standing(None, "resolves"), LOST),
            *("`_C` needs c10::f()", ("0.20.2",), ("3.12",)),
        ),
        Rungs("cpu", links, links, None, None, ("0.21.0",)),
    )


def test_the_reason_of_a_repair_is_why_the_baseline_failed() -> None:
    [told] = rungs({("cuda", "0.20.2"): [("3.11", at(PIN, NO), at(PIN, YES))]})
    assert (told.kind, told.reason) == (MENDED, "`_C` needs c10::f()")
    assert (told.baseline, told.candidate) == (Standing(None, "resolves"), Standing("resolves"))
    # A reason that has no cause of its own is the cause.
    [told] = rungs({("cuda", "0.20.2"): [("3.11", at(PIN, YES), at(UNFIT))]})
    assert (told.kind, told.reason) == (CANNOT_ASK, UNFIT.reason)


def test_what_says_nothing_is_not_told() -> None:
    # Neither side is for this Python, and it counts not among those of which the rest holds.
    good = at(PIN, YES, YES), at(PIN, YES, YES)
    nowhere = at(UNFIT), at(UNFIT)
    [told] = rungs({("cuda", "0.20.2"): [("3.11", *good), ("3.14", *nowhere)]})
    assert told.pythons == ()
    # Nothing is known of the candidate.
    assert rungs({("cuda", "0.20.2"): [("3.11", at(PIN, YES), at(OFF))]}) == ()
    assert rungs({("cuda", "0.20.2"): []}) == rungs({}) == ()


def side_of(version: str, *records: Told, asked: Query = ASKED) -> ReleaseRuns:
    said = [(*each, *found) for each in records if (found := versions(each[1], RELEASES))]
    return side(asked, version, said, NO_RULES, RELEASES)


def first(
    asks: Answers,
    asked: Query = ASKED,
    before: ReleaseRuns | None = None,
    after: ReleaseRuns | None = None,
) -> FirstRungs:
    found = FirstRungs.of(asked, (before or {}, after or {}), TOLD, asks)
    assert found is not None
    return found


def test_both_sides_climb_with_each_release_of_the_other() -> None:
    told = first(Answers(links={("2.12.1", "0.20.2"): NO}, otherwise=YES))
    pair = told.pair("0.20.2", "3.11", "cuda")
    assert pair is not None
    before, after = pair
    assert (before.cell.torch, after.cell.torch) == ("2.11.0", "2.12.1")
    assert (before.fails, after.fails) == (None, "links")
    # vLLM 0.20.2 pins 2.11.0.
    assert change(before, after) == CANNOT_ASK
    pair = first(Answers({("2.12.1", "0.20.2"): NO}, otherwise=YES)).pair("0.20.2", "3.11", "cpu")
    assert pair is not None
    assert (pair[0].fails, pair[1].fails, change(*pair)) == (None, "resolves", LOST)
    asked = Query("vllm", "0.20.2", "0.19.1")
    pair = first(Answers(otherwise=YES), asked).pair("2.11.0", "3.11", "cuda")
    assert pair is not None
    before, after = pair
    assert (before.cell.vllm, after.cell.vllm) == ("0.19.1", "0.20.2")
    assert before.cell.torch == after.cell.torch == "2.11.0"


@pytest.mark.parametrize(
    ("other", "python", "platform"),
    [("0.20.99", "3.11", "cuda"), ("0.20.2", "3.99", "cuda"), ("0.20.2", "3.11", "tpu")],
)
def test_of_a_cell_that_the_grid_does_not_have_no_climb_is_known(
    other: str, python: str, platform: str
) -> None:
    assert first(Answers(otherwise=YES)).pair(other, python, platform) is None


@pytest.mark.parametrize(
    "asked",
    [replace(ASKED, candidate="2.12.2"), replace(ASKED, baseline="2.11.0.dev20260101")],
)
def test_of_a_release_that_is_not_published_the_rungs_know_nothing(asked: Query) -> None:
    assert FirstRungs.of(asked, ({}, {}), TOLD, Answers(otherwise=YES)) is None


def test_a_release_is_found_however_it_is_written() -> None:
    told = first(Answers(), replace(ASKED, baseline="2.11", candidate="2.12.1.0"))
    assert (told.baseline, told.candidate) == ("2.11.0", "2.12.1")


def test_only_what_was_asked_for_is_told() -> None:
    told = first(Answers(otherwise=YES)).every()
    # Of the other project the newest patch of each minor.
    assert set(told) == {
        (platform, vllm) for platform in ("cpu", "cuda") for vllm in ("0.19.1", "0.20.2", "0.21.0")
    }
    assert [python for python, _, _ in told["cpu", "0.20.2"]] == list(TOLD.pythons)
    # Older ones where they ran.
    ran = side_of("2.12.1", make("2.12.1", passed(), vllm="0.20.1"))
    more = first(Answers(otherwise=YES), after=ran).every()
    assert {other for _, other in set(more) - set(told)} == {"0.20.1"}
    of_vllm = first(Answers(otherwise=YES), Query("vllm", "0.20.2", "0.19.1")).every()
    assert {other for _, other in of_vllm} == {"2.11.0", "2.12.1", "2.13.0"}
    asked = replace(ASKED, platforms=("cuda",), pythons=("3.12",), under=SpecifierSet("<0.20.2"))
    [(key, of)] = first(Answers(otherwise=YES), asked).every().items()
    assert key == ("cuda", "0.19.1")
    [(python, before, after)] = of
    assert (python, before.cell.torch, after.cell.torch) == ("3.12", "2.11.0", "2.12.1")


def test_a_record_beats_what_the_rungs_say() -> None:
    ran = side_of("2.12.1", make("2.12.1", passed(), platform="cuda"))
    answers = Answers(links={("2.12.1", "0.20.2"): NO}, otherwise=YES)
    pair = first(answers, after=ran).pair("0.20.2", "3.11", "cuda")
    assert pair is not None
    assert failing(pair[1]) is None and change(*pair) is None
    # It ran on that Python alone.
    pair = first(answers, after=ran).pair("0.20.2", "3.12", "cuda")
    assert pair is not None and change(*pair) == CANNOT_ASK
