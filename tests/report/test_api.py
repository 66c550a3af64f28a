"""The small JSON file of each release: its schema, its answer, its pairs, its size."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from made import Answers
from matrix._util.paths import DATA
from matrix.checks.facts import LinkCode, LinkFact
from matrix.checks.lookup import Answer
from matrix.record.model import Case, Start, StartKind
from matrix.report import api
from matrix.report.model import Report
from matrix.verdict.grid import survey
from matrix.verdict.table import Table
from pages import RELEASES, make, whole_report
from rules import MOE

VALIDATOR = Draft202012Validator(json.loads((DATA / "api.schema.json").read_text(encoding="utf-8")))
EVIL = "</script><b>\x1b[31m\u202e"


def moe(loaded: int = 3, **more: Any) -> Case:
    starts = (
        Start(start=StartKind.COLD, counters={"num_compiled_artifacts_saved": 3}),
        Start(
            start=StartKind.WARM,
            counters={"num_compiled_artifacts_saved": 0, "num_compiled_artifacts_loaded": loaded},
        ),
    )
    return Case(**{"case": "moe", "outcome": "passed", "starts": starts, **more})


REPORT = whole_report(
    [
        make(
            *("py311-torch210-vllm019", "2.10.0+cu128", "0.19.1", moe()),
            platform="cuda",
            provenance={"gpu": {"name": "NVIDIA H200"}},
        ),
        make("py311-torch211-vllm020", "2.11.0", "0.20.2", moe(loaded=1), platform="cuda"),
        make(
            *("py311-torch212-vllm020", "2.12.1", "0.20.2"),
            moe(outcome="failed", starts=(), reason=EVIL),
            platform="cpu",
        ),
    ],
    MOE,
)
FILES = api.render(REPORT)


def of(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILES[path])
    return found


def test_each_release_has_a_file_that_keeps_the_schema() -> None:
    assert set(FILES) == {
        f"api/{project}/{release.version}.json"
        for project, releases in (("torch", RELEASES.every_torch), ("vllm", RELEASES.every_vllm))
        for release in releases
    }
    for text in FILES.values():
        VALIDATOR.validate(json.loads(text))
        assert text.isascii() and len(text) < 20_000


def test_a_vllm_has_its_answer_and_its_pairs() -> None:
    content = of("api/vllm/0.19.1.json")
    assert (content["vllm"], content["pins"], content["yanked"]) == ("0.19.1", "2.10.0", None)
    answer = content["answer"]
    assert (answer["torch"], answer["verdict"], answer["starts_warm"]) == (
        "2.10.0",
        "compatible",
        True,
    )
    assert answer["measured_on"] == "NVIDIA H200" and answer["started"] == "2026-11-22T18:00:00Z"
    folder = "vllm-0.19.1"
    assert answer["command"] == (
        f"uv venv {folder} --python 3.11 && uv pip install --python {folder} vllm==0.19.1"
    )
    (ran,) = [pair for pair in content["pairs"] if pair["ran"]]
    assert (ran["torch"], ran["platform"], ran["ran"]) == ("2.10.0", "cuda", "2026-11-22")
    assert of("api/vllm/0.20.2.json")["answer"]["starts_warm"] is True
    assert of("api/vllm/0.33.0.json")["answer"]["starts_warm"] is None


@pytest.mark.parametrize(
    ("case", "warm"),
    [(moe(), None), (moe(loaded=1), None), (moe(outcome="failed", starts=(), reason="x"), False)],
)
def test_a_partial_run_does_not_say_that_all_starts_warm(case: Case, warm: bool | None) -> None:
    pinned = "py311-torch210-vllm019", "2.10.0", "0.19.1"
    record = make(*pinned, case, platform="cuda", selected=1, deselected=8)
    files = api.render(whole_report([record], MOE))
    content = json.loads(files["api/vllm/0.19.1.json"])
    VALIDATOR.validate(content)
    assert (content["answer"]["starts_warm"], content["answer"]["part"]) == (warm, "1 of 9 cases")
    (pair,) = [pair for pair in content["pairs"] if pair["ran"]]
    assert pair["part"] == "1 of 9 cases"
    assert of("api/vllm/0.19.1.json")["answer"]["part"] is None


def test_a_torch_has_its_pairs_and_who_pins_it() -> None:
    content = of("api/torch/2.12.1.json")
    assert content["pinned_by"] == [
        release.version for release in reversed(RELEASES.vllm) if release.torch == "2.12.1"
    ]
    (ran,) = [pair for pair in content["pairs"] if pair["ran"]]
    assert (ran["vllm"], ran["platform"], ran["fails"]) == ("0.20.2", "cpu", "starts cold")
    assert "\x1b" not in ran["reason"] and "\u202e" not in ran["reason"]


def test_without_a_grid_or_an_answer_there_is_none() -> None:
    assert api.render(Report(table=Table(entries=()))) == {}
    files = api.render(replace(REPORT, answers=()))
    content = json.loads(files["api/vllm/0.19.1.json"])
    VALIDATOR.validate(content)
    assert content["answer"] is None


@pytest.mark.parametrize(
    ("path", "text", "own"),
    [
        ("api/vllm/0.19.1.json", FILES["api/vllm/0.19.1.json"], True),
        ("api/vllm/0.19.2.json", FILES["api/vllm/0.19.1.json"], False),
        ("api/torch/2.10.0.json", FILES["api/torch/2.10.0.json"], True),
        ("api/vllm/0.19.1.json", "{}", False),
        ("api/vllm/0.19.1.json", "[]", False),
        ("api/vllm/0.19.1.json", "no JSON", False),
    ],
)
def test_only_its_own_files_are_known_as_such(path: str, text: str, own: bool) -> None:
    assert api.is_own(path, text) is own


def test_the_features_that_do_not_link_are_there_where_some_do_not() -> None:
    lacks = LinkFact(code=LinkCode.WITHOUT, features=("DeepGEMM",))
    answers = Answers(links={("2.11.0", "0.20.2"): Answer(ok=True, facts=(lacks,), cause=(lacks,))})
    grid = survey(RELEASES, links=answers.links)
    content = json.loads(api.render(replace(REPORT, grid=grid))["api/torch/2.11.0.json"])
    VALIDATOR.validate(content)
    pairs = {pair["vllm"]: pair for pair in content["pairs"]}
    assert pairs.pop("0.20.2")["without"] == ["DeepGEMM"]
    assert not any("without" in pair for pair in pairs.values())
