"""Laws that hold for whatever two releases of some cells did."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from made import NO, RELEASES, YES, Answers, Told, failed, make, passed
from matrix.qualify.engine import qualify
from matrix.qualify.model import FailureKind, Qualification
from matrix.qualify.static_checks import StaticAnswers
from matrix.record.model import ErrorKind, RunError
from matrix.report.qualify.json import render
from matrix.rules.expectations_file import parse_expectations
from qualifications import (
    LATE,
    NEXT,
    OLD,
    OUTCOMES,
    Place,
    Side,
    ask,
    case_of,
    context,
    judged,
    side,
)

_CASES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(OUTCOMES))
_PLACES = list(itertools.product(("cpu", "cuda"), ("0.19.1", "0.20.2"), ("3.11", "3.12")))
_SIDE = st.dictionaries(st.sampled_from(_PLACES), _CASES, max_size=4)


def of_kind(found: Qualification, kind: FailureKind) -> set[tuple[object, ...]]:
    return {
        (failure.place.platform, failure.place.vllm, failure.place.cell[:5], failure.case)
        for failure in found.failures
        if failure.kind is kind
    }


@given(_SIDE)
def test_what_is_the_same_never_fails(runs: Side) -> None:
    found = judged([*side(OLD, runs), *side(NEXT, runs)])
    assert not found.failing and found.exit_status in (0, 3)
    assert not of_kind(found, FailureKind.REGRESSION) and not of_kind(found, FailureKind.REPAIR)
    assert not found.times and not found.flags


@given(_SIDE, _SIDE)
def test_the_other_way_round_regressions_are_repairs(before: Side, after: Side) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    there, back = judged(records), judged(records, ask("torch", OLD, NEXT))
    assert there.compared == back.compared
    for kind, reverse in (
        (FailureKind.REGRESSION, FailureKind.REPAIR),
        (FailureKind.REPAIR, FailureKind.REGRESSION),
        (FailureKind.FAILS_OTHERWISE, FailureKind.FAILS_OTHERWISE),
        (FailureKind.FAILS_AS_BEFORE, FailureKind.FAILS_AS_BEFORE),
    ):
        assert of_kind(there, kind) == of_kind(back, reverse)


@given(_SIDE, _SIDE, _SIDE)
def test_what_is_not_asked_about_changes_nothing(
    before: Side, after: Side, unrelated: Side
) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    more = [*side("2.10.0", unrelated), *side("2.13.0", unrelated)]
    # The caveats name the releases that have records.
    found, wanted = (replace(judged(runs), caveats=()) for runs in ([*more, *records], records))
    assert found == wanted


@st.composite
def _odd(draw: st.DrawFn) -> Told:
    """Return a run that a caveat or a finding names: several, future-dated, of nobody, a copy."""
    named, ran_torch = draw(st.tuples(*[st.sampled_from((OLD, NEXT))] * 2))
    case = draw(st.sampled_from((passed(), failed(), failed(signature="KeyError: y"))))
    facts = draw(st.sampled_from(({}, {}, {"torch": None}, {"torch": ran_torch})))
    wrong = RunError(kind=ErrorKind.WRONG_CELL, reason="another")
    path, run = make(
        named,
        case,
        platform=draw(st.sampled_from(("cpu", "cuda"))),
        vllm=draw(st.sampled_from(("0.20.1", "0.20.2"))),
        day=draw(st.sampled_from((21, 22, 29))),
        flags=draw(st.sampled_from(({}, {}, {"A": True}))),
        error=draw(st.sampled_from((None, None, wrong))),
        provenance=facts,
    )
    # A copy has the name of its file, too, in another folder.
    folder = draw(st.sampled_from("abcdefgh"))
    return path.parent / folder / path.name, run


_ODD = st.lists(_odd(), min_size=4, max_size=8, unique_by=lambda run: run[0])


@given(_SIDE, _SIDE, _ODD, st.randoms())
def test_the_order_of_the_records_does_not_matter(
    before: Side, after: Side, odd: list[Told], random: Any
) -> None:
    records = [*side(OLD, before), *side(NEXT, after), *odd]
    first = render(judged(records, late=LATE))
    assert render(judged(records[::-1], late=LATE)) == first
    assert render(judged(random.sample(records, len(records)), late=LATE)) == first


# To take evidence away, or to add what is bad, never makes a release qualify. Taken away is what
# the other side answers too; an older patch need not be run, and so may go.

_BAD = tuple(how for how in OUTCOMES if how != "passed")
_FAILS = ("drifted", "drifted otherwise", "failed", "failed otherwise")
_ANSWERED = ("passed", *_FAILS)
_AT = list(itertools.product(("cpu",), ("0.20.1", "0.20.2"), ("3.11", "3.12")))
_RUNS = st.dictionaries(st.sampled_from(_AT), _CASES, min_size=1, max_size=4)
_OWN_RULE = parse_expectations(
    """
