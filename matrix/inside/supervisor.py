"""Cases side by side, each under a supervisor: a process that does what is done for a single case.

A supervisor is forked from this process, so it has torch and vLLM, and forks the case's own child.
It is the subreaper of the case: the case's orphans come to it, so what one case leaves behind is
not confused with what its neighbours still need. A supervisor that dies takes its case with it and
nothing else.
"""

from __future__ import annotations

import dataclasses
import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from matrix.inside import isolation
from matrix.inside.ended import Ended, read_tail
from matrix.inside.isolation import ForkedChild, Guard, IsolationError

_TICK_SECONDS = 0.05
_GRACE_SECONDS = 30.0  # how much later than its case a supervisor must have come to its end


class SupervisedCase(Protocol):
    """The task of a supervisor: one case."""

    @property
    def output(self) -> Path:
        """The file for what the case's child writes to stdout and stderr."""

    def run(self) -> Any:
        """Run the case, in its child; return JSON."""

    def watch(self) -> None:
        """Look at the running case, in this process: about twenty times a second."""


_Task = TypeVar("_Task", bound=SupervisedCase)
_AnyTask_contra = TypeVar("_AnyTask_contra", contravariant=True)


class _CutShort(Protocol[_AnyTask_contra]):
    """Is called with a task that was killed, and with whether a signal was the cause."""

    def __call__(self, task: _AnyTask_contra, /, *, by_signal: bool) -> None:
        """Take note of it."""


def supervise(
    tasks: Iterable[_Task],
    jobs: int,
    *,
    timeout: float,
    finished: Callable[[_Task, Ended], None],
    cut_short: _CutShort[_Task],
    stopped: Callable[[], bool],
) -> None:
    """Run the tasks in their order, up to `jobs` of them at once, each for at most `timeout` s.

    A task is taken from `tasks` when it begins; `finished` is called with how its child ended, in
    the order of the ends. Once `stopped` returns True, or a call raises an error, or SIGINT,
    SIGTERM or SIGHUP comes to this process, no task begins and those at work are killed with all
    that descends from them: `cut_short` is called with each, and with whether it was by a signal.
    Then the error continues, or the signal takes effect.
    """
    waiting = iter(tasks)
    at_work: dict[ForkedChild, _Task] = {}
    with isolation.guard() as guard:
        try:
            while True:
                while len(at_work) < jobs and not (stopped() or guard.signals):
                    task = next(waiting, None)
                    if task is None:
                        break
                    try:
                        at_work[_fork_supervisor(guard, task, timeout)] = task
                    except IsolationError as error:
                        finished(
                            task,
                            Ended(kind="raised", seconds=0.0, error=f"IsolationError: {error}"),
                        )
                if not at_work or stopped() or guard.signals:
                    break
                over = _over(at_work, timeout)
                for task in at_work.values():
                    task.watch()
                for child, timed_out in over:
                    ended = _of_the_case(guard.end(child, timed_out=timed_out), at_work[child])
                    task = at_work.pop(child)
                    task.watch()
                    finished(task, ended)
        finally:
            for child in at_work:
                guard.end(child)
            for task in at_work.values():
                cut_short(task, by_signal=bool(guard.signals))


def _fork_supervisor(guard: Guard, task: SupervisedCase, timeout: float) -> ForkedChild:
    def supervised() -> dict[str, Any]:
        ended = isolation.run_forked(task.run, timeout=timeout, output=task.output)
        return dataclasses.asdict(ended)

    return guard.fork(supervised)


def _over(children: Iterable[ForkedChild], timeout: float) -> list[tuple[ForkedChild, bool]]:
    """Wait a moment; return the children that have ended, or (True) should have long ago."""
    poller = select.poll()
    by_pipe = {child.receiver: child for child in children if child.open}
    for receiver in by_pipe:
        poller.register(receiver, select.POLLIN)
    for receiver, _ in poller.poll(_TICK_SECONDS * 1000):
        by_pipe[receiver].read()
    now = time.monotonic()
    late = timeout + _GRACE_SECONDS
    ends = ((child, child.reap(), now - child.began > late) for child in children)
    return [(child, not ended) for child, ended, timed_out in ends if ended or timed_out]


def _of_the_case(supervisor: Ended, task: SupervisedCase) -> Ended:
    """Return how the case ended: its supervisor's answer, or without one that supervisor's end."""
    if supervisor.kind == "returned":
        answer = supervisor.value
        return Ended(**{**answer, "survivors": tuple(answer["survivors"])})
    return dataclasses.replace(supervisor, output=read_tail(task.output))
