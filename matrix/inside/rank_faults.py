"""How a rank failed, of which vLLM reports to the process of the start only that one failed.

A worker that raises logs its traceback, and the start fails with an error that says to look there.
One that dies of a signal says nothing, and the start fails with whatever comes of that: vLLM 0.26
says `RuntimeError: cancelled`. So the start takes its rank's own fault: the error with its
traceback, or the signal.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from matrix._util.process import signal_name
from matrix.inside.isolation import flush_output

RANK_FAILURES_VARIABLE = "MATRIX_RANK_FAILURES"
"""The environment variable that holds the path of the file of failures, for workers."""

# Of a worker's process, and of the engine's where that has one of its own.
_LOGGERS = ("vllm.v1.executor.multiproc_executor", "vllm.v1.engine.core")
_SECONDS = 30.0  # for a signal to this process to take effect


class RankError(RuntimeError):
    """A rank raised an error: the message has its traceback."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Let a start of several ranks that fails meanwhile fail as its rank did.

    Raises RankError for an error of a rank. Where a rank was ended by a signal, and not by this
    process, the same signal ends this process.
    """
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder, _deaths() as deaths:
        path = Path(folder) / "failures"
        os.environ[RANK_FAILURES_VARIABLE] = str(path)
        try:
            with noting():
                yield
        except Exception:
            multiprocessing.active_children()  # asks each how it ended
            if deaths:
                _end_by(deaths[0])
            if (failure := _first(path)) is not None:
                raise RankError(f"a rank failed\n{failure}") from None
            raise
        finally:
            os.environ.pop(RANK_FAILURES_VARIABLE, None)


@contextlib.contextmanager
def noting() -> Iterator[None]:
    """Note the errors that vLLM's worker logs meanwhile, here and in what is forked from here."""
    with contextlib.ExitStack() as stack:
        for name in _LOGGERS:
            stack.enter_context(_noting(logging.getLogger(name)))
        yield


@contextlib.contextmanager
def _noting(logger: Any) -> Iterator[None]:
    # An attribute of the logger itself: handlers go where vLLM sets its log up again.
    usual = logger.exception

    def exception(*arguments: Any, **named: Any) -> None:
        _note()
        usual(*arguments, **named)

    logger.exception = exception
    try:
        yield
    finally:
        logger.exception = usual


def _note() -> None:
    """Append the traceback of the error that is handled now, as a line of JSON."""
    path = os.environ.get(RANK_FAILURES_VARIABLE)
    if path is None or sys.exc_info()[0] is None:
        return
    line = json.dumps(traceback.format_exc()) + "\n"
    with contextlib.suppress(OSError):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(opened, line.encode())
        finally:
            os.close(opened)


def _first(path: Path) -> str | None:
    """Return the failure that was noted first: others may follow from it."""
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads(path.read_text(encoding="utf-8").splitlines()[0]))
    return None


@contextlib.contextmanager
def _deaths() -> Iterator[list[int]]:
    """Yield the signals that ended workers of this process, without those that it sent itself."""
    popen: Any = importlib.import_module("multiprocessing.popen_fork").Popen
    poll, send = popen.poll, popen._send_signal
    found: list[int] = []
    known: set[int] = set()

    def polled(worker: Any, *arguments: Any) -> Any:
        code = poll(worker, *arguments)
        if code is not None and worker.pid not in known:
            known.add(worker.pid)
            if code < 0:
                found.append(-code)
        return code

    def sent(worker: Any, number: int) -> None:
        if polled(worker) is None:
            known.add(worker.pid)
        send(worker, number)

    popen.poll, popen._send_signal = polled, sent
    try:
        yield found
    finally:
        popen.poll, popen._send_signal = poll, send


def _end_by(number: int) -> NoReturn:
    """End this process by the signal that ended a rank of it."""
    sys.stdout.write(f"a rank was ended by {signal_name(number)}, and its start ends with it\n")
    flush_output()
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(_SECONDS)
    raise RankError(f"a rank was ended by {signal_name(number)}")
