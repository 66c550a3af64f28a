"""What the rule that is nearest to a situation had."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from matrix._util.versions import VersionRange, base_of
from matrix.record.model import Platform, StartKind
from matrix.report.provisional import comparison_words
from matrix.rules.expectations import Expectations, Expected, Nearest, Rule, Situation
from matrix.rules.expectations_file import load_expectations
from matrix.rules.provisional import NearestRelease, Provisional, provisional_of

SAVED, LOADED = "num_compiled_artifacts_saved", "num_compiled_artifacts_loaded"
TOTAL = "aot_autograd.total"
MEGA = "VLLM_USE_MEGA_AOT_ARTIFACT"


def rule(name: str, saved: int = 3, **facts: Any) -> Rule:
    for key in ("torch", "vllm"):
        if key in facts:
            facts[key] = VersionRange(facts[key])
    given: dict[str, Any] = {"counters": {SAVED: saved}, "start": StartKind.COLD, "case": "moe"}
    return Rule(id=name, evidence=("a",), **given | facts)


def at(vllm: str, torch: str = "2.10.0", **facts: Any) -> Situation:
    given: dict[str, Any] = {"case": "moe", "platform": "cuda", "flags": {}}
    return Situation(vllm=vllm, torch=torch, **given | facts)


def near(situation: Situation, *rules: Rule) -> Mapping[str, Nearest]:
    """Return what is nearest, which must not depend on the order of the rules."""
    shuffled = list(rules)
    random.Random(len(rules)).shuffle(shuffled)
    found = Expectations(rules=rules).nearest(situation, StartKind.COLD)
    assert Expectations(rules=tuple(shuffled)).nearest(situation, StartKind.COLD) == found
    return found


OLD = rule("old", 4, vllm=">=0.17,<0.19")
NEW = rule("new", 3, vllm=">=0.19,<0.34", torch="<2.15")


@pytest.mark.parametrize(
    ("vllm", "torch", "expected"),
    [
        ("0.33.0", "2.14.1", None),
        ("0.18.1", "2.10.0", None),
        ("0.16.0", "2.10.0", None),
        ("0.34.0", "2.14.0", ("new", "0.33", None)),
        ("0.34.0rc1", "2.14.0", ("new", "0.33", None)),
        ("0.33.1.dev3+g1", "2.14.0", None),
        ("0.33.0", "2.15.0rc1+cu132", ("new", None, "2.14")),
        ("0.34.0", "2.16.0.dev20261127", ("new", "0.33", "2.14")),
        ("9.0", "9.0", ("new", "0.33", "2.14")),
    ],
)
def test_a_release_beyond_the_end_has_the_rule_that_ended_last(
    vllm: str, torch: str, expected: tuple[str, str | None, str | None] | None
) -> None:
    found = near(at(vllm, torch), OLD, NEW)
    if expected is None:
        assert found == {}
        return
    name, of_vllm, of_torch = expected
    assert found == {
        SAVED: Nearest(value=3, rule=name, evidence=("a",), vllm=of_vllm, torch=of_torch)
    }


def test_vllm_counts_before_torch() -> None:
    """The rule of this vLLM under an older torch is nearer than one of an older vLLM."""
    of_vllm = rule("vllm", vllm=">=0.20,<0.34", torch="<2.11")
    of_torch = rule("torch", vllm="<0.20", torch="<2.15")
    found = near(at("0.33.0", "2.14.0"), of_vllm, of_torch)
    assert (found[SAVED].rule, found[SAVED].vllm, found[SAVED].torch) == ("vllm", None, "2.10")


OLDER = rule("older vLLM", 1, torch="<2.11", vllm=">=0.16,<0.17")


def test_a_rule_of_this_vllm_that_begins_with_a_newer_torch_is_nearer_than_an_older_vllm() -> None:
    newer = rule("newer torch", 2, torch=">=2.13,<2.15", vllm=">=0.19,<0.20")
    later = rule("later torch", 3, torch=">=2.15,<2.16", vllm=">=0.19,<0.20")
    found = near(at("0.19.1", "2.12.1"), OLDER, later, newer)[SAVED]
    assert (found.value, found.vllm, found.torch) == (2, None, "2.13")
    words = provisional_of({StartKind.COLD: {SAVED: found}}, {StartKind.COLD: {SAVED: 2}})
    assert words is not None and comparison_words(words.comparison) == "counts as torch 2.13 did"
    found = near(at("0.19.1", "2.12.1"), OLDER, later)[SAVED]
    assert (found.value, found.torch) == (3, "2.15")


def test_a_rule_of_this_vllm_that_ended_with_an_older_torch_is_nearer_than_a_newer_one() -> None:
    ended = rule("ended", 4, torch=">=2.10,<2.12", vllm=">=0.19,<0.20")
    begins = rule("begins", 5, torch=">=2.13", vllm=">=0.19,<0.20")
    found = near(at("0.19.1", "2.12.1"), OLDER, ended, begins)[SAVED]
    assert (found.value, found.torch) == (4, "2.11")


def test_a_newer_torch_alone_says_nothing() -> None:
    begins = rule("begins", 2, torch=">=2.13", vllm="<0.20")
    assert near(at("0.19.1", "2.12.1"), begins) == {}
    another = rule("another vLLM", 2, torch=">=2.13", vllm=">=0.20,<0.21")
    assert near(at("0.19.1", "2.12.1"), OLDER, another)[SAVED].value == 1


def test_of_rules_that_ended_together_the_more_specific_one_is_near() -> None:
    mega = rule("mega", 0, vllm=">=0.19,<0.34", torch="<2.15", flags={MEGA: True})
    assert near(at("0.34.0", flags={MEGA: True}), NEW, mega)[SAVED].rule == "mega"
    assert near(at("0.34.0", flags={MEGA: False}), NEW, mega)[SAVED].rule == "new"


@pytest.mark.parametrize(
    "facts", [{"platform": "cpu"}, {"case": "dense"}, {"flags": {MEGA: True}}, {"start": "warm"}]
)
def test_a_rule_of_something_else_is_not_near(facts: dict[str, Any]) -> None:
    if "start" in facts:
        facts = {"start": StartKind.WARM}
    assert near(at("0.34.0"), rule("other", vllm="<0.34", **facts)) == {}


def test_a_rule_that_begins_later_or_has_a_hole_is_not_near() -> None:
    later = rule("later", vllm=">=0.40,<0.50")
    hole = rule("hole", vllm="<0.34", torch="!=2.12.*,<2.15")
    assert near(at("0.35.0"), later) == {}
    assert near(at("0.34.0", "2.12.1"), hole) == {}


def test_counters_that_something_is_expected_of_have_nothing_near() -> None:
    older = rule("older", vllm="<0.19", counters={SAVED: 9, LOADED: 1})
    found = near(at("0.30.0"), NEW, older)
    assert {counter: nearest.value for counter, nearest in found.items()} == {LOADED: 1}


def test_no_two_situations_are_taken_for_one() -> None:
    flagged = rule("flagged", 5, vllm=">=0.17,<0.18", flags={"A": 1})
    rules = (
        OLD,
        NEW,
        flagged,
        rule("cpu", 6, vllm=">=0.19,<0.34", torch="<2.15", platform=Platform.CPU),
    )
    situations = [
        at("0.17.0"),
        at("0.17.0", flags={"A": 1}),
        at("0.19.0"),
        at("0.34.0"),
        at("0.34.0", "2.15.0"),
        at("0.34.0", platform="cpu"),
        at("0.34.0", case="other"),
    ]
    asked_often = Expectations(rules=rules)
    for situation in (*situations, *reversed(situations)):
        fresh = Expectations(rules=rules)
        for start in StartKind:
            assert asked_often.expect(situation, start) == fresh.expect(situation, start)
            assert asked_often.nearest(situation, start) == fresh.nearest(situation, start)


def test_a_rule_of_one_cell_is_near_only_where_nothing_is_expected() -> None:
    cell = rule("cell", vllm="==0.20.*", torch="==2.11.*", counters={TOTAL: 9})
    assert near(at("0.30.0", "2.13.0"), NEW, cell) == {}
    assert near(at("0.34.0", "2.13.0"), NEW, cell)[TOTAL].vllm == "0.20"
    assert near(at("0.21.0", "2.12.0"), cell)[TOTAL].value == 9
    # Where a rule of several releases ended too, the one of one cell is the nearer.
    series = rule("series", vllm="<0.19", torch="<2.10", counters={TOTAL: 8})
    assert near(at("0.30.0", "2.13.0"), NEW, cell, series)[TOTAL].rule == "cell"


SHIPPED = load_expectations()
CASES = sorted({expectation.case for expectation in SHIPPED.rules if expectation.case})
VERSIONS = st.builds("{}.{}.{}".format, st.just(0), st.integers(14, 36), st.integers(0, 2))
TORCHES = st.builds("2.{}.{}".format, st.integers(8, 17), st.integers(0, 1))


@settings(deadline=None, max_examples=300)
@given(
    case=st.sampled_from(CASES),
    platform=st.sampled_from(["cuda", "cpu"]),
    vllm=VERSIONS,
    torch=TORCHES,
    mega=st.booleans(),
    start=st.sampled_from(["cold", "warm"]),
)
def test_laws_of_what_is_near(
    case: str, platform: Platform, vllm: str, torch: str, mega: bool, start: StartKind
) -> None:
    """What is expected is never provisional, and what is near lacks one of the two releases."""
    flags = {MEGA: mega, "VLLM_USE_AOT_COMPILE": True, "VLLM_DISABLE_COMPILE_CACHE": False}
    where = Situation(case=case, platform=platform, torch=torch, vllm=vllm, flags=flags)
    expected, found = SHIPPED.expect(where, start), SHIPPED.nearest(where, start)
    assert expected.keys().isdisjoint(found)
    assert SHIPPED.nearest(where, start, expected) == found
    rules = {expectation.id: expectation for expectation in SHIPPED.rules}
    for nearest in found.values():
        assert nearest.vllm or nearest.torch
        for nearby, range_of, version in (
            (nearest.vllm, rules[nearest.rule].vllm, vllm),
            (nearest.torch, rules[nearest.rule].torch, torch),
        ):
            assert bool(nearby) is not range_of.contains(Version(version))
        # No rule of a newer vLLM is near, and one of a newer torch only where it has the vLLM.
        assert not nearest.vllm or rules[nearest.rule].vllm.ended_before(Version(vllm))
        assert not nearest.vllm or not rules[nearest.rule].torch.is_above(base_of(Version(torch)))
    # Numbers of what is compiled ahead of time alone make no case compatible.
    if expected and all(counter.startswith("num_aot_") for counter in expected):
        assert found


def provisional(counted: int | None, *rules: Rule, vllm: str = "0.34.0") -> Provisional | None:
    situation = at(vllm)
    return provisional_of(
        {StartKind.COLD: near(situation, *rules)},
        {StartKind.COLD: {} if counted is None else {SAVED: counted}},
    )


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (3, "counts as vLLM 0.33 did"),
        (4, f"differs from vLLM 0.33 in cold {SAVED}: 4, was 3"),
        (None, f"differs from vLLM 0.33 in cold {SAVED}: not counted, was 3"),
    ],
)
def test_what_is_provisional_is_told_with_the_release(counted: int | None, words: str) -> None:
    found = provisional(counted, NEW)
    assert found is not None and comparison_words(found.comparison) == words


def test_a_release_within_the_bounds_is_not_provisional() -> None:
    assert provisional(4, NEW, vllm="0.33.0") is None


def test_several_releases_and_differences_are_told() -> None:
    older = rule("older", vllm="<0.20", counters={LOADED: 1, TOTAL: 2})
    every = {StartKind.COLD: near(at("0.34.0"), NEW, older)}
    same = provisional_of(every, {StartKind.COLD: {SAVED: 3, LOADED: 1, TOTAL: 2}})
    assert (
        same is not None
        and comparison_words(same.comparison) == "counts as vLLM 0.19 and vLLM 0.33 did"
    )
    other = provisional_of(every, {StartKind.COLD: {SAVED: 3, LOADED: 2, TOTAL: 3}})
    assert other is not None
    assert (
        comparison_words(other.comparison)
        == f"differs from vLLM 0.19 in cold {TOTAL}: 3, was 2, and 1 more"
    )
    assert other.releases == (NearestRelease(vllm="0.19", torch=None),)


def test_torch_is_named_where_it_is_beyond() -> None:
    found = {StartKind.COLD: near(at("0.34.0", "2.16.0"), NEW)}
    both = provisional_of(found, {StartKind.COLD: {SAVED: 3}})
    assert (
        both is not None
        and comparison_words(both.comparison) == "counts as vLLM 0.33 with torch 2.14 did"
    )
    alone = provisional_of(
        {StartKind.COLD: near(at("0.33.0", "2.16.0"), NEW)}, {StartKind.COLD: {SAVED: 3}}
    )
    assert alone is not None and comparison_words(alone.comparison) == "counts as torch 2.14 did"


def test_an_expected_counter_is_no_nearest_one() -> None:
    assert Expected(value=1, rule="a", evidence=()) != Nearest(
        value=1, rule="a", evidence=(), vllm="0.33", torch=None
    )
