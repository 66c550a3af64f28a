"""Where a selection runs: on this machine, or on the nodes of a Ray cluster (`--engine ray`)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

from matrix._util.console import print_status, spoken
from matrix._util.text import listed, plural
from matrix.errors import MatrixError
from matrix.report.run_progress import lacks_words
from matrix.run.doctor.pythons import lacks_python
from matrix.run.engine import Engine
from matrix.run.environments import Environments, tox_folder, uv_cache
from matrix.run.here import Hardware, common
from matrix.run.job import Job
from matrix.run.limits import Limits, machine_here
from matrix.run.local_engine import LocalEngine, RunPlace
from matrix.run.machine import Machine, lacks
from matrix.run.rerun import tox_of
from matrix.run.run_state import RunState
from matrix.run.schedule import Schedule
from matrix.run.task import Present
from matrix.run.watcher import Watcher

if TYPE_CHECKING:
    from matrix.run.cluster import Cluster, Node


@dataclass(frozen=True, kw_only=True)
class Work:
    """The jobs of a run, where its records go, the options that every cell gets, who watches.

    `lost` has the machines that were lost with a job in an earlier part of the run, by its key.
    """

    jobs: Sequence[Job]
    records: Path
    options: tuple[str, ...]
    state: RunState
    watcher: Watcher
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def on(self, machines: Machines) -> _ForEngine:
        """Return what an engine takes of it, with the schedule of its jobs on machines."""
        return {
            "jobs": {job.key: job for job in self.jobs},
            "records": self.records,
            "options": self.options,
            "schedule": Schedule(self.jobs, machines.every, machines.present, lost=self.lost),
            "state": self.state,
            "watcher": self.watcher,
        }


class _ForEngine(TypedDict):
    """What every engine takes (`matrix.run.engine.Engine`)."""

    jobs: Mapping[str, Job]
    records: Path
    options: tuple[str, ...]
    schedule: Schedule
    state: RunState
    watcher: Watcher


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The machines on which jobs can run, and the environments that are on each."""

    every: tuple[Machine, ...]
    present: Mapping[str, tuple[Present, ...]]

    @property
    def made(self) -> frozenset[str]:
        """Return the environments that some machine has, ready for a cell."""
        found = (item for present in self.present.values() for item in present)
        return frozenset(item.environment for item in found if item.usable)


