"""`--json` of grid, predict, show and jit: it obeys its schema and holds the facts of the text."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from command import matrix
from commanded import CELL, RECORD, make, with_one_record
from made import provenance
from matrix.catalog.cells import Cell
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.jit import Jit, JitModule
from matrix.record.jit_modules import load_jit_modules
from matrix.record.model import Case, ErrorKind, Outcome, RunError
from matrix.record.writer import write
from rules import SAVED, cold_and_warm
from schemas import validator

ROOT = Path(__file__).parents[2]
GRID = "--platform", "cuda", "--vllm", ">=0.18,<0.21", "--torch", ">=2.10,<2.14"
PUBLISHED = (
    "results/cpu/py311-torch210-vllm019.json",
    "results/cpu/py311-torch212-vllm020.json",  # off-pin
    "results/cpu/py312-torch211-vllm020.json",
    "results/cuda/py312-torch210-vllm019.json",
    "results/cuda/py312-torch211-vllm020.json",
    "results/cuda/py312-torch211-vllm028.json",  # a case fails
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a few of the published records."""
    here = tmp_path_factory.mktemp("published")
    for name in PUBLISHED:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, here / name)
    return here


def text_of(here: Path, *command: str) -> str:
    """Return what a command prints for people, on lines as long as they need to be."""
    return matrix(here, *command, COLUMNS="9999").stdout


def json_of(here: Path, *command: str, status: int = 0) -> dict[str, Any]:
    """Return what a command prints for programs, which obeys the schema of its name."""
    ended = matrix(here, *command, "--json")
    assert ended.returncode == status and ended.stdout.isascii()
    found: dict[str, Any] = json.loads(ended.stdout)
    name = next(word for word in command if word != "results")
    validator(name).validate(found)
    return found


@pytest.mark.parametrize(
    "command", [("grid", *GRID), ("predict",), ("show", PUBLISHED[0]), ("jit", PUBLISHED[-1])]
)
def test_a_schema_refuses_other_keys(published: Path, command: tuple[str, ...]) -> None:
    schema = validator(command[0])
    schema.check_schema(schema.schema)
    content = json_of(published, *command)
    assert not schema.is_valid({**content, "new": 1})
    for key in content:
        assert not schema.is_valid({name: content[name] for name in content.keys() - {key}})


def test_the_grid_has_each_square_of_the_text(published: Path) -> None:
    content = json_of(published, "grid", *GRID)
    found = content["grid"]
    squares = {(square["vllm"], square["torch"]): square for square in found["squares"]}
    assert {square["platform"] for square in squares.values()} == {"cuda"}
    _, head, *lines = text_of(published, "grid", *GRID).splitlines()
    torches = head.split()[2:]
    rows = [re.split(r" {2,}", line) for line in lines if re.match(r"0\.\d+\.\d+ ", line)]
    assert len(rows) > 2 and len(torches) > 3
    pins = {row["version"]: row["pins"] for row in found["vllm"]}
    words = set()
    for vllm, pin, *shown in rows:
        assert pins[vllm] == pin
        for torch, text in zip(torches, shown, strict=True):
            square = squares[vllm, torch]
            assert text.endswith(" *") != square["off_pin"]
            word = re.split(r" \[|, | \*| \?", text)[0]
            assert word in {_word(result) for result in square["results"]}, (vllm, torch)
            assert ("predicted" in text) == ("predicted" in square)
            words.add(word)
    assert {"as expected", "drift"} & words and any(word.startswith("no ") for word in words)
    # It has the releases that the text leaves out for a newer patch, and no others.
    assert {vllm for vllm, _ in squares} == {row["version"] for row in found["vllm"]}
    assert (
        set(torches) < {torch for _, torch in squares} == {row["version"] for row in found["torch"]}
    )
    counted = found["counts"]["cuda"]["pairs"]
    assert sum(sum(counts.values()) for counts in counted.values()) == len(squares)


def _word(result: Mapping[str, Any]) -> str:
    """Return what the text has for a result."""
    if result["fails"] is not None and result["verdict"] != "drift":
        return f"no {result['fails']}"
    return "drift" if result["verdict"] == "drift" else result["reached"] or "."


def test_the_grid_has_the_accuracy_of_its_predictions(published: Path) -> None:
    accuracy = json_of(published, "grid", *GRID)["grid"]["predictions"]
    cases = accuracy["cases"]
    words = f"of {cases['of']} cases that ran on both, {cases['right']} were predicted correctly"
    assert cases["of"] > 8 and words in text_of(published, "predict")
    assert accuracy == json_of(published, "predict")["predictions"]


def test_the_grid_without_a_record_and_with_a_bad_one(tmp_path: Path) -> None:
    one = "--torch", "==2.10.0", "--vllm", "==0.19.1"
    found = json_of(tmp_path, "grid", *one)["grid"]
    assert [square["platform"] for square in found["squares"]] == ["cuda", "cpu"]
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "bad.json").write_text("{", encoding="utf-8")
    write(make(), tmp_path / "records" / f"{CELL}.json")
    [cpu] = json_of(tmp_path, "grid", *one, "--platform", "cpu", status=2)["grid"]["squares"]
    assert [row["ran"] for row in cpu["results"]].count("2026-11-22") == 1


