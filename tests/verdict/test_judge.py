from collections.abc import Mapping
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgements import GOOD, RULES, judged, make, make_case, words
from matrix.record.model import (
    OUTCOMES,
    ErrorKind,
    Platform,
    RunError,
    Rung,
    RungResult,
    StartKind,
)
from matrix.rules.expectations import Expected, Nearest, Situation
from matrix.verdict.judge import (
    CaseVerdict,
    CellVerdict,
    exit_status,
    judge,
    judge_running,
    worst,
)
from matrix.verdict.reasons import CaseRuns, GoesOn
from matrix.verdict.states import VERDICTS, Verdict


def test_every_counter_as_expected_is_compatible() -> None:
    verdict = judged(make_case())
    assert (verdict.verdict, verdict.rung, words(verdict.reason)) == (
        "compatible",
        "as expected",
        None,
    )
    case = verdict.cases[0]
    assert case.expected[StartKind.WARM]["num_compiled_artifacts_loaded"].value == 3
    assert case.differences == () and case.no_rule == ()
    assert exit_status(verdict) == 0


def test_a_count_that_differs_is_drift() -> None:
    counters = {"cold": GOOD["cold"], "warm": {"num_compiled_artifacts_saved": 3}}
    verdict = judged(make_case(counters=counters))
    assert (verdict.verdict, verdict.rung) == ("drift", "as expected")
    assert words(verdict.reason) == (
        "moe: warm num_compiled_artifacts_loaded is not counted, expected 3, and 1 more"
    )
    assert [
        (difference.counter, difference.observed) for difference in verdict.cases[0].differences
    ] == [
        ("num_compiled_artifacts_loaded", None),
        ("num_compiled_artifacts_saved", 3),
    ]
    assert exit_status(verdict) == 1


def test_a_case_is_judged_by_its_own_flags() -> None:
    mega = {"VLLM_USE_MEGA_AOT_ARTIFACT": True}
    assert judged(make_case(flags=mega)).verdict == "drift"
    assert judged(make_case(), flags=mega).verdict == "drift"
    off = {"VLLM_USE_MEGA_AOT_ARTIFACT": False}
    assert judged(make_case(flags=off), flags=mega).verdict == "compatible"


@pytest.mark.parametrize(
    ("name", "no_rule", "reason"),
    [
        ("dense", ("warm",), "dense: no expectation for its warm start"),
        ("other", ("cold", "warm"), "other: no expectation for its cold and warm starts"),
    ],
)
def test_without_a_rule_a_case_is_untested(
    name: str, no_rule: tuple[str, ...], reason: str
) -> None:
    verdict = judged(make_case(name))
    assert (verdict.verdict, verdict.rung, words(verdict.reason)) == (
        "untested",
        "starts warm",
        reason,
    )
    assert verdict.cases[0].no_rule == no_rule
    assert exit_status(verdict) == 5


def test_one_start_that_differs_is_drift_even_where_the_other_has_no_rule() -> None:
    counters = {"cold": {"num_compiled_artifacts_saved": 4}, "warm": {}}
    verdict = judged(make_case("dense", counters=counters))
    assert (verdict.verdict, verdict.cases[0].no_rule) == ("drift", ("warm",))


@pytest.mark.parametrize("outcome", ["failed", "crashed", "timed_out"])
def test_a_case_that_fails_names_the_rung_it_could_not_reach(outcome: str) -> None:
    verdict = judged(make_case(outcome=outcome, counters={}, reason="KeyError: x"))
    assert (verdict.verdict, verdict.rung) == ("incompatible", "starts cold")
    assert words(verdict.reason) == "moe: KeyError: x"
    verdict = judged(make_case(outcome=outcome, counters={"cold": GOOD["cold"]}))
    assert (verdict.verdict, verdict.rung) == ("incompatible", "starts warm")
    assert str(words(verdict.reason)).endswith("without a reason")
    assert exit_status(verdict) == 1


@pytest.mark.parametrize("outcome", ["failed", "crashed", "timed_out"])
def test_a_case_that_fails_knows_what_was_expected_of_the_starts_that_ran(outcome: str) -> None:
    cold = {"num_compiled_artifacts_saved": 4}
    case = judged(make_case(outcome=outcome, counters={"cold": cold})).cases[0]
    assert {start: dict(found) for start, found in case.expected.items()} == {
        "cold": {
            "num_compiled_artifacts_saved": Expected(value=3, rule="cold", evidence=("a record",))
        }
    }
    # It is not judged by it.
    assert (case.verdict, case.differences, case.no_rule) == ("incompatible", (), ())
    assert judged(make_case(outcome=outcome, counters={})).cases[0].expected == {}
    nameless = {**make().provenance, "torch": None}
    unknown = make_case(outcome=outcome, counters={"cold": cold})
    assert judged(unknown, provenance=nameless).cases[0].expected == {}


