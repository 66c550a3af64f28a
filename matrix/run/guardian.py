"""A process that cleans up after a run that was killed with SIGKILL, which nothing can catch.

The kernel sends pytest SIGTERM when `matrix run` dies, and pytest ends its cases then. A process
that is stopped, or is in its own session under another parent, would keep running, and the
temporary folders would stay until another run finds them. So a small process, in a session of its
own, notes what descends from the run. It waits for the end of a pipe, which comes however the run
dies; then it gives pytest time to end, kills what is left, and removes the folders.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from matrix._util.paths import PACKAGE
from matrix._util.process import Process, below, processes
from matrix._util.scratch import sweep
from matrix._util.shared_memory import sweep_shared

_GRACE = 10.0
"""Seconds that pytest has, after the run has died, to end its cases and write their ends."""

_TICKS = (0.05, 1.0)  # seconds between two looks at what descends from the run: first, and later
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from matrix.run.guardian import main; main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])"
)
_MARK = "MATRIX_GUARDED"  # the environment variable that all that a run starts has, with its token


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Have what this process starts in the block ended if it is killed, and its folders removed.

    What has a variable of this block in its environment counts as started here. Where the guardian
    cannot be started, the block runs without it.
    """
    guardian = None
    token = secrets.token_hex(16)
    others = [str(process.pid) for process in below([os.getpid()], processes())]
    with contextlib.suppress(OSError):
        guardian = subprocess.Popen(
            # Nothing of the user's site: torch's own `.pth` files take longer than all of this.
            [
                *(sys.executable, "-I", "-S", "-c", _START, PACKAGE.parent),
                *(str(os.getpid()), token, *others),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    os.environ[_MARK] = token
    try:
        yield
    finally:
        del os.environ[_MARK]
        if guardian is not None and guardian.stdin is not None:
            with contextlib.suppress(OSError):
                guardian.stdin.write(b".")
                guardian.stdin.close()
            guardian.wait()


def main(run: int, token: str, others: Sequence[str]) -> None:
    """Wait for the end of the run; clean up unless it says that it has done so itself.

    `others` are the ids of processes below the run that are none of its.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    since = time.time()
    known: dict[tuple[int, int], Process] = {}
    apart = {os.getpid(), *map(int, others)}
    tick, longest = _TICKS
    while not select.select([0], [], [], tick)[0]:
        _note(run, known, apart)
        tick = min(2 * tick, longest)
    if os.read(0, 1):
        return
    until = time.monotonic() + _GRACE
    while time.monotonic() < until and any(_alive(known, token, oldest=True)):
        time.sleep(0.05)
    # A process that hangs in a driver does not die: so not for ever.
    until = time.monotonic() + _GRACE
    while time.monotonic() < until and (left := list(_alive(known, token))):
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    sweep()
    sweep_shared(since)


def _note(run: int, known: dict[tuple[int, int], Process], apart: Collection[int]) -> None:
    """Note what descends from the run now, and forget what has ended."""
    every = [process for process in processes() if process.pid not in apart]
    known.update({process.identity: process for process in below([run], every)})
    for ended in known.keys() - {process.identity for process in every}:
        del known[ended]


def _alive(
    known: dict[tuple[int, int], Process], token: str, *, oldest: bool = False
) -> Iterator[Process]:
    """Yield the run's remaining processes; with `oldest` only the first, which is pytest."""
    every = processes()
    own = {
        process.identity
        for process in every
        if process.identity in known or _has(process.pid, token)
    }
    own |= {process.identity for process in below([pid for pid, _ in own], every)}
    left = [
        process
        for process in every
        if process.identity in own and process.pid != os.getpid() and process.state != "Z"
    ]
    left.sort(key=lambda process: process.started)
    if oldest:
        first = min(known.values(), key=lambda process: process.started, default=None)
        left = [process for process in left if first is None or process.identity == first.identity]
    yield from left


def _has(pid: int, token: str) -> bool:
    """Return whether the process began with this token in its environment."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # it has ended, or is another user's
    return f"{_MARK}={token}\0".encode() in environ
