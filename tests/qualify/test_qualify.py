"""A release compared with an earlier one: failures, counters and flags of its cases."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from made import NO_RULES, Told, failed, make, passed
from matrix._util.paths import CHECKOUT
from matrix.qualify.engine import QualifyError
from matrix.qualify.model import DriftKind, FailureKind
from matrix.qualify.query import Query
from matrix.record.model import (
    WHOLE_RUN,
    Case,
    ErrorKind,
    Outcome,
    Platform,
    RunError,
    Rung,
    RungResult,
)
from matrix.report.qualify.json import render
from matrix.report.qualify.markdown import page
from matrix.report.qualify.text import lines
from matrix.rules.counters import DEFAULT_COUNTERS
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import parse_expectations
from matrix.verdict.reasons import Recorded
from qualifications import (
    NEXT,
    OLD,
    ask,
    held,
    judged,
    kinds,
    notes,
    variant_of,
)

RULES = parse_expectations(
    """
[[rule]]
id = "warm"
case = "moe"
vllm = "<99"
start = "warm"
torch = "<2.12"
counters = { num_compiled_artifacts_loaded = 3 }
evidence = ["a record"]

[[rule]]
id = "warm-212"
case = "moe"
vllm = "<99"
start = "warm"
torch = ">=2.12"
counters = { num_compiled_artifacts_loaded = 4 }
evidence = ["a record"]
""",
    "rules.toml",
)


def test_the_same_on_both_sides_is_qualified() -> None:
    found = held(make(OLD, passed(), passed("small")), make(NEXT, passed(), passed("small")))
    assert (found.verdict, found.exit_status, found.compared) == ("qualified", 0, 2)
    assert not kinds(found) and not found.unknown and not found.times
    assert found.platforms == ("cpu",)


def test_a_case_that_passed_and_fails_is_a_regression() -> None:
    found = held(make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b")))
    assert (found.verdict, found.exit_status) == ("not qualified", 1)
    [failure] = found.failures
    assert (failure.kind, failure.case, failure.rung) == (
        FailureKind.REGRESSION,
        "moe",
        "starts cold",
    )
    assert (failure.signature, failure.detail) == (
        "KeyError: x",
        Recorded(text="why: KeyError: x"),
    )
    found = held(make(NEXT, passed()), make(OLD, failed()))
    assert (kinds(found), found.exit_status) == ([FailureKind.REPAIR], 0)
    [failure] = found.failures
    assert (failure.case, failure.rung, failure.signature, failure.detail) == (
        "moe",
        "starts cold",
        "KeyError: x",
        Recorded(text="why: KeyError: x"),
    )


def test_a_repair_of_a_run_with_other_flags_names_them() -> None:
    runs = [make(NEXT, passed(), day=day, file=f"{day}", flags={"A": day}) for day in (20, 21)]
    found = held(make(OLD, failed()), *runs)
    assert kinds(found) == [FailureKind.REPAIR] * 2
    assert sorted(variant_of(failure) or "" for failure in found.failures) == ["", "A=20"]


@pytest.mark.parametrize(
    ("candidate", "kind", "status"),
    [
        (failed(), FailureKind.FAILS_AS_BEFORE, 0),
        (failed(signature="KeyError: y"), FailureKind.FAILS_OTHERWISE, 1),
        # The same signature one rung higher is another failure.
        (replace(failed(), starts=passed().starts[:1]), FailureKind.FAILS_OTHERWISE, 1),
        (replace(failed(), outcome=Outcome.TIMED_OUT), FailureKind.FAILS_AS_BEFORE, 0),
    ],
)
def test_a_case_that_fails_on_both_sides(candidate: Case, kind: str, status: int) -> None:
    found = held(make(OLD, failed(), passed("b")), make(NEXT, candidate, passed("b")))
    assert (kinds(found), found.exit_status) == ([kind], status)
    # Where nothing passes, nothing shows that it works.
    found = held(make(OLD, failed()), make(NEXT, candidate))
    assert (kinds(found), found.exit_status) == ([kind], status or 3)
    assert ("no case that was compared passes" in lines(found)) is not bool(status)


def test_a_failure_without_a_signature_has_one_of_its_text() -> None:
    text = "Traceback\nKeyError: /home/x/y.py 0xdeadbeef"
    found = held(make(OLD, passed()), make(NEXT, failed(signature="", failure=text)))
    assert found.failures[0].signature == "KeyError: <path>/y.py <address>"


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
    found = held(make(OLD, passed(), passed("b")), make(NEXT, **fault))
    assert [failure.kind for failure in found.failures] == [FailureKind.REGRESSION] * 2
    assert {failure.rung for failure in found.failures} == {"imports"}
    assert {failure.signature for failure in found.failures} == {
        "ImportError: undefined symbol: _ZN3c10E"
    }
    found = held(make(OLD, **fault), make(NEXT, **fault))
    assert (kinds(found), found.compared, found.exit_status) == (
        [FailureKind.FAILS_AS_BEFORE],
        1,
        3,
    )
    assert "the whole run" in lines(found)


def test_a_run_in_the_environment_of_another_cell_is_of_neither() -> None:
    """Its name says the candidate, and its versions the baseline."""
    error = RunError(kind=ErrorKind.WRONG_CELL, reason="it has torch 2.11.0, not 2.12.1")
    wrong = make(NEXT, error=error, provenance={"torch": OLD}, day=23, file="wrong")
    assert held(make(OLD, passed()), make(NEXT, passed()), wrong).exit_status == 0
    assert held(make(OLD, passed()), wrong).exit_status == 3


def test_a_run_that_says_no_version_is_of_its_name() -> None:
    unknown = {"torch": None, "vllm": None}
    error = RunError(kind=ErrorKind.RESOLVES, reason="no versions go together")
    found = held(make(OLD, passed()), make(NEXT, error=error, provenance=unknown))
    assert [(failure.kind, failure.rung) for failure in found.failures] == [
        (FailureKind.REGRESSION, "resolves")
    ]


@pytest.mark.parametrize(
    ("before", "after", "rules", "kind", "status"),
    [
        (3, 4, NO_RULES, DriftKind.NO_RULE, 1),
        (3, 4, RULES, DriftKind.EXPECTED, 0),
        (2, 4, RULES, DriftKind.EXPECTED_AGAIN, 0),
        (3, 5, RULES, DriftKind.UNEXPECTED, 1),
        # It did not change, and should have.
        (3, 3, RULES, DriftKind.UNEXPECTED, 1),
        # As it was, though it was to be otherwise.
        (5, 5, RULES, DriftKind.UNEXPECTED, 1),
    ],
)
def test_a_counter_that_changed_fails_unless_its_new_count_is_expected(
    before: int, after: int, rules: Expectations, kind: str, status: int
) -> None:
    found = held(
        make(OLD, passed(num_compiled_artifacts_loaded=before)),
        make(NEXT, passed(num_compiled_artifacts_loaded=after)),
        rules=rules,
    )
    [drift] = found.drifts
    assert (drift.kind, drift.before, drift.after) == (kind, before, after)
    assert (drift.start, drift.counter) == ("warm", "num_compiled_artifacts_loaded")
    assert (drift.expected, drift.judged) == ((4, True) if rules is RULES else (None, False))
    assert (found.exit_status, drift.fails) == (status, bool(status))


def test_a_counter_of_torch_that_was_never_raised_is_zero() -> None:
    found = held(make(OLD, passed()), make(NEXT, passed(**{"aot_autograd.total": 0})))
    assert not found.drifts
    found = held(make(OLD, passed(**{"aot_autograd.total": 4})), make(NEXT, passed()))
    assert [(drift.before, drift.after) for drift in found.drifts] == [(4, 0)]
    assert found.exit_status == 1


def test_a_counter_that_only_one_side_has() -> None:
    more = make(NEXT, passed(num_aot_compiles=1))
    found = held(make(OLD, passed()), more)
    assert (kinds(found), found.exit_status) == ([DriftKind.NEW], 0)
    found = held(make(OLD, passed(num_aot_compiles=1)), make(NEXT, passed()))
    assert (kinds(found), found.exit_status) == ([DriftKind.NO_RULE], 1)


def test_a_counter_that_no_rule_may_name_is_told_and_not_judged() -> None:
    counts = ({"inductor.pattern_matcher_count": count} for count in (22, 23))
    found = held(
        *(make(torch, passed(**count)) for torch, count in zip((OLD, NEXT), counts, strict=True))
    )
    assert (kinds(found), found.exit_status) == ([DriftKind.NOT_JUDGED], 0)
    assert "warm  inductor.pattern_matcher_count  22->23  moe" in lines(found)


def test_a_flag_of_the_whole_run_is_one_of_each_case() -> None:
    found = held(make(OLD, passed(), flags={"A": 1, "B": 1}), make(NEXT, passed(), flags={"A": 2}))
    assert [(flag.flag, flag.before, flag.after) for flag in found.flags] == [
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
    found = held(make(OLD, *old), make(NEXT, *new))
    assert (found.exit_status, len(found.flags)) == (1, 2)
    line = (
        "VLLM_USE_MEGA_AOT_ARTIFACT: false, now true, in 2 of 3 cases; all 2 counter changes are"
        " there, and none in the 1 case where it is the same"
    )
    assert line in lines(found)
    found = held(make(OLD, *old), make(NEXT, *new[:2], passed("c", num_graphs_seen=0)))
    assert "; 2 of 3 counter changes are there" in lines(found)


def test_a_rung_that_failed_though_its_cases_passed_is_a_failure_of_the_run() -> None:
    broken: dict[str, Any] = {
        "rungs": (RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="ImportError: x"),)
    }
    found = held(make(OLD, passed()), make(NEXT, passed(), **broken))
    [failure] = found.failures
    assert (found.exit_status, failure.kind, failure.case) == (1, FailureKind.REGRESSION, WHOLE_RUN)
    assert [row["case"] for row in json.loads(render(found))["failures"]] == [None]
    found = held(make(OLD, passed(), **broken), make(NEXT, passed(), **broken))
    assert (kinds(found), found.exit_status) == ([FailureKind.FAILS_AS_BEFORE], 0)
    found = held(make(OLD, passed(), **broken), make(NEXT, passed()))
    assert (kinds(found), found.exit_status) == ([FailureKind.REPAIR], 0)


def test_the_same_minor_stands_in_where_no_patch_ran_on_both_sides() -> None:
    found = held(make(OLD, passed(), vllm="0.20.1"), make(NEXT, failed()))
    assert found.exit_status == 1
    assert notes(found.matches[0]) == (
        "no patch of vLLM 0.20 ran on both sides: vLLM 0.20.2 is compared with 0.20.1",
    )
    exact = make(OLD, failed(), vllm="0.20.2", file="py311-torch211-vllm020.b", day=21)
    found = held(make(OLD, passed(), vllm="0.20.1"), exact, make(NEXT, failed()))
    assert (kinds(found), notes(found.matches[0])) == ([FailureKind.FAILS_AS_BEFORE], ())
    # The patch that both ran goes before a newer one that only one of them did.
    old = make(NEXT, passed(), vllm="0.20.1", file="py311-torch212-vllm020.b", day=21)
    found = held(make(OLD, passed(), vllm="0.20.1"), old, make(NEXT, failed()))
    assert (kinds(found), found.matches[0].candidate.vllm) == ([], "0.20.1")


def test_vllm_is_held_under_the_very_same_torch() -> None:
    query = ask("vllm", "0.20.2", "0.19.1")
    records = [make("2.11.0", passed(), vllm="0.19.1"), make("2.11.0", failed())]
    found = held(*records, query=query)
    assert (kinds(found), found.failures[0].place.cell) == (
        [FailureKind.REGRESSION],
        "py311-torch211-vllm020",
    )
    found = held(make("2.11.0", passed(), vllm="0.19.1"), make("2.11.1", failed()), query=query)
    assert (kinds(found), found.exit_status) == ([], 3)
    assert "vLLM 0.20.2 against 0.19.1 on cpu: not enough" in lines(found)


def test_two_patches_of_one_name_are_two_releases() -> None:
    """2.12.0 and 2.12.1 share the cell's name, and the newer record must not hide the older."""
    records = [make("2.12.0", passed(), file="a", day=20), make("2.12.1", failed(), file="b")]
    assert kinds(held(*records, query=ask("torch", "2.12.1", "2.12.0"))) == [FailureKind.REGRESSION]


