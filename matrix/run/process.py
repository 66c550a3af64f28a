"""Run a process to its end, whatever that is, and leave nothing of it behind."""

import codecs
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import RawIOBase
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from matrix._util.cgroup import oom_kills
from matrix._util.enums import StrEnum
from matrix._util.process import (
    Process,
    adopting_orphans,
    below,
    die_with_parent,
    processes,
    signal_name,
)

SILENCE = 8.0
"""Seconds without a line after which one says what is running: nobody waits for more than ten."""

_GRACE = 10.0  # seconds that an interrupted child has to close its affairs
_LINE = 1000  # characters of an open line of a child that are printed again


class How(StrEnum):
    """The ways in which a process ends."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class ProcessEnd:
    """How a process ended.

    `signal` names the signal that killed it; of an interrupted one, the signal to this process that
    had it ended. `oom_kill`: the kernel's out-of-memory killer was at work meanwhile.
    """

    how: How
    seconds: float
    status: int | None = None
    signal: str | None = None
    oom_kill: bool = False


def watch(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    folder: Path,
    log: Path,
    timeout: float,
    received: Sequence[str],
    silent: Callable[[float], str] | None = None,
) -> ProcessEnd:
    """Run the command in a session of its own, its output to the terminal and to the log.

    After `timeout` seconds, or once `noting_signals` has received one, it is ended. When this
    returns, no process that it started is left. Where it prints nothing for `SILENCE` seconds, the
    terminal gets a line of `silent`, which is given the seconds since the start. Raises OSError
    where it cannot be started.
    """
    others = {process.identity for process in _descendants()}
    kills_before, started = oom_kills(), time.monotonic()
    # Without a buffer, whose rest would be written at the end, when the disk may be full.
    with log.open("wb", buffering=0) as file, adopting_orphans():
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Its libc is loaded before the fork, and no other thread is at work yet.
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        assert child.stdout is not None
        output = _Output(file)
        copier = threading.Thread(target=output.copy, args=(child.stdout,), daemon=True)
        copier.start()
        how = How.EXITED
        try:
            while child.poll() is None:
                if received:
                    how = How.INTERRUPTED
                    _end(child, grace=_GRACE)
                elif time.monotonic() - started > timeout:
                    how = How.TIMED_OUT
                    _end(child, grace=0.0)
                else:
                    if silent is not None and output.seconds_since() > SILENCE:
                        output.say(silent(time.monotonic() - started))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(0.1)
        finally:
            _end(child, grace=0.0)
            end_all(lambda: [stray.pid for stray in _descendants() if stray.identity not in others])
            copier.join(_GRACE)
            if not copier.is_alive():
                child.stdout.close()
    took = time.monotonic() - started
    return replace(
        _end_of(child.returncode, how, received, took), oom_kill=oom_kills() > kills_before
    )


def _end_of(code: int, how: How, received: Sequence[str], seconds: float) -> ProcessEnd:
    """Return how a process ended that Popen gives this return code."""
    killer = None if code >= 0 else signal_name(-code)
    return ProcessEnd(
        how=How.SIGNALLED if how == How.EXITED and killer else how,
        status=code if code >= 0 else None,
        signal=received[0] if how == How.INTERRUPTED else killer,
        seconds=seconds,
    )


@contextlib.contextmanager
def noting_signals() -> Iterator[list[str]]:
    """Note the names of SIGINT, SIGTERM and SIGHUP and continue, because a record must be written.

    Under tox a Ctrl-C comes twice, and the second must not break what the first began. A SIGHUP
    that nohup has this process ignore stays ignored.
    """
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(signal_name(number))

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    kept = {
        number: signal.signal(number, note)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield received
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class _Output:
    """What a child prints, copied to the log and to the terminal, and lines of this process.

    The log has the child's own output only. On the terminal a line of this process may come while a
    line of the child is open; what the child has printed of that line is printed again before its
    rest.
    """

    def __init__(self, log: RawIOBase) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._open = ""
        self._cut = False
        self._last = time.monotonic()

    def seconds_since(self) -> float:
        """Return the seconds since something was printed."""
        return time.monotonic() - self._last

    def copy(self, source: BinaryIO) -> None:
        """Copy what the child prints until its end."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := os.read(source.fileno(), 65536):
            with contextlib.suppress(OSError, ValueError):
                self._log.write(chunk)
            text = decoder.decode(chunk)
            with self._lock:
                self._print((self._open if self._cut else "") + text)
                self._cut = False
                ended, newline, rest = text.rpartition("\n")
                self._open = rest if newline else (self._open + ended + rest)[-_LINE:]

    def say(self, line: str) -> None:
        """Print a line of this process, unless it would wait for a reader.

        The child is to be watched also where a terminal is stopped, or a pipe is full.
        """
        if not (_takes_output() and self._lock.acquire(blocking=False)):
            return
        try:
            ends = self._open and not self._cut
            self._cut = True
            self._print(f"{chr(10) * bool(ends)}  {line}\n")
        finally:
            self._lock.release()

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(text)
            sys.stdout.flush()


def _takes_output() -> bool:
    """Return whether the standard output takes a line at once."""
    try:
        return bool(select.select([], [sys.stdout.fileno()], [], 0)[1])
    except (OSError, ValueError):
        return True  # it has no descriptor


def _end(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """End the child's whole group: interrupt it and wait `grace` seconds for its end, then kill."""
    if child.poll() is None and grace:
        _kill_group(child.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    _kill_group(child.pid, signal.SIGKILL)
    child.wait()


def _kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_all(strays: Callable[[], Sequence[int]]) -> None:
    """Kill and reap processes, such as a compiler's helpers in sessions of their own.

    `strays` finds those that are left. Repeat it, since a dying process hands its own children on;
    but not for ever, since one that hangs in a driver does not die.
    """
    until = time.monotonic() + _GRACE
    while (found := strays()) and time.monotonic() < until:
        for stray in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(stray, signal.SIGKILL)
        for stray in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(stray, os.WNOHANG)
        time.sleep(0.01)


def _descendants() -> list[Process]:
    """Return the processes below this one; none if there is no /proc."""
    return below([os.getpid()], processes())
