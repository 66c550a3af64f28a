"""The streams of a command: closed, on a full disk, or a pipe whose reader leaves early."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commanded import RECORD, make, with_one_record
from matrix.record.model import Case, Outcome
from matrix.record.writer import write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return with_one_record(tmp_path)


def in_bash(here: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run `matrix` with what a shell makes of the rest of the line, its pipes and streams."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"{sys.executable}" -m matrix {command}'],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (f"show {RECORD} >&-", 0),
        (f"show {RECORD} <&- >&- 2>&-", 0),
        (f"show {RECORD} 2>/dev/full | grep -c .", 0),
        ("table --out out . 2>/dev/full", 0),
        ("show nowhere 2>&-", 2),
        ("show nowhere 2>/dev/full", 2),
    ],
)
def test_a_stream_that_takes_nothing_ends_in_no_traceback(
    here: Path, command: str, status: int
) -> None:
    """A shell closes it, or it is a log on a full disk; what is written is not what is printed."""
    ended = in_bash(here, command)
    assert (ended.returncode, ended.stderr) == (status, "")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (f"show {RECORD} | head -1", 0),
        (f"show {RECORD} | true", 0),
        ("linkage --vllm 0.19.1 --torch 2.9.1 --json | true", 1),
        ("show nowhere 2>&1 | true", 2),
    ],
)
def test_a_reader_that_leaves_early_changes_no_exit_status(
    here: Path, command: str, status: int
) -> None:
    cases = tuple(
        Case(case=f"case{index}", outcome=Outcome.FAILED, reason="x" * 200) for index in range(3000)
    )
    write(make(cases=cases), here / RECORD)
    ended = in_bash(here, command)
    assert (ended.returncode, ended.stderr) == (status, "")