@pytest.mark.parametrize(
    "reason",
    [
        "DistNetworkError: failed to listen. port: 20700, code: -98, name: EADDRINUSE",
        "OSError: [Errno 28] No space left on device",
        "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
    ],
)
def test_a_fault_of_the_machine_shows_nothing_of_the_pair(reason: str) -> None:
    """A record has one error, and an older one has none for some of these faults."""
    verdict = judged(make_case(outcome="failed", counters={}, reason=reason))
    assert (verdict.verdict, words(verdict.reason)) == ("untested", f"moe: {reason}")
    assert exit_status(verdict) == 5


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("failed", "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
        ("timed_out", "no end after 600 s; it wrote: OSError: No space left on device"),
    ],
)
def test_a_fault_that_may_be_of_the_pair_counts(outcome: str, reason: str) -> None:
    verdict = judged(make_case(outcome=outcome, counters={}, reason=reason))
    assert verdict.verdict == "incompatible"


@pytest.mark.parametrize("outcome", ["interrupted", "running", "out_of_memory"])
def test_a_case_that_did_not_end_is_untested(outcome: str) -> None:
    verdict = judged(make_case(outcome=outcome, counters={}))
    assert verdict.verdict == "untested"
    assert str(words(verdict.reason)).startswith("moe: ")


def test_a_passed_case_without_both_starts_is_untested() -> None:
    verdict = judged(make_case(counters={"cold": GOOD["cold"]}))
    assert (verdict.verdict, words(verdict.reason)) == (
        "untested",
        "moe: the record has no warm start",
    )


@pytest.mark.parametrize("torch", [None, "", "not a version"])
def test_a_record_without_versions_is_untested(torch: str | None) -> None:
    provenance = {**make().provenance, "torch": torch}
    verdict = judged(make_case(), provenance=provenance)
    assert (verdict.verdict, verdict.rung) == ("untested", "starts warm")
    assert words(verdict.reason) == "moe: the record does not name the torch and vLLM that ran"


def test_cases_that_do_not_apply_do_not_count() -> None:
    skipped = make_case("sparse", "not_applicable", {}, reason="needs a Hopper GPU")
    verdict = judged(skipped, make_case())
    assert verdict.verdict == "compatible"
    assert [case.verdict for case in verdict.cases] == ["not applicable", "compatible"]
    assert (verdict.cases[0].case, words(verdict.cases[0].reason)) == (
        "sparse",
        "needs a Hopper GPU",
    )
    verdict = judged(skipped)
    assert (verdict.verdict, words(verdict.reason)) == ("untested", "no case applies to this cell")
    assert [case.verdict for case in verdict.cases] == ["not applicable"]
    verdict = judged()
    assert (verdict.verdict, words(verdict.reason)) == ("untested", "no case was run")


@pytest.mark.parametrize("kind", ["builds", "imports", "resolves"])
def test_a_pair_that_does_not_install_or_import_is_incompatible(kind: str) -> None:
    verdict = judged(
        error=RunError(kind=ErrorKind(kind), reason="certifi>=2026.10.19 is not there")
    )
    assert (verdict.verdict, verdict.rung) == ("incompatible", kind)
    assert words(verdict.reason) == "certifi>=2026.10.19 is not there"


def test_a_rung_that_failed_is_incompatible() -> None:
    verdict = judged(
        rungs=(RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason="undefined symbol"),)
    )
    assert (verdict.verdict, verdict.rung) == ("incompatible", "imports")
    assert words(verdict.reason) == "undefined symbol"
    assert (
        judged(make_case(), rungs=(RungResult(rung=Rung.IMPORTS, ok=True),)).verdict == "compatible"
    )


@pytest.mark.parametrize("kind", sorted(set(ErrorKind) - {"builds", "imports", "resolves"}))
def test_a_fault_of_the_environment_is_never_the_pairs(kind: str) -> None:
    verdict = judged(error=RunError(kind=ErrorKind(kind), reason="why"))
    assert (verdict.verdict, words(verdict.reason)) == ("untested", "why")
    assert (
        judged(make_case(), error=RunError(kind=ErrorKind(kind), reason="why")).verdict
        == "untested"
    )


