"""Run a function in a forked child, and leave nothing of it behind.

The child is the leader of a session of its own. When it ends, by whatever means, every process that
descends from it is killed and reaped, also one in another session or one that ignores SIGTERM.
What comes back is JSON over a pipe: a child that stops before its function ended cannot look as
if it had returned.

The way down to descendants is Linux's (``/proc``, ``prctl``). Elsewhere only the child's process
group is killed. `run_forked` belongs on the main thread: the kernel ties the child's life to the
thread that forked it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import json
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from matrix.errors import MatrixError

__all__ = [
    "TAIL_BYTES",
    "Child",
    "Ended",
    "Guard",
    "IsolationError",
    "flush_output",
    "guard",
    "out_of_memory",
    "read_tail",
    "run_forked",
    "tail",
]

TAIL_BYTES = 16 * 1024
"""How much of an output or a traceback is kept: its last 16 KiB."""

Kind = Literal["returned", "raised", "exited", "signalled", "timed_out"]

_POLL_SECONDS = 0.05
_DUMP_SECONDS = 0.3
_SWEEP_SECONDS = 5.0
_DUMP_SIGNAL = signal.SIGUSR2
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

_OUT_OF_MEMORY = re.compile(
    r"^(?:E\s+)?(?:[\w.]+\.)?(?:MemoryError|OutOfMemoryError)\b"
    r"|std::bad_alloc|CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|Cannot allocate memory|\bout of memory: the kernel"
    r"|Resource temporarily unavailable|failed to map segment from shared object",
    re.MULTILINE,
)


class IsolationError(MatrixError):
    """A child cannot be forked here, or a fork now would not isolate."""


@dataclass(frozen=True)
class Ended:
    """How a forked child ended.

    `seconds` is the child's whole life. `output` is the end of what it wrote to stdout and stderr
    (at most `TAIL_BYTES`; empty where no output file was given). `survivors` are process ids that
    SIGKILL did not end within 5 s; it is empty in all but broken machines.
    """

    kind: Kind
    seconds: float
    value: Any = None
    error: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    output: str = ""
    oom_killed: bool = False
    survivors: tuple[int, ...] = ()

    @property
    def outcome(self) -> str:
        """The record's word for it: passed, failed, crashed, timed_out or out_of_memory."""
        if self.kind == "returned":
            return "passed"
        if self.kind == "timed_out":
            return "timed_out"
        if self.oom_killed or out_of_memory(self.error or ""):
            return "out_of_memory"
        if self.kind == "raised":
            return "failed"
        return "out_of_memory" if out_of_memory(self.output) else "crashed"

    @property
    def reason(self) -> str:
        """One line that says how it ended."""
        if self.kind == "timed_out":
            text = f"timed out after {self.seconds:.{0 if self.seconds >= 10 else 1}f} s"
        elif self.kind == "signalled":
            text = f"killed by {_signal_name(self.signal)}"
            if self.oom_killed:
                text += " (out of memory: the kernel's OOM killer)"
        elif self.kind == "exited":
            status = "an unknown status" if self.exit_code is None else f"status {self.exit_code}"
            text = f"the process exited with {status} before the test ended"
        elif self.kind == "raised":
            lines = [line for line in (self.error or "").splitlines() if line.strip()]
            text = lines[-1].strip() if lines else "an error without a message"
        else:
            text = "returned"
        if self.survivors:
            text += f"; SIGKILL did not end {len(self.survivors)} of its processes"
        return text

    @property
    def evidence(self) -> str:
        """The text that a signature is made of: the error, else C++'s last words, else the reason.

        Not the whole output: an error that was logged and survived would pass for the cause.
        """
        if self.error:
            return self.error
        _, words, rest = self.output.rpartition("terminate called after")
        if self.kind == "signalled" and words:
            return (words + rest).partition("Fatal Python error:")[0]
        return self.reason

    @property
    def failure(self) -> str:
        """What a person needs to see of a bad end, its reason last; at most `TAIL_BYTES`."""
        parts = [self.output.rstrip(), (self.error or "").rstrip()]
        if self.kind != "raised" or self.survivors:
            parts.append(self.reason)
        return tail("\n".join(part for part in parts if part))


def run_forked(
    function: Callable[[], Any],
    *,
    timeout: float,
    output: Path | None = None,
    watch: Callable[[], None] | None = None,
) -> Ended:
    """Run `function` in a forked child and say how the child ended.

    What `function` returns must be JSON; it is `Ended.value`. `timeout` is in seconds; a child that
    passes it first writes the stacks of its threads to its output, then is killed. The child's
    stdout and stderr go to the file `output` (made, or emptied); without one, where those of the
    caller go.
    `watch` is called here about twenty times a second while the child runs, and once after its end.
    SIGINT, SIGTERM and SIGHUP to this process first kill the child, then take effect.

    Raises IsolationError where there is no fork, or where CUDA was initialised before it: such
    a child could not use the GPU, and would not start cold. Errors of `watch` pass through.
    """
    with guard() as guarding:
        child = guarding.fork(function, output)
        timed_out = _wait(child, child.began + timeout, watch, guarding)
        ended = guarding.end(child, timed_out=timed_out)
        if watch is not None:
            watch()
        return ended


