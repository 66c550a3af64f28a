"""The loop of an engine: it begins what a schedule says, waits for ends, and heeds signals."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from matrix.run.job import Job, JobEnd
from matrix.run.process import noting_signals
from matrix.run.run_state import Happened, RunEvent, RunState
from matrix.run.task import Finish, ScheduleStep, Task, TaskKind, TaskSource
from matrix.run.watcher import Watcher

INTERRUPT = 45.0
"""Seconds for tox to end a cell, whose record is written; tox itself gives it 30."""

BEGINS = {TaskKind.BUILD: Happened.BUILDS, TaskKind.RUN: Happened.RUNS}
"""What the journal says where a task of a kind begins; nothing of a removal."""


@dataclass(kw_only=True)
class Engine(ABC):
    """Carries out a schedule of these jobs, by key, and reports to the watcher and the journal.

    `records` is the folder of their records, and `options` are those of `matrix run --here` that
    every cell gets. `gpu_faults` are what happened of GPUs that failed, each GPU once.
    """

    jobs: Mapping[str, Job]
    records: Path
    options: tuple[str, ...] = ()
    schedule: TaskSource
    state: RunState
    watcher: Watcher
    clock: Callable[[], float] = time.time
    gpu_faults: list[RunEvent] = field(default_factory=list)
    _failed_gpus: set[tuple[str, str]] = field(default_factory=set)
    _ends_at: float | None = None
    _patience: ClassVar[float] = INTERRUPT

    def carry_out(self) -> tuple[JobEnd, ...]:
        """Run every job to its end, and return how each ended.

        After SIGINT, SIGTERM or SIGHUP nothing more begins, and what is running is ended: a cell
        writes its record meanwhile. A second signal kills it.
        """
        ends: list[JobEnd] = []
        heard = 0
        with self._open(), noting_signals() as received:
            steps = [self.schedule.start()]
            while True:
                for step in steps:
                    ends += self._follow(step)
                if len(received) > heard:
                    heard = len(received)
                    steps = self._stop(received[-1])
                elif not self._is_busy():
                    return tuple(ends)
                else:
                    steps = self._wait()
                    if self._ends_at is not None and time.monotonic() > self._ends_at:
                        steps += self._kill()

    @property
    def stopped(self) -> bool:
        """Whether a signal ended the run."""
        return self._ends_at is not None

    @abstractmethod
    def _open(self) -> AbstractContextManager[object]:
        """Get ready; at the end of the block nothing runs."""

    @abstractmethod
    def _is_busy(self) -> bool:
        """Return whether a task continues, or has an end that was not reported yet."""

    @abstractmethod
    def _begin(self, task: Task) -> None:
        """Begin a task."""

    @abstractmethod
    def _wait(self) -> list[ScheduleStep]:
        """Wait a moment, show what is running, and return what follows from what has ended."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Have all that is running end, and write its records."""

    @abstractmethod
    def _kill(self) -> list[ScheduleStep]:
        """Kill all that is running; return what follows at once."""

    def _stop(self, signal_name: str) -> list[ScheduleStep]:
        """Interrupt all that is running, or kill it the second time; return what follows."""
        if self.stopped:
            return self._kill()
        self._ends_at = time.monotonic() + self._patience
        self._note(Happened.STOPPED, detail=signal_name)
        self._interrupt()
        return [self.schedule.stop()]

    def _follow(self, step: ScheduleStep) -> tuple[JobEnd, ...]:
        """Note the jobs that ended, and begin the tasks of a step."""
        for end in step.ends:
            self._note(Happened.ENDED, job=end.job, end=end)
        for task in step.tasks:
            self._begin(task)
        return step.ends

    def _jobs(self, task: Task) -> list[Job]:
        """Return the job of a task, or all those of its environment."""
        if task.job is not None:
            return [self.jobs[task.job]]
        return [job for job in self.jobs.values() if job.environment == task.environment]

    def _note_gpus(self, task: Task, finish: Finish, machine: str | None = None) -> None:
        """Note the GPUs that failed with a task, unless they have failed before."""
        new = {(task.machine, device) for device in finish.failed_gpus} - self._failed_gpus
        if new:
            self._failed_gpus |= new
            self.gpu_faults.append(
                self._note(
                    Happened.GPU_FAILED,
                    job=task.job,
                    machine=machine,
                    gpus=finish.failed_gpus,
                    log=finish.log,
                    detail=finish.detail,
                )
            )

    def _note(self, what: Happened, **more: object) -> RunEvent:
        event = RunEvent(what=what, at=self.clock(), **more)  # type: ignore[arg-type]
        self.state.note(event)
        # A terminal that is gone ends no run.
        with contextlib.suppress(OSError):
            self.watcher.event(event)
        return event
