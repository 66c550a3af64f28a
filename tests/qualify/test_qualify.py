import doctest
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from packaging.specifiers import SpecifierSet

import matrix.qualify.engine
from made import NO, NO_RULES, ONE_RULE, RELEASES, YES, Answers, Told, failed, make, passed
from matrix import cli
from matrix.catalog.cells import Cell
from matrix.checks.lookup import Answer
from matrix.commands import context as reading
from matrix.qualify.engine import QualifyError, qualify
from matrix.qualify.model import (
    AS_BEFORE,
    EXPECTED,
    EXPECTED_AGAIN,
    FAILS_AS_BEFORE,
    FAILS_OTHERWISE,
    NEW,
    NO_RULE,
    NOT_JUDGED,
    REGRESSION,
    REPAIR,
    UNEXPECTED,
    Qualification,
)
from matrix.qualify.query import Query
from matrix.qualify.static_checks import Asks
from matrix.record.model import Case, ErrorKind, Outcome, RunError, Rung, RungResult, write
from matrix.report import qualify as report
from matrix.rules.calibrate import DEFAULT_COUNTERS
from matrix.rules.expectations import Expectations, parse_expectations
from matrix.rules.waivers import Waivers, parse_waivers
from matrix.store.summary import shifted

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "matrix" / "data" / "qualify.schema.json").read_text("utf-8"))
TODAY = date(2026, 11, 23)
OLD, NEXT = "2.11.0", "2.12.1"
RULES = parse_expectations(
    """
[[rule]]
id = "warm"
case = "moe"
start = "warm"
torch = "<2.12"
counters = { num_compiled_artifacts_loaded = 3 }
evidence = ["a record"]

[[rule]]
id = "warm-212"
case = "moe"
start = "warm"
torch = ">=2.12"
counters = { num_compiled_artifacts_loaded = 4 }
evidence = ["a record"]
""",
    "rules.toml",
)


def held(
    *records: Told,
    rules: Expectations = NO_RULES,
    waivers: str = "",
    today: date = TODAY,
    unread: int = 0,
    asked: Query | None = None,
    asks: Asks | None = None,
    late: str | None = None,
    **narrowed: Any,
) -> Qualification:
    asked = replace(asked or Query("torch", NEXT, OLD), **narrowed)
    accepted = parse_waivers(waivers, "w.toml")
    told = qualify(asked, records, rules, RELEASES, accepted, today, unread, asks, late=late)
    Draft202012Validator(SCHEMA).validate(json.loads(report.render(told)))
    for text in (report.lines(told), report.page(told)):
        assert told.verdict in text
    return told


def kinds(told: Qualification) -> list[str]:
    return [*(each.kind for each in told.failures), *(each.kind for each in told.drifts)]


def waiver(what: str, until: str = "2026-12-31", name: str = "known") -> str:
    return (
        f"[[waiver]]\nid = '{name}'\nwhy = 'it is known'\nuntil = {until}\n"
        f"link = 'https://github.com/pytorch/pytorch/issues/1'\n{what}\n"
    )


def test_the_same_on_both_sides_is_qualified() -> None:
    told = held(make(OLD, passed(), passed("small")), make(NEXT, passed(), passed("small")))
    assert (told.verdict, told.exit_status, told.compared) == ("qualified", 0, 2)
    assert not kinds(told) and not told.unknown and not told.times
    assert told.platforms == ("cpu",)


