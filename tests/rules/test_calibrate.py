"""`matrix calibrate`: the rules that a record proposes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.errors import MatrixError
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Start,
    StartKind,
)
from matrix.report.calibrate import render
from matrix.rules import calibrate as module
from matrix.rules.calibrate import CalibrateError
from matrix.rules.counters import COUNTERS, DEFAULT_COUNTERS
from matrix.rules.expectations import Expectations, Situation, compare
from matrix.rules.expectations_file import load_expectations, parse_expectations

NONE = Expectations(rules=())
COLD = {
    "num_compiled_artifacts_saved": 3,
    "num_compiled_artifacts_loaded": 0,
    "num_graphs_seen": 1,
    "aot_autograd.total": 33,
}
WARM = {"num_compiled_artifacts_saved": 0, "num_compiled_artifacts_loaded": 3}


def calibrate(record: Record, expectations: Expectations, **options: Any) -> str:
    """Return what the command prints."""
    return render(module.calibrate(record, expectations, **options))


def record(
    *cases: Case,
    cell: str = "py311-torch210-vllm019",
    torch: object = "2.10.0+cu128",
    vllm: object = "0.19.1",
    finished: bool = True,
    platform: str = "cpu",
    flags: Mapping[str, object] | None = None,
    error: RunError | None = None,
) -> Record:
    return Record(
        cell=cell,
        platform=Platform(platform),
        finished=finished,
        provenance={"started": "2026-11-22T18:00:00Z", "torch": torch, "vllm": vllm},
        flags=flags or {},
        cases=cases,
        error=error,
    )


def case(
    name: str = "moe_startup[mega_aot=1]",
    outcome: str = "passed",
    flags: Mapping[str, object] | None = None,
    *,
    cold: Mapping[str, int] | None = None,
    warm: Mapping[str, int] | None = None,
    reason: str | None = None,
) -> Case:
    starts = (
        Start(
            start=StartKind.COLD, seconds={"total": 61.2}, counters=COLD if cold is None else cold
        ),
        Start(
            start=StartKind.WARM, seconds={"total": 20.0}, counters=WARM if warm is None else warm
        ),
    )
    return Case(
        case=name, outcome=Outcome(outcome), reason=reason, flags=flags or {}, starts=starts
    )


def test_a_start_without_an_expectation_becomes_a_rule() -> None:
    flags: dict[str, object] = {"VLLM_USE_MEGA_AOT_ARTIFACT": True, "VLLM_USE_AOT_COMPILE": True}
    text = calibrate(record(case(flags=flags, warm={})), NONE)
    assert text == (
        "[[rule]]\n"
        'id = "cpu-moe_startup[mega_aot=1]-torch210-vllm019-cold"\n'
        'case = "moe_startup[mega_aot=1]"\n'
        'platform = "cpu"\n'
        'torch = "==2.10.*"\n'
        'vllm = "==0.19.*"\n'
        "flags = { VLLM_USE_MEGA_AOT_ARTIFACT = true }\n"
        'start = "cold"\n'
        "counters = { num_compiled_artifacts_saved = 3, num_compiled_artifacts_loaded = 0, "
        '"aot_autograd.total" = 33 }\n'
        'evidence = ["results/cpu/py311-torch210-vllm019.json"]\n'
    )


@pytest.mark.parametrize("condition", ['case = "moe_startup[mega_aot=1]"', 'case = "moe_startup"'])
def test_a_rule_begins_where_older_startup_tests_end(condition: str) -> None:
    text = calibrate(record(case(warm={})), NONE).replace(
        'case = "moe_startup[mega_aot=1]"', condition
    )
    old = parse_expectations(text.replace("start =", 'tests = "<24"\nstart ='), "old")
    made = record(case(cold={**COLD, "aot_autograd.total": 40}, warm={}))
    newer = replace(made, provenance={**made.provenance, "tests": {"version": 24}})
    text = calibrate(newer, old)
    assert 'tests = ">=24"\nstart = "cold"' in text and '"aot_autograd.total" = 40' in text
    both = (*old.rules, *parse_expectations(text, "new").rules)
    assert len(Expectations(rules=both).rules) == 2  # and they do not tie


def test_the_flags_of_the_case_go_before_those_of_the_record() -> None:
    name = "VLLM_USE_MEGA_AOT_ARTIFACT"
    text = calibrate(record(case(flags={name: True}), flags={name: False}), NONE)
    assert "flags = { VLLM_USE_MEGA_AOT_ARTIFACT = true }" in text
    assert "flags = { VLLM_USE_MEGA_AOT_ARTIFACT = 0 }" in calibrate(
        record(case(), flags={name: 0}), NONE
    )
    assert "flags" not in calibrate(record(case()), NONE)


def test_a_release_candidate_is_narrowed_to_its_minor() -> None:
    text = calibrate(record(case(), torch="2.12.0rc1+cu130"), NONE)
    assert 'torch = "==2.12.*"' in text


def test_the_evidence_is_where_the_record_is_published() -> None:
    text = calibrate(record(case(), platform="cuda"), NONE, name="/srv/records/cuda/a.json")
    assert text.count('evidence = ["results/cuda/py311-torch210-vllm019.json"]') == 2
    assert "srv" not in text


def test_only_the_counters_asked_for_are_proposed() -> None:
    seen = {**COLD, "inductor.extern_calls": 7}
    assert "num_graphs_seen" not in calibrate(record(case(cold=seen)), NONE)
    text = calibrate(record(case(cold=seen)), NONE, every=True)
    assert "num_graphs_seen = 1" in text
    assert "extern_calls" not in text
    assert parse_expectations(text, "proposed").rules[0].counters["num_graphs_seen"] == 1


def test_what_is_as_expected_proposes_nothing() -> None:
    known = parse_expectations(calibrate(record(case()), NONE), "known")
    assert calibrate(record(case()), known, name="a.json") == (
        "# a.json: nothing to propose: every requested counter has an expectation\n"
    )


def test_what_is_expected_otherwise_names_the_rule() -> None:
    known = parse_expectations(calibrate(record(case()), NONE), "known")
    text = calibrate(record(case(warm={**WARM, "num_compiled_artifacts_saved": 1})), known)
    assert text.startswith(
        "# rule 'cpu-moe_startup[mega_aot=1]-torch210-vllm019-warm' expects "
        "num_compiled_artifacts_saved = 0\n[[rule]]\n"
        'id = "cpu-moe_startup[mega_aot=1]-torch210-vllm019-warm-2"\n'
    )
    assert "counters = { num_compiled_artifacts_saved = 1 }\n" in text


def test_a_more_specific_proposal_goes_with_the_rules_of_the_package() -> None:
    shipped = load_expectations()
    flags = {"VLLM_USE_MEGA_AOT_ARTIFACT": False}
    drifted = record(case(flags=flags, cold={"aot_autograd.total": 34}), platform="cuda")
    text = calibrate(drifted, shipped)
    assert "# rule 'cuda-moe-cold-autograd' expects aot_autograd.total = 33" in text
    proposed = parse_expectations(text, "proposed")
    both = Expectations(rules=(*shipped.rules, *proposed.rules))
    where = Situation(
        case="moe_startup[mega_aot=1]",
        platform=Platform.CUDA,
        torch="2.10.0",
        vllm="0.19.1",
        flags=flags,
    )
    assert both.expect(where, StartKind.COLD)["aot_autograd.total"].value == 34


@pytest.mark.parametrize("outcome", ["failed", "crashed", "timed_out", "not_applicable", "running"])
def test_a_case_that_did_not_pass_is_said_in_a_comment(outcome: str) -> None:
    text = calibrate(record(case("moe", outcome, reason="line\n\x07one")), NONE)
    assert text == f"# moe: {outcome} (line one), so it justifies no rule\n"
    assert calibrate(record(case("moe", outcome)), NONE) == (
        f"# moe: {outcome}, so it justifies no rule\n"
    )


def test_cases_of_one_name_get_ids_of_their_own() -> None:
    known = parse_expectations(calibrate(record(case()), NONE), "known")
    other = record(case(), torch="2.10.0", vllm="0.20.0")
    ids = [rule.id for rule in parse_expectations(calibrate(other, known), "new").rules]
    assert ids == [f"cpu-moe_startup[mega_aot=1]-torch210-vllm019-{s}-2" for s in ("cold", "warm")]


def test_a_record_that_is_not_finished_is_refused() -> None:
    with pytest.raises(CalibrateError, match=r"^a\.json: finished: the run did not end; run the"):
        calibrate(record(case(), finished=False), NONE, name="a.json")


@pytest.mark.parametrize("kind", ErrorKind)
def test_a_record_with_an_error_is_refused(kind: str) -> None:
    with pytest.raises(MatrixError) as caught:
        calibrate(
            record(case(), error=RunError(kind=ErrorKind(kind), reason="line\none")),
            NONE,
            name="a.json",
        )
    assert str(caught.value) == (
        f"a.json: error: {kind} (line one), so the record justifies no rule; run the cell again"
    )
    with pytest.raises(MatrixError, match=rf"error: {kind}, so the record"):
        calibrate(record(case(), error=RunError(kind=ErrorKind(kind), reason="")), NONE)


@pytest.mark.parametrize("outcome", [None, "failed", "not_applicable"])
def test_a_record_without_a_started_case_is_refused(outcome: str | None) -> None:
    cases = [Case(case="moe", outcome=Outcome(outcome))] if outcome else []
    with pytest.raises(MatrixError, match=r"^a\.json: cases: none of them started, so the record"):
        calibrate(record(*cases), NONE, name="a.json")


@pytest.mark.parametrize(
    ("torch", "vllm", "key"), [(None, "0.19.1", "torch"), ("2.10.0", "", "vllm")]
)
def test_a_record_without_versions_is_refused(torch: object, vllm: object, key: str) -> None:
    with pytest.raises(CalibrateError, match=rf"^a\.json: provenance\.{key}: .* is not a version"):
        calibrate(record(case(), torch=torch, vllm=vllm), NONE, name="a.json")


counts = st.dictionaries(st.sampled_from(sorted(COUNTERS)), st.integers(0, 99))
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(counts, counts, st.booleans(), st.booleans() | st.integers() | texts)
def test_a_proposal_expects_what_the_record_observed(
    cold: dict[str, int], warm: dict[str, int], every: bool, flag: bool | int | str
) -> None:
    flags: dict[str, object] = {"VLLM_USE_MEGA_AOT_ARTIFACT": flag}
    observed = record(case(cold=cold, warm=warm, flags=flags))
    text = calibrate(observed, NONE, every=every)
    proposed = parse_expectations(text, "proposed")
    where = Situation(
        case="moe_startup[mega_aot=1]",
        platform=Platform.CPU,
        torch="2.10.0+cu128",
        vllm="0.19.1",
        flags=flags,
    )
    for start, seen in ((StartKind.COLD, cold), (StartKind.WARM, warm)):
        expected = proposed.expect(where, start)
        asked = seen.keys() if every else seen.keys() & set(DEFAULT_COUNTERS)
        assert expected.keys() == asked
        assert compare(expected, seen, start) == ()
    assert "nothing to propose" in calibrate(observed, proposed, every=every)
