"""How long a selection takes: its schedule in simulated time. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from matrix._util.gc import gc_paused
from matrix.run.job import Job, JobEnd
from matrix.run.machine import Machine
from matrix.run.schedule import Schedule
from matrix.run.task import Finish, Present, SchedulePolicy, ScheduleStep, Task, TaskKind

_REMOVE_SECONDS = 5.0
"""How long the removal of an environment is thought to take; it has some 50,000 files."""

_WORKS = Finish(works=True)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """The result of a simulation. `seconds` is when the last job ended, `tasks` how many began."""

    seconds: float
    tasks: int
    ends: tuple[JobEnd, ...]


@gc_paused()  # a quarter of the CPU seconds of 100,000 jobs: benchmarks/schedule.py
def simulate(
    jobs: Iterable[Job],
    machines: Iterable[Machine],
    present: Mapping[str, Iterable[Present]] | None = None,
    policy: SchedulePolicy | None = None,
    *,
    seconds: Callable[[Task, Job | None], float] | None = None,
    lost: Mapping[str, Iterable[str]] | None = None,
) -> Simulated:
    """Carry out a schedule in which every task works.

    `seconds` is how long a task takes, given its job where it runs one; by default what the jobs
    estimate. `lost` is as in `Schedule`.
    """
    every = tuple(jobs)
    took = seconds or estimated_seconds(every)
    by_key = {job.key: job for job in every}
    schedule = Schedule(every, machines, present, policy, lost)
    going: list[tuple[float, int, Task]] = []
    ends: list[JobEnd] = []
    now, last, count = 0.0, 0.0, 0

    def follow(step: ScheduleStep) -> None:
        nonlocal last, count
        count += len(step.tasks)
        for task in step.tasks:
            job = None if task.job is None else by_key[task.job]
            heapq.heappush(going, (now + took(task, job), task.number, task))
        if step.ends:
            ends.extend(step.ends)
            last = now

    follow(schedule.start())
    while going and schedule.left:
        now, _, task = heapq.heappop(going)
        finish = _WORKS if task.job is None else Finish(works=True, records={task.job: task.job})
        follow(schedule.ended(task, finish))
    return Simulated(seconds=last, tasks=count, ends=tuple(ends))


def estimated_seconds(jobs: Iterable[Job]) -> Callable[[Task, Job | None], float]:
    """Return what says how long a task of these jobs is thought to take, given its job if any."""
    builds: dict[str, float] = {}
    for job in jobs:
        known = builds.get(job.environment, 0.0)
        builds[job.environment] = max(known, job.estimate.build_seconds)

    def seconds(task: Task, job: Job | None) -> float:
        if job is not None:
            return job.estimate.run_seconds
        return builds[task.environment] if task.kind == TaskKind.BUILD else _REMOVE_SECONDS

    return seconds