def test_a_case_that_passed_and_fails_is_a_regression() -> None:
    told = held(make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b")))
    assert (told.verdict, told.exit_status) == ("not qualified", 1)
    [failure] = told.failures
    assert (failure.kind, failure.case, failure.rung) == (REGRESSION, "moe", "starts cold")
    assert (failure.signature, failure.reason) == ("KeyError: x", "why: KeyError: x")
    told = held(make(NEXT, passed()), make(OLD, failed()))
    assert (kinds(told), told.exit_status) == ([REPAIR], 0)


@pytest.mark.parametrize(
    ("candidate", "kind", "status"),
    [
        (failed(), FAILS_AS_BEFORE, 0),
        (failed(signature="KeyError: y"), FAILS_OTHERWISE, 1),
        # The same signature one rung higher is another failure.
        (replace(failed(), starts=passed().starts[:1]), FAILS_OTHERWISE, 1),
        (replace(failed(), outcome=Outcome.TIMED_OUT), FAILS_AS_BEFORE, 0),
    ],
)
def test_a_case_that_fails_on_both_sides(candidate: Case, kind: str, status: int) -> None:
    told = held(make(OLD, failed(), passed("b")), make(NEXT, candidate, passed("b")))
    assert (kinds(told), told.exit_status) == ([kind], status)
    # Where nothing passes, nothing shows that it works.
    told = held(make(OLD, failed()), make(NEXT, candidate))
    assert (kinds(told), told.exit_status) == ([kind], status or 3)
    assert ("no case that was compared passes" in report.lines(told)) is not bool(status)


def test_a_failure_without_a_signature_has_one_of_its_text() -> None:
    text = "Traceback\nKeyError: /home/x/y.py 0xdeadbeef"
    told = held(make(OLD, passed()), make(NEXT, failed(signature="", failure=text)))
    assert told.failures[0].signature == "KeyError: <path>/y.py <address>"


@pytest.mark.parametrize(
    "fault",
    [
        {
            "error": RunError(
                kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: _ZN3c10E"
            )
        },
        {
            "rungs": (
                RungResult(
                    rung=Rung.IMPORTS,
                    ok=False,
                    seconds=1.0,
                    reason="ImportError: undefined symbol: _ZN3c10E",
                ),
            )
        },
    ],
)
def test_a_run_that_never_came_to_its_cases_fails_in_all_of_them(fault: dict[str, Any]) -> None:
    told = held(make(OLD, passed(), passed("b")), make(NEXT, **fault))
    assert [each.kind for each in told.failures] == [REGRESSION] * 2
    assert {each.rung for each in told.failures} == {"imports"}
    assert {each.signature for each in told.failures} == {"ImportError: undefined symbol: _ZN3c10E"}
    told = held(make(OLD, **fault), make(NEXT, **fault))
    assert (kinds(told), told.compared, told.exit_status) == ([FAILS_AS_BEFORE], 1, 3)
    assert "the whole run" in report.lines(told)


def test_a_run_in_the_environment_of_another_cell_is_of_neither() -> None:
    """Its name says the candidate, and its versions the baseline."""
    error = RunError(kind=ErrorKind.WRONG_CELL, reason="it has torch 2.11.0, not 2.12.1")
    wrong = make(NEXT, error=error, provenance={"torch": OLD}, day=23, file="wrong")
    assert held(make(OLD, passed()), make(NEXT, passed()), wrong).exit_status == 0
    assert held(make(OLD, passed()), wrong).exit_status == 3


def test_a_run_that_says_no_version_is_of_its_name() -> None:
    unknown = {"torch": None, "vllm": None}
    error = RunError(kind=ErrorKind.RESOLVES, reason="no versions go together")
    told = held(make(OLD, passed()), make(NEXT, error=error, provenance=unknown))
    assert [(each.kind, each.rung) for each in told.failures] == [(REGRESSION, "resolves")]


@pytest.mark.parametrize(
    ("before", "after", "rules", "kind", "status"),
    [
        (3, 4, NO_RULES, NO_RULE, 1),
        (3, 4, RULES, EXPECTED, 0),
        (2, 4, RULES, EXPECTED_AGAIN, 0),
        (3, 5, RULES, UNEXPECTED, 1),
        # It did not change, and should have.
        (3, 3, RULES, UNEXPECTED, 1),
        # As it was, though it was to be otherwise.
        (5, 5, RULES, UNEXPECTED, 1),
    ],
)
def test_a_counter_that_changed_fails_unless_its_new_count_is_expected(
    before: int, after: int, rules: Expectations, kind: str, status: int
) -> None:
    told = held(
        make(OLD, passed(num_compiled_artifacts_loaded=before)),
        make(NEXT, passed(num_compiled_artifacts_loaded=after)),
        rules=rules,
    )
    [drift] = told.drifts
    assert (drift.kind, drift.before, drift.after) == (kind, before, after)
    assert (drift.start, drift.counter) == ("warm", "num_compiled_artifacts_loaded")
    assert (drift.wanted, drift.judged) == ((4, True) if rules is RULES else (None, False))
    assert (told.exit_status, drift.fails) == (status, bool(status))


def test_a_counter_of_torch_that_was_never_raised_is_zero() -> None:
    told = held(make(OLD, passed()), make(NEXT, passed(**{"aot_autograd.total": 0})))
    assert not told.drifts
    told = held(make(OLD, passed(**{"aot_autograd.total": 4})), make(NEXT, passed()))
    assert [(each.before, each.after) for each in told.drifts] == [(4, 0)]
    assert told.exit_status == 1


def test_a_counter_that_only_one_side_has() -> None:
    more = make(NEXT, passed(num_aot_compiles=1))
    told = held(make(OLD, passed()), more)
    assert (kinds(told), told.exit_status) == ([NEW], 0)
    told = held(make(OLD, passed(num_aot_compiles=1)), make(NEXT, passed()))
    assert (kinds(told), told.exit_status) == ([NO_RULE], 1)


def test_a_counter_that_no_rule_may_name_is_told_and_not_judged() -> None:
    counts = ({"inductor.pattern_matcher_count": count} for count in (22, 23))
    told = held(*(make(of, passed(**count)) for of, count in zip((OLD, NEXT), counts, strict=True)))
    assert (kinds(told), told.exit_status) == ([NOT_JUDGED], 0)
    assert "warm  inductor.pattern_matcher_count  22->23  moe" in report.lines(told)


def test_a_flag_of_the_whole_run_is_one_of_each_case() -> None:
    told = held(make(OLD, passed(), flags={"A": 1, "B": 1}), make(NEXT, passed(), flags={"A": 2}))
    assert [(each.flag, each.before, each.after) for each in told.flags] == [
        ("A", 1, 2),
        ("B", 1, None),
    ]


def test_a_flag_that_differs_is_told_beside_the_drift() -> None:
    flags = {"VLLM_USE_MEGA_AOT_ARTIFACT": True}
    same = {"VLLM_USE_MEGA_AOT_ARTIFACT": False}
    old = [replace(passed(name), flags=same) for name in ("a", "b", "c")]
    new = [
        replace(passed("a", num_graphs_seen=0), flags=flags),
        replace(passed("b", num_graphs_seen=0), flags=flags),
        replace(passed("c"), flags=same),
    ]
    told = held(make(OLD, *old), make(NEXT, *new))
    assert (told.exit_status, len(told.flags)) == (1, 2)
    line = (
        "VLLM_USE_MEGA_AOT_ARTIFACT: false, now true, in 2 of 3 cases; all 2 counter changes are"
        " there, and none in the 1 case where it is the same"
    )
    assert line in report.lines(told)
    told = held(make(OLD, *old), make(NEXT, *new[:2], passed("c", num_graphs_seen=0)))
    assert "; 2 of 3 counter changes are there" in report.lines(told)


UNKNOWN: dict[str, tuple[tuple[Case, ...], tuple[Case, ...], dict[str, Any], str]] = {
    "a cell that never ran": ((passed(),), (), {"vllm": "0.19.1"}, "never ran; of its cases 1"),
    "a case that is missing": ((passed(), passed("b")), (passed(),), {}, "is no case of the"),
    "a case that was not asked for": (
        (passed(), passed("b")),
        (passed(),),
        {"deselected": 1},
        "was not asked for: the record holds 1 of 2 cases",
    ),
    "a part, and the same part": (
        (passed(),),
        (passed(),),
        {"deselected": 8},
        "the record of the candidate holds 1 of 9 cases",
    ),
    "a full disk": (
        (passed(), passed("b")),
        (passed(),),
        {"error": RunError(kind=ErrorKind.NO_SPACE, reason="no space left")},
        "ended early: no space left",
    ),
    "only a full disk": (
        (passed(),),
        (),
        {"error": RunError(kind=ErrorKind.NO_GPU, reason="no GPU")},
        "no GPU",
    ),
    "it died after its cases": ((passed(),), (passed(),), {"finished": False}, "did not finish"),
    "it was cut short in a case": (
        (passed(), passed("b")),
        (passed(), Case(case="b", outcome=Outcome.INTERRUPTED)),
        {},
        "has no answer: was interrupted",
    ),
    "no start, though it passed": (
        (passed(), passed("b")),
        (passed(), Case(case="b", outcome=Outcome.PASSED)),
        {},
        "has no answer: the record holds no cold start",
    ),
    "a case that does not apply now": (
        (passed(), passed("b")),
        (passed(), Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no DeepGEMM")),
        {},
        "passed at the baseline, and now does not apply: no DeepGEMM",
    ),
    "a failure that has no baseline": (
        (passed(),),
        (passed(), failed("b")),
        {},
        "fails (why: KeyError: x), and at the baseline it is no case of the record",
    ),
    "a failure where the baseline does not apply": (
        (passed(), Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")),
        (passed(), failed("b")),
        {},
        "and at the baseline it does not apply: no GPU",
    ),
    "a failure of the baseline without an answer": (
        (passed(), failed("b")),
        (passed(),),
        {},
        "failed at the baseline, and now is no case of the record",
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_never_qualifies(what: str) -> None:
    before, after, how, said = UNKNOWN[what]
    told = held(make(OLD, *before), make(NEXT, *after, **how))
    assert (told.verdict, told.exit_status) == ("not enough evidence", 3)
    assert said in told.unknown[0].reason
    assert told.unknown[0].reason in report.lines(told)
    # And it hides no failure.
    more = make(OLD, passed(), python="3.12"), make(NEXT, failed(), python="3.12")
    assert held(make(OLD, *before), make(NEXT, *after, **how), *more).exit_status == 1


def test_a_name_that_means_another_patch_is_told() -> None:
    told = held(make(OLD, passed()), asked=Query("torch", "2.12.0", OLD, ("cpu",)))
    assert told.notes[-1] == (
        "tox -e py311-torch212-vllm020 installs torch 2.12.1, which is not the candidate 2.12.0"
    )
    told = held(make(OLD, passed()), asked=Query("torch", NEXT, OLD, ("cpu",)))
    assert not any("installs" in each for each in told.notes)


def test_half_of_the_baseline_is_too_little() -> None:
    records = [make(OLD, passed(), vllm=vllm) for vllm in ("0.19.1", "0.20.2")]
    told = held(*records, make(NEXT, passed()))
    assert (told.exit_status, told.compared) == (3, 1)
    assert told.unknown[0].cell == "py311-torch212-vllm019"
    assert "tox -e py311-torch212-vllm019 -- --platform cpu" in report.lines(told)
    assert held(*records, make(NEXT, passed()), under=SpecifierSet("==0.20.*")).exit_status == 0


# The first rungs. vLLM 0.20.2 pins the baseline (2.11.0), and 0.19.1 pins 2.10.0.


def on_cuda(torch: str, *cases: Case, **more: Any) -> Told:
    return make(torch, *(cases or (passed(), passed("b"))), platform="cuda", **more)


def test_what_was_built_for_the_baseline_cannot_be_asked_and_blames_nobody() -> None:
    asks = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    told = held(on_cuda(OLD), asks=asks, platforms=("cuda",))
    assert (told.verdict, told.exit_status, told.failures) == ("not enough evidence", 3, ())
    [unknown] = told.unknown
    assert (unknown.rung, unknown.blocks, unknown.cell) == ("links", True, "py311-torch212-vllm020")
    for text in (report.lines(told), report.page(told).replace("\\", "")):
        assert "vLLM 0.20.2 pins torch 2.11.0, was built for that, and does not link with" in text
        assert "Cannot be asked with these wheels: no regression, and no answer" in text
        assert "1 cell cannot be asked" in text and ", 0 not known" in text
        assert "of its cases 2 passed at py311-torch211-vllm020" in text
        # To run it would only fail.
        assert "tox -e" not in text
    # On the CPU platform nothing of vLLM's is loaded.
    [unknown] = held(make(OLD, passed()), asks=asks, platforms=("cpu",)).unknown
    assert unknown.rung is None and "resolves is as far as is known" in unknown.reason


def test_it_hides_no_failure_and_qualifies_nothing() -> None:
    asks = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    other = {"vllm": "0.32.0"}
    both = on_cuda(OLD), on_cuda(OLD, **other)
    assert held(*both, on_cuda(NEXT, **other), asks=asks).exit_status == 3
    assert held(*both, on_cuda(NEXT, failed(), **other), asks=asks).exit_status == 1
    # What is left out by name can be; what is accepted by name too.
    narrow = SpecifierSet(">=0.28")
    assert held(*both, on_cuda(NEXT, **other), asks=asks, under=narrow).exit_status == 0
    accepted = waiver("signature = '`_C` needs c10::f()'\nplatform = 'cuda'")
    told = held(*both, on_cuda(NEXT, **other), asks=asks, waivers=accepted)
    assert (told.exit_status, [count for _, count in told.waivers]) == (0, [1])
    assert "waived by known" in report.lines(told)
    # And accepting all of it is still no evidence.
    assert held(on_cuda(OLD), asks=asks, waivers=accepted).exit_status == 3


def test_a_run_that_failed_as_the_wheels_must_is_no_regression_either() -> None:
    asks = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    error = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: _ZN3c10E")
    ran = make(NEXT, platform="cuda", error=error)
    told = held(on_cuda(OLD), ran, asks=asks)
    assert (told.exit_status, kinds(told), told.compared) == (3, [], 0)
    assert [each.rung for each in told.unknown] == ["links"]
    assert told.matches[0].candidate.path == ran[0]
    # Where the wheels say nothing of it, the run does.
    assert kinds(held(on_cuda(OLD), ran, asks=Answers(otherwise=YES))) == [REGRESSION] * 2
    assert kinds(held(on_cuda(OLD), ran)) == [REGRESSION] * 2


@pytest.mark.parametrize(
    ("asked", "asks", "records", "rung"),
    [
        # Nothing that a resolver says is of how a wheel was built.
        (
            Query("torch", NEXT, OLD),
            Answers(resolves={(NEXT, "0.20.2"): replace(NO, by="asked on 2026-11-23")}),
            [make(OLD, passed())],
            "resolves",
        ),
        # torch promises its stable ABI to newer releases.
        (
            Query("torch", NEXT, OLD),
            Answers(links={(NEXT, "0.20.2"): replace(NO, promised=True)}),
            [on_cuda(OLD)],
            "links",
        ),
        # It linked off-pin and does no longer: vLLM 0.19.1 was built for neither.
        (
            Query("torch", NEXT, OLD),
            Answers(links={(OLD, "0.19.1"): YES, (NEXT, "0.19.1"): NO}),
            [on_cuda(OLD, vllm="0.19.1")],
            "links",
        ),
        # vLLM 0.20.2 pins this very torch.
        (
            Query("vllm", "0.20.2", "0.19.1"),
            Answers(links={(OLD, "0.20.2"): NO}),
            [on_cuda(OLD, vllm="0.19.1")],
            "links",
        ),
    ],
)
def test_what_a_first_rung_lost_is_a_regression_with_its_reason(
    asked: Query, asks: Asks, records: list[Told], rung: str
) -> None:
    told = held(*records, asked=asked, asks=asks)
    assert (told.verdict, told.exit_status, told.compared) == ("not qualified", 1, 0)
    [failure] = told.failures
    assert (failure.kind, failure.rung, failure.ran) == (REGRESSION, rung, False)
    assert "needs c10::f()" in failure.signature and "2 more" in str(failure.reason)
    assert f", {rung}: no run, the rung alone" in report.lines(told)
    assert "1 regression," in report.page(told)
    accepted = waiver(f"signature = '{failure.signature}'")
    assert held(*records, asked=asked, asks=asks, waivers=accepted).exit_status == 3


def test_a_baseline_that_failed_before_fails_otherwise_or_as_it_did() -> None:
    fault = {"error": RunError(kind=ErrorKind.IMPORTS, reason="ImportError: no module x")}
    lost = Answers(resolves={(NEXT, "0.20.2"): NO})
    [failure] = held(on_cuda(OLD, **fault), asks=lost).failures
    assert (failure.kind, failure.before) == (FAILS_OTHERWISE, "ImportError: no module x")
    both = Answers(links={(OLD, "0.19.1"): NO, (NEXT, "0.19.1"): NO})
    told = held(on_cuda(OLD, vllm="0.19.1", **fault), asks=both)
    assert (told.exit_status, told.failures) == (3, ())


def test_without_a_run_only_what_fails_at_its_own_pin_is_judged() -> None:
    asked = Query("vllm", "0.20.2", "0.19.1", ("cuda",))
    ran = make(OLD, passed())  # on another platform
    pin = Answers(links={("2.11.0", "0.20.2"): NO}, otherwise=YES)
    told = held(ran, asked=asked, asks=pin)
    assert (told.exit_status, [each.place.cell for each in told.failures]) == (
        1,
        ["py310-torch211-vllm020"],
    )
    assert "so on Python 3.10, 3.11, 3.12, 3.13" in str(told.failures[0].reason)
    off = Answers(links={("2.12.1", "0.20.2"): NO}, otherwise=YES)
    told = held(ran, asked=asked, asks=off)
    assert (told.exit_status, told.failures) == (3, ())
    [row] = [each for each in told.rungs if each.kind == REGRESSION]
    assert (row.others, row.reason) == (("2.12.1",), "`_C` needs c10::f()")
    lines = [line.split() for line in report.lines(told).splitlines()]
    said = "cuda links -> no links torch 2.12.1 on Python 3.10, 3.11, 3.12 and 3.13 regression:"
    assert [line[: len(said.split())] for line in lines].count(said.split()) == 1


def test_a_python_that_the_candidate_is_not_for_cannot_be_asked() -> None:
    asked = Query("vllm", "0.32.0", "0.20.2")
    records = [make("2.13.0", passed(), vllm="0.20.2", python="3.10")]
    [unknown] = held(*records, asked=asked, asks=Answers(otherwise=YES)).unknown
    assert unknown.rung == "declared"
    assert unknown.reason.startswith("cannot be asked: vLLM 0.32.0 needs Python >=3.11")


def test_the_first_rungs_of_both_are_told_and_are_no_answer() -> None:
    told = held(make(OLD, passed()), asks=Answers(otherwise=YES))
    assert told.exit_status == 3
    assert {(each.platform, each.candidate.passed) for each in told.rungs} == {
        ("cuda", "links"),
        ("cpu", "resolves"),
    }
    assert "cuda  links -> links        vLLM 0.9.2 to " in report.lines(told)
    assert "| cuda | links → links | vLLM 0.9.2 to " in report.page(told)
    # Of a release that is not published nobody knows them.
    asked = Query("torch", "2.12.0rc3", OLD)
    candidate = make("2.12.0rc3", passed())
    told = held(make(OLD, passed()), candidate, asked=asked, asks=Answers(otherwise=NO))
    assert (told.exit_status, told.rungs) == (0, ())


def test_first_rungs_that_differ_by_python_name_theirs() -> None:
    class One(Answers):
        def resolves(self, cell: Cell, platform: str) -> Answer | None:
            return YES if cell.torch == NEXT or cell.python == "3.12" else None

    asked = Query("torch", NEXT, OLD, ("cpu",), ("3.11", "3.12"))
    told = held(make(OLD, passed()), make(NEXT, passed()), asked=asked, asks=One())
    found = [(each.baseline.passed, each.pythons) for each in told.rungs if "0.19.1" in each.others]
    assert sorted(found, key=str) == [("resolves", ("3.12",)), (None, ("3.11",))]
    said = report.lines(told)
    assert "not asked -> resolves" in said and " on Python 3.11\n" in said


def test_the_title_names_the_platforms_that_were_asked_for() -> None:
    both = make(OLD, passed()), make(NEXT, passed())
    title = "torch 2.12.1 against 2.11.0"
    assert report.lines(held(*both)).startswith(f"{title} on cpu: qualified\n")
    lost = on_cuda(OLD, passed())
    assert report.lines(held(*both, lost)).startswith(f"{title} on cuda and cpu: not enough")
    assert report.lines(held(*both, lost, platforms=("cpu",))).startswith(f"{title} on cpu: qual")
    none = held(*both, platforms=("cuda",))
    assert report.lines(none).startswith(f"{title} on cuda: not enough evidence\n")


def test_what_only_the_candidate_ran_and_passes_is_no_evidence_either_way() -> None:
    told = held(make(OLD, passed()), make(NEXT, passed()), make(NEXT, passed(), vllm="0.19.1"))
    assert (told.exit_status, told.compared, told.unknown) == (0, 1, ())
    assert "py311-torch212-vllm019 on cpu has no baseline" in told.notes[-1]
    # A case that other tests have added has no baseline either.
    newer = {"tests": {"fingerprint": "sha256:2"}}
    told = held(make(OLD, passed()), make(NEXT, passed(), passed("b"), provenance=newer))
    assert (told.exit_status, told.compared, told.unknown) == (0, 1, ())


@pytest.mark.parametrize("cases", [(), (Case(case="b", outcome=Outcome.OUT_OF_MEMORY),)])
def test_what_the_baseline_should_have_answered_is_asked_of_it(cases: tuple[Case, ...]) -> None:
    told = held(make(OLD, passed(), *cases), make(NEXT, passed(), passed("b")))
    [unknown] = told.unknown
    assert (told.exit_status, unknown.case) == (3, "b")
    assert "passed, and at the baseline it" in unknown.reason
    assert "tox -e py311-torch211-vllm020 -- --platform cpu" in report.lines(told)


def test_another_platform_does_not_answer() -> None:
    told = held(make(OLD, passed(), platform="cuda"), make(NEXT, passed()))
    assert (told.exit_status, told.compared) == (3, 0)
    assert "no case has an answer on both sides" in report.lines(told)
    assert told.notes[:2] == (
        "no record of torch 2.12.1 on cuda; it has records of 2.11.0",
        "no record of torch 2.11.0 on cpu; it has records of 2.12.1",
    )
    told = held(
        make(OLD, passed()), make(NEXT, passed()), make(OLD, passed(), platform="cuda"),
        platforms=("cpu",),
    )  # fmt: skip
    assert told.exit_status == 0


def test_a_record_that_could_not_be_read_may_decide() -> None:
    told = held(make(OLD, passed()), make(NEXT, passed()), unread=1)
    assert (told.verdict, told.exit_status) == ("not enough evidence", 2)
    assert json.loads(report.render(told))["exit_status"] == 2
    assert "1 record could not be read, and may decide" in report.page(told)
    assert held(make(OLD, passed()), make(NEXT, failed()), unread=1).exit_status == 1


def test_the_same_minor_stands_in_where_no_patch_ran_on_both_sides() -> None:
    told = held(make(OLD, passed(), vllm="0.20.1"), make(NEXT, failed()))
    assert told.exit_status == 1
    assert told.matches[0].notes == (
        "no patch of vLLM 0.20 ran on both sides: vLLM 0.20.2 is held against 0.20.1",
    )
    exact = make(OLD, failed(), vllm="0.20.2", file="py311-torch211-vllm020.b", day=21)
    told = held(make(OLD, passed(), vllm="0.20.1"), exact, make(NEXT, failed()))
    assert (kinds(told), told.matches[0].notes) == ([FAILS_AS_BEFORE], ())
    # The patch that both ran goes before a newer one that only one of them did.
    old = make(NEXT, passed(), vllm="0.20.1", file="py311-torch212-vllm020.b", day=21)
    told = held(make(OLD, passed(), vllm="0.20.1"), old, make(NEXT, failed()))
    assert (kinds(told), told.matches[0].candidate.vllm) == ([], "0.20.1")


def test_vllm_is_held_under_the_very_same_torch() -> None:
    asked = Query("vllm", "0.20.2", "0.19.1")
    records = [make("2.11.0", passed(), vllm="0.19.1"), make("2.11.0", failed())]
    told = held(*records, asked=asked)
    assert (kinds(told), told.failures[0].place.cell) == ([REGRESSION], "py311-torch211-vllm020")
    told = held(make("2.11.0", passed(), vllm="0.19.1"), make("2.11.1", failed()), asked=asked)
    assert (kinds(told), told.exit_status) == ([], 3)
    assert "vLLM 0.20.2 against 0.19.1 on cpu: not enough" in report.lines(told)


def test_two_patches_of_one_name_are_two_releases() -> None:
    """2.12.0 and 2.12.1 share the cell's name, and the newer record must not hide the older."""
    records = [make("2.12.0", passed(), file="a", day=20), make("2.12.1", failed(), file="b")]
    assert kinds(held(*records, asked=Query("torch", "2.12.1", "2.12.0"))) == [REGRESSION]


def test_of_several_records_the_newest_decides_and_the_others_are_told() -> None:
    other = {"tests": {"fingerprint": "sha256:0"}}
    records = [
        make(NEXT, failed(), day=20, file="old", provenance=other),
        make(NEXT, passed(), day=21, file="new"),
    ]
    told = held(make(OLD, passed()), *records)
    assert told.exit_status == 0
    assert told.notes[1:] == (
        "results/cpu/new.json decides for py311-torch212-vllm020 on cpu, and 1 other record of it"
        " does not",
    )


def test_a_copy_counts_once_and_is_told() -> None:
    path, record = make(NEXT, passed())
    told = held(make(OLD, passed()), (path, record), (Path("records/copy.json"), record))
    assert told.exit_status == 0
    assert told.notes[1:] == (
        "records/copy.json is there more than once (results/cpu/py311-torch212-vllm020.json) and"
        " counts once",
    )


def test_a_clock_that_is_ahead_is_told() -> None:
    told = held(make(OLD, passed()), make(NEXT, passed(), day=25))
    assert "started on 2026-11-25T18:00:00Z, which is yet to come" in told.notes[1]


def test_other_tests_on_the_two_sides_are_told() -> None:
    other = {"tests": {"fingerprint": "sha256:2"}, "model_source": "hub"}
    told = held(make(OLD, passed()), make(NEXT, passed(), provenance=other))
    assert told.matches[0].notes == (
        "the startup tests changed between the two records",
        "the models' source changed between the two records",
    )
    assert "the startup tests changed" in report.page(told)


def three(torch: str, *cold: float, **more: Any) -> list[Told]:
    return [
        make(torch, passed(cold=each), day=day, file=f"{torch}.{day}", **more)
        for day, each in enumerate(cold, 20)
    ]


def test_seconds_beyond_noise_are_told_and_not_judged() -> None:
    told = held(*three(OLD, 60, 63, 61), *three(NEXT, 90, 94, 91))
    [time] = told.times
    assert (time.start, time.before, time.after) == ("cold", (60, 63, 61), (90, 94, 91))
    assert told.exit_status == 0
    assert "  cold   61.0  ->   91.0  moe   py311-torch212-vllm020 on cpu" in report.lines(told)
    assert "| cold | 61.0 (3) | 91.0 (3) |" in report.page(told)
    assert not held(*three(OLD, 60, 63, 92), *three(NEXT, 90, 94, 91)).times  # they overlap
    assert not held(*three(OLD, 60, 63, 61), *three(NEXT, 64, 65, 66)).times  # by too little


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"jobs": 4}, "not comparable: up to 4 cases ran side by side"),
        ({"cpu": {"model": "Xeon", "cores": 2}}, "not comparable: other machine"),
        ({"gpu": {"name": "H200"}}, "not comparable: other machine"),
        ({"machine": "aarch64"}, "not comparable: other machine"),
    ],
)
def test_seconds_of_another_kind_are_not_compared(changed: dict[str, Any], why: str) -> None:
    told = held(*three(OLD, 60, 63, 61), *three(NEXT, 90, 94, 91, provenance=changed))
    assert (told.times, told.matches[0].no_times) == ((), why)
    assert why in report.lines(told) and why in report.page(told)


def test_only_runs_of_one_kind_make_a_sample() -> None:
    others = [
        make(OLD, passed(cold=500), day=10, file="jobs", provenance={"jobs": 4}),
        make(OLD, passed(cold=500), day=11, file="machine", provenance={"machine": "aarch64"}),
        make(OLD, failed(), day=12, file="failed"),
    ]
    [time] = held(*others, *three(OLD, 60, 63, 61), *three(NEXT, 90, 94, 91)).times
    assert time.before == (60, 63, 61)


def test_one_run_tells_no_noise_and_a_copy_is_no_second_run() -> None:
    path, record = make(NEXT, passed(cold=600.0))
    copies = [(Path(f"records/{number}.json"), record) for number in range(3)]
    told = held(*three(OLD, 60, 63, 61), (path, record), *copies)
    assert told.matches[0].no_times == (
        "not comparable: 3 runs of the baseline and 1 of the candidate tell no noise; three of each"
        " do"
    )
    assert told.times == ()


def test_the_examples_are_true() -> None:
    assert doctest.testmod(matrix.qualify.engine).failed == 0


_SECONDS = st.lists(st.floats(0, 1e6), max_size=6)


@given(_SECONDS)
def test_no_sample_is_beyond_its_own_noise(sample: list[float]) -> None:
    assert not shifted(sample, sample)
    assert not shifted(sample, [])


COUNTERS = "counters = { num_graphs_seen = 0 }"


def test_a_waiver_takes_a_failure_out_of_the_verdict_and_stays_to_be_seen() -> None:
    records = make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b", num_graphs_seen=0))
    assert held(*records).exit_status == 1
    first = waiver("signature = 'KeyError: x'")
    second = waiver(COUNTERS, name="graphs")
    assert held(*records, waivers=first).exit_status == 1
    told = held(*records, waivers=first + second)
    assert (told.exit_status, [count for _, count in told.waivers]) == (0, [1, 1])
    assert not told.failures[0].fails and not told.drifts[0].fails
    for text in (report.lines(told), report.page(told)):
        assert "waived by known" in text and "2 waived" in text
        assert "https://github.com/pytorch/pytorch/issues/1" in text


def test_a_waiver_of_one_count_does_not_hide_another() -> None:
    records = make(OLD, passed()), make(NEXT, passed(num_graphs_seen=2))
    told = held(*records, waivers=waiver(COUNTERS))
    assert (told.exit_status, [each.id for each in told.idle]) == (1, ["known"])
    assert held(*records, waivers=waiver("counters = ['num_graphs_seen']")).exit_status == 0


def test_an_expired_waiver_fails_and_is_named() -> None:
    records = make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b"))
    what = waiver("signature = 'KeyError: x'", until="2026-11-22")
    told = held(*records, waivers=what)
    assert (told.exit_status, told.waivers) == (1, ())
    assert [(each.id, count) for each, count in told.expired] == [("known", 1)]
    for text in (report.lines(told), report.page(told)):
        assert "waiver known expired on 2026-11-22" in text
    assert held(*records, waivers=what, today=date(2026, 11, 22)).exit_status == 0


def test_a_waiver_that_matches_nothing_is_reported() -> None:
    records = make(OLD, passed()), make(NEXT, passed())
    told = held(*records, waivers=waiver("signature = 'KeyError: x'", until="2026-11-22"))
    assert (told.exit_status, [each.id for each in told.idle]) == (0, ["known"])
    assert "known matches nothing here and expired on 2026-11-22" in report.lines(told)
    told = held(*records, waivers=waiver("signature = 'x'\ntorch = '==2.9.*'"))
    assert (told.idle, told.elsewhere) == ((), 1)
    assert "1 waiver of other releases or platforms left out" in report.lines(told)


def test_what_does_not_apply_any_more_can_be_waived_and_what_is_missing_cannot() -> None:
    gone = Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no DeepGEMM")
    records = make(OLD, passed(), passed("b")), make(NEXT, passed(), gone)
    told = held(*records, waivers=waiver("signature = 'no DeepGEMM'"))
    assert (told.exit_status, [count for _, count in told.waivers]) == (0, [1])
    told = held(make(OLD, passed(), passed("b")), make(NEXT, passed()), waivers=waiver(COUNTERS))
    assert told.exit_status == 3


def test_a_known_failure_uses_its_waiver_though_the_baseline_has_it_too() -> None:
    records = make(OLD, failed(), passed("b")), make(NEXT, failed(), passed("b"))
    told = held(*records, waivers=waiver("signature = 'KeyError: x'"))
    assert (told.exit_status, told.idle) == (0, ())
    # And an expired one counts it again, though the baseline has it too.
    told = held(*records, waivers=waiver("signature = 'KeyError: x'", until="2026-11-22"))
    assert (told.exit_status, kinds(told)) == (1, [FAILS_AS_BEFORE])
    drifting = [make(of, passed(num_compiled_artifacts_loaded=9)) for of in (OLD, NEXT)]
    what = "counters = ['num_compiled_artifacts_loaded']"
    assert held(*drifting, rules=ONE_RULE).exit_status == 0
    assert held(*drifting, rules=ONE_RULE, waivers=waiver(what)).exit_status == 0
    told = held(*drifting, rules=ONE_RULE, waivers=waiver(what, until="2026-11-22"))
    assert (told.exit_status, kinds(told)) == (1, [AS_BEFORE])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Query("torch", "2.12.7", OLD), r"^--torch 2\.12\.7: no release of torch that is known"),
        (Query("torch", "2.12.7", OLD), r"the nearest: 2\.12\.1, 2\.13\.0$"),
        (Query("torch", NEXT, "1.0"), r"^--baseline 1\.0: no release of torch"),
        (Query("vllm", "0.99.0", "0.20.2"), r"^--vllm 0\.99\.0: no release of vLLM"),
        (Query("torch", OLD, "2.11"), r"^--baseline 2\.11: is the candidate itself; name another "),
        (Query("torch", OLD, OLD), r"such as 2\.10\.0$"),
    ],
)
def test_a_question_that_has_no_answer_is_one_line(asked: Query, said: str) -> None:
    with pytest.raises(QualifyError, match=said):
        held(make(OLD, passed()), asked=asked)