class Site(Protocol):
    """Where a selection runs."""

    @property
    def elsewhere(self) -> Hardware | None:
        """Return what is known of the machines that run it; None for this machine."""

    @property
    def every(self) -> tuple[Machine, ...]:
        """Return every machine that may run a job."""

    def linked(self) -> frozenset[tuple[str, str]]:
        """Return the releases that uv links from its cache wherever a job may run."""

    def lacking(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """Return the environments whose Python cannot be had where the jobs run, and why."""

    def machines(self, jobs: Sequence[Job]) -> Machines:
        """Return where these jobs can run. Raises MatrixError where none of them can anywhere."""

    def engine(self, work: Work, machines: Machines) -> Engine:
        """Return who carries them out."""


@contextmanager
def site_of(options: argparse.Namespace, root: Path) -> Iterator[Site]:
    """Yield where the options have a selection run. Raises MatrixError where nothing can run."""
    limits = Limits(cores=options.cores, memory_mib=options.memory, gpus=options.gpus)
    if options.engine != "ray":
        if options.address is not None:
            raise MatrixError(f"--address {options.address}: goes with --engine ray; add that")
        yield _Here(root=root, tox=tox_of(root), limits=limits, disk_mib=options.disk)
        return
    from matrix.run.cluster import joined, nodes_of

    print_status(
        "starts a cluster of Ray here"
        if options.address is None
        else f"joins the cluster of Ray at {options.address}"
    )
    with ExitStack() as stack:
        with spoken("waits for the cluster and its nodes"):
            cluster = stack.enter_context(
                joined(root, options.address, replace(limits, disk_mib=options.disk))
            )
            nodes, unfit = nodes_of(cluster)
        if not nodes:
            raise MatrixError(
                f"--engine ray: no node can run a cell: {'; '.join(unfit) or 'there is none'}"
            )
        for why in unfit:
            print_status(f"{why}; it gets no work")
        cores = sum(node.machine.cores for node in nodes)
        gpus = sum(len(node.machine.gpus) for node in nodes)
        has = [plural(cores, "core")] + [plural(gpus, "GPU")] * bool(gpus)
        print_status(f"{plural(len(nodes), 'node')} of Ray with {listed(has)}")
        yield OnRay(cluster=cluster, nodes=nodes)


class _Here:
    """This machine."""

    elsewhere: Hardware | None = None

    def __init__(
        self, *, root: Path, tox: Sequence[str], limits: Limits, disk_mib: int | None
    ) -> None:
        self._root, self._tox, self._disk = root, tox, disk_mib
        self._environments = Environments(folder=tox_folder(root), cache=uv_cache(), root=root)
        self._machine = machine_here(self._environments.folder, limits)

    @property
    def every(self) -> tuple[Machine, ...]:
        return (self._machine,)

    def linked(self) -> frozenset[tuple[str, str]]:
        return self._environments.linked()

    def lacking(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """Return the environments that are to be made and whose Python cannot be had, and why."""
        folder = self._environments.folder
        made = {
            job.environment: job.cell.python
            for job in jobs
            if not (folder / job.environment / "bin" / "python").exists()
        }
        pythons = sorted(set(made.values()))
        # uv tries for some seconds to fetch one.
        with ThreadPoolExecutor(max_workers=len(pythons) or 1) as pool:
            every = pool.map(partial(lacks_python, root=self._root), pythons)
            why = dict(zip(pythons, every, strict=True))
        return {name: text for name, python in made.items() if (text := why[python]) is not None}

    def machines(self, jobs: Sequence[Job]) -> Machines:
        """Return the environments that may be used or removed, and the machine with their disk.

        Only where the disk may not do for all, or has a limit in MiB, are those of other cells
        among them: what is free is counted without them, and the limit is one on all. Elsewhere
        nobody looks at their size, and each counts as what its cell needs: it takes no more.
        """
        needs = {job.environment: job.demand.disk_mib for job in jobs}
        there = self._environments.cells()
        free = self._machine.disk_mib
        short = sum(mib for name, mib in needs.items() if name not in there) > free
        sized = short or self._disk is not None
        if sized and there:
            print_status(f"looks at the size of {plural(len(there), 'environment')} on the disk")
        with spoken("looks at the size of environments on the disk"):
            present = self._environments.present(
                there if sized else there & needs.keys(), sized=sized
            )
        if not sized:
            present = tuple(
                replace(item, disk_mib=needs[item.environment]) if item.usable else item
                for item in present
            )
        disk = free + sum(item.disk_mib for item in present)
        machine = replace(
            self._machine, disk_mib=disk if self._disk is None else min(disk, self._disk)
        )
        return Machines(every=(machine,), present={machine.name: present})

    def engine(self, work: Work, machines: Machines) -> Engine:
        with spoken("deletes environments that a killed run began to remove"):
            self._environments.sweep()
        return LocalEngine(
            place=RunPlace(root=self._root, tox=self._tox, environments=self._environments),
            **work.on(machines),
        )


class OnRay:
    """The nodes of a cluster."""

    def __init__(self, *, cluster: Cluster, nodes: Sequence[Node]) -> None:
        self._cluster, self._nodes = cluster, list(nodes)

    @property
    def elsewhere(self) -> Hardware:
        """Return what is known of a cell that may run on any of the nodes."""
        return common(node.hardware for node in self._nodes)

    @property
    def every(self) -> tuple[Machine, ...]:
        """Return the nodes' machines."""
        return tuple(node.machine for node in self._nodes)

    def linked(self) -> frozenset[tuple[str, str]]:
        """Return the releases that uv links from its cache on every node."""
        return frozenset.intersection(*(node.linked for node in self._nodes))

    def lacking(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """Return none: `machines` leaves out a node without any of the Pythons."""
        del jobs
        return {}

    def machines(self, jobs: Sequence[Job]) -> Machines:
        """Return the nodes that can run one of the jobs; says why each other cannot.

        Raises MatrixError where none can.
        """
        fit, unfit = [], []
        for node in self._nodes:
            why = _why_unfit(node, jobs)
            if why is None:
                fit.append(node)
            else:
                unfit.append(f"{node.machine.name}: {why}")
        if not fit:
            raise MatrixError(f"--engine ray: no node can run a cell: {'; '.join(unfit)}")
        for line in unfit:
            print_status(f"{line}; it gets no work")
        self._nodes = fit
        return Machines(
            every=self.every,
            present={node.machine.name: node.present for node in fit},
        )

    def engine(self, work: Work, machines: Machines) -> Engine:
        """Return the engine of the cluster."""
        from matrix.run.ray_engine import RayEngine

        return RayEngine(cluster=self._cluster, nodes=self._nodes, **work.on(machines))


def _why_unfit(node: Node, jobs: Sequence[Job]) -> str | None:
    """Return why none of the jobs can run on a node; None where one can."""
    pythons = sorted({job.cell.python for job in jobs})
    if node.pythons is not None and not node.pythons & set(pythons):
        return f"has no Python {listed(pythons)}; `uv python install {pythons[0]}` there"
    found = [lacks(node.machine, (job.build, job.demand)) for job in jobs]
    if all(found):
        return f"lacks for {jobs[0].environment}: {lacks_words(found[0])}"
    return None
