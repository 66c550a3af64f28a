"""What commands print fits: a terminal, 100 columns of a pipe, or as many as COLUMNS says."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from command import matrix
from wide_lines import wide_lines

ROOT = Path(__file__).parents[2]
SYMBOL = "_C.abi3.so: undefined symbol: _ZN3c1013MessageLoggerC1EPKciib"
CPU, DRIFTS = "results/cpu/py311-torch211-vllm020.json", "results/cpu/py311-torch212-vllm020.json"
CUDA = "results/cuda/py312-torch211-vllm032.json"
COMMANDS = [
    ("attribute", "--all", "results"),
    ("attribute", "py311-torch212-vllm020", "--case", "small_startup", "--changes", "results"),
    ("check",),
    ("explain", SYMBOL),
    ("explain", "libcudart.so.13"),
    ("explain", "no kernel image is available for execution on the device"),
    ("jit", "results/cuda/py312-torch214-vllm033.json"),
    ("linkage", "--vllm", "0.19.1", "--torch", "2.9.1"),
    ("plan", "--all", "results"),
    ("predict", "results"),
    (*("qualify", "--torch", "2.12.1", "--baseline", "2.11.0", "--platform", "all"), "results"),
    ("recommend", "--driver", "570", "--gpu", "h100", "--model", "glm_4.5", "results"),
    ("resolve", "py312-torch210-vllm019", "py314-torch211-vllm024"),
    ("results", "diff", CPU, DRIFTS),
    ("results", "list", "results"),
    ("show", CUDA),
    ("show", "--seconds", "--counters", CPU),
    ("upgrade", "--from", "0.14.1", "--to", "0.28.0", "results"),
    ("upgrade", "--from", "0.20.2", "--to", "0.32.0", "results"),
    ("wheels",),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a few of the published records."""
    folder = tmp_path_factory.mktemp("width")
    names = [CPU, DRIFTS, CUDA, "results/cuda/py312-torch214-vllm033.json"]
    names += [
        "results/cuda/py312-torch211-vllm020.json",
        "results/cuda/py312-torch213-vllm032.json",
    ]
    names += ["results/cpu/py312-torch213-vllm032.json", "results/cpu/py312-torch211-vllm020.json"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_report_fits_and_says_the_same_words(here: Path, command: tuple[str, ...]) -> None:
    whole = matrix(here, *command, COLUMNS="9999")
    assert whole.returncode in {0, 1, 3} and whole.stdout
    for width in (60, 80, 100):
        ended = matrix(here, *command, COLUMNS=str(width))
        assert wide_lines(ended.stdout, width) == []
        assert Counter(ended.stdout.split()) == Counter(whole.stdout.split())
        assert (ended.returncode, ended.stderr) == (whole.returncode, whole.stderr)


def test_the_findings_of_check_begin_in_one_column(here: Path) -> None:
    longest = max(map(len, matrix(here, "check", COLUMNS="9999").stdout.splitlines()))
    for width in (longest - 1, longest - 3):
        lines = matrix(here, "check", COLUMNS=str(width)).stdout.splitlines()
        named = [line for line in lines if not line.startswith(" ")]
        assert {line[:14].rstrip() for line in named} >= {"expectations", "upstream", "differences"}
        assert all(line[13] == " " != line[14] for line in named)


def test_a_pipe_has_100_columns(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    shown = matrix(here, "plan", "results").stdout
    assert shown == matrix(here, "plan", "results", COLUMNS="100").stdout
    assert 80 < max(map(len, shown.splitlines())) <= 100


def test_a_grid_in_a_pipe_is_as_wide_as_columns_says(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("grid", "--platform", "cuda", "--vllm", ">=0.30", "results")
    assert matrix(here, *command, COLUMNS="80").stdout == on_a_terminal(
        here, *command, COLUMNS="80"
    )
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, matrix(here, *command).stdout.splitlines())) > 100


def test_a_grid_of_linkage_stands_in_blocks(here: Path) -> None:
    lines = matrix(here, "linkage", "--vllm", ">=0.30", COLUMNS="60").stdout.splitlines()
    heads = [line.split() for line in lines if line.split()[:2] == ["CUDA", "2.9.0"]]
    rows = [line for line in lines if line.startswith("0.33.0  13 ")]
    assert len(heads) == 1 and len(rows) == 2 and max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    "command",
    [
        ("grid", "--json", "--vllm", ">=0.30", "results"),
        ("jit", "results/cuda/py312-torch214-vllm033.json", "--json"),
        ("plan", "--json", "results"),
        ("predict", "--json", "results"),
        ("recommend", "--json", "results"),
        ("show", CUDA, "--json"),
        ("upgrade", "--from", "0.14.1", "--to", "0.28.0", "--json", "results"),
        (*("qualify", "--torch", "2.12.1", "--baseline", "2.11.0", "--json"), "results"),
    ],
    ids=" ".join,
)
def test_json_is_as_wide_as_it_is(here: Path, command: tuple[str, ...]) -> None:
    narrow, wide = (matrix(here, *command, COLUMNS=width).stdout for width in ("40", "9999"))
    assert narrow == wide and json.loads(narrow)


def test_markdown_and_names_are_as_wide_as_they_are(here: Path) -> None:
    qualify = ("qualify", "--torch", "2.12.1", "--baseline", "2.11.0", "--markdown", "results")
    for command in (qualify, ("plan", "--names", "results")):
        narrow, wide = (matrix(here, *command, COLUMNS=width).stdout for width in ("40", "9999"))
        assert narrow == wide != ""


def test_a_terminal_breaks_a_command_where_a_shell_goes_on(here: Path) -> None:
    command = ("upgrade", "--from", "0.14.1", "--to", "0.28.0", "results")
    piped = matrix(here, *command, COLUMNS="80").stdout
    [whole] = [line for line in piped.splitlines() if line.startswith("    uv pip uninstall")]
    assert len(whole) > 80
    shown = on_a_terminal(here, *command, COLUMNS="80").splitlines()
    first = next(place for place, line in enumerate(shown) if "uv pip uninstall" in line)
    last = next(place for place in range(first, len(shown)) if not shown[place].endswith("\\"))
    lines = "\n".join(shown[first : last + 1])
    assert max(map(len, shown)) <= 80
    assert lines.replace(" \\\n       ", "") == whole


def on_a_terminal(here: Path, *command: str, **environ: str) -> str:
    """Return what a command prints on a terminal, without colour."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "matrix", *command],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environ},
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,
    ):
        os.close(its)
        read = b""
        try:
            while part := os.read(ours, 1 << 16):
                read += part
        except OSError:  # its end is closed
            pass
        os.close(ours)
    return read.decode().replace("\r\n", "\n")