def test_a_release_candidate_is_known_by_its_records() -> None:
    asked = Query("torch", "2.12.0rc3", OLD)
    assert held(make(OLD, passed()), make("2.12.0rc3", failed()), asked=asked).exit_status == 1


def test_a_release_without_a_record_is_no_answer() -> None:
    told = held(make(OLD, passed()), asked=Query("torch", OLD, "2.10.0"))
    assert told.exit_status == 3
    assert "no record of torch 2.10.0 on cpu; it has records of 2.11.0" in told.notes
    told = held(make(OLD, passed()), make(NEXT, passed()), pythons=("3.12",))
    assert told.exit_status == 3
    assert told.notes == (
        "no record of torch 2.11.0 or 2.12.1 on cuda, nor of any other release",
        "no record of torch 2.11.0 or 2.12.1 on cpu that was asked for; it has records of 2.11.0,"
        " 2.12.1",
    )


HOSTILE = "<script>alert(1)</script> | `a` [b](http://evil.example) @you $x$ \x1b[31m\n# head"


def test_what_a_record_says_is_text() -> None:
    bad = Case(case=HOSTILE, outcome=Outcome.FAILED, reason=HOSTILE, signature=HOSTILE)
    drifting = {f"x{HOSTILE}": 3}
    flags = {HOSTILE: HOSTILE}
    told = held(
        make(OLD, replace(bad, outcome=Outcome.PASSED, starts=passed().starts), passed()),
        make(NEXT, bad, replace(passed(**drifting), flags=flags), packages={"a": HOSTILE}),
        make(OLD, passed(), python="3.12", provenance={"os": HOSTILE}, packages={"a": "1"}),
        make(NEXT, passed(), python="3.12", packages={"a": HOSTILE}),
    )
    page = report.page(told)
    rest = page.replace("<details>", "").replace("</details>", "")
    rest = rest.replace("<summary>", "").replace("</summary>", "")
    assert "<" not in rest and "\x1b" not in page
    assert not re.search(r"(?<!\\)\]\(", page)
    assert "http://" not in page and "@you" not in page and "\n# head" not in page
    widths = [line.count("|") for line in page.splitlines() if line.startswith("|")]
    for _, table in itertools.groupby(widths):
        assert len(list(table)) >= 3
    assert all(each.isprintable() for each in report.lines(told) if each != "\n")


