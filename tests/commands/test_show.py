"""`matrix show`: one record for a person."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from command import matrix
from commanded import CELL, RECORD, make, with_one_record
from made import provenance
from matrix import cli
from matrix.catalog.cells import Cell
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.model import Case, ErrorKind, Outcome, RunError
from matrix.record.writer import write


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return with_one_record(tmp_path)


def test_show_tells_a_person(here: Path) -> None:
    ended = matrix(here, "show", RECORD, "--expectations", "rules.toml")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (
        f"{CELL} on cpu: compatible (as expected), 1 case in 312 s\n"
        "\n"
        "case                     start  seconds  counters\n"
        "moe_startup[mega_aot=1]  cold      61.2  1 of 1 as expected: saved 3\n"
        "compatible               warm      20.1  1 of 1 as expected: saved 0\n"
        "\n"
        "counts  compiled artifacts saved and loaded; "
        "AOTAutograd's total, cache miss and cache hit;"
        " whole models compiled ahead of time (aot), saved and loaded\n"
        "ran     torch 2.10.0+cu128, vLLM 0.19.1, Python 3.11.7, on EPYC\n"
        f"record  {RECORD}\n"
    )


@pytest.mark.parametrize(
    ("torch", "vllm", "head", "pin"),
    [
        ("2.12.1", "0.20.2", " (off-pin) on cpu: ", "its vLLM pins torch 2.11.0"),
        ("2.11.0", "0.20.2", " on cpu: ", None),
        ("9.9.0", "0.99.0", " on cpu: ", None),  # not among the releases that are known
    ],
)
def test_show_marks_an_off_pin_cell(
    here: Path, torch: str, vllm: str, head: str, pin: str | None
) -> None:
    name = Cell("3.12", torch, vllm).name
    facts = provenance(torch, vllm, "3.12")
    write(make(cell=name, provenance=facts), here / f"{name}.json")
    ended = matrix(here, "show", f"{name}.json", "--expectations", "rules.toml")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{name}{head}")
    assert [line for line in ended.stdout.splitlines() if line.startswith("off-pin")] == (
        [f"off-pin {pin}, which was overridden"] if pin else []
    )


def test_show_of_any_verdict_is_no_failure_of_show(here: Path) -> None:
    write(make(saved=3), here / RECORD)
    ended = matrix(here, "show", str(here / RECORD), "--counters", "--expectations", "rules.toml")
    assert ended.returncode == 0
    assert "drift (counts differ)" in ended.stdout
    assert "! num_compiled_artifacts_saved  observed    3  expected    0" in ended.stdout
    assert ended.stdout.endswith(f"record  {RECORD}\n")


def test_show_tells_where_the_seconds_went(here: Path) -> None:
    ended = matrix(here, "show", RECORD, "--seconds")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\nmoe_startup[mega_aot=1]  warm    20.1       -  " in ended.stdout


def test_show_names_a_failed_step_with_the_compiler(here: Path) -> None:
    step = CppCompiler(seconds=3.25, reason="CppCompileError: g++: not found\x1b[1m")
    write(make(cpp_compiler=step), here / RECORD)
    shown = matrix(here, "show", RECORD, COLUMNS="9999").stdout
    [line] = [line for line in shown.splitlines() if line.startswith("step ")]
    head = "step    failed, so each case asked the C++ compiler itself: "
    assert line.startswith(f"{head}CppCompileError: g++: not found")
    assert "\x1b" not in shown and "C++ compiler 3." not in shown
    split = matrix(here, "show", RECORD, "--seconds").stdout
    assert "\nC++ compiler 3.2 s while torch and vLLM were imported; the step failed\n" in split
    write(make(cpp_compiler=replace(step, reason=None)), here / RECORD)
    assert "\nstep " not in matrix(here, "show", RECORD).stdout


def test_show_names_a_failed_inspection_step(here: Path) -> None:
    step = Inspections(seconds=300.0, reason="timed out after 300 s\x1b[1m")
    write(make(inspections=step), here / RECORD)
    shown = matrix(here, "show", RECORD, COLUMNS="9999").stdout
    [line] = [line for line in shown.splitlines() if line.startswith("step ")]
    head = "step    failed, so each case inspected its model itself: "
    assert line.startswith(f"{head}timed out after 300 s") and "\x1b" not in shown
    split = matrix(here, "show", RECORD, "--seconds").stdout
    assert "\ninspections 300.0 s before the cases; the step failed\n" in split
    write(make(inspections=replace(step, reason=None)), here / RECORD)
    assert "\nstep " not in matrix(here, "show", RECORD).stdout


def test_show_by_the_packages_own_rules(here: Path) -> None:
    ended = matrix(here, "show", RECORD)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_show_has_no_colour_where_no_terminal_is(here: Path) -> None:
    assert "\x1b" not in matrix(here, "show", RECORD, "--expectations", "rules.toml").stdout


def test_colour_needs_a_terminal_and_no_veto(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    arguments = ["show", RECORD, "--expectations", "rules.toml"]
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert cli.main(arguments) == 0
    assert "\x1b[32mcompatible\x1b[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(arguments) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_show_of_hostile_text(here: Path, encoding: str) -> None:
    message = "<script>\x1b[31m\x07 \ud800\u202e é | `x`\nrecord  elsewhere"
    record = make(
        error=RunError(kind=ErrorKind.INTERRUPTED, reason=message),
        cases=(Case(case=message, outcome=Outcome.FAILED, reason=message),),
    )
    write(record, here / RECORD)
    ended = matrix(here, "show", RECORD, PYTHONIOENCODING=encoding)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "<script>" in ended.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(ended.stdout)
    assert sum(line.startswith("record") for line in ended.stdout.splitlines()) == 1


@pytest.mark.parametrize("words", [["show"], ["calibrate"], ["jit"], ["results", "show"]])
def test_a_cell_has_records_and_is_none(tmp_path: Path, words: list[str]) -> None:
    ended = matrix(tmp_path, *words, CELL)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"matrix: {CELL}: is a cell, not the file of a record;"
        f" `matrix results list --cell {CELL}` names its records\n"
    )


def test_a_record_that_is_not_there_is_not_a_cell(tmp_path: Path) -> None:
    assert "is a cell" not in matrix(tmp_path, "show", f"{CELL}.json").stderr


def test_a_file_with_the_name_of_a_cell_is_read(tmp_path: Path) -> None:
    (tmp_path / CELL).write_text("{", encoding="utf-8")
    assert "is a cell" not in matrix(tmp_path, "show", CELL).stderr
