"""Which task begins next, and where. Pure: without a clock, and without input or output.

An engine asks a `Schedule`, and so does the simulation of the benchmark. The environments that take
longest go first. What happens comes in here, `matrix.run.chooser` chooses what begins, and
`matrix.run.board` knows who waits and who has what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from matrix.run.board import Board, BoardJob
from matrix.run.chooser import Chooser, Going
from matrix.run.job import HowEnded, Job, JobEnd, WhyNot
from matrix.run.machine import Machine
from matrix.run.slots import SERVES, CopyState, Host
from matrix.run.task import Finish, Present, SchedulePolicy, ScheduleStep, Task, TaskKind


class Schedule:
    """The jobs of a selection on machines. Each answer is what begins now, and what has ended.

    `present` has the environments that are there, by the machine. `lost` has the machines that were
    lost with a job in an earlier part of the run, by the job's key. The answers do not depend on
    the order in which jobs, machines and environments are given. Raises ScheduleError if two
    jobs have one key, or two machines one name.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        machines: Iterable[Machine],
        present: Mapping[str, Iterable[Present]] | None = None,
        policy: SchedulePolicy | None = None,
        lost: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Take the jobs and the machines; `start` says what begins."""
        self._policy = policy or SchedulePolicy()
        self._board = Board(jobs, self._policy)
        self._chooser = Chooser(self._board)
        self._going = self._chooser.going
        self._left = len(self._board.items)
        self._stopped = False
        self._ends: list[JobEnd] = []
        for item in self._board.items:
            item.lost += (lost or {}).get(item.key, ())
        for machine in sorted(machines, key=lambda machine: machine.name):
            self._board.add(machine, (present or {}).get(machine.name, ()))

    @property
    def is_over(self) -> bool:
        """Tell whether every job has ended and nothing runs.

        Where no job is `left`, what is running builds or removes an environment that no job needs:
        an engine may end it.
        """
        return not self._left and not self._going

    @property
    def left(self) -> int:
        """Return how many jobs have not ended."""
        return self._left

    def start(self) -> ScheduleStep:
        """Return what begins first, and the jobs that no machine fits."""
        for item in self._board.items:
            if len(item.lost) >= self._policy.losses:
                self._drop(item, HowEnded.SET_ASIDE, WhyNot.MACHINES_LOST)
        self._end_stranded()
        return self._step()

    def ended(self, task: Task, finish: Finish) -> ScheduleStep:
        """Take the end of a task. One that is no longer known changes nothing.

        Such is a task of a machine that was lost, whose end comes late.
        """
        going = self._going.pop(task.number, None)
        if going is None:
            return ScheduleStep()
        host = going.host
        host.tasks.discard(task.number)
        host.give(task.demand, task.gpus)
        if finish.failed_gpus:
            host.gpus_failed(finish.failed_gpus)
        host.suspects -= going.suspect
        self._board.dirty.add(host.name)
        if task.kind == TaskKind.RUN:
            self._ran(going, finish)
        elif task.kind == TaskKind.BUILD:
            self._built(going, finish)
        else:
            self._removed(going, finish)
        return self._step()

    def lost(self, *machines: str) -> ScheduleStep:
        """Take the loss of machines: what went on there continues elsewhere.

        Those that were lost together are to be named together, so that none of them gets the work
        of another.
        """
        for name in machines:
            host = self._board.hosts.get(name)
            if host is None:
                continue
            for number in sorted(host.tasks):
                self._lost(self._going.pop(number))
            self._board.remove(name)
        self._end_stranded()
        return self._step()

    def joined(self, machine: Machine, present: Iterable[Present] = ()) -> ScheduleStep:
        """Take a machine that joins. Raises ScheduleError if there is one of its name."""
        self._board.add(machine, present)
        return self._step()

    def stop(self) -> ScheduleStep:
        """Begin nothing more: the jobs that wait end now, the others with their runs."""
        self._stopped = True
        for item in self._board.items:
            if item.waits and item.failed is not None:
                self._drop_failed(item)
            elif item.waits:
                self._drop(item, HowEnded.NOT_RUN, WhyNot.STOPPED)
        return self._step()

    # What has happened.

    def _ran(self, going: Going, finish: Finish) -> None:
        item, environment = going.item, going.environment
        assert item is not None
        assert environment is not None
        going.copy.users -= 1
        item.failed = going.host.name, finish
        if self._tries_again(item, finish):
            item.avoids |= {going.host.name}
            self._board.put_back(item)
            self._board.review(environment)
            self._board.dirty.update(environment.copies)
            self._board.offer(item)
        else:
            why = WhyNot.STOPPED if self._stopped else WhyNot.NO_RECORD
            self._end_as_it_failed(item, item.failed, why)
            self._board.review(environment)

    def _tries_again(self, item: BoardJob, finish: Finish) -> bool:
        """Tell whether a job runs once more elsewhere, since the machine may be why it failed."""
        if self._stopped or len(item.avoids) + 1 >= self._policy.tries:
            return False
        if item.key in finish.records and not finish.machine_fault:
            return False
        assert item.failed is not None
        name, _ = item.failed
        board = self._board
        return any(
            other.name != name and board.can_have(other, item) for other in board.hosts.values()
        )

    def _built(self, going: Going, finish: Finish) -> None:
        host, copy, environment = going.host, going.copy, going.environment
        assert environment is not None
        host.building -= 1
        environment.building -= 1
        copy.state = CopyState.READY if finish.works else CopyState.LEFT
        if not finish.works:
            environment.failed = host.name, finish
            for item in tuple(environment.waiting):
                if self._gives_up(item, host, finish):
                    self._drop_failed(item)
            environment.barred.add(host.name)
        self._board.review(environment)
        if not finish.works:
            self._end_stranded()
        if environment.name not in host.pending:
            self._board.offer_each(environment)

    def _gives_up(self, item: BoardJob, host: Host, finish: Finish) -> bool:
        """Tell whether a job ends with a build that failed on a machine.

        Where the machine may be the cause, another one tries.
        """
        board, environment = self._board, item.environment
        able = [other for other in board.hosts.values() if board.can_have(other, item)]
        if host not in able:
            return False
        copies = [environment.copies.get(other.name) for other in able]
        if any(copy is not None and copy.state in SERVES for copy in copies):
            return False
        is_last = len(able) == 1 or len(environment.barred) + 1 >= self._policy.tries
        return is_last or (item.key in finish.records and not finish.machine_fault)

    def _removed(self, going: Going, finish: Finish) -> None:
        host, environment = going.host, going.environment
        host.removed(going.copy, works=finish.works)
        if finish.works:
            if environment is not None:
                del environment.copies[host.name]
            return
        if environment is not None:
            # What could not be removed cannot be built again either.
            environment.barred.add(host.name)
            environment.failed = host.name, finish
        # The machine has less disk from now on, so that some jobs do not fit it any more.
        for name in host.copies:
            if (other := self._board.environments.get(name)) is not None:
                self._board.review(other)
        self._end_stranded()

    def _lost(self, going: Going) -> None:
        """Take a task of a machine that is lost."""
        name, item, environment = going.host.name, going.item, going.environment
        if item is not None:
            item.lost.append(name)
            if self._stopped:
                self._end(item, HowEnded.NOT_RUN, WhyNot.STOPPED, machine=name)
            elif len(item.lost) >= self._policy.losses:
                self._end(item, HowEnded.SET_ASIDE, WhyNot.MACHINES_LOST, machine=name)
            else:
                self._board.put_back(item)
        elif environment is not None and going.task.kind == TaskKind.BUILD:
            environment.building -= 1
            environment.lost.append(name)
            for other in self._going.values():
                if other.environment is environment and other.copy.state is CopyState.BUILDING:
                    other.host.suspects += not other.suspect
                    other.suspect = True
            if len(environment.lost) >= self._policy.losses:
                for waiting in tuple(environment.waiting):
                    waiting.lost += environment.lost
                    self._drop(waiting, HowEnded.SET_ASIDE, WhyNot.MACHINES_LOST)

    def _end_stranded(self) -> None:
        """End the jobs that no machine can have, unless such a machine may join."""
        for item in self._board.stranded():
            found = self._board.lacks(item)
            if item.failed is not None or (self._board.hosts and not found):
                self._drop_failed(item)
            elif not self._policy.waits:
                why = WhyNot.FITS_NOWHERE if self._board.hosts else WhyNot.NO_MACHINE
                self._drop(item, HowEnded.NOT_RUN, why)

    def _drop(self, item: BoardJob, how: HowEnded, why: WhyNot) -> None:
        """End a job that waits."""
        self._board.take(item)
        self._end(item, how, why)
        self._board.review(item.environment)

    def _drop_failed(self, item: BoardJob) -> None:
        """End a job that waits, and whose run, or the build of its environment, has failed."""
        self._board.take(item)
        if item.failed is not None:
            self._end_as_it_failed(item, item.failed, WhyNot.NO_RECORD)
        else:
            self._end_as_it_failed(item, item.environment.failed, WhyNot.BUILD_FAILED)
        self._board.review(item.environment)

    def _end_as_it_failed(
        self, item: BoardJob, failed: tuple[str, Finish] | None, why: WhyNot
    ) -> None:
        """End a job with what its last task left; `why` is the reason where it left none."""
        machine, finish = failed or (None, None)
        has_record = finish is not None and item.key in finish.records
        how = HowEnded.DONE if has_record else HowEnded.NOT_RUN
        self._end(item, how, None if has_record else why, machine=machine, finish=finish)

    def _end(
        self,
        item: BoardJob,
        how: HowEnded,
        why: WhyNot | None,
        *,
        machine: str | None = None,
        finish: Finish | None = None,
    ) -> None:
        self._left -= 1
        self._ends.append(
            JobEnd(
                job=item.key,
                how=how,
                why=why,
                record=finish.records.get(item.key) if finish else None,
                machine=machine,
                seconds=finish.seconds if finish else None,
                log=finish.log if finish else None,
                detail=finish.detail if finish else "",
                machines=tuple(item.lost),
                lacks=self._board.lacks(item) if why == WhyNot.FITS_NOWHERE else (),
            )
        )

    def _step(self) -> ScheduleStep:
        if self._stopped:
            self._board.dirty.clear()
        step = ScheduleStep(tasks=self._chooser.choose(), ends=tuple(self._ends))
        self._ends.clear()
        return step