def test_the_markdown_is_for_an_umbrella_issue() -> None:
    told = held(
        make(OLD, passed("a"), passed("b"), passed("c"), packages={"triton": "3.6.0"}),
        make(NEXT, failed("a"), failed("b"), passed("c"), packages={"triton": "3.7.1"}),
    )
    page = report.page(told)
    assert page.startswith("## ❌ torch 2.12.1 against 2.11.0 on cpu: not qualified\n")
    assert page.count("**KeyError: x**") == 1  # grouped by signature
    assert "| `py311-torch212-vllm020` | cpu | 2.12.1, 0.20.2 | `b` | starts cold |" in page
    assert "packages that differ: triton 3.6.0 → 3.7.1" in page
    assert "`results/cpu/py311-torch212-vllm020.json`" in page
    assert "tox -e py311-torch212-vllm020 -- --platform cpu\n" in page
    assert "`py311-torch212-vllm020` (off-pin)" in page


# Nothing hides what a record shows.

OTHER_TESTS = {"tests": {"fingerprint": "sha256:0"}}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([make(NEXT, passed(), failed("b"), python="3.12")], "fails (why: KeyError: x), and the"),
        ([make(NEXT, failed(), platform="cuda")], "the baseline has no record of this cell"),
        (
            [make(NEXT, error=RunError(kind=ErrorKind.IMPORTS, reason="no x"), python="3.12")],
            "fails (no x)",
        ),
        (
            [
                make(
                    NEXT,
                    passed(),
                    python="3.12",
                    rungs=(RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="no x"),),
                )
            ],
            "fails (no x), and the baseline has no record of this cell",
        ),
    ],
)
def test_a_failure_where_only_the_candidate_ran_never_qualifies(
    records: list[Told], said: str
) -> None:
    told = held(make(OLD, passed()), make(NEXT, passed()), *records)
    [unknown] = told.unknown
    assert (told.exit_status, said in unknown.reason) == (3, True)
    # What would tell is a run of the baseline.
    cell = records[0][1].cell.replace("torch212", "torch211")
    assert f"tox -e {cell} -- --platform {records[0][1].platform}" in report.lines(told)
    accepted = waiver(f"signature = '{unknown.signature}'")
    told = held(make(OLD, passed()), make(NEXT, passed()), *records, waivers=accepted)
    assert told.exit_status == 0


