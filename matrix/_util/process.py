"""Processes of this machine by /proc, and what Linux's prctl does for a process and its children.

Standard library only: code inside a cell imports this module too. On other systems than Linux there
is no /proc and no prctl; the functions then find nothing and do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
# Loaded before any fork: a dlopen between fork and exec could wait for a lock for ever.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process as /proc shows it; `started` is in clock ticks since the machine started.

    `state` is the kernel's letter (T and t: stopped). `seconds` is the CPU time that the process
    and its children that it has reaped used.
    """

    pid: int
    parent: int
    session: int
    started: int
    state: str = ""
    seconds: float = 0.0

    @property
    def identity(self) -> tuple[int, int]:
        """Return what no other process has, even after the kernel gave the id to another one."""
        return self.pid, self.started


def processes() -> list[Process]:
    """Return every process that /proc shows; none if there is no /proc."""
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    found = []
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command name comes in parentheses and may hold anything, also parentheses.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended
        if len(fields) > 19:
            found.append(
                Process(
                    pid=int(name),
                    parent=int(fields[1]),
                    session=int(fields[3]),
                    started=int(fields[19]),
                    state=fields[0].decode("ascii", "replace"),
                    seconds=sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"),
                )
            )
    return found


def below(ancestors: Iterable[int], every: Iterable[Process]) -> list[Process]:
    """Return the processes of `every` that descend from these ids, without those themselves."""
    children: dict[int, list[Process]] = {}
    for process in every:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = list(ancestors)
    while waiting:
        # Each family is taken once: a snapshot of a changing tree could hold a loop.
        family = children.pop(waiting.pop(), [])
        found += family
        waiting += [process.pid for process in family]
    return found


def signal_name(number: int) -> str:
    """Return the name of a signal, such as `SIGKILL`; `signal 99` for a number without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def is_subreaper() -> bool:
    """Tell whether the orphaned descendants of this process come to it."""
    value = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value))
    return bool(value.value)


def set_subreaper(on: bool) -> None:  # noqa: FBT001 - a setter of one boolean
    """Have the orphaned descendants of this process come to it, or no longer."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on))


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Let orphans of a child come to this process, so that they can be found and ended."""
    before = is_subreaper()
    set_subreaper(True)
    try:
        yield
    finally:
        set_subreaper(before)


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when the thread that started it ends.

    SIGTERM, unless SIGKILL is safe: only the process itself can end what it started in sessions of
    its own.
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number))


def _prctl(option: int, value: object) -> None:
    if _LIBC is not None:
        _LIBC.prctl(option, value, 0, 0, 0)
