"""A plan for GitHub and Buildkite: what they take, what they refuse, and what is printed of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import matrix
from matrix.record.model import Platform
from matrix.report.ci_plan import (
    LIMITS,
    CiPlanError,
    PlanFormat,
    buildkite,
    command,
    github,
    github_outputs,
    summary,
)
from matrix.verdict.plan_jobs import CiJob

ROOT = Path(__file__).parents[2]
CELL = "py312-torch214-vllm033"
CPU = CiJob(cells=(CELL,), platform=Platform.CPU, python="3.12", seconds=1200.0)
CUDA = CiJob(
    cells=("py311-torch29-vllm016", CELL),
    platform=Platform.CUDA,
    python="3.11",
    seconds=5000.0,
    unknown=1,
)


def test_github_takes_one_line_of_json() -> None:
    text = github([CPU, CUDA])
    assert "\n" not in text
    assert json.loads(text) == {
        "include": [
            {
                "name": "py312-torch214-vllm033-cpu",
                "cells": "py312-torch214-vllm033",
                "platform": "cpu",
                "python": "3.12",
                "minutes": 60,
            },
            {
                "name": "py311-torch29-vllm016-and-1-more-cuda",
                "cells": "py311-torch29-vllm016 py312-torch214-vllm033",
                "platform": "cuda",
                "python": "3.11",
                "minutes": 167,
            },
        ]
    }


def test_an_empty_plan_says_so_to_a_workflow() -> None:
    assert github_outputs([]) == 'any=false\njobs=0\nmatrix={"include":[]}\n'
    assert github_outputs([CPU]).startswith("any=true\njobs=1\nmatrix={")
    assert json.loads(buildkite([])) == {"steps": []}
    assert summary([], PlanFormat.GITHUB, 256) == "nothing to run"


def test_buildkite_gets_a_step_a_job() -> None:
    cpu, cuda = json.loads(buildkite([CPU, CUDA], "h100"))["steps"]
    assert cpu == {
        "key": "py312-torch214-vllm033-cpu",
        "label": "py312-torch214-vllm033 on cpu",
        "command": command(CPU),
        "artifact_paths": ["records/**/*"],
        "timeout_in_minutes": 60,
        "soft_fail": [{"exit_status": 1}, {"exit_status": 5}],
    }
    assert (cuda["agents"], cuda["label"]) == (
        {"queue": "h100"},
        "py311-torch29-vllm016 and 1 more on cuda",
    )
    # The agent would put variables of its own environment in the place of a dollar.
    assert "$" not in buildkite([CPU, CUDA])


@pytest.mark.parametrize(
    "bad",
    [
        "py312-$(id)",
        "a b",
        "x;y",
        "${{ secrets.X }}",
        "",
        "A",
        "py312\n",
    ],
)
def test_what_is_not_the_name_of_a_cell_reaches_no_service(bad: str) -> None:
    job = CiJob(cells=(bad,), platform=Platform.CPU, python="3.12", seconds=1.0)
    for make in (github, buildkite, lambda jobs: command(jobs[0])):
        with pytest.raises(CiPlanError, match="is not the name of a cell"):
            make([job])


@pytest.mark.parametrize("queue", ["", "a b", "$QUEUE", "x" * 101, "ä"])
def test_what_is_not_the_name_of_a_queue_is_refused(queue: str) -> None:
    with pytest.raises(CiPlanError, match="is not the name of a queue"):
        buildkite([CUDA], queue)


def test_more_than_github_takes_as_an_output_is_refused() -> None:
    job = CiJob(cells=(CELL,) * 25_000, platform=Platform.CPU, python="3.12", seconds=1.0)
    with pytest.raises(CiPlanError, match=r"GitHub takes 500000; choose fewer cells"):
        github([job])


def test_the_summary_says_why_cells_share_jobs_and_what_is_not_known() -> None:
    long = CiJob(cells=(CELL,) * 300, platform=Platform.CPU, python="3.12", seconds=400 * 60.0)
    assert summary([CPU], PlanFormat.GITHUB, 256) == "1 cell in 1 job"
    assert summary([long, CUDA], PlanFormat.GITHUB, 2) == (
        "302 cells in 2 jobs: at most 2 jobs, so cells share jobs, up to 300 in one, the longest"
        " first, balanced by recorded minutes; no record shows how long 1 cell will take;"
        " py312-torch214-vllm033-and-299-more-cpu should take longer than the limit of 360 minutes"
    )
    assert ", and 1 more, should" in summary([long, long], PlanFormat.GITHUB, 2)


def plan(here: Path, *more: str, **environ: str) -> Any:
    return matrix(here, "plan", str(ROOT / "results" / "cpu"), *more, **environ)


def test_the_command_hands_the_matrix_over(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.write_text("before=1\n")
    asked = ("--torch", "2.10", "--python", "3.11", "--platform", "cpu", "--format", "github")
    done = plan(tmp_path, *asked, GITHUB_OUTPUT=str(outputs))
    assert done.returncode == 0
    names = [job["name"] for job in json.loads(done.stdout)["include"]]
    assert "py311-torch210-vllm019-cpu" in names
    assert done.stderr == f"matrix: {len(names)} cells in {len(names)} jobs\n"
    lines = outputs.read_text().splitlines()
    assert lines == ["before=1", "any=true", f"jobs={len(names)}", f"matrix={done.stdout.strip()}"]


def test_nothing_stale_is_an_empty_matrix(tmp_path: Path) -> None:
    asked = ("--stale", "--torch", "2.11", "--vllm", "0.26", "--python", "3.12")
    done = plan(tmp_path, *asked, "--platform", "cpu", "--format", "github")
    assert (done.returncode, done.stdout) == (0, '{"include":[]}\n')
    assert done.stderr == "matrix: nothing to run\n"


def test_a_plan_of_every_pair_fits_into_one_matrix(tmp_path: Path) -> None:
    done = plan(tmp_path, "--off-pin", "--format", "github")
    jobs = json.loads(done.stdout)["include"]
    assert len(jobs) == LIMITS[PlanFormat.GITHUB].jobs
    assert "so cells share jobs" in done.stderr
    every = plan(tmp_path, "--off-pin", "--names").stdout.strip().split(",")
    assert {cell for job in jobs for cell in job["cells"].split()} == set(every)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--format", "gitlab"), "is not github or buildkite"),
        (("--format", "github", "--json"), "not allowed with"),
        (("--max-jobs", "4"), "--max-jobs: goes with --format"),
        (("--queue", "gpu", "--format", "github"), "--queue: goes with --format buildkite"),
        (("--format", "github", "--max-jobs", "0"), "is not a number of jobs from 1 to 500"),
        (("--format", "buildkite", "--queue", "a b"), "is not the name of a queue"),
        (("--format", "github", "--max-jobs", "2"), "each takes a job; allow more jobs"),
    ],
)
def test_bad_options_end_in_one_line(tmp_path: Path, options: tuple[str, ...], fault: str) -> None:
    done = plan(tmp_path, *options)
    assert done.returncode == 2
    assert fault in done.stderr.splitlines()[-1]
    assert done.stdout == ""