def test_a_run_that_fails_as_the_wheels_must_needs_no_baseline() -> None:
    asks = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    error = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: _ZN3c10E")
    records = make(OLD, passed()), make(NEXT, passed()), make(NEXT, platform="cuda", error=error)
    told = held(*records, asks=asks)
    assert (told.exit_status, told.unknown) == (0, ())
    assert any("on cuda has no baseline" in note for note in told.notes)


BEFORE: dict[str, list[Told]] = {
    "no record": [],
    "no case": [make(OLD, passed("b"))],
    "out of memory": [make(OLD, passed("b"), Case(case="moe", outcome=Outcome.OUT_OF_MEMORY))],
    "not applicable": [
        make(OLD, passed("b"), Case(case="moe", outcome=Outcome.NOT_APPLICABLE, reason="no GPU"))
    ],
    "a repair": [make(OLD, passed("b"), failed())],
}


@pytest.mark.parametrize("before", BEFORE)
def test_what_drifts_from_its_own_expectation_needs_no_baseline(before: str) -> None:
    more = make(OLD, passed(), python="3.12"), make(NEXT, passed("b"), python="3.12")
    drifting = make(NEXT, passed("b"), passed(num_compiled_artifacts_loaded=9))
    told = held(*BEFORE[before], drifting, *more, rules=ONE_RULE)
    [drift] = told.drifts
    assert (told.exit_status, drift.kind, drift.alone) == (1, UNEXPECTED, True)
    assert "warm  num_compiled_artifacts_loaded  9 (expected 3)  moe" in report.lines(told)
    accepted = waiver("counters = { num_compiled_artifacts_loaded = 9 }")
    assert held(*BEFORE[before], drifting, *more, rules=ONE_RULE, waivers=accepted).exit_status != 1


def patches(torch: str, **cases: Case) -> list[Told]:
    return [
        make(torch, passed("b"), case, vllm=f"0.20.{at[1:]}", file=f"{torch}.{at}")
        for at, case in cases.items()
    ]


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ({"p1": passed(), "p2": passed()}, {"p1": passed(), "p2": failed()}, 1),
        # An older patch that both ran counts too, and nobody has to run it.
        ({"p1": passed(), "p2": passed()}, {"p1": failed(), "p2": passed()}, 1),
        ({"p1": passed(), "p2": passed()}, {"p2": passed()}, 0),
        # But what broke under one that only the candidate ran is not known to be old.
        ({"p2": passed()}, {"p1": failed(), "p2": passed()}, 3),
        # The newest patch that either ran has to have an answer on both sides.
        ({"p1": passed()}, {"p1": passed(), "p2": failed()}, 3),
        ({"p1": passed()}, {"p1": passed(), "p2": passed()}, 3),
        ({"p1": passed(), "p2": passed()}, {"p1": passed()}, 3),
        ({"p1": passed()}, {"p2": passed()}, 3),
        ({"p2": passed()}, {"p1": passed()}, 3),
        ({"p1": passed()}, {"p2": failed()}, 1),
    ],
)
def test_each_patch_of_the_other_project_counts(
    before: dict[str, Case], after: dict[str, Case], status: int
) -> None:
    told = held(*patches(OLD, **before), *patches(NEXT, **after))
    assert told.exit_status == status
    if status == 3 and max(before) != max(after):
        assert "never ran with vLLM 0.20.2" in report.lines(told)
        cell = "py311-torch212" if max(before) > max(after) else "py311-torch211"
        assert f"tox -e {cell}-vllm020 -- " in report.lines(told)
    if after.get("p1") == failed() and status == 1:
        assert told.failures[0].apart == "vLLM 0.20.1"
        assert "moe (with vLLM 0.20.1)" in report.lines(told)


def test_a_failure_that_does_not_apply_any_more_is_no_answer() -> None:
    gone = Case(case="moe", outcome=Outcome.NOT_APPLICABLE, reason="no model")
    told = held(make(OLD, passed("b"), failed()), make(NEXT, passed("b"), gone))
    assert (told.exit_status, len(told.blocking)) == (3, 1)
    assert told.unknown[0].reason == "failed at the baseline, and now does not apply: no model"


def test_a_run_of_the_future_is_the_oldest_of_its_cell() -> None:
    records = [
        make(OLD, passed()),
        make(NEXT, failed(), day=22),
        make(NEXT, passed(), day=30, file="ahead", provenance=OTHER_TESTS),
    ]
    late = "2026-11-24T18:00:00Z"
    assert held(*records).exit_status == 0
    told = held(*records, late=late)
    assert told.exit_status == 1
    assert any(
        "ahead.json says that it started on 2026-11-30T18:00:00Z, which is yet to come; it counts"
        " as the oldest of its cell" in note
        for note in told.notes
    )


def test_a_record_that_does_not_say_what_ran_stands_for_no_release() -> None:
    unknown = {"torch": None}
    nameless = make(NEXT, passed(), provenance=unknown, file="nameless")
    told = held(make(OLD, passed()), nameless)
    assert (told.exit_status, told.compared) == (3, 0)
    [lost] = told.unknown
    said = "results/cpu/nameless.json does not say which torch and vLLM ran its cases"
    assert (lost.cell, lost.reason) == ("py311-torch212-vllm020", said)
    # It blocks where it is the newest of its cell, on either side, and only if it is asked for.
    older, newer = make(NEXT, passed(), day=21), make(NEXT, passed(), day=23, file="newer")
    assert held(make(OLD, passed()), nameless, older).exit_status == 3
    assert held(make(OLD, passed()), nameless, newer).exit_status == 0
    other = make(OLD, passed(), python="3.12", provenance=unknown)
    assert held(make(OLD, passed()), newer, other).exit_status == 3
    assert held(make(OLD, passed()), newer, other, pythons=("3.11",)).exit_status == 0
    assert (
        held(make(OLD, passed()), newer, make("2.9.1", passed(), provenance=unknown)).exit_status
        == 0
    )


