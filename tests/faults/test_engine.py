"""kill -9 of `matrix run SELECTION` at random moments; `--resume` goes on. tox is a stand-in."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fake_tox import ROOT, TORCH29, TORCH210, FakeTox, fake_tox
from matrix.record.reader import read_many
from matrix.run.run_state import read_run
from small_cell import Fault

__all__ = ["fake_tox"]

DRIVER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from matrix import cli
from matrix.run import rerun
rerun.tox_command = lambda: {command!r}
sys.exit(cli.main(sys.argv[1:]))
"""
LONGEST = 6.0
"""Seconds within which the moment lies: as long as two cells of the stand-in take, or longer."""


def start(fault: Fault, fake: FakeTox, *words: str) -> subprocess.Popen[str]:
    driver = fake.here / "driver.py"
    driver.write_text(
        DRIVER.format(root=str(ROOT), tests=str(ROOT / "tests"), command=fake.command)
    )
    process = subprocess.Popen(
        [sys.executable, str(driver), "run", *words],
        cwd=fake.here,
        env={
            **os.environ,
            "TMPDIR": str(fault.cell.temporary),
            "OF_FAULTS": str(fault.cell.folder),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    fault.cell.started.append(process)
    return process


@pytest.mark.fault("kill -9 of the engine of `matrix run SELECTION`")
def test_the_engine_is_killed(fault: Fault, fake_tox: FakeTox, seed: int) -> None:
    selection = (TORCH210, TORCH29, "--platform", "cpu", "--cores", "2", "--memory", "16000")
    process = start(fault, fake_tox, *selection)
    time.sleep(random.Random(seed).uniform(0, LONGEST))
    process.send_signal(signal.SIGKILL)
    process.wait()
    fault.left += fault.cell.left_running()
    records = fake_tox.here / "records"
    before = {path: path.read_bytes() for path in records.glob("cpu/*.json")}
    runs = list((records / "runs").glob("*/journal.jsonl"))
    again = start(fault, fake_tox, *(["--resume"] if runs else selection))
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    found, errors = read_many([records / "cpu"])
    assert not errors
    fault.lost += [str(path) for path, text in before.items() if path.read_bytes() != text]
    cells = {record.cell for _, record in found if record.finished}
    fault.lost += sorted({TORCH210, TORCH29} - cells)
    # A journal can be read; it need not have the end of a job whose record stands.
    for journal in (records / "runs").glob("*/journal.jsonl"):
        assert len(read_run(journal.parent).jobs) == 2
    fault.left += fault.cell.left_running()
    fault.left += [path.name for path in (records / "cpu").glob(".*")]
    assert not fault.lost and not fault.left, output