def test_a_full_disk_fails_no_pair_but_an_interrupt_forgives_none() -> None:
    failed = make_case(outcome="failed", counters={}, reason="KeyError")
    assert (
        judged(failed, error=RunError(kind=ErrorKind.NO_SPACE, reason="full")).verdict == "untested"
    )
    assert (
        judged(failed, error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C")).verdict
        == "incompatible"
    )


def test_nothing_of_another_cell_is_judged() -> None:
    verdict = judged(
        make_case(), error=RunError(kind=ErrorKind.WRONG_CELL, reason="torch 2.9.1, not 2.10.0")
    )
    [case] = verdict.cases
    assert (case.case, case.verdict, words(case.reason)) == (
        "moe",
        "untested",
        "torch 2.9.1, not 2.10.0",
    )


def test_a_run_that_did_not_finish_is_not_compatible() -> None:
    verdict = judged(make_case(), finished=False)
    assert (verdict.verdict, words(verdict.reason)) == ("untested", "the run did not finish")


def test_a_cell_is_the_worst_of_its_cases() -> None:
    cases = {
        "incompatible": make_case("moe[1]", "failed", {}, reason="x"),
        "drift": make_case("moe[2]", counters={"cold": {}, "warm": {}}),
        "untested": make_case("other"),
        "compatible": make_case(),
    }
    for chosen in permutations(cases):
        for count in range(1, 5):
            verdict = judged(*(cases[number] for number in chosen[:count]))
            assert verdict.verdict == min(chosen[:count], key=VERDICTS.index)


def test_the_lowest_rung_speaks_for_a_cell() -> None:
    warm = make_case("moe[1]", "failed", {"cold": {}}, reason="warm")
    cold = make_case("moe[2]", "failed", {}, reason="cold")
    assert words(judged(warm, cold).reason) == "moe[2]: cold"


def test_a_failure_of_the_whole_run_speaks_before_its_cases_of_a_higher_rung() -> None:
    failed = make_case(outcome="failed", counters={}, reason="x")
    verdict = judged(failed, error=RunError(kind=ErrorKind.IMPORTS, reason="no module"))
    assert (verdict.verdict, verdict.rung, words(verdict.reason)) == (
        "incompatible",
        "imports",
        "no module",
    )
    # A case whose rung is unknown is named before one that got as far as a warm start.
    verdict = judged(make_case("other"), make_case("cut", "interrupted", {}))
    assert words(verdict.reason) == "cut: was interrupted"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("interrupted", "moe: was interrupted"),
        ("running", "moe: was still running when the run died"),
        ("out_of_memory", "moe: ran out of memory"),
        ("failed", "moe: failed without a reason"),
        ("crashed", "moe: crashed without a reason"),
        ("timed_out", "moe: timed out without a reason"),
    ],
)
def test_a_case_without_a_reason_says_how_it_ended(outcome: str, reason: str) -> None:
    assert words(judged(make_case(outcome=outcome, counters={})).reason) == reason
    given = judged(make_case(outcome=outcome, counters={}, reason="the reason"))
    assert words(given.reason) == "moe: the reason"


def test_a_run_without_a_reason_says_where_it_failed() -> None:
    failed = (
        RungResult(rung=Rung.RESOLVES, ok=True),
        RungResult(rung=Rung.IMPORTS, ok=False),
    )
    verdict = judged(rungs=failed)
    assert (verdict.rung, words(verdict.reason)) == ("imports", "failed at imports")
    assert words(judged(error=RunError(kind=ErrorKind.NO_SPACE, reason="")).reason) == "no space"


def test_a_failed_case_is_incompatible_only_where_the_error_is_the_pairs_or_a_cut() -> None:
    failed = make_case(outcome="failed", counters={}, reason="KeyError")
    for kind in ErrorKind:
        verdict = judged(failed, error=RunError(kind=ErrorKind(kind), reason="why")).cases[0]
        pairs = kind in {"builds", "imports", "resolves", "crashed", "timed_out", "interrupted"}
        assert verdict.verdict == ("incompatible" if pairs else "untested"), kind
        assert (verdict.case, words(verdict.reason)) == ("moe", "KeyError" if pairs else "why")


