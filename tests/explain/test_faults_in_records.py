"""Which records show a fault, whose change it is, and which pairs are without it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attributions import bad, record
from commanded import make, written
from explained import VALIDATOR, apart, choice, commands, evidence, explained, only, read
from matrix._util.versions import VersionRange
from matrix.explain.answer import Explainer
from matrix.explain.model import FaultAnswer, FaultKind, Meaning
from matrix.record.model import (
    Case,
    ErrorKind,
    Event,
    EventKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.report.explain import five
from matrix.report.explain_json import to_json
from matrix.rules.notes import Note

AGAIN = (
    "AssertionError: num_compiled_artifacts_saved not as expected, before it is 0, after it is 4"
)
SYMBOL = "ImportError: /x/_C.abi3.so: undefined symbol: _ZN3c1013MessageLoggerC1EPKciib"


def test_a_record_that_shows_it_is_named_with_whose_change_it_is(tmp_path: Path) -> None:
    runs = [bad("2.12.0"), record("2.11.0"), bad("2.13.0")]
    answer = only("KeyError: None", [written(tmp_path, *runs)])
    assert (answer.fault.kind, answer.meaning) == (FaultKind.UNKNOWN, Meaning.RECORDED)
    assert answer.records is not None
    assert [shown.cell for shown in answer.records] == [
        "py311-torch213-vllm020",
        "py311-torch212-vllm020",
    ]
    assert answer.looked == 3
    causes = [shown.attribution.answer for shown in answer.records if shown.attribution]
    assert set(causes) == {"torch"}
    (row,) = json.loads(to_json([answer], []))["answers"]
    assert row["records"][0]["attribution"]["answer"] == "torch"
    line = five(answer)[3]
    assert "py311-torch212-vllm020.json (py311-torch212-vllm020 on c" in line
    assert "torch, since 2.12" in line
    assert commands(answer)[-1].startswith("matrix show ")


def test_a_symbol_is_found_in_a_record_whatever_else_its_text_has(tmp_path: Path) -> None:
    rung = RungResult(rung=Rung.IMPORTS, ok=False, reason=f"{SYMBOL} and more")
    error = RunError(kind=ErrorKind.IMPORTS, reason=SYMBOL)
    runs = [make(rungs=(rung,), cases=(), error=error)]
    answer = only(f"ERROR 11-22 18:00:00 [x.py:1] {SYMBOL}", [written(tmp_path, *runs)])
    assert answer.records is not None
    (shown,) = answer.records
    assert (shown.cell, shown.cases) == ("py311-torch210-vllm019", ())


def test_a_record_without_a_failure_shows_none(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text('{"cell": 7, "failure": "x"', encoding="utf-8")
    (tmp_path / "c.json").write_text("{}", encoding="utf-8")
    (tmp_path / "d.json").mkdir()
    answer = only(SYMBOL, [written(tmp_path, make())])
    assert (answer.records, answer.looked) == ((), 1)
    assert five(answer)[3].endswith("none of 1 record shows it")


def test_a_case_of_the_full_suite_and_a_test_of_upstream_show_it_too(tmp_path: Path) -> None:
    failure = "KeyError: None"
    case = Case(case="lora_startup", outcome=Outcome.FAILED, failure=failure)
    test = SuiteCase(
        case="tests/test_a.py::test_b", outcome=UpstreamOutcome.FAILED, signature=failure
    )
    suite = UpstreamSuite(cases=(test,))
    answer = only(failure, [written(tmp_path, make(full_suite=(case,), upstream=suite))])
    assert answer.meaning is Meaning.RECORDED and answer.records is not None
    assert [shown.cases for shown in answer.records] == [(case.case, test.case)]
    passed = replace(case, outcome=Outcome.PASSED, signature=failure)
    skipped = UpstreamSuite(cases=(replace(test, outcome=UpstreamOutcome.SKIPPED),))
    neither = written(tmp_path / "neither", make(full_suite=(passed,), upstream=skipped))
    assert only(failure, [neither]).records == ()


NOTE = Note(
    id="a",
    text="it needs\ntwo keys.",
    evidence=("https://github.com/vllm-project/vllm/issues/1", "results/cuda/a.json"),
    vllm=VersionRange("==0.33.0"),
    signature="KeyError: None",
)


def noted(text: str, note: Note = NOTE) -> FaultAnswer:
    """Return the answer to the only fault of a text, by what a note says."""
    (answer,) = Explainer(evidence=evidence(), choice=choice(), notes=(note,)).answers(read(text))
    return answer


def test_what_a_person_found_out_about_it_is_the_answer() -> None:
    answer = noted("KeyError: None")
    assert answer.known and answer.meaning is Meaning.NOTED
    _, means, releases, records, to_do = five(answer)
    assert means == "means      one known cause: it needs two keys"
    assert releases == "releases   vLLM ==0.33.0"
    assert "see https://github.com/vllm-project/vllm/issues/1" in records
    assert to_do == "to do      see what it means"
    data = json.loads(to_json([answer], []))
    VALIDATOR.validate(data)
    assert data["answers"][0]["notes"][0]["evidence"] == list(NOTE.evidence)
    other = noted("KeyError: 1")
    assert (other.meaning, other.notes) == (Meaning.UNKNOWN, ())
    known = noted(AGAIN, replace(NOTE, signature=AGAIN))
    assert (known.meaning, known.notes) == (Meaning.COMPILED_AGAIN, ())


@pytest.mark.parametrize(
    ("vllm", "meaning"), [("0.33.0", Meaning.NOTED), ("0.20.0", Meaning.UNKNOWN)]
)
def test_a_note_says_nothing_of_another_release(vllm: str, meaning: Meaning) -> None:
    named = f"INFO 11-30 [core.py:139] Initializing a V1 LLM engine (v{vllm}) with config: x"
    text = f"{named}\nKeyError: None"
    assert read(text).versions.vllm == vllm
    assert noted(text).meaning is meaning


def loading(cell: str, torch: str, vllm: str, **changes: Any) -> Record:
    """Return a record of a cell whose warm starts load all, on CUDA where nothing else is given."""
    known = record(torch, vllm).provenance
    return replace(
        make(saved=0), cell=cell, provenance=known, **{"platform": Platform.CUDA, **changes}
    )


def test_a_warm_start_that_compiles_again_is_found_by_its_counters(tmp_path: Path) -> None:
    clean = loading("py311-torch211-vllm020", "2.11.0", "0.20.2")
    folder = written(tmp_path, make(saved=4), clean)
    answer = only(AGAIN, [folder])
    assert answer.meaning is Meaning.COMPILED_AGAIN
    assert answer.records is not None
    assert [shown.cell for shown in answer.records] == ["py311-torch210-vllm019"]
    assert five(answer)[2].endswith(
        "a complete run that loads everything: vLLM 0.20.2 with torch 2.11.0 (on cuda, 1 case)"
    )
    assert commands(answer)[0] == apart("0.20.2", "2.11.0")
    assert only("warm_artifacts_saved: got 0", [folder]).records == ()


def test_a_load_failure_is_that_of_records_that_logged_one(tmp_path: Path) -> None:
    text = "Compiling model again due to a load failure from /x/model, reason: x"
    saving = make(saved=4)
    assert only(text, [written(tmp_path / "saving", saving)]).records == ()
    (case,) = saving.cases
    event = Event(kind=EventKind.LOAD_FAILED, text=text)
    starts = tuple(
        replace(start, events=(event,)) if start.start is StartKind.WARM else start
        for start in case.starts
    )
    logged = replace(saving, cases=(replace(case, starts=starts),))
    answer = only(text, [written(tmp_path / "logged", logged)])
    assert answer.records is not None
    assert [shown.cases for shown in answer.records] == [(case.case,)]


def test_a_run_on_the_cpu_is_named_as_such_and_none_to_install(tmp_path: Path) -> None:
    cpu = loading("py311-torch214-vllm033", "2.14.0", "0.33.0", platform=Platform.CPU)
    answer = only(AGAIN, [written(tmp_path, cpu)])
    assert five(answer)[2].endswith("vLLM 0.33.0 with torch 2.14.0 (on cpu, 1 case)")
    assert commands(answer) == []
    older = loading("py311-torch211-vllm020", "2.11.0", "0.20.2")
    answer = only(AGAIN, [written(tmp_path, cpu, older)])
    assert answer.operands["clean"] == "vLLM 0.20.2 with torch 2.11.0"


FAILED = Case(case="model_startup[x]", outcome=Outcome.FAILED, seconds=1.0, failure="KeyError: 1")
EMPTY = tuple(
    Start(start=kind, seconds={}, counters={"num_compiled_artifacts_saved": 0})
    for kind in (StartKind.COLD, StartKind.WARM)
)


@pytest.mark.parametrize(
    "changes",
    [
        {"finished": False},
        {"deselected": 3},
        {"selected": 9},
        {"error": RunError(kind=ErrorKind.IMPORTS, reason="x")},
        {"cases": (*make().cases, FAILED)},
        {"cases": (replace(make().cases[0], starts=EMPTY),)},
        {"cases": make(saved=4).cases},
    ],
)
def test_only_a_whole_run_that_passed_says_that_a_pair_loads_all(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = loading("py311-torch211-vllm020", "2.11.0", "0.20.2", **changes)
    answer = only(AGAIN, [written(tmp_path, run)])
    assert answer.looked == 1
    assert five(answer)[2].endswith("no complete run among these records loads everything")
    assert "clean" not in answer.operands


def test_published_records_name_the_issues_of_what_compiles_again() -> None:
    answer = only(AGAIN, [Path(__file__).parents[2] / "results"])
    assert "https://github.com/vllm-project/vllm/issues/38051" in answer.links
    assert "and " in five(answer)[3]
    assert "; see https://github.com/" in five(answer)[3]


@pytest.mark.parametrize("counters", ["7", '{"x": 1}', '[{"start": "warm"}]', "null"])
def test_a_record_of_another_shape_is_passed_by(tmp_path: Path, counters: str) -> None:
    cases = json.loads(f'[{{"case": "a", "starts": {counters}}}]')
    text = json.dumps({"cell": "x", "platform": "cpu", "cases": cases})
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    (answer,) = explained(AGAIN, [tmp_path])
    assert (answer.records, answer.looked) == ((), 1)