[[rule]]
id = "warm"
vllm = "<99"
start = "warm"
counters = { num_graphs_seen = 1 }
evidence = ["a record"]
""",
    "rules.toml",
)


def status(before: Side, after: Side, *more: Told) -> int:
    """With a cell that passes on both sides, without which nothing ever qualifies."""
    fine = [make(torch, passed(), python="3.13") for torch in (OLD, NEXT)]
    records = [*side(OLD, before), *side(NEXT, after), *fine, *more]
    return judged(records, rules=_OWN_RULE).exit_status


def without(runs: Side, place: Place, case: str | None = None) -> Side:
    if case is None:
        return {key: cases for key, cases in runs.items() if key != place}
    return {**runs, place: {name: how for name, how in runs[place].items() if name != case}}


def is_newest(place: Place, *sides: Side) -> bool:
    platform, patch, python = place
    newest = platform, "0.20.2", python
    return patch == "0.20.2" or not any(newest in runs for runs in sides)


@given(_RUNS, _RUNS)
def test_taking_an_answer_away_never_qualifies(before: Side, after: Side) -> None:
    if status(before, after) == 0:
        return
    for place in before.keys() & after.keys():
        old, new = before[place], after[place]
        both = [name for name in old.keys() & new.keys() if {old[name], new[name]} <= {*_ANSWERED}]
        for name in both:
            assert status(without(before, place, name), after) != 0
            if is_newest(place, before, after):
                assert status(before, without(after, place, name)) != 0
        if both and is_newest(place, before, after):
            assert status(before, without(after, place)) != 0
        if any(how in _FAILS for how in new.values()):
            assert status(without(before, place), after) != 0


def is_as_good(how: str, baseline: str | None) -> bool:
    """Whether a case ends as at the baseline, or does not apply where that has no answer."""
    return how == baseline or (how == "not applicable" and baseline not in _ANSWERED)


_REFUTED: Place = ("cpu", "0.20.1", "3.11")
_INTERRUPTED: dict[str, Any] = {
    "place": _REFUTED,
    "cases": {"a": "drifted", "b": "interrupted"},
    "day": 22,
    "flags": {},
    "error": None,
    "is_identified": True,
}
"""A run that brings a case without an answer."""


# A case without an answer that the baseline did not run, or that did not apply to it, may have
# failed: nothing may be concluded from a run that brings one.
@example(
    before={_REFUTED: {"a": "drifted"}},
    after={_REFUTED: {}},
    **_INTERRUPTED,
)
@example(
    before={_REFUTED: {"a": "drifted", "b": "not applicable"}},
    after={_REFUTED: {}},
    **_INTERRUPTED,
)
@given(
    before=_RUNS,
    after=_RUNS,
    place=st.sampled_from(_AT),
    cases=st.dictionaries(st.sampled_from("abc"), st.sampled_from(_BAD)),
    day=st.integers(21, 23),
    flags=st.sampled_from([{}, {"A": True}, {"A": False}]),
    error=st.sampled_from([None, ErrorKind.CRASHED, ErrorKind.NO_SPACE, ErrorKind.INTERRUPTED]),
    is_identified=st.booleans(),
)
def test_adding_what_is_bad_never_qualifies(
    *,
    before: Side,
    after: Side,
    place: Place,
    cases: dict[str, str],
    day: int,
    flags: dict[str, object],
    error: ErrorKind | None,
    is_identified: bool,
) -> None:
    platform, vllm, python = place
    more = make(
        NEXT,
        *(case_of(how, name) for name, how in sorted(cases.items())),
        platform=platform,
        vllm=vllm,
        python=python,
        day=day,
        file="more",
        flags=flags,
        error=None if error is None else RunError(kind=error, reason="why"),
        provenance={} if is_identified else {"torch": None},
    )
    # A run that is as good as the baseline may be the answer that was missing, or takes the place
    # of one without cases: with all that the baseline has an answer to.
    baseline = before.get(place, {})
    as_good = all(is_as_good(how, baseline.get(name)) for name, how in cases.items())
    answers = any(how in _ANSWERED for how in cases.values())
    answered = {name for name, how in baseline.items() if how in _ANSWERED}
    if as_good and (answers or (cases and cases.keys() >= answered)):
        return
    if status(before, after) != 0:
        assert status(before, after, more) != 0


@given(_SIDE, _SIDE)
def test_a_qualified_candidate_passes_all_that_the_baseline_passes(
    before: Side, after: Side
) -> None:
    if judged([*side(OLD, before), *side(NEXT, after)]).exit_status == 0:
        for place, cases in before.items():
            for name, how in cases.items():
                if how in ("passed", "drifted"):
                    assert after[place][name] == how


_ANSWER = st.sampled_from([None, YES, NO, NO._replace(promised=True)])
_PAIRS = list(itertools.product((OLD, NEXT), ("0.19.1", "0.20.2")))
_CHECKS = st.builds(
    lambda resolves, links, otherwise: Answers(
        dict(zip(_PAIRS, resolves, strict=True)), dict(zip(_PAIRS, links, strict=True)), otherwise
    ),
    st.tuples(*[_ANSWER] * 4),
    st.tuples(*[_ANSWER] * 4),
    st.sampled_from([None, YES]),
)
# Of all releases those of the laws, so that a grid has few cells.
_FEW = replace(
    RELEASES,
    torch=tuple(release for release in RELEASES.torch if release.version in ("2.10.0", OLD, NEXT)),
    vllm=tuple(
        release for release in RELEASES.vllm if release.version in ("0.19.1", "0.20.1", "0.20.2")
    ),
)


def with_few_releases(answers: StaticAnswers | None, records: list[Told]) -> Qualification:
    return qualify(ask(), records, replace(context(), releases=_FEW), answers=answers)


@given(_SIDE, _SIDE, _CHECKS)
def test_no_static_check_ever_qualifies(before: Side, after: Side, answers: StaticAnswers) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    plain, found = with_few_releases(None, records), with_few_releases(answers, records)
    assert found.exit_status != 0 or plain.exit_status == 0
    # No run here failed at a first rung, so none of its answers is taken back.
    assert {failure for failure in found.failures if failure.ran} == set(plain.failures)
    assert found.compared == plain.compared


@given(_SIDE, _SIDE)
def test_static_checks_that_pass_change_no_verdict(before: Side, after: Side) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    plain = with_few_releases(None, records)
    found = with_few_releases(Answers(otherwise=YES), records)
    assert (found.verdict, found.failing) == (plain.verdict, plain.failing)
    assert len(found.blocking) == len(plain.blocking)
