"""What tests of real processes share: waiting for a condition, and whether a process lives."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

_DEADLINE = 30.0

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""
"""A program that ignores SIGTERM, in a session of its own, its parent gone; a file gets its id.

Nothing but a walk over /proc finds it.
"""


def wait_for(condition: Callable[[], object], what: str = "it") -> None:
    """Wait until the condition holds; fail after 30 s, which a loaded machine does not reach."""
    until = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {_DEADLINE:.0f} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Return whether the process lives: it is there and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def pids_in(path: Path, count: int = 1) -> list[int]:
    """Return the process ids that a file holds, once it holds that many."""
    pids: list[int] = []

    def read() -> bool:
        pids[:] = map(int, path.read_text().split()) if path.exists() else ()
        return len(pids) >= count

    wait_for(read, f"{count} ids in {path.name}")
    return pids
