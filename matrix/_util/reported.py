"""Run a program whose output goes into a file, and report while it runs that it still does."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from matrix._util.child import Child
from matrix._util.text import clean, clip

Say = Callable[[str], None]
"""What prints one line of progress."""

_EVERY = 10.0  # seconds between two lines of progress
_TAIL = 1 << 16  # bytes of a file in which its last line is looked for
_END = 8 << 20  # bytes of a file that are read of its beginning and of its end
_SHOWN = 100  # characters of a line of the program


def run_reported(
    command: Sequence[str],
    log: Path,
    say: Say,
    what: str,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    every: float = _EVERY,
    interrupt: float = 0.0,
) -> int:
    """Run a program and return its exit status; both its outputs go to the end of `log`.

    Every so many seconds `say` gets what runs, for how long, and its last line. Where this is left
    by an exception, such as Ctrl-C, which SIGTERM and SIGHUP are taken for, the program and all
    that it started in its session end first; the program itself gets SIGINT, and `interrupt`
    seconds to end after it. Raises OSError if it cannot be started.
    """
    with _as_ctrl_c(signal.SIGTERM, signal.SIGHUP):
        began = time.monotonic()
        child = Child(command, log, environ=environ, cwd=cwd)
        try:
            while (status := child.wait(every)) is None:
                last = clip(clean(last_line(log)), _SHOWN)
                say(f"{what}: {time.monotonic() - began:.0f} s{': ' * bool(last)}{last}")
            return status
        finally:
            child.end(interrupt)


@contextlib.contextmanager
def _as_ctrl_c(*numbers: signal.Signals) -> Iterator[None]:
    """Take signals that would end this process at once for Ctrl-C, so that the block can clean up.

    One that somebody ignores or handles stays so; only the main thread may change it.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def printed(log: Path, end: int = _END) -> str:
    """Return what a program wrote to a file; of a long one the beginning and the end.

    `end` is how many bytes each of these two has.
    """
    with log.open("rb") as file:
        text = file.read(end)
        size = file.seek(0, os.SEEK_END)
        if size > 2 * end:
            text += b"\n...\n"
        file.seek(max(end, size - end))
        text += file.read(end)
    return text.decode("utf-8", "replace")


def last_line(log: Path) -> str:
    """Return the last line of a file that is not empty; "" without one."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