def test_a_run_in_another_environment_is_told() -> None:
    error = RunError(kind=ErrorKind.WRONG_CELL, reason="it has torch 2.11.0, not 2.12.1")
    told = held(make(OLD, passed()), make(NEXT, error=error, provenance={"torch": OLD}))
    assert (
        "results/cpu/py311-torch212-vllm020.json ran in an environment that is not this cell (it"
        " has torch 2.11.0, not 2.12.1), and counts for nothing"
    ) in told.notes


def test_what_neither_side_counts_is_no_evidence() -> None:
    silent = replace(passed(), starts=tuple(replace(each, counters={}) for each in passed().starts))
    records = make(OLD, silent, passed("b")), make(NEXT, silent, passed("b"))
    assert held(*records).exit_status == 0
    told = held(*records, rules=ONE_RULE)
    [unknown] = told.unknown
    assert (told.exit_status, unknown.reason) == (
        3,
        "neither side counts what is expected of it: warm num_compiled_artifacts_loaded",
    )
    accepted = waiver("counters = ['num_compiled_artifacts_loaded']")
    assert held(*records, rules=ONE_RULE, waivers=accepted).exit_status == 0
    assert held(records[0], make(NEXT, passed(), passed("b")), rules=ONE_RULE).exit_status == 0


def test_a_rung_that_failed_though_its_cases_passed_is_a_failure_of_the_run() -> None:
    broken: dict[str, Any] = {
        "rungs": (RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="ImportError: x"),)
    }
    told = held(make(OLD, passed()), make(NEXT, passed(), **broken))
    [failure] = told.failures
    assert (told.exit_status, failure.kind, failure.case) == (1, REGRESSION, "")
    told = held(make(OLD, passed(), **broken), make(NEXT, passed(), **broken))
    assert (kinds(told), told.exit_status) == ([FAILS_AS_BEFORE], 0)
    told = held(make(OLD, passed(), **broken), make(NEXT, passed()))
    assert (kinds(told), told.exit_status) == ([REPAIR], 0)


@pytest.mark.parametrize("day", [20, 22])
def test_another_run_of_the_very_same_that_failed_never_qualifies(day: int) -> None:
    fails = make(NEXT, failed(), day=day, file="z-fails")
    newest = make(NEXT, passed())
    told = held(make(OLD, passed()), fails, newest)
    assert told.exit_status in (1, 3) and (told.exit_status == 1) is bool(told.failures)
    if day < 22:
        [unknown] = told.unknown
        assert unknown.reason == (
            "passed, and failed in another run of the same releases, flags and tests"
            " (results/cpu/z-fails.json): why: KeyError: x"
        )
        accepted = waiver("signature = 'KeyError: x'")
        assert held(make(OLD, passed()), fails, newest, waivers=accepted).exit_status == 0
    # One of other tests was another question.
    other = make(NEXT, failed(), day=day, file="z-fails", provenance=OTHER_TESTS)
    assert held(make(OLD, passed()), other, make(NEXT, passed(), day=23)).exit_status == 0


def test_another_run_of_the_very_same_that_drifted_never_qualifies() -> None:
    drifts = make(NEXT, passed(num_compiled_artifacts_loaded=9), day=20, file="drifts")
    records = make(OLD, passed()), drifts, make(NEXT, passed())
    told = held(*records, rules=ONE_RULE)
    assert (told.exit_status, [each.reason for each in told.unknown]) == (
        3,
        [
            "passed, and drifts in another run of the same releases, flags and tests"
            " (results/cpu/drifts.json): warm num_compiled_artifacts_loaded 9"
        ],
    )
    accepted = waiver("counters = ['num_compiled_artifacts_loaded']")
    assert held(*records, rules=ONE_RULE, waivers=accepted).exit_status == 0
    # What the baseline counts too is no news.
    before = make(OLD, passed(num_compiled_artifacts_loaded=9))
    assert held(before, *records[1:], rules=ONE_RULE).exit_status == 0


def test_a_newer_run_that_died_as_a_whole_never_qualifies() -> None:
    died: dict[str, Any] = {"error": RunError(kind=ErrorKind.CRASHED, reason="killed by SIGKILL")}
    records = make(OLD, passed()), make(NEXT, passed())
    told = held(*records, make(NEXT, day=23, file="died", **died))
    assert (told.exit_status, "died (results/cpu/died.json)" in told.unknown[0].reason) == (3, True)
    full: dict[str, Any] = {"error": RunError(kind=ErrorKind.NO_SPACE, reason="no space left")}
    assert held(*records, make(NEXT, day=23, file="full", **full)).exit_status == 0


def test_an_older_run_that_died_as_a_whole_never_qualifies() -> None:
    died: dict[str, Any] = {
        "error": RunError(kind=ErrorKind.CRASHED, reason="killed by SIGKILL"),
        "day": 20,
    }
    records = make(OLD, passed()), make(NEXT, passed()), make(NEXT, file="died", **died)
    told = held(*records)
    [unknown] = told.unknown
    assert (told.exit_status, unknown.case, unknown.reason) == (
        3,
        None,
        "another run of the same releases, flags and tests died (results/cpu/died.json): killed by"
        " SIGKILL",
    )
    # Another death is told too; the same one again, and one of other tests, are not.
    hung = make(
        NEXT, file="hung", error=RunError(kind=ErrorKind.TIMED_OUT, reason="after 9 s"), day=19
    )
    again = make(NEXT, file="again", **{**died, "day": 18})
    other = make(NEXT, file="other", provenance=OTHER_TESTS, **died)
    assert len(held(*records, hung, again).unknown) == 2
    assert held(*records[:2], other).exit_status == 0
    accepted = waiver("signature = 'killed by SIGKILL'")
    assert held(*records, waivers=accepted).exit_status == 0
    assert held(*records, hung, waivers=accepted).exit_status == 3
    # Of a cell that the baseline never ran it is no better.
    alone = [(path, replace(record, cell="py312-torch212-vllm020")) for path, record in records[1:]]
    assert held(*records[:2], *alone).exit_status == 3
    assert held(*records[:2], *alone[:1]).exit_status == 0


def test_a_rung_that_failed_in_another_run_whose_cases_passed_never_qualifies() -> None:
    broken: dict[str, Any] = {
        "rungs": (RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="ImportError: x"),),
        "day": 20,
    }
    records = make(OLD, passed()), make(NEXT, passed()), make(NEXT, passed(), file="old", **broken)
    told = held(*records)
    assert (told.exit_status, [each.reason for each in told.unknown]) == (
        3,
        [
            "another run of the same releases, flags and tests failed (results/cpu/old.json):"
            " ImportError: x"
        ],
    )
    # What all of its cases tell is not told once more, and what the baseline has is no news.
    told = held(*records[:2], make(NEXT, file="old", **broken))
    assert [each.case for each in told.unknown] == ["moe"]
    assert held(make(OLD, passed(), **broken), *records[1:]).exit_status == 0


def test_what_fails_as_in_one_of_two_runs_of_the_baseline_is_not_known() -> None:
    after = make(NEXT, passed("b"), failed())
    older = make(OLD, passed("b"), passed(), day=20, file="old")
    assert held(make(OLD, passed("b"), failed()), after).exit_status == 0
    told = held(older, make(OLD, passed("b"), failed()), after)
    assert (told.exit_status, kinds(told)) == (3, [FAILS_AS_BEFORE])
    assert "passed in another run of the baseline (results/cpu/old.json)" in report.lines(told)


def test_a_run_with_flags_of_its_own_hides_no_other() -> None:
    on: dict[str, Any] = {"flags": {"VLLM_X": True, "VLLM_Y": 1}}
    off: dict[str, Any] = {"flags": {"VLLM_X": False, "VLLM_Y": 1}}
    fails = make(NEXT, failed(), passed("b"), day=20, file="on", **on)
    passes = make(NEXT, passed(), passed("b"), day=21, file="off", **off)
    before = make(OLD, passed(), passed("b"), **off)
    told = held(before, fails, passes)
    [failure] = told.failures
    assert (told.exit_status, failure.apart) == (1, "VLLM_X=true")
    assert "moe (with VLLM_X=true)" in report.lines(told)
    assert "with VLLM\\_X=true" in report.page(told)
    assert any("on.json ran with other flags: VLLM_X=true" in each for each in told.notes)
    assert (told.compared, told.flags) == (2, ())
    # A part that passes, or has no answer, asks for nothing more.
    some = make(NEXT, passed("b"), day=23, file="on", deselected=1, **on)
    assert held(before, some, passes).exit_status == 0
    # One that does not know the flag is of no other kind.
    assert (
        held(before, make(NEXT, passed(), passed("b"), day=20, file="on"), passes).exit_status == 0
    )


def test_a_waiver_that_may_be_mistyped_is_named() -> None:
    records = make(OLD, passed()), make(NEXT, passed())
    astray = {
        "cell": "signature = 'x'\ncell = 'py312-torch212-vllm020'",
        "torch": "signature = 'x'\ncell = 'py311-torch221-vllm020'",
        "vllm": "signature = 'x'\ntorch = '==2.12.*'\nvllm = '==0.02.*'",
    }
    elsewhere = {
        "platform": "signature = 'x'\nplatform = 'cuda'",
        "older": "signature = 'x'\ntorch = '<2.12'",
        "baseline": "signature = 'x'\ncell = 'py311-torch211-vllm020'",
    }
    every = "".join(waiver(what, name=name) for name, what in {**astray, **elsewhere}.items())
    told = held(*records, waivers=every, platforms=("cpu",))
    assert [each.id for each in told.astray] == list(astray)
    assert told.elsewhere == len(elsewhere)
    assert (
        "cell speaks of the candidate and of no cell that was compared (py312-torch212-vllm020);"
        " mend it or take it out: https://github.com/pytorch/pytorch/issues/1"
    ) in report.lines(told)


