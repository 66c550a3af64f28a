"""Run the jobs of a schedule on this machine: tox makes the environments and starts the cells.

Each child has a session of its own and a log. Nothing is decided here: the schedule says what
begins, and is told what ended.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matrix._util.child import Child
from matrix._util.process import adopting_orphans, below, processes
from matrix._util.reported import last_line
from matrix._util.text import clean, clip
from matrix.record.model import Platform, RecordError
from matrix.record.reader import read
from matrix.run.environments import Environments, EnvironmentsError
from matrix.run.job import Job, JobEnd
from matrix.run.process import end_all, noting_signals
from matrix.run.rerun import Rerun, command, outer_environ, records_in
from matrix.run.run_state import Event, Happened, RunState
from matrix.run.stage import Stage, stage_of
from matrix.run.task import Finish, Step, Task, TaskKind, TaskSource
from matrix.run.watcher import Watcher, Working

INTERRUPT = 45.0
"""Seconds for tox to end a cell, whose record is written; tox itself gives it 30."""

_LOOK = 0.1
_DETAIL = 200  # characters of a log's last line
_BEGINS = {TaskKind.BUILD: Happened.BUILDS, TaskKind.RUN: Happened.RUNS}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where cells run: a checkout, how to call its tox, its environments, the folder of records.

    `options` are those of `matrix run --here` that every cell gets.
    """

    root: Path
    tox: Sequence[str]
    environments: Environments
    records: Path
    options: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Child:
    """A task at work, and the records that were there before it."""

    task: Task
    child: Child
    began: float
    folders: tuple[Path, ...]
    before: frozenset[tuple[str, int, int]]
    seen: tuple[Path, int] | None = None
    stage: Stage | None = None
    looked: float = 0.0


