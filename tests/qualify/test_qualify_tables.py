"""The rules of a qualification that are hard to see through the front door, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from judgements import words
from made import NO, RELEASES, YES
from matrix.catalog.cells import Cell
from matrix.checks.declared import Declared
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.qualify.counters import CounterChange, RuleStanding
from matrix.qualify.model import DriftKind
from matrix.qualify.query import Observed, Query, may_match, releases_of
from matrix.qualify.static_checks import (
    PairProgress,
    RungChange,
    RungComparison,
    Standing,
    compare_rungs,
)
from matrix.record.model import Platform, Rung
from matrix.verdict.ladder import Progress, assess
from matrix.verdict.reasons import Checked
from qualifications import ask

_NONE, _MET, _MISSED = RuleStanding.NONE, RuleStanding.MET, RuleStanding.MISSED
JUDGED, UNJUDGED = "num_graphs_seen", "inductor.pattern_matcher_count"


@pytest.mark.parametrize(
    ("counts", "expected", "rules", "kind"),
    [
        # Neither side has a rule.
        ((1, 1), (None, None), (_NONE, _NONE), None),
        ((1, 2), (None, None), (_NONE, _NONE), DriftKind.NO_RULE),
        ((1, None), (None, None), (_NONE, _NONE), DriftKind.NO_RULE),
        ((0, None), (None, None), (_NONE, _NONE), DriftKind.NO_RULE),
        ((None, 2), (None, None), (_NONE, _NONE), DriftKind.NEW),
        ((None, 0), (None, None), (_NONE, _NONE), DriftKind.NEW),
        # The baseline alone has a rule.
        ((1, 1), (1, None), (_MET, _NONE), None),
        ((1, 2), (1, None), (_MET, _NONE), DriftKind.NO_RULE),
        ((3, 3), (1, None), (_MISSED, _NONE), None),
        ((3, 1), (1, None), (_MISSED, _NONE), DriftKind.NO_RULE),
        ((None, 1), (1, None), (_MISSED, _NONE), DriftKind.NEW),
        # The candidate meets its rule.
        ((1, 1), (1, 1), (_MET, _MET), None),
        ((1, 2), (1, 2), (_MET, _MET), DriftKind.EXPECTED),
        ((1, 2), (None, 2), (_NONE, _MET), DriftKind.EXPECTED),
        ((None, 2), (None, 2), (_NONE, _MET), DriftKind.EXPECTED),
        ((3, 1), (1, 1), (_MISSED, _MET), DriftKind.EXPECTED_AGAIN),
        ((None, 1), (1, 1), (_MISSED, _MET), DriftKind.EXPECTED_AGAIN),
        ((2, 2), (1, 2), (_MISSED, _MET), None),
        # The candidate misses its rule.
        ((3, 3), (1, 1), (_MISSED, _MISSED), DriftKind.AS_BEFORE),
        ((3, 3), (1, 2), (_MISSED, _MISSED), DriftKind.UNEXPECTED),
        ((3, 4), (1, 1), (_MISSED, _MISSED), DriftKind.UNEXPECTED),
        ((3, 3), (3, 4), (_MET, _MISSED), DriftKind.UNEXPECTED),
        ((3, 4), (3, 3), (_MET, _MISSED), DriftKind.UNEXPECTED),
        ((3, 3), (None, 4), (_NONE, _MISSED), DriftKind.UNEXPECTED),
        ((None, 4), (None, 3), (_NONE, _MISSED), DriftKind.UNEXPECTED),
    ],
)
def test_what_a_change_of_a_counter_is(
    counts: tuple[int | None, int | None],
    expected: tuple[int | None, int | None],
    rules: tuple[RuleStanding, RuleStanding],
    kind: DriftKind | None,
) -> None:
    change = CounterChange(
        counter=JUDGED,
        before=counts[0],
        after=counts[1],
        expected_before=expected[0],
        expected=expected[1],
        rule_before=rules[0],
        rule=rules[1],
    )
    assert change.kind() is kind
    # A counter that no rule may name differs in one row only.
    unjudged = DriftKind.NOT_JUDGED if kind is DriftKind.NO_RULE else kind
    assert change._replace(counter=UNJUDGED).kind() is unjudged


NAME = "py311-torch212-vllm020"
QUERY, OF_VLLM = ask(), ask("vllm", "0.20.2", "0.19.1")


def observed(
    torch: object, vllm: object, error: str | None, cell: str = NAME, *, cases: bool
) -> Observed:
    return Observed(
        cell=cell, platform=Platform.CPU, torch=torch, vllm=vllm, error=error, has_cases=cases
    )


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (observed("2.12.1", "0.20.2", None, cases=True), ("2.12.1", "0.20.2")),
        # A local version says how it was built, and is the same release.
        (observed("2.12.1+cu130", "0.20.2+cpu", None, cases=True), ("2.12.1", "0.20.2")),
        (
            observed("2.12.0.dev3+git1", "0.20.2rc1", None, cases=True),
            ("2.12.0.dev3", "0.20.2rc1"),
        ),
        # What names no release is of its cell's name only where no case ran.
        (observed(None, None, None, cases=False), ("2.12.1", "0.20.2")),
        (observed(None, "0.20.1", None, cases=False), ("2.12.1", "0.20.1")),
        (observed("2.12.0", "junk", None, cases=False), ("2.12.0", "0.20.2")),
        (observed(None, None, None, cases=True), None),
        (observed(None, "0.20.2", None, cases=True), None),
        (observed("2.12.1", "junk", None, cases=True), None),
        (observed("2.12.1", "0.20.2", "imports", cases=True), ("2.12.1", "0.20.2")),
        (observed("2.12.1", "0.20.2", "wrong_cell", cases=True), None),
        (observed(None, None, "wrong_cell", cases=False), None),
        (observed(None, None, None, "py311-torch99-vllm020", cases=False), None),
    ],
)
def test_the_releases_of_a_record(run: Observed, found: tuple[str, str] | None) -> None:
    assert releases_of(run, RELEASES) == found


@pytest.mark.parametrize(
    ("query", "run", "wanted"),
    [
        (QUERY, observed(None, None, None, cases=True), True),
        (QUERY, observed(None, None, None, "py311-torch211-vllm020", cases=True), True),
        (QUERY, observed(None, None, None, "py311-torch213-vllm020", cases=True), False),
        # A release that it names is exact, whatever the name of its cell means.
        (QUERY, observed("2.12.1+cu130", None, None, cases=True), True),
        (QUERY, observed("2.12.0", None, None, cases=True), False),
        (QUERY, observed("junk", None, None, cases=True), True),
        # Whatever it names, a run in another environment was meant to be of its cell.
        (QUERY, observed("2.13.0", None, "wrong_cell", cases=True), True),
        (OF_VLLM, observed(None, None, None, cases=True), True),
        (OF_VLLM, observed(None, "0.20.1", None, cases=True), False),
        (
            replace(QUERY, under=SpecifierSet("==0.20.1")),
            observed(None, "0.20.1", None, cases=True),
            True,
        ),
        (
            replace(QUERY, under=SpecifierSet("==0.20.1")),
            observed(None, None, None, cases=True),
            False,
        ),
        (replace(QUERY, pythons=("3.12",)), observed(None, None, None, cases=True), False),
        (replace(QUERY, platforms=(Platform.CUDA,)), observed(None, None, None, cases=True), False),
        (QUERY, observed("2.12.1", None, None, "py311-torch99-vllm020", cases=True), False),
    ],
)
def test_which_unidentified_record_may_be_meant(query: Query, run: Observed, wanted: bool) -> None:
    assert may_match(query, run, RELEASES) is wanted


def test_a_query_covers_prereleases_of_the_other_project() -> None:
    narrow = replace(QUERY, under=SpecifierSet(">=0.20"))
    assert narrow.covers(NAME, Platform.CPU, "0.21.0rc1") and not narrow.covers(
        NAME, Platform.CPU, "0.19.1"
    )


PIN = Declared(ok=True, off_pin=False, fits=True)
OFF = Declared(ok=False, off_pin=True, fits=True, facts=quoted("vLLM 0.20.2 pins torch 2.11.0"))
UNFIT = Declared(ok=False, off_pin=False, fits=False, facts=quoted("no wheel for Python 3.11"))
PROMISED = NO._replace(promised=True)


def at(declared: Declared, resolves: Answer | None = None, links: Answer | None = None) -> Progress:
    cell = Cell("3.11", "2.12.1", "0.20.2")
    return assess(cell, Platform.CUDA, declared, resolves=resolves, links=links)


@pytest.mark.parametrize(
    ("baseline", "candidate", "change"),
    [
        (at(PIN), at(PIN), None),
        (at(PIN, YES, YES), at(OFF, YES, YES), None),
        # An off-pin cell does not fail for its pin alone.
        (at(PIN), at(OFF), None),
        (at(PIN, NO), at(PIN, YES), RungChange.REPAIR),
        (at(PIN, YES, NO), at(PIN, YES, YES), RungChange.REPAIR),
        (at(UNFIT), at(PIN), RungChange.REPAIR),
        # What stood in the way is repaired only where it is known to have gone.
        (at(PIN, YES, NO), at(PIN), RungChange.NO_CANDIDATE),
        (at(PIN, NO), at(PIN, None, YES), RungChange.NO_CANDIDATE),
        (at(PIN, NO), at(PIN, NO._replace(unknown=True), YES), RungChange.NO_CANDIDATE),
        (at(PIN, NO), at(PIN, YES, NO), RungChange.FAILS_TOO),
        (at(UNFIT), at(UNFIT), RungChange.FAILS_TOO),
        # Nothing is testable on a Python that a release excludes.
        (at(PIN, YES, YES), at(UNFIT), RungChange.NOT_TESTABLE),
        (at(PIN, YES), at(PIN, NO), RungChange.REGRESSION),
        (at(PIN, YES), at(OFF, NO), RungChange.REGRESSION),
        (at(PIN), at(PIN, NO), RungChange.NO_BASELINE),
        (at(PIN, YES), at(PIN, YES, NO), RungChange.NO_BASELINE),
        # Built for the baseline: nobody promised that it links with another torch,
        (at(PIN, YES, YES), at(OFF, YES, NO), RungChange.NOT_TESTABLE),
        # but for the stable ABI, or its own pin, or where it did off-pin.
        (at(PIN, YES, YES), at(OFF, YES, PROMISED), RungChange.REGRESSION),
        (at(PIN, YES, YES), at(PIN, YES, NO), RungChange.REGRESSION),
        (at(OFF, YES, YES), at(OFF, YES, NO), RungChange.REGRESSION),
        (at(OFF, YES, YES), at(PIN, YES, NO), RungChange.REGRESSION),
    ],
)
def test_how_the_candidate_stands_on_the_rungs(
    baseline: Progress, candidate: Progress, change: RungChange | None
) -> None:
    assert PairProgress(baseline, candidate).change == change


def test_releases_that_fare_alike_are_one_row() -> None:
    good = PairProgress(at(PIN, YES, YES), at(OFF, YES, YES))
    lost = PairProgress(at(PIN, YES, YES), at(PIN, NO))
    nowhere = PairProgress(at(UNFIT), at(UNFIT))
    links = Standing(passed="links")

    def row(*others: str, **more: Any) -> RungComparison:
        values = {"platform": "cuda", "candidate": links, "change": None, "reason": None, **more}
        return RungComparison(baseline=links, others=others, **values)

    assert compare_rungs(
        {
            (Platform.CUDA, "0.19.1"): [("3.11", good), ("3.12", good)],
            (Platform.CUDA, "0.20.2"): [("3.11", good), ("3.12", lost)],
            # A Python of neither side counts not among those of which the rest holds.
            (Platform.CUDA, "0.21.0"): [("3.11", good), ("3.14", nowhere)],
            (Platform.CPU, "0.21.0"): [("3.11", good)],
        }
    ) == (
        row("0.19.1", "0.21.0"),
        row("0.20.2", pythons=("3.11",)),
        row(
            "0.20.2",
            candidate=Standing(fails=Rung.RESOLVES),
            change=RungChange.REGRESSION,
            reason=Checked(facts=NO.cause),
            pythons=("3.12",),
        ),
        row("0.21.0", platform="cpu"),
    )
    # Nothing is known of the candidate.
    unknown = PairProgress(at(PIN, YES), at(OFF))
    assert (
        compare_rungs(
            {(Platform.CUDA, "0.20.2"): [("3.11", unknown)], (Platform.CPU, "0.20.2"): []}
        )
        == ()
    )


@pytest.mark.parametrize(
    ("pair", "change", "reason"),
    [
        # The reason of a repair is why the baseline failed; one without a cause is its own.
        (PairProgress(at(PIN, NO), at(PIN, YES)), RungChange.REPAIR, "`_C` needs c10::f()"),
        (
            PairProgress(at(PIN, YES), at(UNFIT)),
            RungChange.NOT_TESTABLE,
            "no wheel for Python 3.11",
        ),
    ],
)
def test_the_reason_of_a_row(pair: PairProgress, change: RungChange, reason: str) -> None:
    [row] = compare_rungs({(Platform.CUDA, "0.20.2"): [("3.11", pair)]})
    assert (row.change, words(row.reason)) == (change, reason)
