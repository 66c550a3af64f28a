"""The messages between a schedule and the engine that carries it out. Pure.

The engine makes a `matrix.run.schedule.Schedule(jobs, machines, present, policy)` and calls
`start()`, then `ended(task, finish)`, `lost(machine_name)`, `joined(machine, present)` and `stop()`
as these things happen, until `is_over`. Each returns a `ScheduleStep`: the tasks that begin now,
and the jobs that ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from matrix._util.enums import StrEnum
from matrix.run.job import JobEnd
from matrix.run.machine import Demand


class TaskKind(StrEnum):
    """The kind of a task: build an environment, run a job in one, remove one."""

    BUILD = "build"
    RUN = "run"
    REMOVE = "remove"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task of an engine on a machine; `number` distinguishes it from every other task.

    `job` is the key of the job that runs; None if an environment is built or removed. `demand`
    is what it takes until it ended. `gpus` are the devices that it has, for CUDA_VISIBLE_DEVICES.
    """

    number: int
    kind: TaskKind
    machine: str
    environment: str
    demand: Demand
    job: str | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How a task ended. `seconds` is how long it took.

    `works`: the environment is built, or it is removed; of a run it does not count. `records` has
    the paths of the records that the task left, by the keys of their jobs: of a run that of its
    job, of a build that failed those of jobs that it leaves without an environment. With
    `machine_fault` these say that the machine is, or may be, why it failed; `failed_gpus` are the
    devices of the task of which one, or the driver, failed. `log` and `detail` are as in `JobEnd`.
    """

    works: bool
    seconds: float | None = None
    records: Mapping[str, str] = field(default_factory=dict)
    machine_fault: bool = False
    failed_gpus: tuple[str, ...] = ()
    log: str | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class ScheduleStep:
    """The next step of a schedule: the tasks that begin now, and the jobs that ended."""

    tasks: tuple[Task, ...] = ()
    ends: tuple[JobEnd, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Present:
    """An environment that a machine has before the schedule begins, and which may be removed.

    `usable`: it is built, so that jobs of it need no build; else it only takes disk.
    """

    environment: str
    disk_mib: int
    usable: bool = True


@dataclass(frozen=True, kw_only=True)
class SchedulePolicy:
    """The policy of a schedule besides the limits of machines.

    `runs_at_once` is how many jobs may run in one environment on one machine: tox installs this
    project into it before each, so that one is safe. `builds_at_once` is how many environments a
    machine builds at once; None for as many as its cores allow. On `tries` machines a job is tried
    that may fail for its machine: its environment cannot be built, or its run leaves no record, or
    there is a record with a `machine_fault`. A job whose run lost `losses` machines is set aside.
    `overtakes` is how often a job may see others begin before it, on a machine that has what it
    needs, until nothing else begins there. `waits`: jobs that no machine fits wait for one that may
    join; else they end.
    """

    runs_at_once: int = 1
    builds_at_once: int | None = None
    tries: int = 2
    losses: int = 2
    overtakes: int = 16
    waits: bool = False


class TaskSource(Protocol):
    """The schedule that an engine asks: of many machines, or of the one task of a node."""

    def start(self) -> ScheduleStep:
        """Return what begins first."""

    def ended(self, task: Task, finish: Finish) -> ScheduleStep:
        """Take the end of a task, and return what follows."""

    def stop(self) -> ScheduleStep:
        """Begin nothing more, and return the jobs that end by that."""
