"""matrix.qualify.model: the verdict that findings make."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import make, ran
from matrix.qualify.model import (
    AS_BEFORE,
    EXPECTED,
    EXPECTED_AGAIN,
    FAILING,
    FAILS_AS_BEFORE,
    FAILS_OTHERWISE,
    NEW,
    NO_RULE,
    NOT_ENOUGH,
    NOT_JUDGED,
    NOT_QUALIFIED,
    QUALIFIED,
    REGRESSION,
    REPAIR,
    UNEXPECTED,
    Drift,
    Failure,
    Match,
    Qualification,
    Unknown,
)
from matrix.qualify.query import Query
from matrix.record.model import PLATFORMS
from matrix.rules.waivers import Place, Waiver

PLACE = Place("py311-torch212-vllm020", "cpu", "2.12.1", "0.20.2")
KNOWN, OLD = (
    Waiver(name, "it is known", "https://x.example/1", date(2026, 12, day))
    for name, day in (("known", 31), ("old", 1))
)
MATCH = Match(ran(make("2.11.0")), ran(make("2.12.1")), 2, 1, None)
NOTHING = replace(MATCH, compared=2, passed=0)
ALL = Qualification(Query("torch", "2.12.1", "2.11.0"), date(2026, 12, 15))
GOOD = replace(ALL, matches=(MATCH,))


def failure(kind: str = REGRESSION, **more: Any) -> Failure:
    return Failure(kind, PLACE, "moe", "starts cold", "KeyError: x", "no", **more)


def drift(kind: str = NO_RULE, **more: Any) -> Drift:
    return Drift(kind, PLACE, "moe", "warm", "num_graphs_seen", 1, 2, **more)


def unknown(blocks: bool = True, **more: Any) -> Unknown:
    return Unknown(PLACE.cell, PLACE.platform, "moe", "never ran", blocks, **more)


_FAILURES = st.builds(
    failure,
    st.sampled_from((REGRESSION, FAILS_OTHERWISE, FAILS_AS_BEFORE, REPAIR)),
    waiver=st.sampled_from((None, KNOWN)),
    expired=st.sampled_from((None, OLD)),
)
_DRIFTS = st.builds(
    drift,
    st.sampled_from((UNEXPECTED, NO_RULE, EXPECTED, EXPECTED_AGAIN, AS_BEFORE, NEW, NOT_JUDGED)),
    waiver=st.sampled_from((None, KNOWN)),
    expired=st.sampled_from((None, OLD)),
)
_UNKNOWN = st.builds(unknown, st.booleans(), waiver=st.sampled_from((None, KNOWN)))
_MATCHES = st.sampled_from((MATCH, NOTHING))
_ANY = st.builds(
    lambda matches, failures, drifts, unknowns, unread: replace(
        ALL,
        matches=tuple(matches),
        failures=tuple(failures),
        drifts=tuple(drifts),
        unknown=tuple(unknowns),
        unread=unread,
    ),
    *(st.lists(each, max_size=2) for each in (_MATCHES, _FAILURES, _DRIFTS, _UNKNOWN)),
    st.integers(0, 1),
)


@pytest.mark.parametrize("make_one", [failure, drift])
@pytest.mark.parametrize(
    "kind",
    [
        *(REGRESSION, FAILS_OTHERWISE, FAILS_AS_BEFORE, REPAIR),
        *(UNEXPECTED, NO_RULE, EXPECTED, EXPECTED_AGAIN, AS_BEFORE, NEW, NOT_JUDGED),
    ],
)
def test_what_fails_the_candidate(make_one: Any, kind: str) -> None:
    fails = kind in {"regression", "fails otherwise", "not as expected", "no expectation"}
    assert (kind in FAILING) is fails
    assert make_one(kind).fails is fails
    assert not make_one(kind, waiver=KNOWN).fails
    # A waiver that has run out makes anything fail.
    assert make_one(kind, expired=OLD).fails
    assert not make_one(kind, waiver=KNOWN, expired=OLD).fails


@pytest.mark.parametrize(
    ("told", "verdict", "status"),
    [
        (GOOD, QUALIFIED, 0),
        (replace(GOOD, failures=(failure(),)), NOT_QUALIFIED, 1),
        (replace(GOOD, failures=(failure(waiver=KNOWN),)), QUALIFIED, 0),
        (replace(GOOD, drifts=(drift(),)), NOT_QUALIFIED, 1),
        (replace(GOOD, drifts=(drift(NEW),)), QUALIFIED, 0),
        (replace(GOOD, unknown=(unknown(),)), NOT_ENOUGH, 3),
        (replace(GOOD, unknown=(unknown(False),)), QUALIFIED, 0),
        (replace(GOOD, unknown=(unknown(waiver=KNOWN),)), QUALIFIED, 0),
        # What cannot be read may hold anything, but mends no failure.
        (replace(GOOD, unread=1), NOT_ENOUGH, 2),
        (replace(GOOD, unread=1, failures=(failure(),)), NOT_QUALIFIED, 1),
        # Where nothing passes, nothing shows that it works.
        (replace(ALL, matches=(NOTHING,)), NOT_ENOUGH, 3),
        (ALL, NOT_ENOUGH, 3),
    ],
)
def test_the_verdict(told: Qualification, verdict: str, status: int) -> None:
    assert (told.verdict, told.exit_status) == (verdict, status)


@given(_ANY)
def test_the_exit_status_says_the_verdict(told: Qualification) -> None:
    means = {0: QUALIFIED, 1: NOT_QUALIFIED, 2: NOT_ENOUGH, 3: NOT_ENOUGH}
    assert means[told.exit_status] == told.verdict
    assert (told.exit_status == 2) is (told.verdict == NOT_ENOUGH and told.unread > 0)


_RANK = {QUALIFIED: 0, NOT_ENOUGH: 1, NOT_QUALIFIED: 2}


@given(_ANY, _FAILURES, _DRIFTS, _UNKNOWN)
def test_what_is_found_beside_makes_no_verdict_better(
    told: Qualification, failed: Failure, drifted: Drift, open_: Unknown
) -> None:
    worse = [
        replace(told, failures=(*told.failures, failed)),
        replace(told, drifts=(*told.drifts, drifted)),
        replace(told, unknown=(*told.unknown, open_)),
        replace(told, unread=told.unread + 1),
    ]
    assert all(_RANK[each.verdict] >= _RANK[told.verdict] for each in worse)
    assert worse[-1].verdict != QUALIFIED
    if failed.fails:
        assert worse[0].verdict == NOT_QUALIFIED
    if drifted.fails:
        assert worse[1].verdict == NOT_QUALIFIED
    if open_.blocks and open_.waiver is None:
        assert worse[2].verdict != QUALIFIED


@given(_ANY, st.randoms())
def test_the_order_of_the_findings_is_nothing(told: Qualification, order: Any) -> None:
    def shuffled(of: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(order.sample(of, len(of)))

    other = replace(
        told,
        matches=shuffled(told.matches),
        failures=shuffled(told.failures),
        drifts=shuffled(told.drifts),
        unknown=shuffled(told.unknown),
    )
    assert (other.verdict, other.exit_status) == (told.verdict, told.exit_status)


def test_the_cases_of_all_cells_are_counted() -> None:
    told = replace(ALL, matches=(MATCH, NOTHING, MATCH))
    assert (told.compared, told.passed) == (6, 2)
    assert (ALL.compared, ALL.passed) == (0, 0)


def test_what_fails_and_what_blocks() -> None:
    failures, drifts = (failure(), failure(REPAIR)), (drift(EXPECTED), drift())
    unknowns = (unknown(), unknown(False), unknown(waiver=KNOWN), unknown(expired=OLD))
    told = replace(ALL, failures=failures, drifts=drifts, unknown=unknowns)
    assert told.failing == (failures[0], drifts[1])
    assert told.blocking == (unknowns[0], unknowns[3])


def test_each_waiver_is_told_once_with_how_much_it_waives() -> None:
    told = replace(
        ALL,
        failures=(failure(waiver=KNOWN), failure(), failure(expired=OLD)),
        drifts=(drift(waiver=KNOWN),),
        unknown=(unknown(waiver=replace(KNOWN, id="other")), unknown(expired=OLD)),
    )
    assert [(each.id, count) for each, count in told.waivers] == [("known", 2), ("other", 1)]
    assert [(each.id, count) for each, count in told.expired] == [("old", 2)]


@pytest.mark.parametrize("asked", [("cuda",), ("cpu",)])
def test_the_platforms_are_those_that_were_asked_for(asked: tuple[str, ...]) -> None:
    told = replace(GOOD, asked=replace(GOOD.asked, platforms=asked))
    assert told.platforms == asked


def test_of_all_platforms_those_count_that_have_a_say() -> None:
    cuda = replace(PLACE, platform="cuda")
    says = {
        "matches": ((MATCH,), "cpu"),
        "failures": ((replace(failure(), place=cuda),), "cuda"),
        "drifts": ((replace(drift(), place=cuda),), "cuda"),
        "unknown": ((replace(unknown(), platform="cuda"),), "cuda"),
    }
    assert ALL.platforms == ()
    for key, (found, platform) in says.items():
        assert replace(ALL, **{key: found}).platforms == (platform,)  # type: ignore[arg-type]
    for one, other in itertools.combinations(says, 2):
        told = replace(ALL, **{key: says[key][0] for key in (one, other)})  # type: ignore[arg-type]
        on = {says[one][1], says[other][1]}
        assert told.platforms == tuple(each for each in PLATFORMS if each in on)
    # What neither fails nor blocks has none.
    silent = (replace(failure(REPAIR), place=cuda),)
    assert replace(ALL, failures=silent).platforms == ()
    assert replace(ALL, unknown=(unknown(False),)).platforms == ()