def out_of_memory(text: str) -> bool:
    """Does this traceback or log say that memory ran out?

    >>> out_of_memory("terminate called after throwing an instance of 'std::bad_alloc'")
    True
    >>> out_of_memory("KeyError: 'MemoryError'")
    False
    """
    return _OUT_OF_MEMORY.search(text) is not None


def tail(text: str, limit: int = TAIL_BYTES) -> str:
    """The end of `text`, at most `limit` bytes of UTF-8, from the start of a line if one fits."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode("utf-8")
    cut = data[-limit:]
    _, newline, rest = cut.partition(b"\n")
    return (rest if newline and rest else cut).decode("utf-8", "ignore")


class Child:
    """A forked child of this process, and the pipe (`receiver`, while `open`) of its answer."""

    def __init__(self, pid: int, receiver: int, output: Path | None, oom_kills: int) -> None:
        """`oom_kills` is what the kernel had counted before the fork."""
        self.pid = pid
        self.receiver = receiver
        self.began = time.monotonic()
        self._output = output
        self._oom_kills = oom_kills
        self._message = bytearray()
        self._status: int | None = None
        self.open = True

    def read(self) -> bool:
        """Take what has come by the pipe, which may have to be waited for; False at its end."""
        chunk = os.read(self.receiver, 1 << 16)
        self._message += chunk
        self.open = bool(chunk)
        return self.open

    def reap(self) -> bool:
        """Tell whether the child has ended; it is not waited for."""
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

    def ended(self, seconds: float, timed_out: bool, survivors: tuple[int, ...]) -> Ended:
        """How the child ended, as far as its answer and its wait status tell."""
        text = "" if self._output is None else read_tail(self._output)
        if self._message.endswith(b"\n"):
            answer = json.loads(self._message)
            if "error" in answer:
                error = answer["error"]
                return Ended("raised", seconds, error=error, output=text, survivors=survivors)
            value = answer["value"]
            return Ended("returned", seconds, value=value, output=text, survivors=survivors)
        if timed_out:
            return Ended("timed_out", seconds, output=text, survivors=survivors)
        if self._status is not None and os.WIFSIGNALED(self._status):
            number = os.WTERMSIG(self._status)
            return Ended(
                "signalled",
                seconds,
                signal=number,
                output=text,
                oom_killed=number == signal.SIGKILL and _oom_kills() > self._oom_kills,
                survivors=survivors,
            )
        code = None if self._status is None else os.WEXITSTATUS(self._status)
        return Ended("exited", seconds, exit_code=code, output=text, survivors=survivors)


class Guard:
    """Forks children, and ends each with all that descends from it; several may be at work at once.

    `signals` are those that came meanwhile and take effect when the guard is over.
    """

    def __init__(self, prctl: _Prctl, held: _Held) -> None:
        """Only `guard` makes one."""
        self._prctl = prctl
        self._handlers = held.handlers
        self.signals: Sequence[int] = held.signals
        self._known = frozenset(process.identity for process in _children(os.getpid()))
        self._at_work: dict[int, Child] = {}

    def fork(self, function: Callable[[], Any], output: Path | None = None) -> Child:
        """Fork a child that calls `function`, as `run_forked` does.

        Raises IsolationError where there is no fork, or CUDA was initialised before it.
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
            oom_kills = _oom_kills()
            parent = os.getpid()
            flush_output()
            pid = _fork()
            if pid == 0:
                os.close(receiver)
                _child(function, sender, sink, parent, self._prctl, self._handlers)
        except OSError as error:
            os.close(receiver)
            raise IsolationError(f"fork failed: {error.strerror}") from error
        finally:
            os.close(sender)
            if sink is not None:
                os.close(sink)
        child = self._at_work[pid] = Child(pid, receiver, output, oom_kills)
        return child

    def end(self, child: Child, *, timed_out: bool = False) -> Ended:
        """Kill and reap what there still is of the child, and of what it left; say how it ended.

        The other children and what descends from them live on.
        """
        known = self._known | self._others(child)
        if timed_out:
            _dump_stacks(child.pid, known)
        survivors = _sweep(child.pid, known)
        seconds = time.monotonic() - child.began
        child.close()
        del self._at_work[child.pid]
        return child.ended(seconds, timed_out, survivors)

    def end_all(self) -> None:
        """End every child that is still at work."""
        for child in list(self._at_work.values()):
            self.end(child)

    def _others(self, child: Child) -> frozenset[tuple[int, int]]:
        others = self._at_work.keys() - {child.pid}
        if not others:
            return frozenset()
        return frozenset(each.identity for each in _children(os.getpid()) if each.pid in others)


@contextlib.contextmanager
def guard() -> Iterator[Guard]:
    """Hold signals back and take in orphans while children are at work; at its end there are none.

    SIGINT, SIGTERM and SIGHUP that come meanwhile take effect after that.
    """
    prctl = _load_prctl()
    with _interrupts_held() as held:
        guarding = Guard(prctl, held)
        was_subreaper = prctl.subreaper()
        prctl.set_subreaper(True)
        try:
            yield guarding
        finally:
            guarding.end_all()
            prctl.set_subreaper(was_subreaper)