def patches(torch: str, **cases: Case) -> list[Told]:
    return [
        make(torch, passed("b"), case, vllm=f"0.20.{patch[1:]}", file=f"{torch}.{patch}")
        for patch, case in cases.items()
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
    found = held(*patches(OLD, **before), *patches(NEXT, **after))
    assert found.exit_status == status
    if status == 3 and max(before) != max(after):
        assert "never ran with vLLM 0.20.2" in lines(found)
        cell = "py311-torch212" if max(before) > max(after) else "py311-torch211"
        assert f"tox -e {cell}-vllm020 -- " in lines(found)
    if after.get("p1") == failed() and status == 1:
        assert variant_of(found.failures[0]) == "vLLM 0.20.1"
        assert "moe (with vLLM 0.20.1)" in lines(found)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (ask("torch", "2.12.7", OLD), r"^--torch 2\.12\.7: is not a known release of torch"),
        (ask("torch", "2.12.7", OLD), r"the nearest: 2\.12\.1, 2\.13\.0$"),
        (ask("torch", NEXT, "1.0"), r"^--baseline 1\.0: is not a known release of torch"),
        (ask("vllm", "0.99.0", "0.20.2"), r"^--vllm 0\.99\.0: is not a known release of vLLM"),
        (ask("torch", OLD, "2.11"), r"^--baseline 2\.11: is the candidate itself; name another "),
        (ask("torch", OLD, OLD), r"such as 2\.10\.0$"),
    ],
)
def test_a_question_that_has_no_answer_is_one_line(query: Query, text: str) -> None:
    with pytest.raises(QualifyError, match=text):
        held(make(OLD, passed()), query=query)


