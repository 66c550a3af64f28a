"""Run a function in a forked child, and leave nothing of it behind.

The child is the leader of a session of its own. When it ends, by whatever means, every process that
descends from it is killed and reaped, also one in another session or one that ignores SIGTERM.
What comes back is JSON over a pipe: a child that stops before its function ended cannot look as
if it had returned.

Descendants are found by Linux's ``/proc`` and ``prctl``. Elsewhere only the child's process group
is killed. `run_forked` belongs on the main thread: the kernel ties the child's life to the
thread that forked it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from matrix._util.cgroup import oom_kills
from matrix._util.process import adopting_orphans, die_with_parent
from matrix.errors import MatrixError
from matrix.inside.descendants import DUMP_SIGNAL, children_of, dump_stacks, sweep, why_idle
from matrix.inside.ended import Ended, read_tail, tail

_POLL_SECONDS = 0.05
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class IsolationError(MatrixError):
    """A child cannot be forked here, or a fork now would not isolate."""


def run_forked(
    function: Callable[[], Any],
    *,
    timeout: float,
    output: Path | None = None,
    watch: Callable[[], None] | None = None,
) -> Ended:
    """Run `function` in a forked child and return how the child ended.

    What `function` returns must be JSON; it is `Ended.value`. `timeout` is in seconds; a child that
    passes it first writes the stacks of its threads to its output, then is killed. The child's
    stdout and stderr go to the file `output` (made, or emptied); without one, where those of the
    caller go.
    `watch` is called here about twenty times a second while the child runs, and once after its end.
    SIGINT, SIGTERM and SIGHUP to this process first kill the child, then take effect.

    Raises IsolationError if this system cannot fork, or where CUDA was initialised before it: such
    a child could not use the GPU, and would not start cold. Errors of `watch` pass through.
    """
    with guard() as guarding:
        child = guarding.fork(function, output)
        timed_out = _wait(child, child.began + timeout, watch, guarding)
        ended = guarding.end(child, timed_out=timed_out)
        if watch is not None:
            watch()
        return ended


class ForkedChild:
    """A forked child of this process, and the pipe (`receiver`, while `open`) of its answer."""

    def __init__(self, pid: int, receiver: int, output: Path | None, killed_before: int) -> None:
        self.pid = pid
        self.receiver = receiver
        self.began = time.monotonic()
        self._output = output
        self._killed_before = killed_before
        self._message = bytearray()
        self._status: int | None = None
        self.open = True

    def read(self) -> bool:
        """Wait for the pipe and take what has come by it; return False at its end."""
        chunk = os.read(self.receiver, 1 << 16)
        self._message += chunk
        self.open = bool(chunk)
        return self.open

    def reap(self) -> bool:
        """Return whether the child has ended, without waiting for it."""
        try:
            done, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return True
        if done:
            self._status = status
        return bool(done)

    def close(self) -> None:
        """Take the last of the answer."""
        os.set_blocking(self.receiver, False)
        with contextlib.suppress(BlockingIOError):
            while self.read():
                pass
        os.close(self.receiver)

    def ended(
        self, *, seconds: float, timed_out: bool, idle: str | None, survivors: tuple[int, ...]
    ) -> Ended:
        """Return how the child ended, by its answer and its wait status."""
        end = partial(
            Ended,
            seconds=seconds,
            output="" if self._output is None else read_tail(self._output),
            survivors=survivors,
        )
        if self._message.endswith(b"\n"):
            answer = json.loads(self._message)
            if "error" in answer:
                return end(kind="raised", error=answer["error"])
            return end(kind="returned", value=answer["value"])
        if timed_out:
            return end(kind="timed_out", idle=idle)
        if self._status is not None and os.WIFSIGNALED(self._status):
            number = os.WTERMSIG(self._status)
            oom_killed = number == signal.SIGKILL and oom_kills() > self._killed_before
            return end(kind="signalled", signal=number, oom_killed=oom_killed)
        code = None if self._status is None else os.WEXITSTATUS(self._status)
        return end(kind="exited", exit_code=code)


class Guard:
    """Forks children, and ends each with all that descends from it; several may be at work at once.

    `signals` are those that came meanwhile and take effect when the guard is over.
    """

    def __init__(self, held: _Held) -> None:
        self._handlers = held.handlers
        self.signals: Sequence[int] = held.signals
        self._known = frozenset(process.identity for process in children_of(os.getpid()))
        self._at_work: dict[int, ForkedChild] = {}

    def fork(self, function: Callable[[], Any], output: Path | None = None) -> ForkedChild:
        """Fork a child that calls `function`, as `run_forked` does.

        Raises IsolationError if this system cannot fork, or CUDA was initialised before it.
        """
        if not hasattr(os, "fork"):
            raise IsolationError("os.fork is missing on this system; startup tests need Linux")
        if _cuda_initialised():
            raise IsolationError(
                "CUDA was initialised in this process before the fork;"
                " keep CUDA calls inside the start"
            )
        sink = None if output is None else _open_output(output)
        receiver, sender = os.pipe()
        try:
            killed_before = oom_kills()
            parent = os.getpid()
            flush_output()
            pid = _fork()
            if pid == 0:
                os.close(receiver)
                _child(function, sender, sink, parent, self._handlers)
        except OSError as error:
            os.close(receiver)
            raise IsolationError(f"fork failed: {error.strerror}") from error
        finally:
            os.close(sender)
            if sink is not None:
                os.close(sink)
        child = self._at_work[pid] = ForkedChild(pid, receiver, output, killed_before)
        return child

    def end(self, child: ForkedChild, *, timed_out: bool = False) -> Ended:
        """Kill and reap what is left of the child and of its descendants; return how it ended.

        The other children and their descendants keep running.
        """
        known = self._known | self._others(child)
        idle = why_idle(child.pid, known) if timed_out else None
        if timed_out:
            dump_stacks(child.pid, known)
        survivors = sweep(child.pid, known)
        seconds = time.monotonic() - child.began
        child.close()
        del self._at_work[child.pid]
        return child.ended(seconds=seconds, timed_out=timed_out, idle=idle, survivors=survivors)

    def end_all(self) -> None:
        """End every child that is still at work."""
        for child in list(self._at_work.values()):
            self.end(child)

    def _others(self, child: ForkedChild) -> frozenset[tuple[int, int]]:
        others = self._at_work.keys() - {child.pid}
        if not others:
            return frozenset()
        return frozenset(
            process.identity for process in children_of(os.getpid()) if process.pid in others
        )


class Background:
    """A forked child that is at work while this process continues, until it is joined or closed.

    Signals to this process take effect at once meanwhile. `run_forked` says the rest, of the child
    and of what is raised.
    """

    def __init__(self, function: Callable[[], Any], output: Path | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self._child: ForkedChild | None = None
        try:
            self._stack.enter_context(adopting_orphans())
            with _interrupts_held() as held:
                self._guard = Guard(held)
                self._child = self._guard.fork(function, output)
        except BaseException:
            self.close()
            raise

    def join(self, *, timeout: float, watch: Callable[[], None] | None = None) -> Ended:
        """Wait for the end of the child, `timeout` s after its begin at most, as `run_forked`.

        Call it once, and not after `close`.
        """
        child, self._child = self._child, None
        if child is None:
            raise IsolationError("this child was joined or closed before; join it once")
        with self._stack, _interrupts_held() as held:
            self._guard.signals = held.signals
            timed_out = _wait(child, child.began + timeout, watch, self._guard)
            ended = self._guard.end(child, timed_out=timed_out)
            if watch is not None:
                watch()
        return ended

    def close(self) -> None:
        """End the child and all that descends from it, unless it was joined or closed before."""
        child, self._child = self._child, None
        with self._stack, _interrupts_held():
            if child is not None:
                self._guard.end(child)


@contextlib.contextmanager
def guard() -> Iterator[Guard]:
    """Hold signals back and adopt orphans while children are at work; leave none at the end.

    SIGINT, SIGTERM and SIGHUP that come meanwhile take effect after that.
    """
    with _interrupts_held() as held:
        guarding = Guard(held)
        with adopting_orphans():
            try:
                yield guarding
            finally:
                guarding.end_all()


@dataclass(kw_only=True)
class _Held:
    """The signals that came while they were held, and their handlers."""

    signals: list[int]
    handlers: Mapping[signal.Signals, Any]


@contextlib.contextmanager
def _interrupts_held() -> Iterator[_Held]:
    # An exception raised by a handler could hit the parent between any two instructions, such as
    # before it knows the child's pid. So note the signal, clean up, and let it act afterwards.
    handlers: dict[signal.Signals, Any] = {}
    held = _Held(signals=[], handlers=handlers)
    if threading.current_thread() is threading.main_thread():
        for number in _INTERRUPTS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                handlers[number] = signal.signal(
                    number, lambda caught, _frame: held.signals.append(caught)
                )
    try:
        yield held
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held.signals:
            signal.raise_signal(held.signals[0])


def _wait(
    child: ForkedChild, deadline: float, watch: Callable[[], None] | None, guarding: Guard
) -> bool:
    """Wait for the child, or for a signal to this process; return whether its time ran out."""
    poller = select.poll()
    poller.register(child.receiver, select.POLLIN)
    while True:
        if child.open and poller.poll(_POLL_SECONDS * 1000) and child.read():
            continue
        if child.reap() or guarding.signals:
            return False
        if time.monotonic() >= deadline:
            return True
        if watch is not None:
            watch()
        if not child.open:
            time.sleep(_POLL_SECONDS / 10)


def _child(
    function: Callable[[], Any],
    sender: int,
    sink: int | None,
    parent: int,
    handlers: Mapping[signal.Signals, Any],
) -> NoReturn:
    code = 70
    try:
        pid = os.getpid()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)
        _redirect(sink)
        try:
            answer = {"value": function()}
            data = json.dumps(answer)
            code = 0
        except BaseException:  # noqa: BLE001 - also SystemExit and KeyboardInterrupt come back
            data = _error_json()
            code = 1
        # A process that the function forked may come back here too; it has no answer to give.
        if os.getpid() == pid:
            flush_output()
            _write_all(sender, data.encode() + b"\n")
    finally:
        os._exit(code)


def _redirect(sink: int | None) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if sink is not None:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        # Someone may have put other objects in their place, such as pytest's capture.
        sys.stdout = io.TextIOWrapper(
            os.fdopen(1, "wb", 0, closefd=False), "utf-8", "replace", write_through=True
        )
        sys.stderr = io.TextIOWrapper(
            os.fdopen(2, "wb", 0, closefd=False), "utf-8", "replace", write_through=True
        )
    with contextlib.suppress(OSError, ValueError):
        faults = os.dup(2)
        faulthandler.enable(file=faults, all_threads=True)
        faulthandler.register(DUMP_SIGNAL, file=faults, all_threads=True)


def _error_json() -> str:
    try:
        return json.dumps({"error": tail(traceback.format_exc())})
    except MemoryError:
        return '{"error": "MemoryError"}'


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _fork() -> int:
    # Python 3.12 warns of a fork in a process with threads. Importing torch can start some, and the
    # child must inherit the imports: that is the point.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def flush_output() -> None:
    """Write out what this process has printed and not yet written."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):
            if stream is not None:
                stream.flush()


def _open_output(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _cuda_initialised() -> bool:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    asked = getattr(cuda, "is_initialized", None)
    return bool(asked()) if callable(asked) else False
