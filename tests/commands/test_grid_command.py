"""`matrix grid` and `matrix predict` of published records."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from command import matrix
from made import make, passed
from matrix.record.writer import write

RESULTS = Path(__file__).parents[2] / "results"
CPU, CUDA = "py311-torch210-vllm019", "py312-torch210-vllm019"
PAIR = "--platform", "cuda", "--torch", "==2.10.0", "--vllm", "==0.19.1"


def publish(here: Path, platform: str, cell: str) -> None:
    folder = here / "results" / platform
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(RESULTS / platform / f"{cell}.json", folder)


def test_a_pair_without_a_gpu_is_predicted_until_it_ran_on_one(tmp_path: Path) -> None:
    publish(tmp_path, "cpu", CPU)
    _, head, row, _, legend, line = matrix(tmp_path, "grid", *PAIR).stdout.splitlines()
    assert head.split() == ["vLLM", "pins", "2.10.0"]
    assert row == "0.19.1  2.10.0  links, predicted as expected *"
    assert legend.startswith("predicted: ") and "nobody knows how often" in legend
    assert line.startswith("  vLLM 0.19.1 under torch 2.10.0: as expected, 2 cases recompile warm;")
    publish(tmp_path, "cuda", CUDA)
    assert "predicted" not in matrix(tmp_path, "grid", *PAIR).stdout
    share = "of 8 cases that ran on both, 8 were predicted correctly"
    assert share in matrix(tmp_path, "predict").stdout.splitlines()[-1]
    publish(tmp_path, "cpu", "py311-torch210-vllm018")
    other = matrix(tmp_path, "grid", *PAIR[:-1], "==0.18.1")
    assert share in other.stdout
    assert "links, predicted as expected *" in other.stdout


def test_a_prediction_changes_no_badge_and_no_verdict(tmp_path: Path) -> None:
    publish(tmp_path, "cpu", CPU)
    ended = matrix(tmp_path, "table", "--out", "out")
    assert ended.returncode == 0
    badge = (tmp_path / "out" / "badges" / "torch210-vllm019.svg").read_text(encoding="utf-8")
    assert "compatible" in badge and "(cpu" in badge and "predicted" not in badge
    plan = matrix(tmp_path, "plan", "--stale", *PAIR, "--python", "3.12")
    assert "never ran" in plan.stdout and "predicted" not in plan.stdout


def test_a_record_of_a_release_that_is_not_known_is_named(tmp_path: Path) -> None:
    for number, platform in enumerate(("cpu", "cuda")):
        path, record = make(f"2.99.{number}", passed(), platform=platform, vllm="0.99.0")
        write(record, tmp_path / "results" / platform / path.name)
    old_python = make("2.10.0", passed(), vllm="0.19.1", python="3.7")[1]
    write(old_python, tmp_path / "results" / "cpu" / f"{old_python.cell}.json")
    publish(tmp_path, "cpu", CPU)
    head = "matrix: the grid does not show"
    both = matrix(tmp_path, "grid")
    assert both.stderr == (
        f"{head} 3 records of releases or Pythons that are not known: py311-torch299-vllm099 on"
        " cuda (torch 2.99.1+cu130, vLLM 0.99.0), py37-torch210-vllm019 on cpu (torch 2.10.0+cu130,"
        " vLLM 0.19.1) and py311-torch299-vllm099 on cpu (torch 2.99.0+cu130, vLLM 0.99.0); `matrix"
        " table` shows every record, `matrix refresh` reads new releases\n"
    )
    assert (both.returncode, head in both.stdout) == (0, False)
    asked = matrix(tmp_path, "grid", "--json", "--platform", "cuda")
    assert "1 record of releases" in asked.stderr and json.loads(asked.stdout)["grid"]
    assert "1 record of releases" in matrix(tmp_path, "grid", *PAIR[2:]).stderr  # its Python
    assert matrix(tmp_path, "grid", *PAIR).stderr == ""


def test_a_record_without_versions_of_a_name_that_is_not_known_is_named(tmp_path: Path) -> None:
    path, record = make("2.99.0", passed(), vllm="0.99.0")
    facts = {**record.provenance, "torch": None, "vllm": None}
    write(replace(record, provenance=facts), tmp_path / "results" / path.name)
    named = "not known: py311-torch299-vllm099 on cpu; `matrix table`"
    assert named in matrix(tmp_path, "grid").stderr
    assert named in matrix(tmp_path, "grid", *PAIR[2:]).stderr
