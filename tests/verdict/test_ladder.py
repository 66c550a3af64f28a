from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgements import words
from matrix.catalog.cells import Cell
from matrix.checks.declared import Declared
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.record.model import (
    PLATFORMS,
    RUNGS,
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
)
from matrix.report.reasons import contradiction_words
from matrix.verdict.judge import CellVerdict
from matrix.verdict.ladder import Part, Progress, RunEvidence, assess, badness, evidence_of, level
from matrix.verdict.reasons import recorded
from matrix.verdict.states import StepState, Verdict

CELL = Cell("3.12", "2.12.1", "0.20.2")
PINNED = Declared(ok=True, off_pin=False, fits=True)
OFF_PIN = Declared(ok=False, off_pin=True, fits=True, facts=quoted("vLLM 0.20.2 pins torch 2.11.0"))
UNFIT = Declared(
    ok=False, off_pin=False, fits=False, facts=quoted("torch 2.12.1 has no wheel for Python 3.12")
)
NO = Answer(ok=False, facts=quoted("`_C.abi3.so` needs c10::f()\nand more"))
YES = Answer(ok=True)


def ran(
    verdict: Verdict, rung: Rung | None, reason: str | None = None, **more: object
) -> RunEvidence:
    provenance = {"started": "2026-11-22T18:00:00Z"}
    made = Record(
        cell="py312-torch212-vllm020", platform=Platform.CUDA, finished=True, provenance=provenance
    )
    record = replace(made, **more)  # type: ignore[arg-type]
    return evidence_of(record, CellVerdict(verdict=verdict, rung=rung, reason=recorded(reason)))


STARTED = ran(Verdict.COMPATIBLE, Rung.AS_EXPECTED)
DRIFTED = ran(Verdict.DRIFT, Rung.AS_EXPECTED, "cold x is 1, expected 2")
BROKEN = ran(Verdict.INCOMPATIBLE, Rung.IMPORTS, "undefined symbol: f")
NOT_INSTALLED = ran(Verdict.INCOMPATIBLE, Rung.RESOLVES, "no certifi")
NO_RULES = ran(Verdict.UNTESTED, Rung.STARTS_WARM, "no expectation")
SPOILT = ran(
    Verdict.UNTESTED, None, "no space left", error=RunError(kind=ErrorKind.NO_SPACE, reason="x")
)


@pytest.mark.parametrize(
    ("declared", "resolves", "links", "seen", "reached", "fails", "verdict"),
    [
        (PINNED, None, None, None, "declared", None, Verdict.UNTESTED),
        (PINNED, YES, None, None, "resolves", None, Verdict.UNTESTED),
        (PINNED, None, YES, None, "links", None, Verdict.UNTESTED),
        (OFF_PIN, None, None, None, None, None, Verdict.UNTESTED),
        (OFF_PIN, YES, YES, None, "links", None, Verdict.UNTESTED),
        (OFF_PIN, YES, NO, None, "resolves", "links", Verdict.INCOMPATIBLE),
        (PINNED, NO, YES, None, "declared", "resolves", Verdict.INCOMPATIBLE),
        (UNFIT, YES, YES, None, None, "declared", Verdict.INCOMPATIBLE),
        (PINNED, YES, YES, STARTED, "as expected", None, Verdict.COMPATIBLE),
        (PINNED, None, None, DRIFTED, "starts warm", "as expected", Verdict.DRIFT),
        (PINNED, None, YES, BROKEN, "links", "imports", Verdict.INCOMPATIBLE),
        (PINNED, None, None, BROKEN, "resolves", "imports", Verdict.INCOMPATIBLE),
        (PINNED, YES, YES, NOT_INSTALLED, "declared", "resolves", Verdict.INCOMPATIBLE),
        (PINNED, None, None, NO_RULES, "starts warm", None, Verdict.UNTESTED),
        # A run that was cut short before it showed anything leaves the cheap rungs to speak.
        (OFF_PIN, YES, NO, SPOILT, "resolves", "links", Verdict.INCOMPATIBLE),
        # A record beats them.
        (OFF_PIN, NO, NO, STARTED, "as expected", None, Verdict.COMPATIBLE),
        (UNFIT, None, None, STARTED, "as expected", None, Verdict.COMPATIBLE),
        (OFF_PIN, NO, NO, NO_RULES, "starts warm", None, Verdict.UNTESTED),
    ],
)
def test_a_cell_gets_as_far_as_the_evidence_goes(
    declared: Declared,
    resolves: Answer | None,
    links: Answer | None,
    seen: RunEvidence | None,
    reached: str | None,
    fails: str | None,
    verdict: str,
) -> None:
    found = assess(CELL, Platform.CUDA, declared, resolves=resolves, links=links, ran=seen)
    assert (found.reached, found.fails, found.verdict) == (reached, fails, verdict)
    assert (words(found.reason) is None) == (fails is None)
    assert found.off_pin == declared.off_pin