@dataclass(kw_only=True)
class LocalEngine:
    """Carries out a schedule of these jobs, by key, and reports to the watcher and the journal.

    `made` are the environments that were made already, so that tox takes them as they are.
    """

    place: Place
    jobs: Mapping[str, Job]
    schedule: TaskSource
    state: RunState
    watcher: Watcher
    clock: Callable[[], float] = time.time
    made: set[str] = field(default_factory=set)
    _work: list[_Child] = field(default_factory=list)
    _finished: list[tuple[Task, Finish]] = field(default_factory=list)
    _others: frozenset[int] = frozenset()
    _ends_at: float | None = None
    _heard: int = 0

    def carry_out(self) -> tuple[JobEnd, ...]:
        """Run every job to its end, and return how each ended.

        After SIGINT, SIGTERM or SIGHUP nothing more begins, and what goes on is ended: a cell
        writes its record meanwhile. A second signal kills it.
        """
        ends: list[JobEnd] = []
        self._others = frozenset(
            process.pid for process in processes() if process.parent == os.getpid()
        )
        with adopting_orphans(), noting_signals() as received:
            try:
                step = self.schedule.start()
                while True:
                    ends += self._follow(step)
                    if len(received) > self._heard:
                        self._heard = len(received)
                        step = self._stop(received[-1])
                    elif not self._work and not self._finished:
                        return tuple(ends)
                    else:
                        ended = self._next(received)
                        step = Step() if ended is None else self.schedule.ended(*ended)
            finally:
                self._kill()
                self._end_orphans()

    @property
    def stopped(self) -> bool:
        """Whether a signal ended the run."""
        return self._ends_at is not None

    def _stop(self, signal_name: str) -> Step:
        """Interrupt all that goes on, or kill it the second time; return what follows."""
        if self.stopped:
            self._kill()
            return Step()
        self._ends_at = time.monotonic() + INTERRUPT
        self._note(Happened.STOPPED, detail=signal_name)
        for work in self._work:
            work.child.interrupt()
        return self.schedule.stop()

    def _follow(self, step: Step) -> tuple[JobEnd, ...]:
        """Note the jobs that ended, and begin the tasks of a step."""
        for end in step.ends:
            self._note(Happened.ENDED, job=end.job, end=end)
        for task in step.tasks:
            self._begin(task)
        return step.ends

    def _next(self, received: Sequence[str]) -> tuple[Task, Finish] | None:
        """Wait for the end of a task; return None for a signal that came meanwhile."""
        while len(received) == self._heard:
            if self._finished:
                return self._finished.pop(0)
            for work in self._work:
                if (status := work.child.poll()) is not None:
                    self._work.remove(work)
                    self._end_orphans()
                    return work.task, self._finish(work, status)
            if self._ends_at is not None and time.monotonic() > self._ends_at:
                self._kill()
            self._look()
            time.sleep(_LOOK)
        return None

    def _begin(self, task: Task) -> None:
        """Begin a task; one that cannot begin has ended at once."""
        kind = "build" if task.kind is TaskKind.BUILD else task.kind
        name = task.environment if task.job is None else task.job.replace("/", ".")
        path = self.state.logs / f"{name}.{kind}.log"
        if (begins := _BEGINS.get(task.kind)) is not None:
            self._note(begins, environment=task.environment, job=task.job, log=str(path))
        try:
            line = self._line(task)
            path.write_bytes(b"")
            folders = tuple(sorted({self.place.records / of.platform for of in self._jobs(task)}))
            before = frozenset().union(*(records_in(at, task.environment) for at in folders))
            child = Child(line, path, environ=self._environ(task), cwd=self.place.root)
        except (OSError, EnvironmentsError) as error:
            detail = str(error) if isinstance(error, EnvironmentsError) else _why(error)
            self._finished.append((task, Finish(works=False, seconds=0.0, detail=detail)))
            return
        self._work.append(
            _Child(task=task, child=child, began=time.monotonic(), folders=folders, before=before)
        )

    def _line(self, task: Task) -> list[str]:
        """Return the command line of a task. Raises EnvironmentsError for one that must stay."""
        if task.kind is TaskKind.REMOVE:
            self.made.discard(task.environment)
            away = self.place.environments.remove(task.environment)
            return ["rm", "-rf", "--", str(away)]
        built = task.kind is TaskKind.BUILD
        job = self._jobs(task)[0]
        run = Rerun(
            name=job.environment,
            platform=job.platform,
            cases=job.cases,
            flags=job.flags,
            jobs=None if job.cases_at_once is None else str(job.cases_at_once),
            options=("--records", self._records(), *self.place.options),
            pytest_args=job.pytest_args,
            only_make=built,
            made=not built and job.environment in self.made,
        )
        return command(run, self.place.tox)

    def _records(self) -> str:
        """Return the folder of records as a cell, which runs in the checkout, is to be given it."""
        with contextlib.suppress(ValueError):
            return str(self.place.records.relative_to(self.place.root))
        return str(self.place.records)

    def _finish(self, work: _Child, status: int) -> Finish:
        """Return how a task ended, by its exit status and by the records that it left."""
        task, log = work.task, work.child.log
        took = time.monotonic() - work.began
        new = [path for path, _ in self._new(work)]
        records = {}
        if new and task.job is not None:
            records[task.job] = str(new[-1])
        elif new:
            records = {
                key: str(new[-1])
                for key, job in self.jobs.items()
                if job.environment == task.environment and job.platform == new[-1].parent.name
            }
        works = status == 0
        if task.kind is TaskKind.REMOVE and works:
            self._note(Happened.REMOVED, environment=task.environment, seconds=took)
        if task.kind is TaskKind.BUILD:
            self._note(
                Happened.BUILT,
                environment=task.environment,
                seconds=took,
                works=works,
                log=str(log),
                detail="" if works else self._last(log),
            )
            if works:
                self.made.add(task.environment)
        return Finish(
            works=works,
            seconds=took,
            records=records,
            log=str(log),
            detail=self._last(log) if not works and not new else "",
        )

    def _look(self) -> None:
        """Look where the runs stand, and let the watcher show it."""
        for work in self._work:
            if work.task.kind is TaskKind.RUN and time.monotonic() - work.looked > 1.0:
                work.looked = time.monotonic()
                self._look_at(work)
        working = [
            Working(task=work.task, began=work.began, log=work.child.log, stage=work.stage)
            for work in self._work
        ]
        with contextlib.suppress(OSError):
            self.watcher.tick(working)

    def _look_at(self, work: _Child) -> None:
        """Read the record of a run that goes on, where it was written since the last time."""
        # A folder may have a million records: it is looked through until the record is there.
        found = [work.seen] if work.seen else self._new(work)[-1:]
        for path, _ in found:
            # One that is just being replaced is read the next time.
            with contextlib.suppress(OSError, RecordError):
                now = path, path.stat().st_mtime_ns
                if work.stage is None or work.seen != now:
                    work.stage, work.seen = stage_of(read(path)), now

    def _new(self, work: _Child) -> list[tuple[Path, int]]:
        """Return the records that came since the task began, with their times, oldest first."""
        kept = {name for name, *_ in work.before}
        found = [
            (folder / name, at)
            for folder in work.folders
            for name, at, _ in records_in(folder, work.task.environment)
            if name not in kept
        ]
        return sorted(found, key=lambda pair: pair[0].name)

    def _kill(self) -> None:
        for work in self._work:
            work.child.end()

    def _end_orphans(self) -> None:
        """Kill what a child that ended left to this process, with all below it."""
        kept = {work.child.pid for work in self._work} | self._others

        def orphans() -> list[int]:
            every = processes()
            left = [
                process.pid
                for process in every
                if process.parent == os.getpid() and process.pid not in kept
            ]
            return [*left, *(process.pid for process in below(left, every))]

        end_all(orphans)

    def _environ(self, task: Task) -> dict[str, str]:
        """Return the environment variables of a task: a run on cuda sees its GPUs alone."""
        environ = outer_environ()
        if task.job is not None and self.jobs[task.job].platform == Platform.CUDA:
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(task.gpus)
        return environ

    def _jobs(self, task: Task) -> list[Job]:
        """Return the job of a task, or all those of its environment."""
        if task.job is not None:
            return [self.jobs[task.job]]
        return [job for job in self.jobs.values() if job.environment == task.environment]

    def _note(self, what: Happened, **more: object) -> None:
        event = Event(what=what, at=self.clock(), **more)  # type: ignore[arg-type]
        self.state.note(event)
        # A terminal that is gone ends no run.
        with contextlib.suppress(OSError):
            self.watcher.event(event)

    def _last(self, log: Path) -> str:
        with contextlib.suppress(OSError):
            return clip(clean(last_line(log)), _DETAIL)
        return ""


def _why(error: OSError) -> str:
    return f"{error.filename or 'tox'}: {error.strerror or error}"
