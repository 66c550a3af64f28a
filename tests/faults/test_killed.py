"""kill -9 at random moments: of the harness, of pytest, of what a case started."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from matrix.verdict.states import Verdict
from small_cell import Fault, SmallCell, is_whole, verdict_of


def kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def at_a_moment(fault: Fault, seed: int) -> tuple[subprocess.Popen[str], random.Random]:
    """Start a run, and come back at a random moment of it."""
    fault.begin()
    chance = random.Random(seed)
    process = fault.cell.start(PACE="0.2", JOBS=chance.choice(["1", "3"]))
    time.sleep(chance.uniform(0, fault.seconds))
    return process, chance


@pytest.mark.fault("kill -9 of the harness")
def test_the_harness_is_killed(fault: Fault, cell: SmallCell, seed: int) -> None:
    process, _ = at_a_moment(fault, seed)
    kill(process.pid)
    process.wait()
    fault.check()
    assert verdict_of(cell.newest()) != Verdict.INCOMPATIBLE
    fault.run_again()


@pytest.mark.fault("kill -9 of pytest")
def test_pytest_is_killed(fault: Fault, cell: SmallCell, seed: int) -> None:
    process, _ = at_a_moment(fault, seed)
    for pid in sorted(cell.descendants()):
        if "pytest" in command_of(pid):
            kill(pid)
            break
    output, _ = process.communicate(timeout=60)
    fault.check()
    record = cell.newest()
    assert record.finished, output
    assert is_whole(record) or verdict_of(record) != Verdict.INCOMPATIBLE, output
    fault.run_again()


@pytest.mark.fault("kill -9 of what a run started")
def test_any_process_of_a_run_is_killed(fault: Fault, cell: SmallCell, seed: int) -> None:
    process, chance = at_a_moment(fault, seed)
    for pid in chance.sample(found := sorted(cell.descendants()), min(len(found), 2)):
        kill(pid)
    output, _ = process.communicate(timeout=60)
    fault.check()
    record = cell.newest()
    assert record.finished, output
    assert verdict_of(record) != Verdict.INCOMPATIBLE, output
    fault.run_again()


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""