def test_why_is_one_line() -> None:
    assert (
        words(assess(CELL, Platform.CUDA, OFF_PIN, links=NO).reason)
        == "`_C.abi3.so` needs c10::f()"
    )
    dated = assess(
        CELL,
        Platform.CUDA,
        PINNED,
        resolves=Answer(ok=False, facts=quoted("no certifi"), asked="2026-11-23"),
    )
    assert words(dated.reason) == "no certifi (asked on 2026-11-23)"


def test_what_the_index_lacked_on_a_day_is_unknown_and_says_so() -> None:
    lacks = Answer(ok=False, unknown=True, facts=quoted("needs certifi>=2"), asked="2026-11-23")
    found = assess(CELL, Platform.CUDA, PINNED, resolves=lacks, links=YES)
    assert (found.fails, found.verdict, found.ruled_out) == (None, Verdict.UNTESTED, False)
    assert found.unanswered == ("resolves",)
    step = found.steps[1]
    assert (step.state, words(step.reason)) == (
        StepState.UNKNOWN,
        "needs certifi>=2 (asked on 2026-11-23)",
    )
    assert assess(CELL, Platform.CUDA, PINNED, resolves=lacks, ran=STARTED).contradictions == ()


def test_on_the_cpu_the_extensions_are_not_needed() -> None:
    found = assess(CELL, Platform.CPU, OFF_PIN, resolves=YES, links=NO)
    assert (found.reached, found.fails, found.verdict) == ("resolves", None, Verdict.UNTESTED)
    assert found.steps[2].state == StepState.NOT_NEEDED
    assert "c10::f()" in str(words(found.steps[2].reason))
    assert assess(CELL, Platform.CPU, PINNED, resolves=YES, links=YES).reached == "resolves"
    assert assess(CELL, Platform.CPU, OFF_PIN, links=NO, ran=STARTED).contradictions == ()


def test_what_has_no_answer_is_listed() -> None:
    found = assess(CELL, Platform.CUDA, OFF_PIN, links=YES)
    assert found.skipped == ("resolves",)
    assert found.unknown == ("resolves", *RUNGS[3:])
    assert assess(CELL, Platform.CUDA, OFF_PIN, links=NO).unknown == ("resolves",)
    assert assess(CELL, Platform.CUDA, PINNED, resolves=YES, links=YES).skipped == ()


@pytest.mark.parametrize(
    ("declared", "resolves", "links", "seen", "said"),
    [
        (OFF_PIN, None, NO, STARTED, "does not link (`_C.abi3.so` needs c10::f()), but was impor"),
        (OFF_PIN, NO, None, STARTED, "does not resolve (`_C.abi3.so` needs c10::f()), but was in"),
        (PINNED, YES, None, NOT_INSTALLED, "resolves, but was not installed on 2026-11-22: no ce"),
        (PINNED, YES, YES, BROKEN, "links, but was not imported on 2026-11-22: undefined symbol"),
        (UNFIT, None, None, STARTED, "is not for this Python (torch 2.12.1 has no wheel for Pyt"),
    ],
)
def test_contradictions_are_shown(
    declared: Declared, resolves: Answer | None, links: Answer | None, seen: RunEvidence, said: str
) -> None:
    [contradiction] = assess(
        CELL, Platform.CUDA, declared, resolves=resolves, links=links, ran=seen
    ).contradictions
    assert contradiction_words(contradiction).startswith(said)


def test_only_what_no_run_disproves_is_ruled_out() -> None:
    assert assess(CELL, Platform.CUDA, OFF_PIN, resolves=YES, links=NO).ruled_out
    assert assess(CELL, Platform.CUDA, UNFIT).ruled_out
    assert assess(CELL, Platform.CUDA, OFF_PIN, resolves=NO, ran=SPOILT).ruled_out
    assert not assess(CELL, Platform.CUDA, OFF_PIN, resolves=NO, links=NO, ran=STARTED).ruled_out
    assert not assess(CELL, Platform.CUDA, OFF_PIN, ran=NOT_INSTALLED).ruled_out
    assert not assess(CELL, Platform.CUDA, OFF_PIN).ruled_out


def test_a_run_of_another_cell_shows_nothing_of_this_one() -> None:
    wrong = ran(
        Verdict.UNTESTED,
        None,
        "wrong torch",
        error=RunError(kind=ErrorKind.WRONG_CELL, reason="wrong torch"),
        rungs=(RungResult(rung=Rung.IMPORTS, ok=True),),
    )
    assert wrong.passed == frozenset()
    spoilt = ran(Verdict.UNTESTED, None, "x", rungs=(RungResult(rung=Rung.IMPORTS, ok=True),))
    assert spoilt.passed == {"resolves", "imports"}
    assert ran(Verdict.COMPATIBLE, Rung.AS_EXPECTED, deselected=8).part == Part(held=0, total=8)


