"""Every reason of a verdict and of a plan has a code, a sentence, and JSON that has both."""

import json
from typing import Any, get_args

import pytest

from matrix._util.paths import DATA
from matrix.catalog.projects import Project
from matrix.checks.facts import quoted
from matrix.qualify import reasons as unanswered
from matrix.record.model import Departure, ErrorKind, EventKind, Outcome, Rung, StartKind, Why
from matrix.report.coded import because, coded
from matrix.report.plan import plan_words
from matrix.report.reasons import reason_words
from matrix.rules.expectations import Difference
from matrix.rules.provisional import DiffersFrom, NearestRelease, SameAs
from matrix.verdict import plan_reasons, reasons
from matrix.verdict.events import StartEvent
from matrix.verdict.states import Verdict

RAY = Departure(name="ray", required="ray>=2.48", installed=None, why=Why.MISSING)
SAVED = Difference(start=StartKind.COLD, counter="saved", expected=3, observed=4, rule="moe")
UNCOUNTED = Difference(
    start=StartKind.WARM, counter="loaded", expected=1, observed=None, rule="moe"
)
TEXT = reasons.Recorded(text="KeyError: x")
EVENT = StartEvent(start=StartKind.WARM, kind=EventKind.LOAD_FAILED, text="no key", count=2)
NEAREST = NearestRelease(vllm="0.33", torch="2.14")

SENTENCES: list[tuple[reasons.VerdictReason, str]] = [
    (TEXT, "KeyError: x"),
    (reasons.Checked(facts=quoted("needs c10::f()")), "needs c10::f()"),
    (reasons.Checked(facts=quoted("no certifi"), asked="x"), "no certifi (asked on x)"),
    (reasons.Checked(facts=(), asked="x"), "no reason given (asked on x)"),
    (reasons.Error(kind=ErrorKind.NO_SPACE), "no space"),
    (reasons.EndedWithoutText(outcome=Outcome.OUT_OF_MEMORY), "ran out of memory"),
    (reasons.EndedWithoutText(outcome=Outcome.NOT_APPLICABLE), "not applicable"),
    (reasons.NoReason(outcome=Outcome.TIMED_OUT), "timed out without a reason"),
    (reasons.FailedAt(rung=Rung.IMPORTS), "failed at imports"),
    (reasons.NotFinished(), "the run did not finish"),
    (reasons.NothingRan(), "no case was run"),
    (reasons.NothingApplies(), "no case applies to this cell"),
    (reasons.NoStart(start=StartKind.WARM), "the record has no warm start"),
    (reasons.NoReleases(), "the record does not name the torch and vLLM that ran"),
    (
        reasons.Drifts(difference=SAVED, more=1, event=EVENT),
        (
            "cold saved is 4, expected 3, and 1 more; warm start compiled again: a cached artifact"
            " did not load (2 times): no key"
        ),
    ),
    (
        reasons.Drifts(difference=UNCOUNTED, more=0, event=None),
        "warm loaded is not counted, expected 1",
    ),
    (
        reasons.NotJudged(no_rule=(StartKind.COLD,), comparison=SameAs(releases=(NEAREST,))),
        "provisional: counts as vLLM 0.33 with torch 2.14 did; no expectation for its cold start",
    ),
    (
        reasons.NotJudged(
            no_rule=(), comparison=DiffersFrom(release=NEAREST, difference=UNCOUNTED, more=2)
        ),
        (
            "provisional: differs from vLLM 0.33 with torch 2.14 in warm loaded: not counted, was"
            " 1, and 2 more"
        ),
    ),
    (
        reasons.PackageFails(departure=RAY, reason=TEXT),
        "ray>=2.48 is missing, so this shows nothing about the pair: KeyError: x",
    ),
    (
        reasons.NotStock(
            departures=(RAY,), verdict=Verdict.INCOMPATIBLE, rung=Rung.IMPORTS, reason=None
        ),
        "not stock: without ray; failed: imports",
    ),
    (
        reasons.NotStock(
            departures=(RAY,), verdict=Verdict.DRIFT, rung=Rung.AS_EXPECTED, reason=TEXT
        ),
        "not stock: without ray; differs: KeyError: x",
    ),
    (reasons.GoesOn(), "the run is in progress"),
    (
        reasons.GoesOn(verdict=Verdict.DRIFT, reason=TEXT),
        "the run is in progress; this case drifts: KeyError: x",
    ),
    (reasons.GoesOn(reason=TEXT), "the run is in progress; KeyError: x"),
    (reasons.CaseRuns(), "is running"),
    (reasons.OfCase(case="moe", reason=TEXT), "moe: KeyError: x"),
]