def test_the_first_count_that_differs_is_named_by_the_order_of_the_starts() -> None:
    counters = {
        "warm": {"num_compiled_artifacts_saved": 1, "num_compiled_artifacts_loaded": 3},
        "cold": {"num_compiled_artifacts_saved": 4},
    }
    verdict = judged(make_case(counters=counters))
    assert (
        words(verdict.reason)
        == "moe: cold num_compiled_artifacts_saved is 4, expected 3, and 1 more"
    )
    assert [difference.start for difference in verdict.cases[0].differences] == ["cold", "warm"]
    counters["cold"] = dict(GOOD["cold"])
    verdict = judged(make_case(counters=counters))
    assert words(verdict.reason) == "moe: warm num_compiled_artifacts_saved is 1, expected 0"


def test_each_case_that_failed_has_its_signature() -> None:
    failed = make_case("other", "failed", {}, signature="KeyError: x")
    cases = judged(make_case(), failed).cases
    assert [verdict.signature for verdict in cases] == [None, "KeyError: x"]
    assert [verdict.case for verdict in cases] == ["moe", "other"]


def test_a_case_is_judged_in_its_own_situation() -> None:
    asked: list[tuple[Situation, str]] = []

    class Asking:
        def expect(self, situation: Situation, start: str) -> Mapping[str, Expected]:
            asked.append((situation, start))
            return {}

        def nearest(
            self, situation: Situation, start: str, expected: Mapping[str, Expected] | None = None
        ) -> Mapping[str, Nearest]:
            return {}

    judge(make(make_case(flags={"B": 2}), flags={"A": 1, "B": 1}), Asking())
    situation = Situation(
        case="moe",
        platform=Platform.CPU,
        torch="2.10.0+cu128",
        vllm="0.19.1",
        flags={"A": 1, "B": 2},
    )
    assert asked == [(situation, "cold"), (situation, "warm")]


def test_a_run_that_goes_on_shows_its_cases_and_no_verdict_of_the_cell() -> None:
    cases = (
        make_case(),
        make_case("dense", "running", {}),
        make_case("x", "failed", {}, reason="e"),
        make_case(
            "moe", counters={"cold": {"num_compiled_artifacts_saved": 1}, "warm": GOOD["warm"]}
        ),
    )
    found = judge_running(make(*cases, finished=False), RULES)
    drift = "cold num_compiled_artifacts_saved is 1, expected 3"
    assert (found.verdict, found.rung, words(found.reason)) == (
        "untested",
        None,
        "the run is in progress",
    )
    assert [(case.case, case.verdict, words(case.reason)) for case in found.cases] == [
        ("moe", "compatible", None),
        ("dense", "untested", "is running"),
        ("x", "untested", "the run is in progress; this case failed: e"),
        (
            "moe",
            "untested",
            f"the run is in progress; this case drifts: {drift}",
        ),
    ]
    assert all(case.differences == () and case.rung is None for case in found.cases[1:])
    assert found.cases[1] == CaseVerdict(case="dense", verdict=Verdict.UNTESTED, reason=CaseRuns())
    nothing = CellVerdict(verdict=Verdict.UNTESTED, reason=GoesOn())
    assert judge_running(make(finished=False), RULES) == nothing


def test_worst_of_nothing_is_untested() -> None:
    assert worst([]) == "untested"
    assert worst([Verdict.COMPATIBLE]) == "compatible"


@settings(deadline=None)
@given(
    outcome=st.sampled_from(OUTCOMES),
    kind=st.none() | st.sampled_from(ErrorKind),
    finished=st.booleans(),
    cold=st.none() | st.dictionaries(st.sampled_from(sorted(GOOD["warm"])), st.integers(0, 4)),
    warm=st.none() | st.dictionaries(st.sampled_from(sorted(GOOD["warm"])), st.integers(0, 4)),
    name=st.sampled_from(["moe", "dense", "other"]),
)
def test_compatible_is_only_what_ran_to_its_end_and_counts_right(
    outcome: str,
    kind: str | None,
    finished: bool,
    cold: Mapping[str, int] | None,
    warm: Mapping[str, int] | None,
    name: str,
) -> None:
    counters = {
        start: counts for start, counts in (("cold", cold), ("warm", warm)) if counts is not None
    }
    error = RunError(kind=ErrorKind(kind), reason="why") if kind else None
    verdict = judged(make_case(name, outcome, counters), error=error, finished=finished)
    assert verdict.verdict in VERDICTS
    if verdict.verdict != "compatible":
        assert words(verdict.reason)
        return
    assert (outcome, kind, finished, name) == ("passed", None, True, "moe")
    for start, expected in GOOD.items():
        assert expected.items() <= counters[start].items()
