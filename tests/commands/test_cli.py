import argparse
import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from command import matrix
from made import provenance
from matrix import cli
from matrix.catalog.cells import Cell
from matrix.commands import check, context
from matrix.errors import MatrixError
from matrix.record.model import Case, ErrorKind, Outcome, Record, RunError, Start, StartKind
from matrix.record.writer import to_json, write
from matrix.rules.expectations_file import load_expectations
from matrix.rules.platform_differences import load_explanations
from matrix.run.cell import RunRequest
from rules import ANY_CASE_TEXT

ROOT = Path(__file__).parents[2]
CELL = "py311-torch210-vllm019"


def make(saved: int = 0, **changes: Any) -> Record:
    starts = (
        Start(
            start=StartKind.COLD,
            seconds={"total": 61.2},
            counters={"num_compiled_artifacts_saved": 3},
        ),
        Start(
            start=StartKind.WARM,
            seconds={"total": 20.1},
            counters={"num_compiled_artifacts_saved": saved},
        ),
    )
    values = {
        "cell": CELL,
        "platform": "cpu",
        "finished": True,
        "provenance": provenance("2.10.0+cu128", "0.19.1", seconds=312.4),
        "cases": (
            Case(
                case="moe_startup[mega_aot=1]", outcome=Outcome.PASSED, seconds=81.3, starts=starts
            ),
        ),
        **changes,
    }
    return Record(**values)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "rules.toml").write_text(ANY_CASE_TEXT, encoding="utf-8")
    write(make(), tmp_path / "records" / "cpu" / f"{CELL}.20261122T180000Z.json")
    return tmp_path


RECORD = f"records/cpu/{CELL}.20261122T180000Z.json"


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
        "AOTAutograd's total, cache miss and cache hit\n"
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
    assert "\nmoe_startup[mega_aot=1]  warm    20.1        -  " in ended.stdout


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


WHOLE = to_json(make())


@pytest.mark.parametrize("command", ["show", "calibrate"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "none.json: cannot be read: No such file or directory"),
        (f"{CELL}.json", "", "not a record: the file is empty"),
        (f"{CELL}.json", WHOLE[:-9], "not a record: truncated at line"),
        (f"{CELL}.json", "hello\n", "not a record: not JSON at line 1"),
        (
            f"{CELL}.json",
            WHOLE.replace('"schema": 2', '"schema": 3'),
            "schema: is 3, newer than this matrix knows (2); update torch-vllm-matrix",
        ),
        ("py312-torch29-vllm016.json", WHOLE, f"cell: is {CELL}, but the file's name says py312"),
        (
            f"{CELL}.json",
            WHOLE.replace('"total": 61.2', '"total": "61.2"'),
            'cases[0].starts[0].seconds.total: is "61.2", but must be seconds',
        ),
    ],
)
def test_a_bad_record_is_one_line_and_exit_2(
    tmp_path: Path, command: str, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    ended = matrix(tmp_path, command, name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"matrix: {name}: ")
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["show"],
        ["show", "a", "--", "b"],
        ["run", CELL, "--platform", "tpu"],
        ["run", CELL, "--timeout", "-1"],
        ["run", CELL, "--timeout", "soon"],
        ["show", "a", "-k", "moe"],
    ],
)
def test_wrong_usage_is_exit_2_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    ended = matrix(tmp_path, *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: ") and "error: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_is_help(tmp_path: Path) -> None:
    for arguments in ([], ["run"], ["show"], ["calibrate"], ["table"], ["check"]):
        ended = matrix(tmp_path, *arguments, "--help")
        assert (ended.returncode, ended.stderr) == (0, "")


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr() == (f"matrix {version('torch-vllm-matrix')}\n", "")


def test_the_help_of_what_deletes_offers_no_object_store(tmp_path: Path) -> None:
    output = {
        name: matrix(tmp_path, "results", name, "--help").stdout for name in ("list", "prune")
    }
    assert "object store" in output["list"] and "object store" not in output["prune"]
    assert "records, where it exists" in " ".join(output["prune"].split())


def test_calibrate_names_the_record_as_evidence(here: Path) -> None:
    (here / "none.toml").write_text("")
    ended = matrix(here, "calibrate", str(here / RECORD), "--expectations", "none.toml")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f'evidence = ["results/cpu/{CELL}.json"]' in ended.stdout
    assert str(here) not in ended.stdout and "records/" not in ended.stdout
    (here / "proposed.toml").write_text(ended.stdout)
    ended = matrix(here, "show", RECORD, "--expectations", "proposed.toml")
    assert ": compatible (as expected)" in ended.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": ()}, "cases: none of them started"),
        ({"error": RunError(kind=ErrorKind.NO_SPACE, reason="full")}, "error: no_space (full)"),
        ({"finished": False}, "finished: the run did not end"),
    ],
)
def test_calibrate_of_what_justifies_nothing_is_one_line(
    here: Path, changes: dict[str, Any], message: str
) -> None:
    write(make(**changes), here / RECORD)
    ended = matrix(here, "calibrate", RECORD)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"matrix: {RECORD}: {message}")
    assert len(ended.stderr.splitlines()) == 1


