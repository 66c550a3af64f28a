"""A process that is watched to its end, whatever reads what is printed."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import pytest

from matrix.run import process
from matrix.run.process import How, ProcessEnd, watch


def test_a_reader_who_stops_reading_does_not_stop_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a terminal after Ctrl-S, or `| less`."""
    monkeypatch.setattr(process, "SILENCE", 0.05)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    ends: list[ProcessEnd] = []

    def run() -> None:
        ends.append(
            watch(
                [sys.executable, "-c", "import time; time.sleep(600)"],
                environ=dict(os.environ),
                folder=tmp_path,
                log=tmp_path / "log",
                timeout=0.5,
                received=(),
                silent=lambda seconds: f"{seconds:.0f} s",
            )
        )

    with os.fdopen(writer, "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(120)
        waits = thread.is_alive()
        os.close(reader)  # lets go of who still writes
        thread.join(30)
        monkeypatch.undo()
    assert not waits
    assert [end.how for end in ends] == [How.TIMED_OUT]