def test_a_grid_of_json_has_no_columns(tmp_path: Path) -> None:
    ended = matrix(tmp_path, "grid", "--json", "--width", "80")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--width: not allowed with argument --json" in ended.stderr


def test_predict_has_the_figures_and_the_differences_of_the_text(published: Path) -> None:
    content = json_of(published, "predict")
    text = text_of(published, "predict")
    agreement = content["agreement"]
    for pair in agreement["pairs"]:
        head = f"torch {pair['torch']}, vLLM {pair['vllm']}"
        assert f"{head}: {pair['cuda']} on cuda, {pair['cpu']} on cpu\n" in text
    assert len(agreement["pairs"]) == 2
    shown = re.findall(r"^  (cold|warm) +(\S+) +(\d+) +(\d+)  (.+)$", text, re.MULTILINE)
    differing = [
        (
            *(count["start"], count["counter"], str(count["cuda"]), str(count["cpu"])),
            ", ".join(count["why"]) or "not explained",
        )
        for pair in agreement["pairs"]
        for case in pair["cases"]
        for count in case["counters"]
        if not count["agrees"] and count["cpu"] is not None
    ]
    assert sorted(differing) == sorted(shown) != []
    [figures] = re.findall(r"^all +(.+)$", text, re.MULTILINE)
    assert re.findall(r"(\d+) % of (\d+)", figures) == [
        (str(100 * share["right"] // share["of"]), str(share["of"]))
        for share in map(
            agreement["figures"].get, ("expected", "counted", "every", "raised", "cases")
        )
    ]
    named = {why for *_, words in shown for why in words.split(", ")} - {"not explained"}
    assert {why["id"] for why in content["explanations"]} == named != set()
    assert all(f"{why['id']}  " in text and why["text"] in text for why in content["explanations"])


def test_predict_of_one_platform_prints_no_json(tmp_path: Path) -> None:
    with_one_record(tmp_path)
    ended = matrix(tmp_path, "predict", "--json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("matrix: no torch and vLLM ran on both platforms; ")


@pytest.mark.parametrize("name", PUBLISHED)
def test_show_has_the_facts_of_the_text(published: Path, name: str) -> None:
    content = json_of(published, "show", name)
    text = text_of(published, "show", name, "--seconds")
    cell, head = content["judged"], text.splitlines()[0]
    assert head.startswith(f"{cell['cell']} ") and f" on {cell['platform']}: " in head
    assert f": {cell['verdict']} " in head and f", {len(cell['cases'])} " in head
    assert (content["record"], cell["record"]) == (name, Path(name).name)
    assert f"record  {content['record']}\n" in text
    pinned = f"off-pin its vLLM pins torch {content['pins']}, " in text
    assert pinned == (content["pins"] is not None) == (" (off-pin)" in head)
    took = re.findall(r"^(\S+) +(cold|warm) +(\d+\.\d) .* +\S+$", text, re.MULTILINE)
    started = [
        (case["case"], start, f"{seconds:.1f}")
        for case in cell["cases"]
        for start, seconds in case["seconds"].items()
        if seconds is not None
    ]
    assert set(started) <= set(took) and len(started) > 10
    assert content == json_of(published, "results", "show", name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_show_has_every_count_with_what_it_should_be(published: Path, name: str) -> None:
    content = json_of(published, "show", name)
    text = text_of(published, "show", name, "--counters")
    observed = content["observed"]
    assert observed == json.loads((published / name).read_text("utf-8"))
    counted = {
        (case["case"], start["start"]): start["counters"]
        for case in observed["cases"]
        for start in case["starts"]
    }
    expected = content["expected"]
    assert len(expected) > 50 and all(row["nearest"] is None for row in expected)
    assert set(re.findall(_COUNT, text, re.MULTILINE)) == {
        (row["counter"], str(value), str(row["value"]))
        for row in expected
        if (value := counted[row["case"], row["start"]].get(row["counter"])) is not None
    }


_COUNT = r"^ +[! ] (\S+) +observed +(\d+|none)  expected +(\d+)$"


def test_show_has_the_differences_of_a_drift(tmp_path: Path) -> None:
    here = with_one_record(tmp_path)
    write(make(saved=2), here / RECORD)
    content = json_of(here, "show", RECORD, "--expectations", "rules.toml")
    assert content["judged"]["verdict"] == "drift" and content["judged"]["rung"] == "as expected"
    [case] = content["judged"]["cases"]
    [row] = case["differences"]
    assert (row["start"], row["counter"], row["rule"]) == ("warm", SAVED, "warm")
    [shown] = re.findall(
        _COUNT.replace("[! ]", "!"),
        text_of(here, "show", RECORD, "--expectations", "rules.toml"),
        re.MULTILINE,
    )
    assert shown == (SAVED, str(row["observed"]), str(row["expected"])) == (SAVED, "2", "0")


def test_show_says_which_rule_ended_before_the_run(tmp_path: Path) -> None:
    here = with_one_record(tmp_path)
    older = cold_and_warm('vllm = ">=0.17,<0.19"', {SAVED: 3}, {SAVED: 1})
    (here / "rules.toml").write_text(older, encoding="utf-8")
    rules = "--expectations", "rules.toml"
    content = json_of(here, "show", RECORD, *rules)
    assert content["judged"]["verdict"] == "untested"
    assert [(row["start"], row["value"], row["nearest"]) for row in content["expected"]] == [
        ("cold", 3, {"torch": None, "vllm": "0.18"}),
        ("warm", 1, {"torch": None, "vllm": "0.18"}),
    ]
    [difference] = content["judged"]["provisional"]["differences"]
    assert (difference["start"], difference["observed"]) == ("warm", 0)
    assert "observed    0  was    1 in vLLM 0.18\n" in text_of(here, "show", RECORD, *rules)


def test_show_has_the_failed_step_with_the_compiler(tmp_path: Path) -> None:
    here = with_one_record(tmp_path)
    assert "cpp_compiler" not in json_of(here, "show", RECORD)["observed"]
    write(make(cpp_compiler=CppCompiler(seconds=3.5, reason="g++: not found")), here / RECORD)
    step = json_of(here, "show", RECORD)["observed"]["cpp_compiler"]
    assert step == {"seconds": 3.5, "reason": "g++: not found"}
    assert step["reason"] in text_of(here, "show", RECORD)


def test_show_of_an_off_pin_cell_and_of_hostile_text(tmp_path: Path) -> None:
    message = "<script>\x1b[31m\x07 \ud800\u202e é"
    name = Cell("3.12", "2.12.1", "0.20.2").name
    record = make(
        cell=name,
        provenance=provenance("2.12.1", "0.20.2", "3.12"),
        error=RunError(kind=ErrorKind.INTERRUPTED, reason=message),
        cases=(Case(case=message, outcome=Outcome.FAILED, reason=message),),
    )
    write(record, tmp_path / f"{name}.json")
    content = json_of(tmp_path, "show", f"{name}.json")
    assert content["pins"] == "2.11.0" and content["expected"] == []
    assert [case["case"] for case in content["judged"]["cases"]] == [message]
    assert content["observed"]["error"] == {"kind": "interrupted", "reason": message}


def test_show_of_no_record_prints_no_json(tmp_path: Path) -> None:
    ended = matrix(tmp_path, "show", CELL, "--json")
    assert (ended.returncode, ended.stdout) == (2, "")


def test_jit_has_the_modules_of_the_text_and_the_rows_of_the_list(tmp_path: Path) -> None:
    bridge = JitModule(library="tvm_ffi", name="import", seconds=4.0, built_by="step")
    moe = JitModule(
        library="flashinfer",
        name="fused_moe_90",
        seconds=71.5,
        built_by="moe_startup[mega_aot=0] cold",
        generator="flashinfer.jit.fused_moe:gen_cutlass_fused_moe_sm90_module",
        arguments={"use_fast_build": False, "x": None},
    )
    gpu = {"name": "H200", "capability": "9.0"}
    facts = provenance("2.10.0+cu128", "0.19.1", gpu=gpu)
    step = Jit(seconds=43.0, reason="tvm_ffi: no nvcc", modules=(bridge, moe))
    write(make(platform="cuda", provenance=facts, jit=step), tmp_path / f"{CELL}.json")
    (tmp_path / "jit.toml").touch()
    asked = "jit", f"{CELL}.json", "--list", "jit.toml"
    content = json_of(tmp_path, *asked)
    text = text_of(tmp_path, *asked)
    assert (content["cell"], content["record"], content["list"]) == (CELL, asked[1], "jit.toml")
    assert f"{CELL}: the step took 43.0 s: {content['jit']['reason']}\n" in text
    for module in content["jit"]["modules"]:
        assert f"{module['seconds']}  {module['library']}, {module['built_by']}" in text
    assert content["jit"]["modules"][1]["arguments"] == dict(moe.arguments)
    assert content["written"] is False and (tmp_path / "jit.toml").read_text() == ""
    [row] = content["new"]
    assert row == {
        "vllm": ">=0.19,<0.20",
        "capability": "9.0",
        "library": "flashinfer",
        "name": "fused_moe_90",
        "generator": moe.generator,
        "arguments": {"use_fast_build": False},
        "evidence": [asked[1]],
    }
    assert text.count("[[module]]") == 1 and f'name = "{row["name"]}"' in text
    written = json_of(tmp_path, *asked, "--write")
    assert written == {**content, "written": True}
    [listed] = load_jit_modules(tmp_path / "jit.toml")
    assert (listed.module.name, listed.vllm.text) == (row["name"], row["vllm"])
    again = json_of(tmp_path, *asked, "--write")
    assert again == {**content, "new": [], "written": False}


def test_jit_of_a_run_without_a_gpu_prints_no_json(tmp_path: Path) -> None:
    here = with_one_record(tmp_path)
    ended = matrix(here, "jit", RECORD, "--json")
    assert (ended.returncode, ended.stdout) == (2, "")
