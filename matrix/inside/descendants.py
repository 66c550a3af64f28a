"""The descendants of a forked child: find them, let them show their stacks, kill and reap them."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from matrix._util.process import Process, below, processes

DUMP_SIGNAL = signal.SIGUSR2
"""The signal on which a child writes the stacks of its threads."""

_STOPPED = ("T", "t")
_DUMP_SECONDS = 0.3
_SWEEP_SECONDS = 5.0


def children_of(pid: int) -> list[Process]:
    """Return the processes that this one started and that it has not reaped."""
    return [process for process in processes() if process.parent == pid]


def sweep(pid: int, known: frozenset[tuple[int, int]]) -> tuple[int, ...]:
    """Kill and reap the child and all that descends from it; return the ids of those that survive.

    `known` are the identities of the children that this process had before: they are left alone.
    Without /proc only the child and its process group are killed.
    """
    me = os.getpid()
    deadline = time.monotonic() + _SWEEP_SECONDS
    if not processes():
        # The group of a child that has not called setsid yet does not exist: kill the child itself.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)
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


def why_idle(pid: int, known: frozenset[tuple[int, int]]) -> str | None:
    """Return why the child could not get on, None if it could, or where /proc is not there.

    Somebody stopped one of its processes, or all of them together had no CPU time.
    """
    tree = _strays(pid, known)
    if any(process.state in _STOPPED for process in tree):
        return "one of its processes was stopped from outside"
    if tree and not any(process.seconds for process in tree):
        return "it had no CPU time"
    return None


def dump_stacks(pid: int, known: frozenset[tuple[int, int]]) -> None:
    """Ask every descendant that listens to write the stacks of its threads."""
    asked = False
    for process in _strays(pid, known):
        if _catches(process.pid, DUMP_SIGNAL):
            with contextlib.suppress(OSError):
                os.kill(process.pid, DUMP_SIGNAL)
                asked = True
    if asked:
        time.sleep(_DUMP_SECONDS)


def _strays(pid: int, known: frozenset[tuple[int, int]]) -> list[Process]:
    """Return the child `pid` and what descends from it, also orphans that came to this process.

    Left alone: the children that this process had before (`known`), and those in its own session,
    which only it can have started since: the child left that session at once.
    """
    me, session = os.getpid(), os.getsid(0)
    every = processes()
    own = [
        process
        for process in every
        if process.parent == me
        and (process.pid == pid or (process.identity not in known and process.session != session))
    ]
    return own + below([process.pid for process in own], every)


def _catches(pid: int, number: int) -> bool:
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except (OSError, ValueError):
        pass
    return False
