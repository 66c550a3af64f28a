"""The help of every command, its examples, and the one line for a name that is mistyped."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import matrix
from commanded import CELL, with_one_record
from matrix import cli
from matrix.commands.helps import HELPS
from matrix.commands.parser import CommandParser


def parsers(parser: argparse.ArgumentParser) -> Iterator[CommandParser]:
    """Give the parser, and those of all commands below it."""
    assert isinstance(parser, CommandParser)
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from parsers(below)


EVERY = {parser.command: parser for parser in parsers(cli.parser_of([]))}


def test_every_command_has_a_description_and_examples_and_no_other_has() -> None:
    assert set(EVERY) == set(HELPS)
    for name, found in HELPS.items():
        assert found.description.endswith(".") and 2 <= len(found.examples) <= 3, name
        assert len(set(found.examples)) == len(found.examples)


@pytest.mark.parametrize("name", list(EVERY))
def test_the_help_shows_them(name: str) -> None:
    text = EVERY[name].format_help()
    assert HELPS[name].description.split(".")[0][:40] in " ".join(text.split())
    for example in HELPS[name].examples:
        assert f"\n  {example}\n" in text


@pytest.mark.parametrize(
    ("name", "example"),
    [(name, example) for name, found in HELPS.items() for example in found.examples],
)
def test_every_example_is_parsed_by_the_parser_of_its_command(name: str, example: str) -> None:
    program, *words = shlex.split(example)
    assert program == "matrix" and " ".join(words).startswith(name)
    options = cli.parse(words)
    if "takes_pytest_args" not in options:
        assert options.pytest_args == []
    # None is an abbreviation that a later option could make ambiguous.
    known = {option for parser in EVERY.values() for option in parser.options()}
    assert {word for word in words if word.startswith("--") and word != "--"} <= known


def test_help_of_a_command_that_is_added_without_text_is_plain() -> None:
    parser = CommandParser(prog="matrix fly", description="Fly.")
    assert "Fly." in parser.format_help() and "examples" not in parser.format_help()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["grdi"], ": 'grdi': is not a command; did you mean 'grid'?"),
        (["Doctor"], ": 'Doctor': is not a command; did you mean 'doctor'?"),
        (["--vesion"], ": unrecognized arguments: --vesion; did you mean '--version'?"),
        (["--xyzzy"], ": unrecognized arguments: --xyzzy; `matrix --help` shows what it takes"),
        (["table", "--json"], " table: unrecognized arguments: --json; `matrix table --help` "),
        (["grid", "--arch"], " grid: unrecognized arguments: --arch; `matrix grid --help` shows"),
        (["results", "compare"], " results: 'compare': is not a command; did you mean 'diff'?"),
        (["compare"], ": 'compare': is not a command; `matrix --help` has all of them"),
        (["fly"], ": 'fly': is not a command; `matrix --help` has all of them"),
        (["results", "lst"], " results: 'lst': is not a command; did you mean 'list'?"),
        (["candidate", "ad", "x"], " candidate: 'ad': is not a command; did you mean 'add'?"),
        (
            ["grid", "--platfrom", "cpu"],
            " grid: unrecognized arguments: --platfrom; did you mean '--platform'?",
        ),
        (
            ["grid", "--platfrom=cpu"],
            " grid: unrecognized arguments: --platfrom=cpu; did you mean '--platform'?",
        ),
        (
            ["run", "x", "--platform", "cud"],
            " run: --platform 'cud': is not auto, cpu or cuda; did you mean 'cuda'?",
        ),
        (
            ["run", "x", "--platform", "rocm"],
            " run: --platform 'rocm': is not auto, cpu or cuda",
        ),
        (
            ["results", "list", "--verdict", "drfit"],
            " results list: --verdict 'drfit': is not incompatible, drift, untested or compatible;",
        ),
        (
            ["plan", "--new", "torhc==2.15.0"],
            (
                ": --new 'torhc==2.15.0': 'torhc' is neither torch nor vllm; write it as"
                " torch==2.15.0; did you mean 'torch'?"
            ),
        ),
        (["hlep"], ": 'hlep': is not a command; `matrix --help` has all of them"),
        (["help", "grdi"], ": 'grdi': is not a command; did you mean 'grid'?"),
        (
            ["candidate", "show", "torch216rc2"],
            ": candidate 'torch216rc2': is not known; nobody added",
        ),
    ],
)
def test_a_mistyped_name_is_one_line_with_the_nearest(
    tmp_path: Path, arguments: list[str], line: str
) -> None:
    ended = matrix(tmp_path, *arguments, MATRIX_CANDIDATES=str(tmp_path / "none.toml"))
    assert (ended.returncode, ended.stdout) == (2, "")
    (only,) = ended.stderr.splitlines()
    assert only.startswith(f"matrix{line}")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("help", "--help"),
        ("help grid", "grid --help"),
        ("help results list", "results list --help"),
    ],
)
def test_help_is_a_command_too(tmp_path: Path, words: str, meant: str) -> None:
    ended, plain = (matrix(tmp_path, *asked.split()) for asked in (words, meant))
    assert (ended.returncode, ended.stdout) == (0, plain.stdout)
    assert ended.stdout.startswith(f"usage: matrix{words.removeprefix('help')} [-h]")


def test_an_option_that_is_like_none_has_the_help(tmp_path: Path) -> None:
    ended = matrix(tmp_path, "grid", "--xyzzy")
    assert ended.returncode == 2
    assert ended.stderr == (
        "matrix grid: unrecognized arguments: --xyzzy; `matrix grid --help` shows what it takes\n"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("py312-torch211-vlm026", "py312-torch211-vllm026"),
        ("py312-trch213-vllm020", "py312-torch213-vllm020"),  # off the pin
        ("py312-torch211-vllm26", "py312-torch211-vllm026"),
        ("PY312_TORCH211_VLLM026", "py312-torch211-vllm026"),
        ("py311-torhc210", "py311-torch210"),
        ("py312-torch211vllm026", "py312-torch211-vllm026"),
        ("py312-torch211vllm26", "py312-torch211-vllm026"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "bundle --out o", "resolve"])
def test_a_mistyped_cell_gets_the_nearest_one(
    tmp_path: Path, command: str, name: str, meant: str
) -> None:
    ended = matrix(tmp_path, *command.split(), name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1].endswith(f"; did you mean {meant!r}?")


def test_a_mistyped_cell_of_records_gets_the_nearest_one(tmp_path: Path) -> None:
    with_one_record(tmp_path)
    for name, end in (
        ("py311-torch210-vlm019", f"; did you mean {CELL!r}?"),
        ("py311-torch210-vllm19", f"; did you mean {CELL!r}?"),
        ("py311-torch210-vllm018", "; tox -e py311-torch210-vllm018"),
        ("py314-torch29-vllm033", "; tox -e py314-torch29-vllm033"),
    ):
        ended = matrix(tmp_path, "attribute", name)
        assert ended.returncode == 2 and ended.stderr.splitlines()[-1].endswith(end)


@pytest.mark.parametrize(
    "name",
    ["nowhere", "py312-torch999-vllm026", "py39-torch210", "vllm026-py311-torch211"],
)
def test_what_is_near_nothing_or_has_its_own_hint_gets_no_guess(tmp_path: Path, name: str) -> None:
    ended = matrix(tmp_path, "doctor", name)
    assert ended.returncode == 2 and "did you mean" not in ended.stderr
