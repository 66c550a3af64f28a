"""The JSON of `matrix explain` keeps its schema, which names every code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from attributions import bad, record
from explained import SCHEMA, VALIDATOR, choice, evidence, explained, read
from failure_texts import FAILURES
from made import provenance
from matrix.attribution.model import Cause
from matrix.catalog.platform_tags import MACHINES
from matrix.checks.linkage.tables import DescribedWheel, Extension, VllmSymbols
from matrix.explain.answer import Explainer
from matrix.explain.model import FaultKind, Meaning, RemedyCode
from matrix.explain.third import ThirdWheel
from matrix.record.model import PLATFORMS
from matrix.record.writer import write
from matrix.report.explain_json import to_json

REPORTS = Path(__file__).parent / "reports"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(REPORTS.glob("*.txt"))}
EVIL = "\x1b[31m\u202e</script>\n$(x)\x7f: undefined symbol: "


@pytest.mark.parametrize("name", [*TEXTS, *FAILURES])
def test_each_answer_keeps_the_schema(name: str) -> None:
    text = TEXTS.get(name) or FAILURES[name]
    VALIDATOR.validate(json.loads(to_json(explained(text), [read(text)])))


@pytest.mark.parametrize("name", TEXTS)
def test_so_does_one_of_a_text_with_marks_of_a_terminal(name: str) -> None:
    text = EVIL.join(TEXTS[name].split(": undefined symbol: ")) + EVIL
    VALIDATOR.validate(json.loads(to_json(explained(text), [read(text)])))


def test_so_do_records_with_whose_change_it_is(tmp_path: Path) -> None:
    for run in (bad("2.12.0"), record("2.11.0"), bad("2.13.0")):
        known = provenance(str(run.provenance["torch"]), str(run.provenance["vllm"]), "3.11")
        write(replace(run, provenance=known), tmp_path / f"{run.cell}.json")
    data = json.loads(to_json(explained("KeyError: None", [tmp_path]), []))
    VALIDATOR.validate(data)
    (row,) = data["answers"]
    assert row["records"][0]["attribution"] is not None


def test_so_does_the_answer_to_a_wheel() -> None:
    file = Extension(path="a/a.abi3.so", imports=("_ZN3c1013MessageLoggerC1EPKciib",))
    wheel = DescribedWheel(project="other", version="1", file="a.whl", sha256="")
    third = ThirdWheel(
        file=f"{EVIL}.whl",
        symbols=VllmSymbols(wheel=wheel, extensions=(file,)),
    )
    explainer = Explainer(evidence=evidence(), choice=choice(), wheels=(third,))
    answers = [*explainer.of_wheels(), *explainer.answers(read(TEXTS["symbol-message-logger"]))]
    VALIDATOR.validate(json.loads(to_json(answers, [])))


def test_the_schema_is_closed_and_names_every_code() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    parts = SCHEMA["$defs"]
    answer = parts["answer"]["properties"]
    assert answer["kind"]["enum"] == list(FaultKind)
    assert answer["meaning"]["enum"] == list(Meaning)
    assert parts["remedy"]["properties"]["code"]["enum"] == list(RemedyCode)
    assert answer["code"]["items"]["properties"]["machine"]["enum"] == list(MACHINES)
    shown = parts["record"]["properties"]
    assert shown["platform"]["enum"] == list(PLATFORMS)
    cause = shown["attribution"]["oneOf"][1]["properties"]["answer"]
    assert cause["enum"] == list(Cause)
    data = json.loads(to_json(explained(TEXTS["glibc-232"]), []))
    for place in (data, data["answers"][0], data["answers"][0]["remedies"][0]):
        place["other"] = 1
        with pytest.raises(ValidationError, match="Additional properties"):
            VALIDATOR.validate(data)
        del place["other"]