def test_a_run_that_ended_early_holds_the_cases_that_it_had_begun() -> None:
    some = (Case(case="a", outcome=Outcome.PASSED), Case(case="b", outcome=Outcome.INTERRUPTED))
    early = ran(Verdict.UNTESTED, None, "x", cases=some, selected=9, finished=False)
    assert early.part == Part(held=2, total=9)
    assert ran(Verdict.UNTESTED, None, "x", cases=some, selected=2).part is None
    assert ran(Verdict.UNTESTED, None, "x", selected=9).part is None


DECLARED = [PINNED, OFF_PIN, UNFIT]
CHEAP = [YES, None, NO]
"""What a cheap rung can say, ever worse."""
RUNS = [
    ran(Verdict.INCOMPATIBLE, fails, "why")
    for fails in (Rung.STARTS_WARM, Rung.STARTS_COLD, Rung.IMPORTS, Rung.RESOLVES)
]
SEEN = [STARTED, DRIFTED, *RUNS]
"""What a run can show, ever worse."""


@st.composite
def evidence(draw: st.DrawFn) -> tuple[int, int, int, int | None]:
    at = st.integers(0, 2)
    seen = draw(st.none() | st.integers(0, len(SEEN) - 1))
    return draw(at), draw(at), draw(at), seen


def progress(platform: Platform, at: tuple[int, int, int, int | None]) -> Progress:
    declared, resolves, links, seen = at
    return assess(
        CELL,
        platform,
        DECLARED[declared],
        resolves=CHEAP[resolves],
        links=CHEAP[links],
        ran=None if seen is None else SEEN[seen],
    )


@given(st.sampled_from(PLATFORMS), evidence(), st.tuples(*[st.integers(0, 5)] * 4))
def test_worse_evidence_never_takes_a_cell_higher(
    platform: Platform, at: tuple[int, int, int, int | None], worse: tuple[int, ...]
) -> None:
    seen = None if at[3] is None else min(at[3] + worse[3], len(SEEN) - 1)
    lower = min(at[0] + worse[0], 2), min(at[1] + worse[1], 2), min(at[2] + worse[2], 2), seen
    assert level(progress(platform, lower).reached) <= level(progress(platform, at).reached)


@given(st.sampled_from(PLATFORMS), evidence())
def test_what_is_unknown_never_counts_as_passed(
    platform: Platform, at: tuple[int, int, int, int | None]
) -> None:
    found = progress(platform, at)
    states = {step.rung: step.state for step in found.steps}
    assert tuple(states) == RUNGS
    assert found.reached is None or states[found.reached] == StepState.PASSED
    assert found.fails is None or states[found.fails] == StepState.FAILED
    assert level(found.reached) < level(found.fails or Rung.AS_EXPECTED) + (found.fails is None)
    assert all(states[rung] == StepState.UNKNOWN for rung in found.unknown)
    assert set(found.skipped) <= set(found.unknown)
    # Without an answer and without a run, only the metadata can have passed.
    bare = progress(platform, (at[0], 1, 1, None))
    assert bare.reached in (None, "declared")
    assert bare.verdict in (Verdict.UNTESTED, Verdict.INCOMPATIBLE)


@given(st.sampled_from(PLATFORMS), evidence())
def test_the_verdict_is_the_runs_where_it_has_one(
    platform: Platform, at: tuple[int, int, int, int | None]
) -> None:
    found = progress(platform, at)
    if at[3] is not None:
        assert found.verdict == SEEN[at[3]].verdict
    assert (found.verdict in (Verdict.INCOMPATIBLE, Verdict.DRIFT)) == (found.fails is not None)


def test_sources_that_do_not_build_stop_below_resolves() -> None:
    """A resolver answered for the release; what does not build never gets there."""
    unbuilt = ran(Verdict.INCOMPATIBLE, Rung.BUILDS, "ImportError: no y\nmore")
    found = assess(CELL, Platform.CPU, PINNED, resolves=YES, ran=unbuilt)
    assert (found.verdict, found.reached, found.fails) == (
        Verdict.INCOMPATIBLE, "declared", "builds"
    )  # fmt: skip
    assert words(found.reason) == words(found.cause) == "ImportError: no y"
    assert [step.rung for step in found.steps] == [*RUNGS, "builds"]
    assert found.unknown == () and not found.ruled_out
    built = assess(CELL, Platform.CPU, PINNED, resolves=YES, ran=STARTED)
    assert [step.rung for step in built.steps] == list(RUNGS)


def test_of_equal_runs_a_whole_one_stands_for_the_pair() -> None:
    whole = ran(Verdict.COMPATIBLE, Rung.AS_EXPECTED)
    part = replace(whole, part=Part(held=2, total=9))
    again = replace(part, recompiling=("a",))

    def standing(*runs: RunEvidence) -> RunEvidence:
        return min(runs, key=lambda run: badness(run.verdict, Rung.AS_EXPECTED, run))

    assert standing(part, whole) == whole
    assert standing(whole, again) == again
