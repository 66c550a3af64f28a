"""Run the jobs of a schedule on the nodes of a Ray cluster, and bring their records here.

The schedule places: Ray is asked for the node, the cores, the memory and the GPUs that it says, so
that others who use the cluster are heeded. Records come back as bytes, and are written once, here.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from matrix._util.files import NameTakenError, create_bytes
from matrix.errors import MatrixError
from matrix.run import node_work
from matrix.run.cluster import Cluster, Node, NodeLook, short
from matrix.run.engine import BEGINS, INTERRUPT, Engine
from matrix.run.node_work import Left, Order
from matrix.run.run_state import Happened
from matrix.run.schedule import Schedule
from matrix.run.stage import Stage
from matrix.run.task import Finish, ScheduleStep, Task, TaskKind
from matrix.run.watcher import Working

Handle: TypeAlias = Any
"""Of an actor: its methods have no types."""

_LOOK = 0.2  # seconds that a look at the tasks waits for one to end
_TICK = 1.0  # seconds between two looks at the stages
_NODES = 5.0  # seconds between two looks at the nodes
_GONE = 20.0  # seconds for Ray to notice that a node, whose task failed, is lost
_NAME = re.compile(r"(cpu|cuda)/[A-Za-z0-9][\w.+-]{0,199}", re.ASCII)


@dataclass(kw_only=True)
class _Work:
    """A task at work on a node."""

    task: Task
    began: float
    stage: Stage | None = None


@dataclass(kw_only=True)
class RayEngine(Engine):
    """Carries out a schedule on the nodes of a cluster.

    `tox` is how nodes call tox (empty: their own). The records are brought here.
    """

    cluster: Cluster
    nodes: Sequence[Node]
    schedule: Schedule
    tox: tuple[str, ...] = ()
    _work: dict[object, _Work] = field(default_factory=dict)
    _by_name: dict[str, Node] = field(default_factory=dict)
    _made: set[tuple[str, str]] = field(default_factory=set)
    _looks: list[NodeLook] = field(default_factory=list)
    _desk: Handle = None
    _ticked: float = 0.0
    _counted: float = 0.0
    # The node's own engine waits so long for a cell; then its record comes back.
    _patience: ClassVar[float] = INTERRUPT + 15.0

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        ray = self.cluster.ray
        self._by_name = {node.machine.name: node for node in self.nodes}
        # Here, so that no other node that is lost takes it along, and with it every task.
        here = self.cluster.on(self.cluster.here())
        self._desk = ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        try:
            yield
        finally:
            self._kill()
            ray.kill(self._desk)

    def _is_busy(self) -> bool:
        return bool(self._work)

    def _interrupt(self) -> None:
        self._desk.stop.remote()

    def _wait(self) -> list[ScheduleStep]:
        ray = self.cluster.ray
        ready, _ = ray.wait(list(self._work), num_returns=1, timeout=_LOOK)
        steps = [step for ref in ready if ref in self._work for step in self._ended(ref)]
        self._tick()
        # Not where tasks may begin by these steps: one of them could be on a node that is lost.
        if not steps and time.monotonic() - self._counted > _NODES:
            self._counted = time.monotonic()
            return self._count()
        return steps

    def _begin(self, task: Task) -> None:
        """Have a node carry out a task."""
        node = self._by_name[task.machine]
        if (begins := BEGINS.get(task.kind)) is not None:
            self._note(begins, environment=task.environment, job=task.job, machine=task.machine)
        order = Order(
            task=task,
            jobs=tuple(self._jobs(task)),
            options=self.options,
            made=(task.machine, task.environment) in self._made,
            tox=self.tox,
            threads=os.environ.get("OMP_NUM_THREADS"),
        )
        options = {
            "num_cpus": task.demand.cores,
            "memory": task.demand.memory_mib << 20,
            "max_retries": 0,
            "scheduling_strategy": self.cluster.on(node.id),
            **gpu_share(task, node),
        }
        carry = self.cluster.ray.remote(_carry_out).options(**options)
        ref = carry.remote(order.text(), self._desk)
        self._work[ref] = _Work(task=task, began=time.monotonic())

    def _ended(self, ref: object) -> list[ScheduleStep]:
        """Take the end of a task: what it left, or its node is lost, or Ray says why it failed."""
        ray = self.cluster.ray
        work = self._work[ref]
        took = time.monotonic() - work.began
        try:
            text, files = ray.get(ref)
        except ray.exceptions.RayError as error:
            lost = self._is_lost(work.task.machine)
            del self._work[ref]
            if lost:
                return self._count()  # others may be lost with it
            finish = Finish(works=False, seconds=took, detail=short(error))
        else:
            del self._work[ref]
            finish = self._take(work.task, Left.of(text, files))
            self._note_gpus(work.task, finish, work.task.machine)
            # Ray chooses the GPU of a task, so the schedule cannot leave one out.
            finish = replace(finish, failed_gpus=())
        self._note_end(work.task, finish, took)
        step = self.schedule.ended(work.task, finish)
        self._note_retry(work.task, finish, step)
        return [step]

    def _take(self, task: Task, left: Left) -> Finish:
        """Write the records and the log that a task left, each once; return its end."""
        kind = task.kind
        name = task.environment if task.job is None else task.job.replace("/", ".")
        log = self.state.logs / f"{name}.{kind}.{task.number}.log"
        with contextlib.suppress(OSError):
            log.write_bytes(left.files.get("log", b""))
        kept: dict[str, str] = {}
        try:
            kept = {
                key: str(self._keep(record, left.files))
                for key, record in left.finish.records.items()
                if key in self.jobs and record in left.files and _NAME.fullmatch(record)
            }
        except MatrixError as error:
            return replace(left.finish, records=kept, log=str(log), detail=str(error))
        return replace(left.finish, records=kept, log=str(log))

    def _keep(self, name: str, files: Mapping[str, bytes]) -> Path:
        """Write a record, with the files that go with it, below a name that nothing has."""
        stem = name.removesuffix(".json")
        for number in range(1, 1000):
            path = self.records / (name if number == 1 else f"{stem}.{number}.json")
            try:
                create_bytes(path, files[name])
            except NameTakenError:
                continue
            for other, content in files.items():
                ending = other.removeprefix(stem)
                if other not in (name, ending) and _NAME.fullmatch(other):
                    with contextlib.suppress(NameTakenError):
                        create_bytes(path.with_name(path.stem + ending), content)
            return path
        raise MatrixError(f"{self.records / name}: no free name is left; choose another folder")

    def _note_end(self, task: Task, finish: Finish, took: float) -> None:
        if task.kind is TaskKind.BUILD:
            if finish.works:
                self._made.add((task.machine, task.environment))
            self._note(
                Happened.BUILT,
                environment=task.environment,
                machine=task.machine,
                seconds=took,
                works=finish.works,
                log=finish.log,
                detail=finish.detail,
            )
        elif task.kind is TaskKind.REMOVE:
            self._made.discard((task.machine, task.environment))
            if finish.works:
                self._note(Happened.REMOVED, environment=task.environment, seconds=took)

    def _note_retry(self, task: Task, finish: Finish, step: ScheduleStep) -> None:
        """Note that a run failed for its node, where its job has not ended with it."""
        if task.job is None or self.stopped or task.job in {end.job for end in step.ends}:
            return
        self._note(
            Happened.FAILED,
            environment=task.environment,
            job=task.job,
            machine=task.machine,
            log=finish.log,
            detail=finish.detail,
        )

    def _is_lost(self, machine: str) -> bool:
        """Wait whether the node, on which a task failed, is lost."""
        node = self._by_name[machine].id
        until = time.monotonic() + _GONE
        while node in self.cluster.alive():
            if time.monotonic() > until or self._answers(node):
                return False
            self._tick()
            time.sleep(_LOOK)
        return True

    def _answers(self, node: str) -> bool:
        """Return whether a node carries out a task of nothing."""
        ray = self.cluster.ray
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": self.cluster.on(node)}
        until = time.monotonic() + _GONE / 2
        try:
            ref = ray.remote(_nothing).options(**options).remote()
            while not ray.wait([ref], timeout=_LOOK)[0]:
                if time.monotonic() > until:
                    return False
                self._tick()
            return ray.get(ref) is None
        except ray.exceptions.RayError:
            return False

    def _lose(self, *machines: str) -> list[ScheduleStep]:
        """Forget what went on on nodes that are lost; return what follows."""
        lost = [name for name in machines if self._by_name.pop(name, None) is not None]
        for ref, work in list(self._work.items()):
            if work.task.machine in lost:
                del self._work[ref]
        for name in lost:
            self._note(Happened.LOST, machine=name)
        return [self.schedule.lost(*lost)] if lost else []

    def _count(self) -> list[ScheduleStep]:
        """Look which nodes are lost, and which have joined; return what follows."""
        alive = self.cluster.alive()
        steps = self._lose(*(name for name, node in self._by_name.items() if node.id not in alive))
        new = alive - self.cluster.asked
        if new and not self.stopped:
            self._looks.append(NodeLook(self.cluster, new))
        for look in self._looks:
            found, unfit = look.answers()
            for why in unfit:
                self._note(Happened.JOINED, works=False, detail=why)
            for node in found:
                self._by_name[node.machine.name] = node
                self._note(Happened.JOINED, works=True, machine=node.machine.name)
                steps.append(self.schedule.joined(node.machine, node.present))
        return steps

    def _tick(self) -> None:
        """Show how far the tasks are, once a second."""
        if time.monotonic() - self._ticked > _TICK:
            self._ticked = time.monotonic()
            self._show()

    def _show(self) -> None:
        """Show how far the tasks are."""
        ray = self.cluster.ray
        stages: dict[int, str] = {}
        with contextlib.suppress(ray.exceptions.RayError):
            stages = ray.get(self._desk.take.remote(), timeout=_NODES)
        for work in self._work.values():
            if (text := stages.get(work.task.number)) is not None:
                work.stage = node_work.stage_from(text)
        working = [
            Working(task=work.task, began=work.began, stage=work.stage)
            for work in self._work.values()
        ]
        with contextlib.suppress(OSError):
            self.watcher.tick(working)

    def _kill(self) -> list[ScheduleStep]:
        """Cancel all that is running, without its records; return what follows."""
        ray = self.cluster.ray
        steps = []
        for ref, work in list(self._work.items()):
            del self._work[ref]
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(ref, force=True)
            steps.append(self.schedule.ended(work.task, Finish(works=False)))
        return steps


class _Desk:
    """An actor: tasks report their progress to it and learn from it whether to stop."""

    def __init__(self) -> None:
        self._stages: dict[int, str] = {}
        self._stopped = False

    def tell(self, number: int, stage: str) -> bool:
        """Take the stage of a task, and return whether it is to stop."""
        self._stages[number] = stage
        return self._stopped

    def take(self) -> dict[int, str]:
        """Return the stages that were reported since the last time."""
        stages, self._stages = self._stages, {}
        return stages

    def stop(self) -> None:
        """Have every task stop."""
        self._stopped = True


def gpu_share(task: Task, node: Node) -> dict[str, object]:
    """Return what Ray is asked for of GPUs: a share of one by memory, or whole ones."""
    if not task.gpus:
        return {}
    total = min(gpu.total_mib for gpu in node.machine.gpus)
    share = math.ceil(task.demand.gpu_mib / max(total, 1) * 10_000) / 10_000
    count: float = len(task.gpus) if len(task.gpus) > 1 else min(max(share, 0.0001), 1)
    kind = {"accelerator_type": node.accelerator} if node.accelerator else {}
    return {"num_gpus": count, **kind}


def _carry_out(order: str, desk: Handle) -> tuple[str, dict[str, bytes]]:
    """Carry out an order: this runs on the node, in the copy of the project."""
    import ray

    parsed = Order.of(order)

    def tell(stage: str) -> bool:
        try:
            stops: bool = ray.get(desk.tell.remote(parsed.task.number, stage), timeout=30)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            return False  # a network or a machine that is busy: the next look may have an answer
        except ray.exceptions.RayError:
            return True  # who ordered it is gone
        return stops

    left = node_work.carry_out(parsed, tell, Path.cwd())
    return left.text(), dict(left.files)


def _nothing() -> None:
    return None