def test_a_signature_can_be_copied_whole() -> None:
    long = "ValueError: " + "boom and bang " * 20
    told = held(make(OLD, passed()), make(NEXT, failed(signature=long.strip())))
    assert len(long) > 280 and f"  {long.strip()}\n" in report.lines(told)


def test_swapped_releases_are_told() -> None:
    asked = Query("torch", OLD, NEXT)
    told = held(make(OLD, passed()), make(NEXT, passed()), asked=asked)
    assert told.notes[0] == (
        "the baseline 2.12.1 is newer than the candidate 2.11.0: this asks what going back changes"
    )


# The laws hold for whatever two releases of some cells did.

_OUTCOMES: Mapping[str, Any] = {
    "passed": lambda name: passed(name),
    "drifted": lambda name: passed(name, num_graphs_seen=0),
    "drifted otherwise": lambda name: passed(name, num_graphs_seen=2),
    "failed": lambda name: failed(name),
    "failed otherwise": lambda name: failed(name, "KeyError: y"),
    "not applicable": lambda name: Case(case=name, outcome=Outcome.NOT_APPLICABLE, reason="no GPU"),
    "interrupted": lambda name: Case(case=name, outcome=Outcome.INTERRUPTED),
}
_CASES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(sorted(_OUTCOMES)))
_PLACES = list(itertools.product(("cpu", "cuda"), ("0.19.1", "0.20.2"), ("3.11", "3.12")))
_SIDE = st.dictionaries(st.sampled_from(_PLACES), _CASES, max_size=4)
_Side = dict[tuple[str, str, str], dict[str, str]]


def side(torch: str, ran: _Side) -> list[Told]:
    return [
        make(
            torch,
            *(_OUTCOMES[how](name) for name, how in sorted(cases.items())),
            platform=platform,
            vllm=vllm,
            python=python,
        )
        for (platform, vllm, python), cases in ran.items()
    ]


def judged(*records: Told, asked: Query | None = None) -> Qualification:
    asked = asked or Query("torch", NEXT, OLD)
    return qualify(asked, records, NO_RULES, RELEASES, Waivers(), TODAY)


def found(told: Qualification, kind: str) -> set[tuple[str, str, str, str]]:
    return {
        (each.place.platform, each.place.vllm, each.place.cell[:5], each.case)
        for each in told.failures
        if each.kind == kind
    }


@settings(deadline=None, max_examples=50)
@given(_SIDE)
def test_what_is_the_same_never_fails(ran: _Side) -> None:
    told = judged(*side(OLD, ran), *side(NEXT, ran))
    assert not told.failing and told.exit_status in (0, 3)
    assert not found(told, REGRESSION) and not found(told, REPAIR)
    assert not told.times and not told.flags


@settings(deadline=None, max_examples=50)
@given(_SIDE, _SIDE)
def test_the_other_way_round_regressions_are_repairs(before: _Side, after: _Side) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    there, back = judged(*records), judged(*records, asked=Query("torch", OLD, NEXT))
    assert there.compared == back.compared
    assert found(there, REGRESSION) == found(back, REPAIR)
    assert found(there, REPAIR) == found(back, REGRESSION)
    assert found(there, FAILS_OTHERWISE) == found(back, FAILS_OTHERWISE)
    assert found(there, FAILS_AS_BEFORE) == found(back, FAILS_AS_BEFORE)


@settings(deadline=None, max_examples=50)
@given(_SIDE, _SIDE, _SIDE)
def test_what_is_not_asked_about_changes_nothing(
    before: _Side, after: _Side, unrelated: _Side
) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    more = [*side("2.10.0", unrelated), *side("2.13.0", unrelated)]
    # The notes say which releases there are records of.
    told, wanted = (replace(judged(*of), notes=()) for of in ([*more, *records], records))
    assert told == wanted


@st.composite
def _odd(draw: st.DrawFn) -> Told:
    """A run that a note or a finding names: one of several, of the future, of nobody, a copy."""
    named, ran_torch = draw(st.tuples(*[st.sampled_from((OLD, NEXT))] * 2))
    of = draw(st.sampled_from((passed(), failed(), failed(signature="KeyError: y"))))
    facts = draw(st.sampled_from(({}, {}, {"torch": None}, {"torch": ran_torch})))
    path, run = make(
        named,
        of,
        platform=draw(st.sampled_from(("cpu", "cuda"))),
        vllm=draw(st.sampled_from(("0.20.1", "0.20.2"))),
        day=draw(st.sampled_from((21, 22, 29))),
        flags=draw(st.sampled_from(({}, {}, {"A": True}))),
        error=draw(
            st.sampled_from((None, None, RunError(kind=ErrorKind.WRONG_CELL, reason="another")))
        ),
        provenance=facts,
    )
    # A copy has the name of its file, too, in another folder.
    folder = draw(st.sampled_from("abcdefgh"))
    return path.parent / folder / path.name, run


_ODD = st.lists(_odd(), min_size=4, max_size=8, unique_by=lambda told: told[0])
LATE = "2026-11-24T18:00:00Z"


@settings(deadline=None, max_examples=100)
@given(_SIDE, _SIDE, _ODD, st.randoms())
def test_the_order_of_the_records_does_not_matter(
    before: _Side, after: _Side, odd: list[Told], random: Any
) -> None:
    records = [*side(OLD, before), *side(NEXT, after), *odd]
    asked = Query("torch", NEXT, OLD)

    def shown(of: list[Told]) -> str:
        told = qualify(asked, of, NO_RULES, RELEASES, Waivers(), TODAY, late=LATE)
        return report.render(told)

    first = shown(records)
    assert shown(records[::-1]) == first
    assert shown(random.sample(records, len(records))) == first


_TWO_OF_CUDA = [make(OLD, passed(), platform="cuda", file=f"b{day}", day=day) for day in (21, 22)]


@pytest.mark.parametrize(
    "records",
    [
        # Each of two cells has its note: one of the future, and one of several runs.
        [*_TWO_OF_CUDA, make(OLD, passed(), file="a", day=30)],
        # Each patch of a cell without a baseline fails in its own way.
        [
            make(NEXT, failed(signature=f"KeyError: {vllm}"), vllm=vllm)
            for vllm in ("0.20.0", "0.20.1", "0.20.2")
        ],
        # Of a newer run that failed there are two copies, of one name in two folders.
        [
            make(OLD, passed()),
            make(NEXT, passed()),
            *(
                (Path(f"{folder}/again.json"), make(NEXT, failed(), day=21)[1])
                for folder in ("one", "two")
            ),
        ],
        # Two copies of what decides, alike.
        [(Path(f"{folder}/a.json"), make(OLD, passed())[1]) for folder in ("one", "two", "three")],
        # Runs of one cell by what ran, and of two by name.
        [
            make(OLD, passed()),
            make(NEXT, passed(), day=20),
            make(NEXT, failed(), file="other", provenance={"torch": OLD}, day=23),
        ],
        # The same, of one second.
        [
            make(OLD, passed()),
            make(NEXT, passed()),
            make(OLD, failed(), file="other", provenance={"torch": NEXT}),
        ],
    ],
)
def test_in_any_order_of_the_records_the_same_is_told(records: list[Told]) -> None:
    orders = itertools.permutations(records)
    assert len({report.render(judged(*each)) for each in orders}) == 1


def test_of_two_names_that_ran_the_same_releases_the_newest_run_stands() -> None:
    records = [make(OLD, passed()), make(NEXT, passed()), make("2.11.0", failed(), day=23)]
    path, run = records[-1]
    of_next = replace(run, provenance={**run.provenance, "torch": NEXT})
    for every in itertools.permutations((*records[:-1], (path, of_next))):
        assert kinds(judged(*every)) == [REGRESSION]


# To take evidence away, or to add what is bad, never makes a release qualify. Taken away is what
# the other side answers too; an older patch is asked of nobody, and so may go.

_BAD = (
    "drifted",
    "drifted otherwise",
    "failed",
    "failed otherwise",
    "interrupted",
    "not applicable",
)
_ANSWERED = ("passed", "drifted", "drifted otherwise", "failed", "failed otherwise")
_PATCHES = ("0.20.1", "0.20.2")
_AT = list(itertools.product(("cpu",), _PATCHES, ("3.11", "3.12")))
_RAN = st.dictionaries(st.sampled_from(_AT), _CASES, min_size=1, max_size=4)
_OWN_RULE = parse_expectations(
    """
[[rule]]
id = "warm"
start = "warm"
counters = { num_graphs_seen = 1 }
evidence = ["a record"]
""",
    "rules.toml",
)


def status(before: _Side, after: _Side, *more: Told) -> int:
    """With a cell that passes on both sides, without which nothing ever qualifies."""
    fine = [make(of, passed(), python="3.13") for of in (OLD, NEXT)]
    records = [*side(OLD, before), *side(NEXT, after), *fine, *more]
    told = qualify(Query("torch", NEXT, OLD), records, _OWN_RULE, RELEASES, Waivers(), TODAY)
    return told.exit_status


def without(ran: _Side, place: tuple[str, str, str], case: str | None = None) -> _Side:
    if case is None:
        return {at: cases for at, cases in ran.items() if at != place}
    return {**ran, place: {name: how for name, how in ran[place].items() if name != case}}


def is_newest(place: tuple[str, str, str], *sides: _Side) -> bool:
    platform, patch, python = place
    return patch == "0.20.2" or not any((platform, "0.20.2", python) in of for of in sides)