def test_calibrate_all_proposes_every_counter(here: Path) -> None:
    (here / "none.toml").write_text("")
    starts = (
        Start(start=StartKind.COLD, seconds={}, counters={"num_graphs_seen": 1}),
        Start(start=StartKind.WARM, seconds={}, counters={}),
    )
    write(make(cases=(Case(case="x", outcome=Outcome.PASSED, starts=starts),)), here / RECORD)
    few = matrix(here, "calibrate", RECORD, "--expectations", "none.toml")
    every = matrix(here, "calibrate", RECORD, "--all", "--expectations", "none.toml")
    assert "num_graphs_seen" not in few.stdout
    assert "num_graphs_seen = 1" in every.stdout


def test_table_is_aggregate(here: Path) -> None:
    write(make(error=RunError(kind=ErrorKind.INTERRUPTED, reason="why")), here / RECORD)
    ended = matrix(here, "table", "--out", "out")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads((here / "out" / "compatibility.json").read_text())["cells"]


def test_the_table_deletes_the_badges_that_it_no_longer_makes_and_no_others(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = context.grid_of([])  # surveyed once: the slow part of a table
    monkeypatch.setattr(context, "grid_of", lambda entries: grid)
    other = "py311-torch29-vllm016"
    gone = here / "records" / "cpu" / f"{other}.json"
    facts = provenance("2.9.1", "0.16.0")
    write(
        make(
            cell=other, provenance=facts, error=RunError(kind=ErrorKind.INTERRUPTED, reason="why")
        ),
        gone,
    )
    write(make(error=RunError(kind=ErrorKind.INTERRUPTED, reason="why")), here / RECORD)
    assert matrix(here, "table", "--out", "out").returncode == 0
    badges = here / "out" / "badges"
    mine = "torch29-vllm016.svg"
    foreign = {"logo.svg": "<svg/>", "torch28-vllm015.svg": "<svg/>", f"a.{mine}": "<svg/>"}
    for name, text in foreign.items():
        (badges / name).write_text(text, encoding="utf-8")
    (badges / "torch27-vllm014.svg").mkdir()
    (badges / "torch26-vllm013.svg").symlink_to(mine)
    there = {*foreign, "torch27-vllm014.svg", "torch26-vllm013.svg", "torch210-vllm019.svg"}
    assert {item.name for item in badges.iterdir()} == {*there, mine}
    # A record that is damaged just now is no reason to.
    gone.write_text("{", encoding="utf-8")
    assert matrix(here, "table", "--out", "out").returncode == 2
    assert (badges / mine).is_file()
    gone.unlink()
    ended = matrix(here, "table", "--out", "out")
    assert (ended.returncode, ended.stderr) == (0, "")
    message = f"out/badges/{mine}: deleted, no record is of that pair any more"
    assert ended.stdout.splitlines()[-1] == message and ended.stdout.count("deleted") == 1
    assert {item.name for item in badges.iterdir()} == there


def test_check_says_what_it_checked(here: Path) -> None:
    ended = matrix(here, "check")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [
        "releases",
        "cells",
        "expectations",
        "upstream",
        "differences",
        "notes",
        "waivers",
    ]
    assert "no torch and vLLM have results of both platforms" in ended.stdout
    (here / "bad.toml").write_text("[[rule]]\nid = 1\n")
    ended = matrix(here, "check", "--expectations", "bad.toml")
    assert ended.returncode == 2
    assert ended.stderr.startswith("matrix: bad.toml: ")


def both_platforms(here: Path, folder: str) -> None:
    late = RunError(kind=ErrorKind.INTERRUPTED, reason="after its last case")
    write(make(error=late), here / folder / "cpu" / f"{CELL}.json")
    cuda = make(saved=1, platform="cuda", error=late)
    write(cuda, here / folder / "cuda" / f"{CELL}.json")


def test_check_names_what_explains_nothing(here: Path) -> None:
    both_platforms(here, "results")
    ended = matrix(here, "check")
    assert (ended.returncode, ended.stderr) == (0, "")
    shipped = load_explanations().every
    message = (
        f"differences   explanations: {len(shipped)}; counters that differ: 1, not explained: 1\n"
    )
    assert message in ended.stdout
    for item in shipped:
        assert f"              {item.id} explains nothing\n" in ended.stdout
    (here / "results" / "cpu" / f"{CELL}.json").write_text("{")
    ended = matrix(here, "check")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"matrix: results/cpu/{CELL}.json: not a record: ")