def test_a_release_candidate_is_known_by_its_records() -> None:
    query = ask("torch", "2.12.0rc3", OLD)
    assert held(make(OLD, passed()), make("2.12.0rc3", failed()), query=query).exit_status == 1


def test_a_record_that_could_not_be_read_may_decide() -> None:
    found = held(make(OLD, passed()), make(NEXT, passed()), unread=1)
    assert (found.verdict, found.exit_status) == ("not enough evidence", 2)
    assert json.loads(render(found))["exit_status"] == 2
    assert "1 record could not be read, and may decide" in page(found)
    assert held(make(OLD, passed()), make(NEXT, failed()), unread=1).exit_status == 1


def test_the_published_records_tell_what_torch_212_changed() -> None:
    """Torch 2.12 turns the mega artifact on by default (vllm-project/vllm #37198)."""
    from matrix.record.reader import read_many
    from matrix.rules.expectations_file import load_expectations

    records, errors = read_many([CHECKOUT / "results"])
    query = ask("torch", NEXT, OLD, (Platform.CPU,), under=SpecifierSet("==0.20.*"))
    found = judged(records, query, rules=load_expectations())
    assert not errors and found.compared == 9 and not found.failures
    assert {flag.flag for flag in found.flags} == {"VLLM_USE_MEGA_AOT_ARTIFACT"}
    changed = {flag.case for flag in found.flags}
    assert {drift.case for drift in found.drifts} == changed
    assert not any(case.startswith("moe_startup") for case in changed)
    # The flag's rules expect its counts; of the others, such as graphs seen, there is no rule yet.
    kinds = {(drift.counter in DEFAULT_COUNTERS, drift.kind) for drift in found.drifts}
    assert kinds >= {(True, DriftKind.EXPECTED), (False, DriftKind.NO_RULE)}
    assert {kind for by_default, kind in kinds if by_default} == {DriftKind.EXPECTED}