@settings(deadline=None, max_examples=100)
@given(_RAN, _RAN)
def test_taking_an_answer_away_never_qualifies(before: _Side, after: _Side) -> None:
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
        if any(how in _BAD[:4] for how in new.values()):
            assert status(without(before, place), after) != 0


@settings(deadline=None, max_examples=200)
@given(
    _RAN,
    _RAN,
    st.sampled_from(_AT),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(_BAD)),
    st.integers(21, 23),
    st.sampled_from([{}, {"A": True}, {"A": False}]),
    st.sampled_from([None, "crashed", "no_space", "interrupted"]),
    st.booleans(),
)
def test_adding_what_is_bad_never_qualifies(
    before: _Side,
    after: _Side,
    place: tuple[str, str, str],
    cases: dict[str, str],
    day: int,
    flags: dict[str, object],
    error: str | None,
    said: bool,
) -> None:
    platform, vllm, python = place
    ended = None if error is None else RunError(kind=ErrorKind(error), reason="why")
    more = make(
        NEXT,
        *(_OUTCOMES[how](name) for name, how in sorted(cases.items())),
        platform=platform,
        vllm=vllm,
        python=python,
        day=day,
        file="more",
        flags=flags,
        error=ended,
        provenance={} if said else {"torch": None},
    )
    # What is no worse than the baseline is an answer that was missing.
    baseline = before.get(place, {})
    if cases and all(how in _ANSWERED and baseline.get(a) == how for a, how in cases.items()):
        return
    if status(before, after) != 0:
        assert status(before, after, more) != 0


@settings(deadline=None, max_examples=50)
@given(_SIDE, _SIDE)
def test_a_qualified_candidate_passes_all_that_the_baseline_passes(
    before: _Side, after: _Side
) -> None:
    if judged(*side(OLD, before), *side(NEXT, after)).exit_status == 0:
        for place, cases in before.items():
            for name, how in cases.items():
                if how in ("passed", "drifted"):
                    assert after[place][name] == how


_ANSWER = st.sampled_from([None, YES, NO, replace(NO, promised=True)])
_PAIRS = list(itertools.product((OLD, NEXT), ("0.19.1", "0.20.2")))
_RUNGS = st.builds(
    lambda resolves, links, otherwise: Answers(
        dict(zip(_PAIRS, resolves, strict=True)), dict(zip(_PAIRS, links, strict=True)), otherwise
    ),
    st.tuples(*[_ANSWER] * 4),
    st.tuples(*[_ANSWER] * 4),
    st.sampled_from([None, YES]),
)


def with_rungs(asks: Asks, *records: Told) -> Qualification:
    return qualify(
        Query("torch", NEXT, OLD), records, NO_RULES, RELEASES, Waivers(), TODAY, asks=asks
    )


@settings(deadline=None, max_examples=50)
@given(_SIDE, _SIDE, _RUNGS)
def test_no_first_rung_ever_qualifies(before: _Side, after: _Side, asks: Asks) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    plain, told = judged(*records), with_rungs(asks, *records)
    assert told.exit_status != 0 or plain.exit_status == 0
    # No run here failed at a first rung, so none of its answers is taken back.
    assert {each for each in told.failures if each.ran} == set(plain.failures)
    assert told.compared == plain.compared


@settings(deadline=None, max_examples=20)
@given(_SIDE, _SIDE)
def test_first_rungs_that_pass_change_no_verdict(before: _Side, after: _Side) -> None:
    records = [*side(OLD, before), *side(NEXT, after)]
    plain, told = judged(*records), with_rungs(Answers(otherwise=YES), *records)
    assert (told.verdict, told.failing) == (plain.verdict, plain.failing)
    assert len(told.blocking) == len(plain.blocking)


# The command


def here_with(folder: Path, *records: Told) -> None:
    for path, record in records:
        write(record, folder / path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text("")
    monkeypatch.setattr(reading, "today", lambda: TODAY)
    return tmp_path


ASK = ["qualify", "--torch", NEXT, "--baseline", OLD, "--expectations", "rules.toml"]


def test_the_exit_status_is_the_answer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, passed()))
    assert cli.main([*ASK, "--platform", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("torch 2.12.1 against 2.11.0 on cpu: qualified\n")
    here_with(here, make(NEXT, failed()))
    assert cli.main(ASK) == 1
    assert cli.main([*ASK, "--platform", "cuda"]) == 3
    assert cli.main([*ASK, "--python", "3.12"]) == 3
    assert cli.main([*ASK, "--under", "0.19"]) == 3
    here_with(here, make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b")))
    (here / "w.toml").write_text(waiver("signature = 'KeyError: x'"))
    capsys.readouterr()
    assert cli.main([*ASK, "--waivers", "w.toml"]) == 0
    ended = capsys.readouterr()
    assert (ended.err, "waived by known" in ended.out) == ("", True)


def test_markdown_and_json_are_of_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, failed()))
    assert cli.main([*ASK, "--json", "results"]) == 1
    told = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(told)
    assert (told["verdict"], told["failures"][0]["kind"]) == ("not qualified", REGRESSION)
    assert told["cells"][0]["candidate"]["record"] == "results/cpu/py311-torch212-vllm020.json"
    assert cli.main([*ASK, "--markdown"]) == 1
    assert capsys.readouterr().out.startswith("## ❌ torch 2.12.1 against 2.11.0 on cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--torch", "2.12.7", "--baseline", OLD], "--torch 2.12.7: no release of torch"),
        (["--torch", "new", "--baseline", OLD], "--torch 'new': is no release; write it as"),
        (["--torch", OLD, "--baseline", "old"], "--baseline 'old': is no release; write it as"),
        (["--torch", OLD, "--baseline", OLD], "--baseline 2.11.0: is the candidate itself"),
        (["--torch", NEXT, "--baseline", OLD, "--under", "x y"], "--under 'x y': is neither"),
        (["--torch", NEXT, "--baseline", OLD, "--waivers", "w.toml"], "w.toml: waiver 'w': until"),
    ],
)
def test_a_bad_question_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, passed()))
    (here / "w.toml").write_text(waiver("signature = 'x'", until="'soon'", name="w"))
    assert cli.main(["qualify", *arguments]) == 2
    ended = capsys.readouterr()
    assert ended.out == ""
    assert ended.err.startswith(f"matrix: {said}") and ended.err.count("\n") == 1


def test_without_any_record_there_is_no_question(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(ASK) == 2
    assert "no record in results, records; `matrix run CELL`" in capsys.readouterr().err


def test_a_record_of_another_schema_is_named_and_never_qualifies(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, passed()))
    path = here / "results" / "cpu" / "py312-torch212-vllm020.json"
    newer = (here / "results" / "cpu" / "py311-torch212-vllm020.json").read_text()
    path.write_text(newer.replace('"schema": 2', '"schema": 3'))
    assert cli.main(ASK) == 2
    ended = capsys.readouterr()
    assert "schema: is 3, newer than this matrix knows (2)" in ended.err
    assert ended.out.startswith("torch 2.12.1 against 2.11.0 on cpu: not enough evidence\n")
    here_with(here, make(NEXT, failed()))
    assert cli.main(ASK) == 1


def test_check_reads_the_waivers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "w.toml").write_text(waiver("signature = 'x'", until="2026-11-22"))
    assert cli.main(["check", "--waivers", "w.toml"]) == 0
    assert "waivers       1 known failures that are accepted, expired: known" in (
        capsys.readouterr().out
    )
    (here / "w.toml").write_text("[[waiver]]\nid = 'w'\nbecause = 'x'")
    assert cli.main(["check", "--waivers", "w.toml"]) == 2
    assert "matrix: w.toml: waiver 'w': because: unknown key" in capsys.readouterr().err


def test_the_published_data_cannot_ask_torch_212_of_a_vllm_of_211(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """vLLM 0.20.2 is built for torch 2.11.0, and no vLLM pins torch 2.12."""
    ask = [*ASK, "--platform", "cuda", "--json", str(ROOT / "results")]
    assert cli.main(ask) == 3
    told = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(told)
    [unknown] = told["unknown"]
    assert (unknown["rung"], unknown["cell"]) == ("links", "py312-torch212-vllm020")
    assert "at::cuda::getCurrentCUDABlasHandle()" in unknown["signature"]
    linked = [each["releases"] for each in told["rungs"] if each["candidate"]["passed"] == "links"]
    assert [each for each in linked[0] if each in ("0.28.0", "0.32.0")] == ["0.28.0", "0.32.0"]


def test_the_published_records_tell_what_torch_212_changed() -> None:
    """Torch 2.12 turns the mega artifact on by default (vllm-project/vllm #37198)."""
    from matrix.record.model import read_many
    from matrix.rules.expectations import load_expectations

    records, errors = read_many([ROOT / "results"])
    asked = Query("torch", NEXT, OLD, ("cpu",), under=SpecifierSet("==0.20.*"))
    told = qualify(asked, records, load_expectations(), RELEASES, Waivers(), TODAY)
    assert not errors and told.compared == 9 and not told.failures
    assert {each.flag for each in told.flags} == {"VLLM_USE_MEGA_AOT_ARTIFACT"}
    changed = {each.case for each in told.flags}
    assert {each.case for each in told.drifts} == changed
    assert not any(case.startswith("moe_startup") for case in changed)
    # The flag's rules expect its counts; of the others, such as graphs seen, there is no rule yet.
    kinds = {(each.counter in DEFAULT_COUNTERS, each.kind) for each in told.drifts}
    assert kinds >= {(True, EXPECTED), (False, NO_RULE)}
    assert {kind for by_default, kind in kinds if by_default} == {EXPECTED}
