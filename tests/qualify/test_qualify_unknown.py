"""What has no answer never qualifies, and nothing hides what a record shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from made import NO, ONE_RULE, YES, Answers, Told, failed, make, passed
from matrix.qualify.model import DriftKind
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
from matrix.record.startup_tests import load_startup_tests
from matrix.report.qualify.sentences import (
    unknown_sentence,
)
from matrix.report.qualify.text import lines
from qualifications import (
    LATE,
    NEXT,
    OLD,
    ask,
    held,
    notes,
    reasons,
    waiver,
)

UNKNOWN: dict[str, tuple[tuple[Case, ...], tuple[Case, ...], dict[str, Any], str]] = {
    "a cell that never ran": ((passed(),), (), {"vllm": "0.19.1"}, "never ran; of its cases 1"),
    "a case that is missing": ((passed(), passed("b")), (passed(),), {}, "is not a case of the"),
    "a case that was not asked for": (
        (passed(), passed("b")),
        (passed(),),
        {"deselected": 1},
        "was not requested: the record contains 1 of 2 cases",
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
        "has no answer: the record has no cold start",
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
        "fails (why: KeyError: x), and at the baseline it is not a case of the record",
    ),
    "a failure where the baseline does not apply": (
        (passed(), Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")),
        (passed(), failed("b")),
        {},
        "and at the baseline it does not apply: no GPU",
    ),
    "a case without an answer that the baseline did not run": (
        (passed(),),
        (passed(), Case(case="b", outcome=Outcome.INTERRUPTED)),
        {},
        "has no answer: was interrupted, and at the baseline it is not a case of the record",
    ),
    "a case without an answer where the baseline does not apply": (
        (passed(), Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")),
        (passed(), Case(case="b", outcome=Outcome.OUT_OF_MEMORY)),
        {},
        "has no answer: ran out of memory, and at the baseline it does not apply: no GPU",
    ),
    "a failure of the baseline without an answer": (
        (passed(), failed("b")),
        (passed(),),
        {},
        "failed at the baseline, and now is not a case of the record",
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_never_qualifies(what: str) -> None:
    before, after, how, text = UNKNOWN[what]
    found = held(make(OLD, *before), make(NEXT, *after, **how))
    assert (found.verdict, found.exit_status) == ("not enough evidence", 3)
    assert text in reasons(found)[0]
    assert reasons(found)[0] in lines(found)
    # And it hides no failure.
    more = make(OLD, passed(), python="3.12"), make(NEXT, failed(), python="3.12")
    assert held(make(OLD, *before), make(NEXT, *after, **how), *more).exit_status == 1


def test_the_record_that_holds_a_part_is_named() -> None:
    for before, after, sides in (
        (8, 0, ["baseline"]),
        (0, 8, ["candidate"]),
        (8, 8, ["baseline", "candidate"]),
    ):
        found = held(make(OLD, passed(), deselected=before), make(NEXT, passed(), deselected=after))
        assert sorted(reasons(found)) == [
            f"the record of the {side} holds 1 of 9 cases" for side in sides
        ]


def test_half_of_the_baseline_is_too_little() -> None:
    records = [make(OLD, passed(), vllm=vllm) for vllm in ("0.19.1", "0.20.2")]
    found = held(*records, make(NEXT, passed()))
    assert (found.exit_status, found.compared) == (3, 1)
    assert found.unknown[0].cell == "py311-torch212-vllm019"
    assert "tox -e py311-torch212-vllm019 -- --platform cpu" in lines(found)
    assert held(*records, make(NEXT, passed()), under=SpecifierSet("==0.20.*")).exit_status == 0


def test_what_only_the_candidate_ran_and_passes_is_no_evidence_either_way() -> None:
    found = held(make(OLD, passed()), make(NEXT, passed()), make(NEXT, passed(), vllm="0.19.1"))
    assert (found.exit_status, found.compared, found.unknown) == (0, 1, ())
    assert "py311-torch212-vllm019 on cpu has no baseline" in notes(found)[-1]
    # Nor does a case that did not apply to the baseline.
    gone = Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")
    found = held(make(OLD, passed(), gone), make(NEXT, passed(), passed("b")))
    assert (found.exit_status, found.compared, found.unknown) == (0, 1, ())
    # A case that other tests have added has no baseline either.
    newer = {"tests": {"fingerprint": "sha256:2"}}
    found = held(make(OLD, passed()), make(NEXT, passed(), passed("b"), provenance=newer))
    assert (found.exit_status, found.compared, found.unknown) == (0, 1, ())


@pytest.mark.parametrize("cases", [(), (Case(case="b", outcome=Outcome.OUT_OF_MEMORY),)])
def test_what_the_baseline_should_have_answered_is_asked_of_it(cases: tuple[Case, ...]) -> None:
    found = held(make(OLD, passed(), *cases), make(NEXT, passed(), passed("b")))
    [unknown] = found.unknown
    assert (found.exit_status, unknown.case) == (3, "b")
    assert "passed, and at the baseline it" in unknown_sentence(unknown)
    assert "tox -e py311-torch211-vllm020 -- --platform cpu" in lines(found)


def test_of_the_cases_that_new_tests_changed_the_baseline_owes_no_answer() -> None:
    change = next(change for change in load_startup_tests().changes if change.cases)
    before, after = ({"tests": {"version": change.number - less}} for less in (1, 0))
    for case, owed in ((change.cases[0], False), ("moe", True)):
        found = held(
            make(OLD, passed("b"), provenance=before),
            make(NEXT, passed("b"), passed(case), provenance=after),
        )
        assert [unknown.case for unknown in found.unknown] == [case] * owed


def test_another_platform_does_not_answer() -> None:
    found = held(make(OLD, passed(), platform="cuda"), make(NEXT, passed()))
    assert (found.exit_status, found.compared) == (3, 0)
    assert "no case has an answer on both sides" in lines(found)
    assert notes(found)[:2] == (
        "no record of torch 2.12.1 on cuda; it has records of 2.11.0",
        "no record of torch 2.11.0 on cpu; it has records of 2.12.1",
    )
    found = held(
        make(OLD, passed()), make(NEXT, passed()), make(OLD, passed(), platform="cuda"),
        platforms=("cpu",),
    )  # fmt: skip
    assert found.exit_status == 0


@pytest.mark.parametrize(
    ("records", "text"),
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
    records: list[Told], text: str
) -> None:
    found = held(make(OLD, passed()), make(NEXT, passed()), *records)
    [unknown] = found.unknown
    assert (found.exit_status, text in unknown_sentence(unknown)) == (3, True)
    in_a_case = [case.case for case in records[0][1].cases if case.outcome == "failed"]
    assert [unknown.case] == [*in_a_case, WHOLE_RUN][:1]
    # What would tell is a run of the baseline.
    cell = records[0][1].cell.replace("torch212", "torch211")
    assert f"tox -e {cell} -- --platform {records[0][1].platform}" in lines(found)
    accepted = waiver(f"signature = '{unknown.signature}'")
    found = held(make(OLD, passed()), make(NEXT, passed()), *records, waivers=accepted)
    assert found.exit_status == 0


def test_a_run_that_fails_as_the_wheels_must_needs_no_baseline() -> None:
    answers = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    error = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: _ZN3c10E")
    records = make(OLD, passed()), make(NEXT, passed()), make(NEXT, platform="cuda", error=error)
    found = held(*records, answers=answers)
    assert (found.exit_status, found.unknown) == (0, ())
    assert any("on cuda has no baseline" in note for note in notes(found))


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
    more = make(OLD, passed("b"), python="3.12"), make(NEXT, passed("b"), python="3.12")
    drifting = make(NEXT, passed("b"), passed(num_compiled_artifacts_loaded=9))
    found = held(*BEFORE[before], drifting, *more, rules=ONE_RULE)
    [drift] = found.drifts
    assert (found.exit_status, drift.kind, drift.alone) == (1, DriftKind.UNEXPECTED, True)
    assert "warm  num_compiled_artifacts_loaded  9 (expected 3)  moe" in lines(found)
    assert not any("has no baseline" in note for note in notes(found))
    accepted = waiver("counters = { num_compiled_artifacts_loaded = 9 }")
    assert held(*BEFORE[before], drifting, *more, rules=ONE_RULE, waivers=accepted).exit_status != 1


def test_a_drift_alone_does_not_decide_where_nothing_was_compared() -> None:
    drifting = make(NEXT, passed(num_compiled_artifacts_loaded=9))
    for before in ([], [make(OLD, passed(), python="3.12")]):
        found = held(*before, drifting, rules=ONE_RULE)
        assert (found.exit_status, found.compared) == (3, 0)
        text = lines(found)
        assert ": not enough evidence\n" in text and "so nothing was compared" in text
        assert "warm  num_compiled_artifacts_loaded  9 (expected 3)  moe" in text


def test_what_is_wrong_in_one_cell_without_a_baseline_hides_no_other_cell() -> None:
    drifting = make(NEXT, passed(num_compiled_artifacts_loaded=9))
    fine = make(NEXT, passed(), python="3.13")
    both = [make(torch, passed(), python="3.12") for torch in (OLD, NEXT)]
    found = held(*both, drifting, fine, rules=ONE_RULE)
    without = [note for note in notes(found) if "has no baseline" in note]
    assert [note.split()[0] for note in without] == ["py313-torch212-vllm020"]


def test_two_patches_of_one_name_are_named_by_their_releases() -> None:
    """py311-torch212-vllm020 installs torch 2.12.1."""
    before = ask("torch", NEXT, "2.12.0", (Platform.CPU,))
    found = held(make("2.12.0", passed()), query=before)
    text = "torch 2.12.1 with vLLM 0.20.2 never ran; of its cases 1 passed with torch 2.12.0 and"
    assert reasons(found) == [f"{text} vLLM 0.20.2"]
    found = held(make(NEXT, failed()), query=before)
    [sentence] = reasons(found)
    assert sentence.endswith(", and torch 2.12.0 with vLLM 0.20.2 has no record")
    # Where only one side has a name, the other one has its releases.
    found = held(make(OLD, passed()), query=ask("torch", "2.12.0", OLD, (Platform.CPU,)))
    text = "torch 2.12.0 with vLLM 0.20.2 never ran; of its cases 1 passed at"
    assert reasons(found) == [f"{text} py311-torch211-vllm020"]
    found = held(make("2.12.0", passed()), query=ask("torch", "2.13.0", "2.12.0", (Platform.CPU,)))
    text = "never ran; of its cases 1 passed with torch 2.12.0 and vLLM 0.20.2"
    assert reasons(found) == [text]


def test_a_failure_that_does_not_apply_any_more_is_no_answer() -> None:
    gone = Case(case="moe", outcome=Outcome.NOT_APPLICABLE, reason="no model")
    found = held(make(OLD, passed("b"), failed()), make(NEXT, passed("b"), gone))
    assert (found.exit_status, len(found.blocking)) == (3, 1)
    assert reasons(found)[0] == "failed at the baseline, and now does not apply: no model"


def test_a_record_that_does_not_say_what_ran_stands_for_no_release() -> None:
    unknown = {"torch": None}
    nameless = make(NEXT, passed(), provenance=unknown, file="nameless")
    found = held(make(OLD, passed()), nameless)
    assert (found.exit_status, found.compared) == (3, 0)
    [lost] = found.unknown
    text = "results/cpu/nameless.json does not name the torch and vLLM that ran its cases"
    assert (lost.cell, unknown_sentence(lost)) == ("py311-torch212-vllm020", text)
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


def test_what_neither_side_counts_is_no_evidence() -> None:
    silent = replace(
        passed(), starts=tuple(replace(start, counters={}) for start in passed().starts)
    )
    records = make(OLD, silent, passed("b")), make(NEXT, silent, passed("b"))
    assert held(*records).exit_status == 0
    found = held(*records, rules=ONE_RULE)
    [unknown] = found.unknown
    assert (found.exit_status, unknown_sentence(unknown)) == (
        3,
        "neither side has its expected count: warm num_compiled_artifacts_loaded",
    )
    accepted = waiver("counters = ['num_compiled_artifacts_loaded']")
    assert held(*records, rules=ONE_RULE, waivers=accepted).exit_status == 0
    assert held(records[0], make(NEXT, passed(), passed("b")), rules=ONE_RULE).exit_status == 0


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.OUT_OF_MEMORY])
def test_what_neither_side_answers_is_equal_on_both(outcome: Outcome) -> None:
    cases = passed(), Case(case="b", outcome=outcome)
    assert held(make(OLD, *cases), make(NEXT, *cases)).exit_status == 0
    # Nor does it matter what does not apply to the candidate, where nothing is known of it.
    gone = Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")
    assert held(make(OLD, *cases), make(NEXT, passed(), gone)).exit_status == 0
    assert held(make(OLD, passed()), make(NEXT, passed(), gone)).exit_status == 0


def test_the_newest_unidentified_record_of_a_cell_is_named() -> None:
    unknown = {"torch": None, "vllm": None}
    runs = [
        make(NEXT, passed(), day=day, file=f"nameless{day}", provenance=unknown) for day in (3, 5)
    ]
    for records in (runs, runs[::-1]):
        [reason] = reasons(held(make(OLD, passed()), *records))
        assert reason.startswith("results/cpu/nameless5.json does not name")
    future = make(NEXT, passed(), day=29, file="ahead", provenance=unknown)
    [reason] = reasons(held(make(OLD, passed()), *runs, future, late=LATE))
    assert reason.startswith("results/cpu/nameless5.json does not name")


@pytest.mark.parametrize("outcome", [Outcome.NOT_APPLICABLE, Outcome.INTERRUPTED])
def test_a_case_without_an_answer_where_only_the_candidate_ran_is_no_failure(
    outcome: Outcome,
) -> None:
    alone = make(NEXT, passed(), Case(case="b", outcome=outcome), python="3.12")
    found = held(make(OLD, passed()), make(NEXT, passed()), alone)
    assert (found.exit_status, found.unknown) == (0, ())


def test_a_run_of_the_baseline_tells_of_a_failure_only_where_the_case_applies() -> None:
    gone = Case(case="b", outcome=Outcome.NOT_APPLICABLE, reason="no GPU")
    for cases, cell in (((), "py311-torch211-vllm020"), ((gone,), None)):
        found = held(make(OLD, passed(), *cases), make(NEXT, passed(), failed("b")))
        assert [unknown.decides for unknown in found.unknown] == [cell]


TWO = "tensor_parallel_startup[dense]"


def test_a_case_of_two_gpus_is_not_missing_where_a_run_saw_one() -> None:
    alone, both = passed(), passed(TWO)
    found = held(make(OLD, alone), make(NEXT, alone, both))
    assert reasons(found) == []
    found = held(make(OLD, alone), make(NEXT, alone, failed(TWO)))
    (why,) = reasons(found)
    assert why.endswith("needs more GPUs than its run saw"), why
    # What was known is lost, and that is said.
    found = held(make(OLD, alone, both), make(NEXT, alone))
    (why,) = reasons(found)
    assert "needs more GPUs than its run saw" in why


def test_a_case_of_two_gpus_that_was_not_asked_for_is_missing() -> None:
    found = held(make(OLD, passed(), passed(TWO)), make(NEXT, passed(), deselected=1))
    assert "was not requested" in " ".join(reasons(found))
