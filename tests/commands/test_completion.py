"""What a shell offers after Tab, and that it takes no time and needs no argcomplete."""

from __future__ import annotations

import builtins
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from matrix import cli
from matrix.commands import completion

ROOT = Path(__file__).parents[2]
needs_argcomplete = pytest.mark.skipif(
    importlib.util.find_spec("argcomplete") is None, reason="the extra completion"
)


def offered(line: str, folder: Path, **environ: str) -> list[str]:
    """Return what a shell would offer at the end of this line."""
    answer = folder / "answer"
    ended = subprocess.run(
        [sys.executable, "-m", "matrix"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
            "MATRIX_CANDIDATES": str(folder / "candidates.toml"),
            **environ,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return answer.read_text().split("\n") if answer.exists() else []


@needs_argcomplete
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("matrix gr", ["grid "]),
        ("matrix results pr", ["prune "]),
        ("matrix grid --plat", ["--platform "]),
        ("matrix grid --platform c", ["cuda", "cpu"]),
    ],
)
def test_commands_and_options_are_completed(tmp_path: Path, line: str, expected: list[str]) -> None:
    assert offered(line, tmp_path) == expected


@needs_argcomplete
def test_cells_are_completed_from_the_data(tmp_path: Path) -> None:
    assert "py312-torch211-vllm026" in offered("matrix run py312-torch211-", tmp_path)
    assert "py312-torch212-vllm020" in offered("matrix doctor py312-torch212-", tmp_path)


def named(arguments: list[str], option: str) -> Any:
    """Return what an argument of a command offers; `option` is its option or metavar."""
    parser: Any = cli.parser_of(arguments[:1])
    completion.attach(parser)
    for word in arguments:
        (below,) = [action for action in parser._actions if isinstance(action.choices, dict)]
        parser = below.choices[word]
    (found,) = [
        action
        for action in parser._actions
        if option in action.option_strings or option in (action.metavar, action.dest)
    ]
    return getattr(found, "completer", None)


def test_each_argument_offers_what_it_takes() -> None:
    cells = list(named(["run"], "CELL")(prefix="py3"))
    assert "py311-torch210" in cells and "py312-torch211-vllm026" in cells
    off_pin = list(named(["bundle"], "CELL")(prefix="py314-torch215-v"))
    assert "py314-torch215-vllm033" in off_pin and "py314-torch215-vllm019" not in off_pin
    torches = named(["grid"], "--torch")(prefix="")
    assert torches.index("2.15") < torches.index("2.9") and "2.10.0" in torches
    assert "3.12" in named(["plan"], "--python")(prefix="")
    assert "torch==2.11.0" in named(["plan"], "--new")(prefix="")
    cases = named(["attribute"], "--case")(prefix="")
    assert "model_startup[deepseek_v3.2]" in cases and not any("*" in case for case in cases)
    assert named(["grid"], "--expectations") is None


def test_candidates_are_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MATRIX_CANDIDATES", str(tmp_path / "none.toml"))
    for command in (["candidate", "show"], ["candidate", "remove"]):
        assert named(command, "name")(prefix="") == []
    assert named(["qualify"], "CANDIDATE")(prefix="") == []
    assert named(["candidate", "add"], "name") is None


def test_without_argcomplete_nothing_is_offered_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "argcomplete":
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert capsys.readouterr() == ("", "")


def test_completion_imports_little(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from matrix import cli\n"
        "from matrix.commands import completion\n"
        "parser = cli.parser_of(['run'])\n"
        "completion.attach(parser)\n"
        "assert list(completion.cell_names('py3'))\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('matrix.')}\n"
        "assert rooms <= {'_util', 'catalog', 'cli', 'commands', 'errors'}, rooms\n"
    )
    spent = _cpu_seconds([sys.executable, "-c", script], tmp_path)
    assert spent < 1.0  # 0.14 on a quiet machine


def _cpu_seconds(command: Iterable[str], cwd: Path) -> float:
    before = os.times()
    ended = subprocess.run(
        list(command),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    after = os.times()
    return (
        after.children_user
        + after.children_system
        - (before.children_user + before.children_system)
    )
