"""Run a process to its end, whatever that is, and leave nothing of it behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

_GRACE = 10.0  # seconds that an interrupted child has to close its affairs


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
) -> ProcessEnd:
    """Run the command in a session of its own, its output to the terminal and to the log.

    After `timeout` seconds, or once `noting_signals` has received one, it is ended. When this
    returns, nothing that it started lives. Raises OSError where it cannot be started.
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
        copier = threading.Thread(target=_copy, args=(child.stdout, file), daemon=True)
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
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(0.1)
        finally:
            _end(child, grace=0.0)
            _end_descendants(others)
            copier.join(_GRACE)
            if not copier.is_alive():
                child.stdout.close()
    code = child.returncode
    killer = None if code >= 0 else signal_name(-code)
    return ProcessEnd(
        how=How.SIGNALLED if how == How.EXITED and killer else how,
        status=code if code >= 0 else None,
        signal=received[0] if how == How.INTERRUPTED else killer,
        seconds=time.monotonic() - started,
        oom_kill=oom_kills() > kills_before,
    )


@contextlib.contextmanager
def noting_signals() -> Iterator[list[str]]:
    """Note the names of SIGINT, SIGTERM and SIGHUP and live on: there is a record to write.

    Under tox a Ctrl-C comes twice, and the second must not break what the first began.
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
    }
    try:
        yield received
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _copy(source: BinaryIO, log: RawIOBase) -> None:
    terminal = sys.stdout
    while chunk := os.read(source.fileno(), 65536):
        with contextlib.suppress(OSError, ValueError):
            log.write(chunk)
        with contextlib.suppress(OSError, ValueError):
            terminal.write(chunk.decode("utf-8", "replace"))
            terminal.flush()


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


def _end_descendants(others: set[tuple[int, int]]) -> None:
    """Kill and reap what the child left, such as a compiler's helpers in sessions of their own.

    Repeat it, since a dying process hands its own children on; but not for ever, since one that
    hangs in a driver does not die.
    """
    until = time.monotonic() + _GRACE
    while time.monotonic() < until:
        strays = [stray.pid for stray in _descendants() if stray.identity not in others]
        if not strays:
            return
        for stray in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(stray, signal.SIGKILL)
        for stray in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(stray, os.WNOHANG)
        time.sleep(0.01)


def _descendants() -> list[Process]:
    """Return the processes below this one; none where there is no /proc."""
    return below([os.getpid()], processes())
