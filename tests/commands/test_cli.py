"""All commands: usage, help, errors of one line, and commands that have no file of their own."""

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
from commanded import CELL, RECORD, make, with_one_record
from made import provenance
from matrix import cli
from matrix.catalog.releases_file import load_releases
from matrix.commands import check, context
from matrix.record.model import Case, ErrorKind, Outcome, RunError, Start, StartKind
from matrix.record.writer import to_json, write
from matrix.rules.platform_differences import load_explanations
from rules import ANY_CASE_TEXT


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return with_one_record(tmp_path)


ROOT = Path(__file__).parents[2]


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
            WHOLE.replace('"schema": 3', '"schema": 4'),
            "schema: is 4, newer than this matrix knows (3); update torch-vllm-matrix",
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
        ["show"],
        ["show", "a", "--", "b"],
        ["run", CELL, "--timeout", "-1"],
        ["run", CELL, "--timeout", "soon"],
        ["show", "a", "-k", "moe"],
        ["results", "list", ""],
        ["results", "list", "records", "--json", ""],
        ["table", "", "records"],
    ],
)
def test_a_wrong_usage_is_one_line_with_the_command_and_its_help(
    tmp_path: Path, arguments: list[str]
) -> None:
    ended = matrix(tmp_path, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    program, _, message = line.partition(": ")
    words = program.split()
    assert words == ["matrix", *arguments[: len(words) - 1]] and (len(words) > 1 or not arguments)
    assert message.endswith(
        (f"; `{program} --help` shows what it takes", "; write . for the current folder")
    )


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


@pytest.mark.parametrize("command", [("table",), ("bundle", CELL)])
@pytest.mark.parametrize("out", ["mine", "mine/deeper/out", "/proc/out"])
def test_a_place_that_takes_no_output_is_named_before_anything_is_made(
    here: Path, command: tuple[str, ...], out: str
) -> None:
    (here / "mine").write_text("x")
    ended = matrix(here, *command, "--out", out)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"matrix: --out {out}: ")
    assert line.endswith(("; name another folder", ": is a file; name a folder"))
    assert (here / "mine").read_text() == "x"


def test_the_table_deletes_the_badges_that_it_no_longer_makes_and_no_others(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = context.grid_of([], load_releases())  # surveyed once: the slow part of a table
    monkeypatch.setattr(context, "grid_of", lambda *_: grid)
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
    assert ended.stdout.splitlines()[-2] == message and ended.stdout.count("deleted") == 1
    assert {item.name for item in badges.iterdir()} == there


def test_check_says_what_it_checked(here: Path) -> None:
    ended = matrix(here, "check")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [
        "releases",
        "cells",
        "constraints",
        "candidates",
        "expectations",
        "upstream",
        "counters",
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
    assert (
        "              counters measured differently from what upstream publishes: 1\n"
        in ended.stdout
    )


def test_check_names_a_record_of_a_rule_that_is_not_there(here: Path) -> None:
    named = 'evidence = ["results/cpu/gone.json"]'
    (here / "rules.toml").write_text(ANY_CASE_TEXT.replace('evidence = ["a record"]', named, 1))
    ended = matrix(here, "check", "--expectations", "rules.toml")
    assert ended.returncode == 1
    line = "evidence: results/cpu/gone.json: is not there; restore it, or name another record\n"
    assert line in ended.stderr


def test_predict_shows_both_platforms(here: Path) -> None:
    both_platforms(here, "both")
    ended = matrix(here, "predict", "both")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "  num_compiled_artifacts_saved     1    0  not explained\n" in ended.stdout
    *_, figures, empty, predicted = ended.stdout.splitlines()
    assert figures.split()[:8] == [
        *("torch", "2.10.0,", "vLLM", "0.19.1"),
        *("50", "%", "of", "2"),
    ]
    assert not empty
    assert predicted == (
        "predicted: what the CPU's run and the first rungs predict; of 1 case that ran on both,"
        " 1 was predicted correctly; of the 1 that failed or drifted on cuda, 1"
    )


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
    assert "predicted correctly" in ended.stdout


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
    """Return the script in a process of its own, with this checkout to import from."""
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
        "    assert {module.partition('.')[0] for module in new} <= known, new\n"
        "    ours = {module for module in new if module.startswith('matrix.')}\n"
        "    ours -= {'matrix.verdict', 'matrix.verdict.states'}\n"
        "    ours -= {'matrix.advice', 'matrix.advice.kinds'}\n"
        "    ours -= {'matrix.catalog', 'matrix.catalog.platform_tags'}\n"
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
    helpers = {
        "__init__",
        "arguments",
        "calibrate_write",
        "completion",
        "context",
        "helps",
        "output",
        "parser",
        "qualify_candidate",
        "run_selection",
        "run_sites",
        "selection",
        "upstream_tests",
    }
    assert {path.stem for path in folder.glob("*.py")} - helpers == cli.COMMANDS.keys()


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
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 1000


@pytest.mark.parametrize("word", ["x" * 5000, "x y " * 1250])
@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "{}"],
        ["plan", "--torch", "{}"],
        ["resolve", "{}"],
        ["qualify", "--torch", "{}", "--baseline", "2.10.0"],
        ["ci", "--format", "{}"],
        ["table", "--{}"],
        ["{}"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_error_repeats_no_argument_that_is_too_long_to_read(
    arguments: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status = cli.main([argument.format(word) for argument in arguments])
    last = capsys.readouterr().err.splitlines()[-1]
    assert status == 2
    assert last.startswith("matrix") and "x" * 100 in last.replace(" y ", "x") and len(last) < 2100
