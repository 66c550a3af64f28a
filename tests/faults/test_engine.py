"""kill -9 of `matrix run SELECTION` at random moments; `--resume` goes on. tox is a stand-in."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from fake_tox import ROOT, TORCH29, TORCH210, FakeTox
from matrix.record.reader import read_many
from matrix.run.past_run import done_records, read_run
from small_cell import Fault

DRIVER = """
import os, signal, sys
sys.path[:0] = [{root!r}, {tests!r}]
from matrix import cli
from matrix.run import rerun, run_state
rerun.tox_command = lambda: {command!r}
points = [int(os.environ.get("KILL_AT", "-1"))]

def killed_around(function):
    # The process is killed before or after it, at the point of that number.
    def call(*arguments):
        for of in (lambda: None, lambda: function(*arguments)):
            of()
            if not points[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            points[0] -= 1
    return call

run_state.write_text = killed_around(run_state.write_text)
run_state.RunState.write = killed_around(run_state.RunState.write)
sys.exit(cli.main(sys.argv[1:]))
"""
SELECTION = (TORCH210, TORCH29, "--platform", "cpu", "--memory", "16000")
LONGEST = 6.0
"""Seconds within which the moment lies: as long as two cells of the stand-in take, or longer."""


def start(fault: Fault, fake: FakeTox, *words: str, **environ: str) -> subprocess.Popen[str]:
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
            **environ,
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
    process = start(fault, fake_tox, *SELECTION, "--cores", "2")
    time.sleep(random.Random(seed).uniform(0, LONGEST))
    process.send_signal(signal.SIGKILL)
    process.wait()
    goes_on(fault, fake_tox, "--cores", "2")


POINTS = 2 * (1 + 8)
"""Before and after the begin of a journal, and each of builds, built, runs and ended of two cells.
"""


@pytest.mark.fault("kill -9 of the engine at each event of its journal")
@pytest.mark.parametrize("point", range(POINTS + 1))
def test_the_engine_is_killed_at_an_event(fault: Fault, fake_tox: FakeTox, point: int) -> None:
    """Before the journal has its line, and after; the record of a cell may be there by then."""
    process = start(fault, fake_tox, *SELECTION, "--cores", "1", KILL_AT=str(point))
    output, _ = process.communicate(timeout=120)
    # Beyond the last point the run has ended: no event is left out.
    assert process.returncode == (0 if point == POINTS else -signal.SIGKILL), output
    goes_on(fault, fake_tox, "--cores", "1")


def goes_on(fault: Fault, fake: FakeTox, *limits: str) -> None:
    """Have what is left run, at once, or all where the run had not begun; look what came of it."""
    records = fake.here / "records"
    runs = list((records / "runs").glob("*/journal.jsonl"))
    again = start(fault, fake, *(["--resume"] if runs else SELECTION), *limits)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    found, errors = read_many([records / "cpu"])
    assert not errors
    whole = [record.cell for _, record in found if record.finished]
    fault.lost += sorted({TORCH210, TORCH29} - set(whole))
    # Nothing twice: a cell whose record stood did not run again.
    assert sorted(whole) == sorted({TORCH210, TORCH29}), output
    for journal in (records / "runs").glob("*/journal.jsonl"):
        past = read_run(journal.parent)
        past = replace(past, begun=replace(past.begun, records=str(records)))
        assert len(past.jobs) == len(past.ends) == len(done_records(past)) == 2
    fault.left += fault.cell.left_running()
    fault.left += [path.name for path in (records / "cpu").glob(".*")]
    assert not fault.lost and not fault.left, output