@dataclass
class _Held:
    """Which signals came while they were held, and the handlers that they will meet."""

    signals: list[int]
    handlers: Mapping[signal.Signals, Any]


@contextlib.contextmanager
def _interrupts_held() -> Iterator[_Held]:
    # An exception raised by a handler could hit the parent between any two instructions, such as
    # before it knows the child's pid. So note the signal, clean up, and let it act afterwards.
    handlers: dict[signal.Signals, Any] = {}
    held = _Held([], handlers)
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


def _wait(child: Child, deadline: float, watch: Callable[[], None] | None, guarding: Guard) -> bool:
    """Wait for the child, or for a signal to this process; tell whether its time ran out."""
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
    prctl: _Prctl,
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
        prctl.die_with_parent()
        if os.getppid() != parent:
            os._exit(code)
        _redirect(sink)
        try:
            answer = {"value": function()}
            data = json.dumps(answer)
            code = 0
        except BaseException:
            data = _error_json()
            code = 1
        # A process that the function forked may come back here too; it has nothing to say.
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
        faulthandler.register(_DUMP_SIGNAL, file=faults, all_threads=True)


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
    # Python 3.12 warns of a fork beside threads. Importing torch can start some, and the child must
    # inherit the imports: that is the point.
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


def read_tail(path: Path) -> str:
    """The `tail` of a file; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES - 1))
            return tail(file.read().decode("utf-8", "replace"))
    except OSError:
        return ""


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


def _cuda_initialised() -> bool:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    asked = getattr(cuda, "is_initialized", None)
    return bool(asked()) if callable(asked) else False


# Descendants


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    session: int
    started: int

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, self.started


def _processes() -> list[_Process]:
    """Every process that /proc shows; none where there is no /proc."""
    found = []
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command name comes in parentheses and may hold anything, also parentheses.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > 19:
            found.append(_Process(int(name), int(fields[1]), int(fields[3]), int(fields[19])))
    return found


def _children(pid: int) -> list[_Process]:
    return [process for process in _processes() if process.parent == pid]


def _strays(pid: int, known: frozenset[tuple[int, int]]) -> list[_Process]:
    """The child `pid` and what descends from it, also what was orphaned and came to this process.

    Left alone: the children that this process had before (`known`), and those in its own session,
    which only it can have started since: the child left that session at once.
    """
    me, session = os.getpid(), os.getsid(0)
    below: dict[int, list[_Process]] = {}
    for process in _processes():
        below.setdefault(process.parent, []).append(process)
    waiting = [
        process
        for process in below.get(me, ())
        if process.pid == pid or (process.identity not in known and process.session != session)
    ]
    found = []
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += below.get(process.pid, ())
    return found


def _sweep(pid: int, known: frozenset[tuple[int, int]]) -> tuple[int, ...]:
    """Kill and reap the child and all that descends from it; the ids of those that do not die."""
    me = os.getpid()
    deadline = time.monotonic() + _SWEEP_SECONDS
    if not _processes():
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return ()
    while strays := _strays(pid, known):
        for process in strays:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        for process in strays:
            if process.parent == me:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
        if time.monotonic() >= deadline:
            return tuple(sorted(process.pid for process in strays))
        time.sleep(0.005)
    return ()


def _dump_stacks(pid: int, known: frozenset[tuple[int, int]]) -> None:
    """Ask every descendant that listens to write the stacks of its threads."""
    asked = False
    for process in _strays(pid, known):
        if _catches(process.pid, _DUMP_SIGNAL):
            with contextlib.suppress(OSError):
                os.kill(process.pid, _DUMP_SIGNAL)
                asked = True
    if asked:
        time.sleep(_DUMP_SECONDS)


def _catches(pid: int, number: int) -> bool:
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except (OSError, ValueError):
        pass
    return False


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, in our cgroup if it counts."""
    places = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
    with contextlib.suppress(OSError), open("/proc/self/cgroup") as file:
        places[:0] = [
            f"/sys/fs/cgroup{line[3:].strip()}/memory.events"
            for line in file
            if line.startswith("0::")
        ]
    for place in [*places, "/proc/vmstat"]:
        with contextlib.suppress(OSError), open(place) as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


class _Prctl:
    """prctl(2) where there is one; nothing happens elsewhere."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def subreaper(self) -> bool:
        if self._function is None:
            return False
        value = ctypes.c_int(0)
        self._function(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0)
        return bool(value.value)

    def set_subreaper(self, on: bool) -> None:
        """Make this process the one that inherits its orphaned descendants, or no longer."""
        if self._function is not None:
            self._function(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on), 0, 0, 0)

    def die_with_parent(self) -> None:
        if self._function is not None:
            self._function(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)


def _load_prctl() -> _Prctl:
    try:
        return _Prctl(ctypes.CDLL(None, use_errno=True).prctl)
    except (OSError, AttributeError):
        return _Prctl(None)
