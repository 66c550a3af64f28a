"""A program that takes long is reported, and ends with whoever started it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from matrix._util.process import processes
from matrix._util.reported import last_line, printed, run_reported

WAITS = """\
import pathlib, subprocess, sys, time
print("first", flush=True)
print("\\x1b[31mcompiling\\x1b[0m 3 of 4", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("last", file=sys.stderr, flush=True)
sys.exit(3)
"""
STAYS = """\
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


def test_progress_has_the_last_line(tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "compiling" in line:
            go.touch()

    command = [sys.executable, "-c", WAITS, str(go)]
    assert run_reported(command, log, say, "builds", every=0.01) == 3
    assert any(line.endswith(" s: compiling 3 of 4") for line in said)
    assert all(line.startswith("builds: ") for line in said)
    assert last_line(log) == "last"
    assert log.read_text().startswith("first\n")


def test_a_program_ends_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "started"

    def interrupt(_: str) -> None:
        if started.exists() and started.read_text():
            raise KeyboardInterrupt

    command = [sys.executable, "-c", STAYS, str(started)]
    with pytest.raises(KeyboardInterrupt):
        run_reported(command, tmp_path / "log", interrupt, "builds", every=0.01)
    child = int(started.read_text())
    while any(process.pid == child and process.state != "Z" for process in processes()):
        pass  # it was sent its signal, and ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_ends_with_whoever_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    started = tmp_path / "started"
    script = (
        "import os, pathlib, signal, sys\n"
        "from matrix._util.reported import run_reported\n"
        # Under nohup a signal is ignored, and stays so.
        f"signal.signal({int(number)}, signal.SIG_DFL)\n"
        "started = pathlib.Path(sys.argv[1])\n"
        "def end(_):\n"
        f"    if started.exists() and started.read_text(): os.kill(os.getpid(), {int(number)})\n"
        f"command = [sys.executable, '-c', {STAYS!r}, str(started)]\n"
        "run_reported(command, started.with_name('log'), end, 'builds', every=0.01)\n"
    )
    command = [sys.executable, "-c", script, str(started)]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    assert b"KeyboardInterrupt" in done.stderr
    child = int(started.read_text())
    while any(process.pid == child and process.state != "Z" for process in processes()):
        pass  # it was sent its signal, and ends


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        run_reported(["/nowhere/git"], tmp_path / "log", print, "fetches")


def test_a_file_without_a_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n \n")
    assert last_line(tmp_path / "log") == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("abc", "abc"),
        ("abcdefgh", "abcdefgh"),
        ("abcd" + "x" * 99 + "efgh", "abcd\n...\nefgh"),
    ],
)
def test_of_a_long_file_the_beginning_and_the_end_are_read(
    tmp_path: Path, text: str, shown: str
) -> None:
    (tmp_path / "log").write_text(text)
    assert printed(tmp_path / "log", 4) == shown
