"""Run the jobs of a schedule on this machine: tox makes the environments and starts the cells.

Each child has a session of its own and a log.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from matrix._util.addresses import without_logins
from matrix._util.child import Child, end_together
from matrix._util.process import adopting_orphans, below, processes
from matrix._util.reported import last_line
from matrix._util.text import clean, clip
from matrix.record.model import ErrorKind, Platform, RecordError, RunError
from matrix.record.reader import read
from matrix.run.engine import BEGINS, Engine
from matrix.run.environments import Environments, EnvironmentsError, is_whole
from matrix.run.limits import visible
from matrix.run.own_tox import unlocked
from matrix.run.process import end_all
from matrix.run.rerun import Rerun, command, outer_environ, records_in
from matrix.run.run_state import Happened
from matrix.run.stage import Stage, stage_of
from matrix.run.task import Finish, ScheduleStep, Task, TaskKind
from matrix.run.watcher import Working

_LOOK = 0.1
_STAGE = 1.0  # seconds between two looks at the record of a run, or more:
_SHARE = 20  # of the time one look in so many, where a folder has a million records
_OF_MACHINE = frozenset(
    {
        *(ErrorKind.NO_COMPILER, ErrorKind.NO_SPACE, ErrorKind.UNUSABLE_TMPDIR, ErrorKind.NO_FORK),
        *(ErrorKind.NO_PYTHON, ErrorKind.NO_MEMORY, ErrorKind.NOT_BUILT, ErrorKind.BROKEN_INSTALL),
        *(ErrorKind.NO_GPU, ErrorKind.NO_DRIVER, ErrorKind.DRIVER_TOO_OLD, ErrorKind.GPU_FULL),
        *(ErrorKind.GPU_UNSUPPORTED, ErrorKind.GPU_FAULT, ErrorKind.PORT_TAKEN),
    }
)
"""The ends of a run that another machine may not come to."""
_OF_GPU = frozenset({ErrorKind.GPU_FAULT, ErrorKind.NO_GPU, ErrorKind.NO_DRIVER})
"""Of these the ends that another GPU of the machine may not come to, whatever runs on it.

