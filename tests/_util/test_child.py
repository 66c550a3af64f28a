"""A program in a session of its own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from matrix._util import child as module
from matrix._util.child import Child, end_together
from waiting import wait_for


def test_an_interrupt_reaches_the_child_of_a_process_that_blocks_it(tmp_path: Path) -> None:
    # As a worker of Ray does, whose children would block it too.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = Child([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
        child.interrupt()
        ended = child.wait(30)
        child.end()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert ended not in (None, 0)


def test_several_are_ended_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends when the other has got its signal, too."""
    monkeypatch.setattr(module, "_GRACE", 60.0)
    script = """
import pathlib, signal, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: mine.with_suffix(".ended").touch())
mine.touch()
while not other.with_suffix(".ended").exists() or not mine.with_suffix(".ended").exists():
    time.sleep(0.01)
"""
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    children = [
        Child([sys.executable, "-c", script, *order], tmp_path / "log")
        for order in (names, names[::-1])
    ]
    wait_for(lambda: all(Path(name).exists() for name in names))
    end_together(children)
    assert [child.poll() for child in children] == [0, 0]
