"""`matrix run` and `matrix bundle`: what is handed on, and the exit status."""

import argparse
from pathlib import Path

import pytest

from command import matrix
from commanded import CELL, RECORD, make, with_one_record
from matrix import cli
from matrix.commands import run
from matrix.errors import MatrixError
from matrix.record.model import Case, ErrorKind, Outcome, Record, RunError
from matrix.record.writer import write
from matrix.rules.expectations_file import load_expectations
from matrix.run.cell import RunRequest

HOME = Case(case="another_home_startup", outcome=Outcome.PASSED)
MOVED = Case(case="relocated_cache_startup", outcome=Outcome.FAILED, reason="FileNotFoundError")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return with_one_record(tmp_path)


class Engine:
    """Stands for matrix.run.cell: writes a record, and keeps what it was asked."""

    def __init__(self, record: Record | None, path: Path) -> None:
        self.record, self.path = record, path
        self.asked: RunRequest | None = None

    def run_cell(self, request: RunRequest) -> Path:
        self.asked = request
        if self.record is None:
            raise MatrixError("no C++ compiler; install g++")
        write(self.record, self.path)
        return self.path


@pytest.fixture
def engine(here: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.chdir(here)
    engine = Engine(make(), here / RECORD)
    monkeypatch.setattr("matrix.run.cell.run_cell", engine.run_cell)
    rules = load_expectations(here / "rules.toml")
    monkeypatch.setattr("matrix.rules.expectations_file.load_expectations", lambda: rules)
    return engine


def test_run_hands_on_what_it_was_told(engine: Engine) -> None:
    assert cli.main(["run", "py311-torch210", "--here"]) == 0
    assert engine.asked is not None
    cell = engine.asked.cell
    assert cell.name == CELL
    assert engine.asked == RunRequest(cell=cell, pytest_args=[])
    options = ["--platform", "cpu", "--records", "r", "--timeout", "60", "--model-source", "hub"]
    options += ["--jobs", "7", "--suite", "full"]
    rest = ["-k", "moe", "--", "--", "--platform"]
    assert cli.main(["run", CELL, "--here", *options, *rest]) == 0
    assert engine.asked == RunRequest(
        cell=cell,
        platform="cpu",
        records=Path("r"),
        pytest_args=["-k", "moe", "--", "--platform"],
        timeout=60.0,
        model_source="hub",
        suite="full",
        jobs="7",
    )


def test_each_option_is_of_one_cell_or_refused_with_here() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    run.add(commands)
    every = {action.dest for action in commands.choices["run"]._actions}
    of_one = {"help", "cells", "here", "platform", "records", "model_source", "jobs", "timeout"}
    of_one |= {"suite", "upstream", "upstream_tests"}
    assert every - of_one - {"bundle", "work"} == set(run._OF_MANY)


def test_its_help_has_what_makes_the_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "or a case of --suite full or a test of --upstream fails, 5 if" in text
    assert "if one of them fails, the exit status is 1 (default: startup)" in text


@pytest.mark.parametrize("jobs", ["0", "-1", "two", ""])
def test_what_is_no_number_of_jobs_is_refused(
    engine: Engine, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    assert cli.main(["run", CELL, "--here", f"--jobs={jobs}"]) == 2
    assert "neither auto nor a number of cases" in capsys.readouterr().err
    assert engine.asked is None


@pytest.mark.parametrize(
    ("record", "status", "message"),
    [
        (make(), 0, "compatible (as expected)"),
        (make(saved=1), 1, "drift (counts differ)"),
        (
            make(error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol")),
            1,
            "incompatible at imports",
        ),
        (make(error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C")), 5, "untested"),
        (make(full_suite=(HOME,)), 0, "compatible (as expected), 1 case and 1 of the full suite"),
        (
            make(full_suite=(MOVED,)),
            1,
            "compatible (as expected), 1 case and 1 of the full suite (1 failed)",
        ),
        (make(cases=(), full_suite=(HOME,), deselected=9), 5, "untested, no cases and 1 of the"),
        (make(cases=(), full_suite=(MOVED,), deselected=9), 1, "untested, no cases and 1 of the"),
    ],
)
def test_run_ends_as_its_verdict(
    engine: Engine, capsys: pytest.CaptureFixture[str], record: Record, status: int, message: str
) -> None:
    engine.record = record
    assert cli.main(["run", CELL, "--here"]) == status
    shown = capsys.readouterr().out
    assert shown.startswith(f"{CELL} on cpu: {message}")
    assert shown.endswith(f"record  {RECORD}\n")


def test_a_refusal_to_run_is_one_line(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.record = None
    assert cli.main(["run", CELL, "--here"]) == 2
    assert capsys.readouterr().err == "matrix: no C++ compiler; install g++\n"


@pytest.mark.parametrize("cell", ["py311-torch29-vllm099", "py311", "torch"])
def test_a_cell_that_is_none_is_one_line(tmp_path: Path, cell: str) -> None:
    ended = matrix(tmp_path, "run", cell, "--here")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"matrix: cell '{cell}': ")
    assert len(ended.stderr.splitlines()) == 1


def test_run_says_why_auto_takes_the_cpu_of_a_machine_with_a_gpu(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("matrix.run.nvidia.why_not_cuda", lambda asked: f"{asked} takes cpu: why")
    cli.main(["run", CELL, "--here"])
    assert capsys.readouterr().err == "matrix: auto takes cpu: why\n"


def test_a_bundle_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "py311-torch29", "--bundle", str(tmp_path), "-k", "moe"]) == 2
    assert "bundle.json: cannot be read" in capsys.readouterr().err
    assert cli.main(["run", "py311-torch29", "--work", "w"]) == 2
    assert "goes with --bundle DIR only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["py311-torch29", "py312-torch29"], "make one bundle a Python"),
        (["py311-torch29", "--have", "torch"], "write it as torch==2.11.0"),
        (["py311-torch29", "--split", "58MB"], "write it as 58MiB"),
        (["py311-torch29", "--gpu-arch", "h100"], "write it as sm_90"),
        (["py311-torch99"], "torch 9.9 is not known"),
    ],
)
def test_a_bundle_that_cannot_be_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bundle", *arguments, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