Not that it is full, which passes, or that it is too old for a cell.
"""
_DETAIL = 200  # characters of a log's last line


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """Where cells run: a checkout, how to call its tox, and its environments."""

    root: Path
    tox: Sequence[str]
    environments: Environments


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
    looks_at: float = 0.0


@dataclass(kw_only=True)
class LocalEngine(Engine):
    """Carries out a schedule on this machine.

    `made` are the environments that were made already, so that tox takes them as they are.
    """

    place: RunPlace
    made: set[str] = field(default_factory=set)
    _work: list[_Child] = field(default_factory=list)
    _finished: list[tuple[Task, Finish]] = field(default_factory=list)
    _others: frozenset[int] = frozenset()

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        self._others = frozenset(
            process.pid for process in processes() if process.parent == os.getpid()
        )
        with adopting_orphans():
            try:
                yield
            finally:
                self._kill()
                self._end_orphans()

    def _is_busy(self) -> bool:
        return bool(self._work or self._finished)

    def _interrupt(self) -> None:
        for work in self._work:
            work.child.interrupt()

    def _kill(self) -> list[ScheduleStep]:
        end_together(work.child for work in self._work)
        return []

    def _wait(self) -> list[ScheduleStep]:
        """Return what follows from the end of a task; where none ended, look and wait."""
        if self._finished:
            return [self.schedule.ended(*self._finished.pop(0))]
        for work in self._work:
            if (status := work.child.poll()) is not None:
                self._work.remove(work)
                self._end_orphans()
                return [self.schedule.ended(work.task, self._finish(work, status))]
        self._look()
        time.sleep(_LOOK)
        return []

    def _begin(self, task: Task) -> None:
        """Begin a task; one that cannot begin has ended at once."""
        kind = "build" if task.kind is TaskKind.BUILD else task.kind
        name = task.environment if task.job is None else task.job.replace("/", ".")
        path = self.state.logs / f"{name}.{kind}.log"
        if (begins := BEGINS.get(task.kind)) is not None:
            self._note(begins, environment=task.environment, job=task.job, log=str(path))
        try:
            path.write_bytes(b"")
            line = self._line(task)
            folders = tuple(sorted({self.records / of.platform for of in self._jobs(task)}))
            before = frozenset().union(*(records_in(at, task.environment) for at in folders))
            child = Child(
                line,
                path,
                environ=self._environ(task),
                cwd=self.place.root,
                keeps=(self.state.held,),
            )
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
            options=("--records", self._records(), *self.options),
            pytest_args=job.pytest_args,
            only_make=built,
            made=not built and self._is_made(job.environment),
        )
        place = self.place
        return command(run, unlocked(place.tox, place.root, place.environments.folder))

    def _is_made(self, name: str) -> bool:
        """Return whether an environment was made in this run and nobody removed it meanwhile."""
        return name in self.made and is_whole(self.place.environments.folder / name)

    def _records(self) -> str:
        """Return the folder of records as a cell, which runs in the checkout, is to be given it."""
        with contextlib.suppress(ValueError):
            return str(self.records.relative_to(self.place.root))
        return str(self.records)

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
        fault = None if works or not new else _fault_here(new[-1], task.kind)
        finish = Finish(
            works=works,
            seconds=took,
            records=records,
            machine_fault=fault is not None,
            failed_gpus=_failed_gpus(task.gpus, fault),
            log=str(log),
            detail=fault.reason if fault else self._last(log) if not works and not new else "",
        )
        self._note_gpus(task, finish)
        return finish

    def _look(self) -> None:
        """Look where the runs stand, and let the watcher show it."""
        for work in self._work:
            began = time.monotonic()
            if work.task.kind is TaskKind.RUN and began > work.looks_at:
                self._look_at(work)
                took = time.monotonic() - began
                work.looks_at = began + max(_STAGE, _SHARE * took)
        working = [
            Working(task=work.task, began=work.began, log=work.child.log, stage=work.stage)
            for work in self._work
        ]
        with contextlib.suppress(OSError):
            self.watcher.tick(working)

    def _look_at(self, work: _Child) -> None:
        """Read the record of an unfinished run, where it was written since the last time."""
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
            environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        return environ

    def _last(self, log: Path) -> str:
        with contextlib.suppress(OSError):
            return clip(clean(without_logins(last_line(log))), _DETAIL)
        return ""


def _failed_gpus(gpus: tuple[str, ...], fault: RunError | None) -> tuple[str, ...]:
    """Return those of the GPUs of a task of which one failed, by this fault of the machine.

    Of several these are the ones that no longer answer, or all where each still answers.
    """
    if fault is None or fault.kind not in _OF_GPU:
        return ()
    answer = {gpu.device for gpu in visible()} if len(gpus) > 1 else set()
    return tuple(device for device in gpus if device not in answer) or gpus


def _fault_here(path: Path, kind: TaskKind) -> RunError | None:
    """Return why a task failed, by its record, where this machine may be the cause; else None.

    What made an install fail is unknown where it is not one of the known reasons, as where the
    index did not answer.
    """
    try:
        error = read(path).error
    except RecordError as unreadable:
        reason = clip(clean(str(unreadable)), _DETAIL)
        return RunError(kind=ErrorKind.INTERNAL, reason=reason)
    if error is None:
        return None
    unknown = kind is TaskKind.BUILD and error.kind is ErrorKind.INTERNAL
    if not unknown and error.kind not in _OF_MACHINE:
        return None
    return replace(error, reason=clip(clean(error.reason), _DETAIL))


def _why(error: OSError) -> str:
    return f"{error.filename or 'tox'}: {error.strerror or error}"
