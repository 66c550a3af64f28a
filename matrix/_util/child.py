"""A program in a session of its own, whose output goes to the end of a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matrix._util.process import die_with_parent

_GRACE = 5.0  # seconds to end, before the kill


class Child:
    """A program that runs; `end` ends it, with what it started in its session.

    It gets SIGINT when this process dies, so that it can end what it started elsewhere. It gets the
    descriptors in `keeps` as they are.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        keeps: Sequence[int] = (),
    ) -> None:
        """Start it. Raises OSError if it cannot be started, or the log cannot be written."""
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=cwd,
                start_new_session=True,
                pass_fds=tuple(keeps),
                # Its libc is loaded before the fork; threads of the caller hold no lock of it.
                preexec_fn=_die_interrupted,  # noqa: PLW1509
            )
        self.log = log

    @property
    def pid(self) -> int:
        """The number of its process, and of its session."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Return what `poll` does, after that many seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def interrupt(self) -> None:
        """Send it SIGINT: the program itself, which ends what it started."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def end(self, interrupt: float = 0.0) -> None:
        """End it: by SIGINT, with `interrupt` seconds to end after it; then with its session."""
        if self.poll() is not None:
            return
        if interrupt:
            self.interrupt()
            self.wait(interrupt)
        end_together([self])


def end_together(children: Iterable[Child]) -> None:
    """End programs that run, with their sessions: all at once, so that none waits for another."""
    every = [child for child in children if child.poll() is None]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in every:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
        until = time.monotonic() + _GRACE
        for child in every:
            child.wait(max(until - time.monotonic(), 0))


def _die_interrupted() -> None:
    # A shell has what it starts in the background ignore SIGINT, by which this one is to be ended,
    # and Ray has its workers block it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    die_with_parent(signal.SIGINT)