@pytest.mark.parametrize(("reason", "sentence"), SENTENCES)
def test_a_reason_has_its_sentence(reason: reasons.VerdictReason, sentence: str) -> None:
    assert reason_words(reason) == sentence


def test_every_reason_is_tried_and_has_a_code_of_its_own() -> None:
    every = get_args(reasons.VerdictReason)
    assert {type(reason) for reason, _ in SENTENCES} == {*every}
    codes = [kind._field_defaults["code"] for kind in every]
    assert sorted(codes) == sorted(reasons.ReasonCode)


@pytest.mark.parametrize(("reason", "sentence"), SENTENCES)
def test_the_json_of_a_reason_has_its_code_and_its_operands(
    reason: reasons.VerdictReason, sentence: str
) -> None:
    found = json.loads(json.dumps(because(reason)))
    assert found["code"] == reason.code
    set_ = {
        name for name, value in reason._asdict().items() if name != "code" and value is not None
    }
    in_words = {"facts": "text", "asked": "by"}
    assert set(found["operands"]) == set_ | {in_words[name] for name in set_ & in_words.keys()}
    inner = getattr(reason, "reason", None)
    assert found["operands"].get("reason") == because(inner)


def test_without_a_reason_there_is_nothing() -> None:
    assert (reason_words(None), because(None)) == ("", None)


@pytest.mark.parametrize("name", ["table", "qualify"])
def test_the_schemas_name_every_code(name: str) -> None:
    schema = json.loads((DATA / f"{name}.schema.json").read_text("utf-8"))
    found = schema["$defs"]["because"]
    whole: dict[str, Any] = found["oneOf"][1] if name == "table" else found
    assert sorted(whole["properties"]["code"]["enum"]) == sorted(reasons.ReasonCode)


def test_signatures_are_made_from_what_does_not_depend_on_the_sentences() -> None:
    """Waivers hold them: a sentence may change, these may not."""
    key = reasons.failure_key
    assert key(reasons.FailedAt(rung=Rung.LINKS)) == "failed at links"
    assert key(reasons.NoReason(outcome=Outcome.TIMED_OUT)) == "timed out without a reason"
    assert key(reasons.Error(kind=ErrorKind.NO_SPACE)) == "no space"
    assert key(reasons.Checked(facts=quoted("no a"), asked="x")) == "no a (asked on x)"
    assert key(reasons.OfCase(case="moe", reason=TEXT)) == key(TEXT) == "KeyError: x"
    assert key(None) == ""


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (reasons.Recorded(text="\n a \nb"), reasons.Recorded(text="a ")),
        (reasons.Recorded(text=" \n"), None),
        (reasons.Checked(facts=quoted("a")), reasons.Checked(facts=quoted("a"))),
        (
            reasons.OfCase(case="moe", reason=reasons.Recorded(text="a\nb")),
            reasons.OfCase(case="moe", reason=reasons.Recorded(text="a")),
        ),
        (reasons.NothingRan(), reasons.NothingRan()),
        (None, None),
    ],
)
def test_the_first_line_of_a_reason(
    reason: reasons.VerdictReason | None, line: reasons.VerdictReason | None
) -> None:
    assert reasons.first_line(reason) == line


