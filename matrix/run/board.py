"""The jobs that wait, the machines, and who has which environment. Pure: a schedule changes it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from operator import itemgetter

from matrix.errors import MatrixError
from matrix.run.first_fit import FirstFit, Needs, fits
from matrix.run.job import Job
from matrix.run.machine import Demand, Lack, Machine, lacks
from matrix.run.slots import SERVES, Copy, Host
from matrix.run.task import Finish, Present, SchedulePolicy


class ScheduleError(MatrixError):
    """Jobs or machines with one name or key."""


class BoardEnvironment:
    """An environment, its jobs that wait (in their order), and the machines that have it.

    `build` is what its build takes. It cannot be built on the machines in `barred`; `failed` is the
    last of them that tried, and how that ended. Those in `lost` were lost as they built it.
    """

    __slots__ = (
        *("barred", "build", "building", "copies", "disk_mib", "failed", "lost", "name"),
        *("seconds", "waiting"),
    )

    def __init__(self, name: str, jobs: Sequence[Job]) -> None:
        """Take the jobs that share it."""
        self.name = name
        self.disk_mib = max([job.demand.disk_mib for job in jobs])
        self.build = jobs[0].build
        if len(jobs) > 1:
            self.build = Demand(
                cores=max([job.build.cores for job in jobs]),
                memory_mib=max([job.build.memory_mib for job in jobs]),
            )
        self.seconds = sum([job.estimate.run_seconds for job in jobs])
        self.seconds += max([job.estimate.build_seconds for job in jobs])
        self.waiting: list[BoardJob] = []
        self.copies: dict[str, Copy] = {}
        self.building = 0
        self.barred: set[str] = set()
        self.failed: tuple[str, Finish] | None = None
        self.lost: list[str] = []


class BoardJob:
    """A job of the board. `place` is its place in the order of all.

    `waits`: it neither runs nor has ended. `fresh`: it waits, and no machine that it fits has or
    builds its environment. `overtaken` is how often another has begun before it on a machine that
    it fits. `holder` is the machine that begins nothing else until it begins. `lost` are the
    machines that were lost as they ran it. Those in `avoids` ran it and may be why that failed;
    `failed` is the last of them, and how the run ended.
    """

    __slots__ = (
        *("avoids", "environment", "failed", "fresh", "holder", "job", "key", "lost", "needs"),
        *("overtaken", "place", "waits"),
    )

    def __init__(self, key: str, job: Job, environment: BoardEnvironment, place: int) -> None:
        """Take a job that waits."""
        self.job = job
        self.key = key
        self.environment = environment
        self.place = place
        build, run = environment.build, job.demand
        self.needs: Needs = (
            *(build.cores, build.memory_mib, environment.disk_mib),
            *(run.cores, run.memory_mib, run.gpu_mib),
        )
        self.waits = True
        self.fresh = True
        self.overtaken = 0
        self.holder: str | None = None
        self.lost: list[str] = []
        self.avoids: frozenset[str] = frozenset()
        self.failed: tuple[str, Finish] | None = None


class Board:
    """The state of a schedule. It is changed in place: copies would cost most of the time.

    `served` are the environments that some machine has or builds while a job of it waits. `dirty`
    are the machines on which something may begin now. `idle` are those that found nothing to do, by
    what they have. `offered` are the jobs that idle machines were asked to take. `now` is the
    machine that is looked at, which needs no word of its own changes. Every build takes
    `least_cores` or more, and every environment `most_disk` or less.
    """

    def __init__(self, jobs: Iterable[Job], policy: SchedulePolicy) -> None:
        """Put the jobs in their order: the environments that take longest first."""
        self.policy = policy
        self.environments: dict[str, BoardEnvironment] = {}
        self.items = self._in_order(jobs)
        self.fresh = FirstFit([item.needs for item in self.items])
        environments = self.environments.values()
        self.least_cores = min([found.build.cores for found in environments], default=0)
        self.most_disk = max([found.disk_mib for found in environments], default=0)
        self.served: dict[str, BoardEnvironment] = {}
        self.hosts: dict[str, Host] = {}
        self.dirty: set[str] = set()
        self.idle: dict[Needs, set[str]] = {}
        self.offered: set[int] = set()
        self.now: Host | None = None

    def add(self, machine: Machine, present: Iterable[Present]) -> None:
        """Add a machine with the environments that it has."""
        if machine.name in self.hosts:
            raise ScheduleError(
                f"machine {machine.name}: there are two of this name; give each its own"
            )
        host = self.hosts[machine.name] = Host(machine)
        self.dirty.add(machine.name)
        for item in sorted(present, key=lambda item: item.environment):
            environment = self.environments.get(item.environment)
            copy = host.add_present(item)
            if environment is not None:
                environment.copies[host.name] = copy
                self.review(environment)

    def remove(self, name: str) -> None:
        """Remove a machine, which no longer exists, and what it had."""
        host = self.hosts.pop(name)
        self.dirty.discard(name)
        self.wake(host)
        for name_of_copy in host.copies:
            if (environment := self.environments.get(name_of_copy)) is not None:
                del environment.copies[name]
                self.review(environment)
                self.offer_each(environment)

    def wake(self, host: Host) -> None:
        """Note that a machine is not idle."""
        if host.idle_as is not None:
            self.idle[host.idle_as].discard(host.name)
            host.idle_as = None

    def rest(self, host: Host) -> None:
        """Note that a machine found nothing to do."""
        host.idle_as = host.totals
        self.idle.setdefault(host.totals, set()).add(host.name)

    def offer(self, item: BoardJob) -> None:
        """Look again at the idle machines that could take a job, once for each choice."""
        if item.place in self.offered:
            return
        self.offered.add(item.place)
        for totals, names in self.idle.items():
            if names and fits(item.needs, totals):
                self.dirty |= names

    def offer_each(self, environment: BoardEnvironment) -> None:
        """Look again at the idle machines that could take a job of an environment."""
        for item in environment.waiting:
            self.offer(item)

    def can_have(self, host: Host, item: BoardJob) -> bool:
        """Tell whether a machine can build and run a job when nothing else runs there."""
        return (
            fits(item.needs, host.totals)
            and (not item.needs[5] or host.has_gpus(item.job.demand))
            and host.name not in item.environment.barred
            and host.name not in item.avoids
        )

    def take(self, item: BoardJob) -> None:
        """Note that a job no longer waits; `review` has to follow."""
        item.waits = False
        self._release(item)
        item.environment.waiting.remove(item)
        if item.fresh:
            item.fresh = False
            self.fresh.drop(item.place)

    def put_back(self, item: BoardJob) -> None:
        """Note that a job waits again; `review` has to follow."""
        item.waits = True
        insort(item.environment.waiting, item, key=_place)

    def review(self, environment: BoardEnvironment) -> None:
        """Note which machines can serve the jobs of an environment that wait, and which none."""
        name, waiting, limit = environment.name, environment.waiting, self.policy.runs_at_once
        if not waiting and name not in self.served:
            return
        served: set[BoardJob] = set()
        for host_name, copy in environment.copies.items():
            host = self.hosts[host_name]
            copy.needed = False
            if copy.state in SERVES:
                for item in waiting:
                    if self.can_have(host, item):
                        copy.needed = True
                        served.add(item)
            if (copy.needed and copy.users < limit) != (name in host.pending):
                host.pending ^= {name}
                if host is not self.now:
                    self.dirty.add(host_name)
        for item in waiting:
            if item.fresh == (item in served):
                self._refresh(item, fresh=not item.fresh)
        if served:
            self.served[name] = environment
        else:
            self.served.pop(name, None)

    def _refresh(self, item: BoardJob, *, fresh: bool) -> None:
        item.fresh = fresh
        if fresh:
            self.fresh.put(item.place)
            self.dirty.update(self.hosts)
        else:
            self.fresh.drop(item.place)
            self._release(item)

    def _release(self, item: BoardJob) -> None:
        """Look again at the machine that waits for a job."""
        if item.holder in self.hosts:
            self.dirty.add(item.holder)

    def stranded(self) -> list[BoardJob]:
        """Return the jobs that wait and that no machine can have, in their order."""
        known: dict[tuple[Needs, int], bool] = {}
        found = []
        for item in self.items:
            if not item.waits:
                continue
            if item.environment.barred or item.avoids:
                has = any(self.can_have(host, item) for host in self.hosts.values())
            else:
                key = item.needs, item.job.demand.gpus
                if key not in known:
                    known[key] = any(self.can_have(host, item) for host in self.hosts.values())
                has = known[key]
            if not has:
                found.append(item)
        return found

    def lacks(self, item: BoardJob) -> tuple[Lack, ...]:
        """Return what the machine that comes nearest lacks; () where some machine lacks nothing."""
        build = item.environment.build
        demand = item.job.demand
        run = Demand(
            cores=demand.cores,
            memory_mib=demand.memory_mib,
            disk_mib=item.environment.disk_mib,
            gpu_mib=demand.gpu_mib,
            gpus=demand.gpus,
        )
        every = [lacks(host.usable(), (build, run)) for host in self.hosts.values()]
        return min(every, key=_shortage, default=())

    def _in_order(self, jobs: Iterable[Job]) -> tuple[BoardJob, ...]:
        by_name: dict[str, list[Job]] = {}
        by_key: dict[str, tuple[str, Job]] = {}
        for job in jobs:
            key = job.key
            if key in by_key:
                raise ScheduleError(f"job {key}: it is given twice; number its rounds")
            by_key[key] = job.environment, job
            by_name.setdefault(job.environment, []).append(job)
        of = {name: BoardEnvironment(name, group) for name, group in by_name.items()}
        order = [
            (-of[name].seconds, name, -job.estimate.run_seconds, key, job)
            for key, (name, job) in by_key.items()
        ]
        order.sort(key=itemgetter(0, 1, 2, 3))
        items = []
        for place, (_, name, _, key, job) in enumerate(order):
            item = BoardJob(key, job, of[name], place)
            of[name].waiting.append(item)
            items.append(item)
        self.environments = of
        return tuple(items)


def _place(item: BoardJob) -> int:
    return item.place


def _shortage(found: tuple[Lack, ...]) -> tuple[int, float, tuple[str, ...]]:
    """Return what sorts lacks: few before many, then a little before much."""
    share = sum(lack.has / lack.needs for lack in found)
    return len(found), -share, tuple(lack.resource for lack in found)
