"""A program in a session of its own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from matrix._util.child import Child


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