OF_A_KEY: dict[plan_reasons.PlanReason, str] = {
    plan_reasons.CasesUntested(cases=("a", "b")): "its run has no answer for a, b",
    plan_reasons.OtherBuild(candidate="torch216rc1", ran="b1", here="b2"): (
        "ran another build of torch216rc1 (b1, now b2)"
    ),
    plan_reasons.OtherFile(project=Project.VLLM, ran="a" * 64, here="b" * 64): (
        f"ran another wheel of vllm (SHA-256 {'a' * 12}, here {'b' * 12})"
    ),
    plan_reasons.OtherPackages(
        changes=tuple(plan_reasons.PackageChange(name, "1", None) for name in "abcd")
    ): "ran with a 1 (now without), with b 1 (now without), with c 1 (now without), 1 more",
    plan_reasons.OtherPackages(
        changes=(plan_reasons.PackageChange("a", None, "2"),), resolved="2026-11-23"
    ): "ran without a (now 2), by what was resolved on 2026-11-23",
    plan_reasons.OtherMachine(ran="x86_64", here="aarch64"): ("ran on x86_64, now on aarch64"),
    plan_reasons.OtherGpu(ran="NVIDIA H200", here=("NVIDIA A100", "NVIDIA H100")): (
        "ran on NVIDIA H200, now on NVIDIA A100 or NVIDIA H100"
    ),
    plan_reasons.OtherDriver(ran="570.86", here="580.159"): (
        "ran with NVIDIA driver 570.86, now 580.159"
    ),
    plan_reasons.RanWithOtherFlags(flags=(plan_reasons.FlagChange("VLLM_A", "1", "0"),)): (
        "ran with VLLM_A=1, asked for 0"
    ),
    plan_reasons.TooOld(days=40, most=1): "ran 40 days ago, and a record may be 1 day old",
    plan_reasons.Forced(day="2026-11-22"): "ran on 2026-11-22, asked for by --force",
}
"""The words for what makes a record of a whole run stale."""


def test_every_reason_of_a_plan_has_a_sentence_and_a_code_of_its_own() -> None:
    other = plan_reasons.RanOtherReleases(torch="2.9.0", vllm="0.16.0")
    sentences: dict[plan_reasons.PlanReason, str] = {
        plan_reasons.NeverRan(): "never ran",
        other: "ran torch 2.9.0 with vLLM 0.16.0",
        plan_reasons.EndedEarly(kind=ErrorKind.NO_SPACE): "its run ended early (no space)",
        plan_reasons.RanUnfinished(): "its run did not finish",
        plan_reasons.PackageFailed(departure=RAY): (
            "its environment was not what vLLM requires (ray>=2.48 is missing)"
        ),
        plan_reasons.RanNotStock(departures=(RAY,)): "its environment was not stock (without ray)",
        plan_reasons.Partial(held=1, total=9): "ran 1 of 9 cases",
        plan_reasons.NoCase(): "its run had no case",
        plan_reasons.UnknownTests(): "made with startup tests that this checkout does not know",
        plan_reasons.TestsChanged(changes=("a", "b")): "startup tests changed: a; b",
        **OF_A_KEY,
        plan_reasons.Running(since="x"): "is running since x",
        plan_reasons.Running(since="x", partial=True): (
            "is running since x with some of the cases"
        ),
        plan_reasons.Running(since="x", other=other): (
            "is running since x with torch 2.9.0 and vLLM 0.16.0"
        ),
        plan_reasons.NotStale(day="2026-11-22"): "ran on 2026-11-22, not stale",
        plan_reasons.ObservedLess(day="2026-11-22"): (
            "ran on 2026-11-22 and recorded neither torch's defaults nor its caches"
        ),
        plan_reasons.CannotWork(reason=TEXT): "KeyError: x",
    }
    assert {reason: plan_words(reason) for reason in sentences} == sentences
    for reason in sentences:
        assert json.loads(json.dumps(coded(reason)))["code"] == reason.code
    every = get_args(plan_reasons.PlanReason)
    assert {type(reason) for reason in sentences} == {*every}
    codes = [kind._field_defaults["code"] for kind in every]
    assert sorted(codes) == sorted(plan_reasons.PlanCode)


def test_what_a_qualification_says_of_a_verdict_is_a_sentence_and_a_code() -> None:
    found = coded(unanswered.FailsWithoutAnswer(detail=TEXT, baseline=None))  # type: ignore[arg-type]
    assert found["operands"] == {"detail": "KeyError: x", "because": because(TEXT)}
    packages = coded(unanswered.PassedNotStock(packages=(RAY,)))["operands"]
    assert isinstance(packages, dict)
    assert packages["packages"] == ["ray>=2.48 is missing"]
    assert packages["departures"] == [
        {
            "name": "ray",
            "required": "ray>=2.48",
            "installed": None,
            "why": "missing",
            "by": "unknown",
        }
    ]