def test_check_counts_what_upstream_publishes_otherwise(here: Path) -> None:
    record = 'evidence = ["results/cpu/a.json"]\nupstream = { counters = { '
    link = '= 4 }, link = "https://github.com/vllm-project/vllm/pull/1" }'
    message = f"{record} num_compiled_artifacts_saved {link}"
    (here / "rules.toml").write_text(ANY_CASE_TEXT.replace('evidence = ["a record"]', message, 1))
    ended = matrix(here, "check", "--expectations", "rules.toml")
    assert "upstream      counters measured otherwise than upstream publishes: 1\n" in ended.stdout


def test_predict_shows_both_platforms(here: Path) -> None:
    both_platforms(here, "both")
    ended = matrix(here, "predict", "both")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "  num_compiled_artifacts_saved     1    0  not explained\n" in ended.stdout
    assert ended.stdout.splitlines()[-1].split()[:8] == [
        *("torch", "2.10.0,", "vLLM", "0.19.1"),
        *("1", "of", "2", "(50"),
    ]


def test_predict_of_one_platform_is_one_line(here: Path) -> None:
    write(make(error=RunError(kind=ErrorKind.INTERRUPTED, reason="why")), here / RECORD)
    ended = matrix(here, "predict")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("matrix: no torch and vLLM ran on both platforms; ")
    assert len(ended.stderr.splitlines()) == 1


def test_predict_tells_of_a_bad_record_and_goes_on(here: Path) -> None:
    both_platforms(here, "both")
    (here / "both" / "bad.json").write_text("{}")
    ended = matrix(here, "predict", "both")
    assert ended.returncode == 2
    assert "has no key 'schema'" in ended.stderr
    assert "predicted rightly" in ended.stdout


def test_a_reader_that_leaves_early_is_no_error(here: Path) -> None:
    cases = tuple(
        Case(case=f"case{index}", outcome=Outcome.FAILED, reason="x" * 200) for index in range(3000)
    )
    write(make(cases=cases), here / RECORD)
    command = f'"{sys.executable}" -m matrix show {RECORD} | head -1'
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


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
    assert cli.main(["run", "py311-torch210"]) == 0
    assert engine.asked is not None
    cell = engine.asked.cell
    assert cell.name == CELL
    assert engine.asked == RunRequest(cell=cell, pytest_args=[])
    options = ["--platform", "cpu", "--records", "r", "--timeout", "60", "--model-source", "hub"]
    options += ["--jobs", "7"]
    rest = ["-k", "moe", "--", "--", "--platform"]
    assert cli.main(["run", CELL, *options, *rest]) == 0
    assert engine.asked == RunRequest(
        cell=cell,
        platform="cpu",
        records=Path("r"),
        pytest_args=["-k", "moe", "--", "--platform"],
        timeout=60.0,
        model_source="hub",
        jobs="7",
    )


@pytest.mark.parametrize("jobs", ["0", "-1", "two", ""])
def test_what_is_no_number_of_jobs_is_refused(
    engine: Engine, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", CELL, f"--jobs={jobs}"])
    assert stopped.value.code == 2
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
    ],
)
def test_run_ends_as_its_verdict(
    engine: Engine, capsys: pytest.CaptureFixture[str], record: Record, status: int, message: str
) -> None:
    engine.record = record
    assert cli.main(["run", CELL]) == status
    shown = capsys.readouterr().out
    assert shown.startswith(f"{CELL} on cpu: {message}")
    assert shown.endswith(f"record  {RECORD}\n")


