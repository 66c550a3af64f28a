"""A process that cleans up after a run that was killed with SIGKILL, which nothing can catch.

The kernel sends pytest SIGTERM when `matrix run` dies, and pytest ends its cases then. What cannot
get on, and what is in a session of its own under another parent, would live on, and the temporary
folder would stay until another run finds it. So a small process, in a session of its own, notes
what descends from the run. It waits for the end of a pipe, which comes however the run dies; then
it gives pytest time to end, kills what is left, and removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from matrix._util.paths import CHECKOUT
from matrix._util.process import Process, below, processes
from matrix._util.scratch import remove

GRACE = 10.0
"""Seconds that pytest has, after the run has died, to end its cases and write their ends."""

_TICKS = (0.05, 1.0)  # seconds between two looks at what descends from the run: first, and later
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from matrix.run.guardian import main; main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])"
)


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Have what this process starts in the block ended, and the folder removed, if it is killed.

    What has the folder's path among its environment variables counts as started here. Where the
    guardian cannot be started, the block runs without it.
    """
    guardian = None
    others = [str(process.pid) for process in below([os.getpid()], processes())]
    with contextlib.suppress(OSError):
        guardian = subprocess.Popen(
            # Nothing of the user's site: torch's own `.pth` files take longer than all of this.
            [sys.executable, "-I", "-S", "-c", _START, CHECKOUT, str(os.getpid()), folder, *others],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    try:
        yield
    finally:
        if guardian is not None and guardian.stdin is not None:
            with contextlib.suppress(OSError):
                guardian.stdin.write(b".")
                guardian.stdin.close()
            guardian.wait()


def main(run: int, folder: str, others: Sequence[str]) -> None:
    """Wait for the end of the run; clean up unless it says that it has done so itself.

    `others` are the ids of processes below the run that are none of its.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    known: dict[tuple[int, int], Process] = {}
    apart = {os.getpid(), *map(int, others)}
    tick, longest = _TICKS
    while not select.select([0], [], [], tick)[0]:
        _note(run, known, apart)
        tick = min(2 * tick, longest)
    if os.read(0, 1):
        return
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(_alive(known, folder, oldest=True)):
        time.sleep(0.05)
    # A process that hangs in a driver does not die: so not for ever.
    until = time.monotonic() + GRACE
    while time.monotonic() < until and (left := list(_alive(known, folder))):
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    remove(Path(folder))


def _note(run: int, known: dict[tuple[int, int], Process], apart: Collection[int]) -> None:
    """Note what descends from the run now, and forget what has ended."""
    every = [process for process in processes() if process.pid not in apart]
    known.update({process.identity: process for process in below([run], every)})
    for ended in known.keys() - {process.identity for process in every}:
        del known[ended]


def _alive(
    known: dict[tuple[int, int], Process], folder: str, *, oldest: bool = False
) -> Iterator[Process]:
    """Yield what of the run lives still; with `oldest` its first process only, which is pytest."""
    every = processes()
    own = {
        process.identity
        for process in every
        if process.identity in known or _names(process.pid, folder)
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


def _names(pid: int, folder: str) -> bool:
    """Return whether the folder is the value of an environment variable of the process."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # it has ended, or is another user's
    ends = (b"=" + folder.encode(errors="surrogateescape") + end for end in (b"\0", b"/"))
    return any(end in environ for end in ends)
