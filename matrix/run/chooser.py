"""Choose what begins on machines that have something to give. Pure.

A machine runs what is ready on it before it builds, and builds ahead no more than it could run at
once. Where nothing else is left, it builds what a busy machine has already.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from matrix.run.board import Board, BoardEnvironment, BoardJob
from matrix.run.first_fit import Needs
from matrix.run.machine import Demand
from matrix.run.slots import SERVES, Copy, CopyState, Host
from matrix.run.task import Task, TaskKind

_NOTHING = Demand(cores=0)


# Not frozen: that would take thrice as long, for each of all tasks.
@dataclass(kw_only=True, slots=True)
class Going:
    """A running task. A suspect was on a lost machine before."""

    task: Task
    host: Host
    copy: Copy
    environment: BoardEnvironment | None
    item: BoardJob | None = None
    suspect: bool = False


class Chooser:
    """What chooses, for a board. `going` are the running tasks, by number."""

    def __init__(self, board: Board) -> None:
        """Begin nothing yet."""
        self.going: dict[int, Going] = {}
        self._board = board
        self._policy = board.policy
        self._tasks: list[Task] = []
        self._numbers = 0

    def choose(self) -> tuple[Task, ...]:
        """Begin what can begin, and return it."""
        board = self._board
        while board.dirty:
            hosts = [board.hosts[name] for name in sorted(board.dirty)]
            board.dirty.clear()
            for host in hosts:
                board.wake(host)
                host.blocked = None
                if host.pending:
                    self._run_ready(host)
            self._build_on_each(hosts)
        board.offered.clear()
        board.now = None
        tasks = tuple(self._tasks)
        self._tasks.clear()
        return tasks

    def _build_on_each(self, hosts: Sequence[Host]) -> None:
        """Begin the builds that can begin; the machine that has most to give builds first."""
        if len(hosts) == 1:
            while self._build_on(hosts[0]):
                pass
            return
        order = [(-host.free_cores, place) for place, host in enumerate(hosts)]
        heapq.heapify(order)
        while order:
            place = order[0][1]
            if self._build_on(hosts[place]):
                heapq.heapreplace(order, (-hosts[place].free_cores, place))
            else:
                heapq.heappop(order)

    def _run_ready(self, host: Host) -> None:
        """Run on a machine what is ready there and has room, in the order of all."""
        board = self._board
        board.now = host
        held = self._held(host)
        ready = [
            environment
            for name in host.pending
            if (environment := board.environments[name]).copies[host.name].state is CopyState.READY
        ]
        ready.sort(key=lambda environment: environment.waiting[0].place)
        for environment in ready:
            copy = environment.copies[host.name]
            for item in tuple(environment.waiting):
                if copy.users >= self._policy.runs_at_once:
                    break
                if not board.can_have(host, item):
                    continue
                turn = held in (None, item)
                if turn and self._has_room(host, item) and self._may_overtake(host):
                    self._run(host, copy, item)
                    if item is held:
                        host.blocked = None
                        self._run_ready(host)
                        return
                    continue
                board.offer(item)
                if turn and host.blocked is None:
                    host.blocked = item.place

    def _build_on(self, host: Host) -> bool:
        """Begin the next build on a machine; return whether one has begun."""
        board, limit = self._board, self._policy.builds_at_once
        board.now = host
        if limit is not None and host.building >= limit:
            return False
        if host.free_cores < board.least_cores and host.free_disk >= board.most_disk:
            return False  # no core for a build, and nothing to remove for a later one
        held = self._held(host)
        if held is not None:
            copy = held.environment.copies.get(host.name)
            waits = copy is not None and copy.state != CopyState.LEFT
            return (
                not waits and self._can_build(host, held, needed=True) and self._build(host, held)
            )
        head = self._first_fresh(host, host.totals)
        if head is None:
            head = self._first_served(host)
            if head is None:
                board.rest(host)
                return False
        if len(host.pending) >= host.at_once(head.job.demand):
            return False
        return self._build_first(host, head)

    def _build_first(self, host: Host, head: BoardJob) -> bool:
        """Build the first environment, or where it has no room another one that has."""
        if self._can_build(host, head, needed=False):
            return self._may_overtake(host) and self._build(host, head)
        if host.coming_mib:
            return False  # what is removed makes room for it
        other = self._first_fresh(host, host.free(), but=head)
        if other is None or not self._can_build(host, other, needed=False):
            return False
        if head.overtaken >= self._policy.overtakes:
            self._hold(host, head)
            return self._can_build(host, head, needed=True) and self._build(host, head)
        if not self._may_overtake(host):
            return False
        head.overtaken += 1
        return self._build(host, other)

    def _first_fresh(self, host: Host, most: Needs, but: BoardJob | None = None) -> BoardJob | None:
        """Return the first job that no machine serves and this one could, if it had that much."""
        items, name = self._board.items, host.name

        def accepts(place: int) -> bool:
            item = items[place]
            copy = item.environment.copies.get(name)
            if name in item.environment.barred or name in item.avoids:
                return False
            if not host.has_gpus(item.job.demand):
                return False
            if copy is not None and copy.state != CopyState.LEFT:
                return False
            if but is None:
                return True
            return item is not but and len(host.pending) < host.at_once(item.job.demand)

        place = self._board.fresh.first(most, accepts)
        return None if place is None else items[place]

    def _first_served(self, host: Host) -> BoardJob | None:
        """Return the job whose environment is worth another build here: the one that waits longest.

        That is a job of which other machines have the environment, and no room or no turn for it.
        """
        best, found = None, None
        for environment in self._board.served.values():
            copy = environment.copies.get(host.name)
            if copy is not None and copy.state != CopyState.LEFT:
                continue
            if environment.building >= len(environment.waiting):
                continue
            for item in environment.waiting:
                if not item.fresh and self._board.can_have(host, item):
                    share = len(environment.waiting) / (1 + len(environment.copies))
                    key = (-share * item.job.estimate.run_seconds, item.place)
                    if best is None or key < best:
                        best, found = key, item
                    break
        return found

    def _can_build(self, host: Host, item: BoardJob, *, needed: bool) -> bool:
        """Tell whether an environment can be built now; where disk is short, remove others first.

        With `needed` also those that jobs wait for, so that their jobs are built for again.
        """
        environment = item.environment
        left = environment.copies.get(host.name)
        needs = environment.disk_mib - (left.disk_mib if left else 0)
        short = needs - host.free_disk
        if short <= 0 or needs <= 0:
            suspect = environment.lost and host.suspects
            return not suspect and host.has_room(environment.build)
        if short > host.coming_mib:
            for copy in host.to_remove(
                short - host.coming_mib, but=environment.name, needed=needed
            ):
                self._remove(host, copy)
        return False

    def _build(self, host: Host, item: BoardJob) -> bool:
        """Begin to build the environment of a job."""
        environment = item.environment
        copy = environment.copies.get(host.name)
        if copy is None:
            copy = Copy(
                environment=environment.name,
                disk_mib=environment.disk_mib,
                state=CopyState.BUILDING,
            )
            host.add(copy)
            environment.copies[host.name] = copy
        else:
            host.resize(copy, environment.disk_mib)
            copy.state = CopyState.BUILDING
        host.building += 1
        environment.building += 1
        self._begin(
            TaskKind.BUILD,
            host,
            copy,
            environment.build,
            environment=environment,
            suspect=bool(environment.lost),
        )
        self._board.review(environment)
        return True

    def _run(self, host: Host, copy: Copy, item: BoardJob) -> None:
        """Begin to run a job in an environment that is there."""
        board, environment = self._board, item.environment
        copy.users += 1
        self._begin(
            TaskKind.RUN,
            host,
            copy,
            item.job.demand,
            environment=environment,
            item=item,
            suspect=bool(item.lost),
        )
        board.take(item)
        board.review(environment)
        if environment.waiting:
            board.offer(environment.waiting[0])

    def _remove(self, host: Host, copy: Copy) -> None:
        """Begin to remove an environment that nobody uses."""
        environment = self._board.environments.get(copy.environment)
        host.removing(copy)
        self._begin(TaskKind.REMOVE, host, copy, _NOTHING, environment=environment)
        if environment is not None:
            self._board.review(environment)

    def _begin(
        self,
        kind: TaskKind,
        host: Host,
        copy: Copy,
        demand: Demand,
        *,
        environment: BoardEnvironment | None,
        item: BoardJob | None = None,
        suspect: bool = False,
    ) -> None:
        self._numbers += 1
        task = Task(
            number=self._numbers,
            kind=kind,
            machine=host.name,
            environment=copy.environment,
            demand=demand,
            job=item.key if item else None,
            gpus=host.take(demand),
        )
        host.tasks.add(task.number)
        host.suspects += suspect
        self.going[task.number] = Going(
            task=task,
            host=host,
            copy=copy,
            environment=environment,
            item=item,
            suspect=suspect,
        )
        self._tasks.append(task)

    # Whose turn it is.

    def _has_room(self, host: Host, item: BoardJob) -> bool:
        """Tell whether a job can begin now. Two suspects never run on one machine at once."""
        return host.has_room(item.job.demand) and not (item.lost and host.suspects)

    def _may_overtake(self, host: Host) -> bool:
        """Count that the job that is blocked on a machine is overtaken; not beyond the limit."""
        if host.blocked is None:
            return True
        item = self._board.items[host.blocked]
        if item.overtaken >= self._policy.overtakes:
            self._hold(host, item)
            return False
        item.overtaken += 1
        return True

    def _hold(self, host: Host, item: BoardJob) -> None:
        """Begin nothing else on a machine until this job begins."""
        host.held = item.place
        item.holder = host.name

    def _held(self, host: Host) -> BoardJob | None:
        """Return the job for which a machine is held, as long as it waits for it."""
        if host.held is None:
            return None
        item = self._board.items[host.held]
        copy = item.environment.copies.get(host.name)
        here = copy is not None and copy.state in SERVES
        if item.waits and (item.fresh or here) and self._board.can_have(host, item):
            return item
        host.held = None
        return None
