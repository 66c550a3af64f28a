"""A referee of schedules: it carries out tasks as it is asked to, and knows what may never happen.

It counts what is taken on its own, from tasks alone, so it shares no sum with what it checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from matrix.run.job import HowEnded, Job, JobEnd, WhyNot
from matrix.run.machine import Demand, Machine, lacks
from matrix.run.schedule import Schedule
from matrix.run.task import Finish, Present, SchedulePolicy, ScheduleStep, Task, TaskKind


class Referee:
    """Carries out a schedule; each assertion in it is a law.

    `going` are the tasks that go on, oldest first. `begun` are all that began, `ends` all ends.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        machines: Iterable[Machine],
        present: Mapping[str, Iterable[Present]] | None = None,
        policy: SchedulePolicy | None = None,
    ) -> None:
        self.jobs = {job.key: job for job in jobs}
        self.policy = policy or SchedulePolicy()
        self.machines = {machine.name: machine for machine in machines}
        self.going: list[Task] = []
        self.begun: list[Task] = []
        self.ends: dict[str, JobEnd] = {}
        self.lost_with: Counter[str] = Counter()
        self.builds = {job.environment: _build_of(job, self.jobs) for job in self.jobs.values()}
        self._stopped = False
        # Machines on which an environment could not be built or removed.
        self._failed: set[tuple[str, str]] = set()
        # Machines on which a job ran, and which may be why that failed.
        self._avoided: set[tuple[str, str]] = set()
        self._stuck: Counter[str] = Counter()
        # Machines and their GPUs that a run had of which one failed.
        self._failed_gpus: set[tuple[str, str]] = set()
        # By machine and environment: the MiB, and whether it is built.
        self._there: dict[str, dict[str, tuple[int, bool]]] = {}
        for name in self.machines:
            found = (present or {}).get(name, ())
            self._there[name] = {item.environment: (item.disk_mib, item.usable) for item in found}
        self._schedule = Schedule(self.jobs.values(), self.machines.values(), present, policy)

    @property
    def is_over(self) -> bool:
        return self._schedule.is_over

    @property
    def left(self) -> int:
        return self._schedule.left

    def start(self) -> ScheduleStep:
        return self._take(self._schedule.start())

    def end(
        self, task: Task, *, works: bool = True, record: bool = True, machine_fault: bool = False
    ) -> ScheduleStep:
        """End a task: a build or a removal that works or not, a run with or without a record."""
        self.going.remove(task)
        there = self._there[task.machine]
        mib, _ = there[task.environment]
        records = {}
        if not works and task.kind != TaskKind.RUN:
            self._failed.add((task.machine, task.environment))
            self._stuck[task.machine] += mib if task.kind == TaskKind.REMOVE else 0
        if task.kind == TaskKind.BUILD:
            there[task.environment] = mib, works
        elif task.kind == TaskKind.REMOVE and works:
            del there[task.environment]
        elif task.kind == TaskKind.RUN and record:
            assert task.job is not None
            records = {task.job: f"{task.job}.json"}
        if task.job is not None and (machine_fault or not records):
            self._avoided.add((task.machine, task.job))
        failed = task.gpus if machine_fault else ()
        self._failed_gpus |= {(task.machine, device) for device in failed}
        finish = Finish(
            works=works,
            seconds=1.0,
            records=records,
            machine_fault=machine_fault,
            failed_gpus=failed,
        )
        step = self._schedule.ended(task, finish)
        for end in step.ends:
            assert (end.record is not None) == (end.how == HowEnded.DONE)
        return self._take(step)

    def lose(self, machine: str) -> ScheduleStep:
        """Lose a machine with all that goes on there."""
        gone = [task for task in self.going if task.machine == machine]
        self.going = [task for task in self.going if task.machine != machine]
        del self._there[machine], self.machines[machine]
        for task in gone:
            if task.kind != TaskKind.REMOVE:
                self.lost_with[task.job or task.environment] += 1
        step = self._take(self._schedule.lost(machine))
        # An end that comes late changes nothing.
        for task in gone:
            assert self._schedule.ended(task, Finish(works=True)) == ScheduleStep()
        return step

    def join(self, machine: Machine) -> ScheduleStep:
        self.machines[machine.name] = machine
        self._there[machine.name] = {}
        return self._take(self._schedule.joined(machine))

    def stop(self) -> ScheduleStep:
        self._stopped = True
        step = self._take(self._schedule.stop())
        assert not step.tasks
        return step

    def _take(self, step: ScheduleStep) -> ScheduleStep:
        for end in step.ends:
            assert end.job in self.jobs
            assert end.job not in self.ends, "a job ends once"
            assert all(task.job != end.job for task in self.going), "it ends after its run"
            self.ends[end.job] = end
            if end.how == HowEnded.SET_ASIDE:
                assert len(end.machines) >= self.policy.losses
            if end.why in (WhyNot.BUILD_FAILED, WhyNot.NO_RECORD) and not self._stopped:
                self._check_tries(self.jobs[end.job])
        for task in step.tasks:
            assert task.number not in {other.number for other in self.begun}
            self.begun.append(task)
            self._begin(task)
            self.going.append(task)
        self._check_limits()
        self._check_idle()
        assert self._schedule.left == len(self.jobs) - len(self.ends)
        return step

    def _begin(self, task: Task) -> None:
        there, here = self._there[task.machine], self._going_in(task)
        if task.kind == TaskKind.BUILD:
            assert not here, "an environment is built while nothing goes on in it"
            assert not there.get(task.environment, (0, False))[1], "it is built once"
            old = there.get(task.environment, (0, False))[0]
            there[task.environment] = self.builds[task.environment].disk_mib, False
            if self.builds[task.environment].disk_mib > old:
                assert self._disk(task.machine) <= self.machines[task.machine].disk_mib
        elif task.kind == TaskKind.REMOVE:
            assert task.environment in there
            assert not here, "no environment is removed in use"
        else:
            assert task.job is not None
            job = self.jobs[task.job]
            assert task.environment == job.environment
            assert task.demand == job.demand
            assert (task.machine, task.job) not in self._avoided, "it runs elsewhere"
            assert task.job not in self.ends, "a job that ended does not run"
            assert all(other.job != task.job for other in self.going), "it runs once at a time"
            assert there[task.environment][1], "it runs in an environment that is built"
            assert all(other.kind == TaskKind.RUN for other in here)
            assert len(here) < self.policy.runs_at_once
            self._check_gpus(task)
        same = [other for other in self.going if other.machine == task.machine]
        if self._suspect(task):
            # Else it would not be known which of them the machine was lost with.
            assert not any(map(self._suspect, same)), "only one that was on a lost machine runs"

    def _check_gpus(self, task: Task) -> None:
        """No run gets a GPU that failed where the machine has enough others."""
        fit = {
            gpu.device
            for gpu in self.machines[task.machine].gpus
            if gpu.free_mib >= task.demand.gpu_mib
        }
        failed = {device for device in fit if (task.machine, device) in self._failed_gpus}
        if len(fit - failed) >= task.demand.gpus:
            assert not failed & set(task.gpus), "it gets a GPU that works"

    def _suspect(self, task: Task) -> bool:
        """Tell whether a machine was lost before while it did this."""
        if task.kind == TaskKind.REMOVE:
            return False
        return self.lost_with[task.job or task.environment] > 0

    def _going_in(self, task: Task) -> list[Task]:
        return [
            other
            for other in self.going
            if other.machine == task.machine and other.environment == task.environment
        ]

    def _disk(self, machine: str) -> int:
        return sum(mib for mib, _ in self._there[machine].values())

    def _check_limits(self) -> None:
        for machine in self.machines.values():
            tasks = [task for task in self.going if task.machine == machine.name]
            assert sum(task.demand.cores for task in tasks) <= machine.cores
            assert sum(task.demand.memory_mib for task in tasks) <= machine.memory_mib
            taken: Counter[str] = Counter()
            alone = [device for task in tasks if task.demand.whole_gpus for device in task.gpus]
            every = [device for task in tasks for device in task.gpus]
            assert all(every.count(device) == 1 for device in alone), "nobody else has these GPUs"
            for task in tasks:
                assert len(set(task.gpus)) == (task.demand.gpus if task.demand.gpu_mib else 0)
                for device in task.gpus:
                    taken[device] += task.demand.gpu_mib
            free = {gpu.device: gpu.free_mib for gpu in machine.gpus}
            assert all(mib <= free[device] for device, mib in taken.items())
            if self.policy.builds_at_once is not None:
                builds = sum(task.kind == TaskKind.BUILD for task in tasks)
                assert builds <= self.policy.builds_at_once

    def _check_idle(self) -> None:
        """No machine has nothing to do while a job waits that it could take."""
        busy = {task.machine for task in self.going}
        running = {task.job for task in self.going}
        built = {task.environment for task in self.going if task.kind == TaskKind.BUILD}
        for name in self.machines:
            if name in busy or self._stopped:
                continue
            for key, job in self.jobs.items():
                assert (
                    key in self.ends
                    or key in running
                    or job.environment in built
                    or not self._could_take(name, job)
                ), f"{name} has nothing to do, and {key} waits"

    def _check_tries(self, job: Job) -> None:
        """No job is given up while a machine could take it that has not tried."""
        tried = sum(environment == job.environment for _, environment in self._failed)
        tried += sum(key == job.key for _, key in self._avoided)
        if tried < self.policy.tries:
            assert not any(self._could_take(name, job) for name in self.machines)

    def _could_take(self, name: str, job: Job) -> bool:
        machine = self.machines[name]
        usable = replace(machine, disk_mib=max(0, machine.disk_mib - self._stuck[name]))
        demands = job.demand, self.builds[job.environment]
        tried = (name, job.environment) in self._failed or (name, job.key) in self._avoided
        return not tried and not lacks(usable, demands)


def _build_of(job: Job, jobs: Mapping[str, Job]) -> Demand:
    """Return what the build of a job's environment takes, for all its jobs."""
    same = [other for other in jobs.values() if other.environment == job.environment]
    return Demand(
        cores=max(other.build.cores for other in same),
        memory_mib=max(other.build.memory_mib for other in same),
        disk_mib=max(other.demand.disk_mib for other in same),
    )