def test_a_refusal_to_run_is_one_line(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.record = None
    assert cli.main(["run", CELL]) == 2
    assert capsys.readouterr().err == "matrix: no C++ compiler; install g++\n"


@pytest.mark.parametrize("cell", ["py311-torch29-vllm099", "py311", "torch"])
def test_a_cell_that_is_none_is_one_line(tmp_path: Path, cell: str) -> None:
    ended = matrix(tmp_path, "run", cell)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"matrix: cell '{cell}': ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "matrix: interrupted\n"),
        (
            OSError(28, "No space left on device", "log"),
            2,
            "matrix: log: No space left on device\n",
        ),
        (OSError("odd"), 2, "matrix: input or output: odd\n"),
    ],
)
def test_what_else_can_end_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    status: int,
    message: str,
) -> None:
    def end(_: object) -> int:
        raise raised

    monkeypatch.setattr(check, "_check", end)
    assert cli.main(["check"]) == status
    assert capsys.readouterr().err == message


def python(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, with this checkout to import from."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_cell_needs_nothing_but_packaging(here: Path) -> None:
    script = (
        "import sys; sys.modules['jsonschema'] = None\n"
        "from matrix import cli\n"
        f"status = cli.main(['show', {RECORD!r}])\n"
        "assert not {'torch', 'vllm', 'matrix.inside'} & set(sys.modules)\n"
        "sys.exit(status)\n"
    )
    ended = python(script, here)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_parser_imports_nothing_that_does_a_command(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "bare = set(sys.modules)\n"
        "from matrix import cli\n"
        "try:\n"
        "    cli.main(['--help'])\n"
        "finally:\n"
        "    new = set(sys.modules) - bare\n"
        "    known = {*sys.stdlib_module_names, 'matrix', 'packaging', 'tomli', 'tomllib'}\n"
        "    assert {each.partition('.')[0] for each in new} <= known, new\n"
        "    ours = {module for module in new if module.startswith('matrix.')}\n"
        "    ours -= {'matrix.verdict', 'matrix.verdict.states'}\n"
        "    rooms = {module.split('.')[1] for module in ours}\n"
        "    assert rooms <= {'_util', 'cli', 'commands', 'errors'}, ours\n"
        "    assert 'importlib.metadata' not in new\n"
    )
    ended = python(script, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_every_command_is_in_the_list_of_its_module() -> None:
    for module, names in cli.COMMANDS.items():
        commands = argparse.ArgumentParser().add_subparsers()
        importlib.import_module(f"matrix.commands.{module}").add(commands)
        assert tuple(commands.choices) == names
    folder = Path(cli.__file__).parent / "commands"
    helpers = {"__init__", "arguments", "context"}
    assert {path.stem for path in folder.glob("*.py")} - helpers == cli.COMMANDS.keys()


def test_run_says_why_auto_takes_the_cpu_of_a_machine_with_a_gpu(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("matrix.run.nvidia.why_not_cuda", lambda asked: f"{asked} takes cpu: why")
    cli.main(["run", CELL])
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


_DIGITS = "2." + "1" * 5000
"""A version of more digits than Python reads as one number."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--new", f"torch=={_DIGITS}"],
        ["plan", "--torch", f">={_DIGITS}"],
        ["qualify", "--torch", _DIGITS, "--baseline", "2.10.0"],
        ["qualify", "--torch", "2.11.0", "--baseline", "2.10.0", "--under", f">={_DIGITS}"],
        [
            "bisect",
            "--torch",
            f"2.9.0..{_DIGITS}",
            "--vllm",
            "0.19.1",
            "--case=x",
            "--platform=cpu",
        ],
        ["resolve", f"py311-torch{'1' * 5000}-vllm018"],
        ["grid", "--expectations", "large.toml", "."],
        ["calibrate", f"{CELL}.json"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_numbers_too_large_to_read_are_one_line(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "large.toml").write_text(f"rule = {'9' * 5000}\n", encoding="utf-8")
    unreadable = make(provenance=provenance(_DIGITS, "0.19.1"))
    write(unreadable, tmp_path / f"{CELL}.json")
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
