"""The engine of a Ray cluster: three nodes on this machine, and a program that stands for tox."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from fake_tox import ROOT, TORCH29, TORCH210, FakeTox, fake_tox
from matrix.catalog.releases_file import load_releases
from matrix.record.reader import read
from matrix.run.cluster import Cluster, ClusterError, joined, nodes_of
from matrix.run.job import Estimate, HowEnded, Job, JobEnd, WhyNot
from matrix.run.machine import Demand
from matrix.run.ray_engine import RayEngine
from matrix.run.run_state import Begun, Event, Happened, RunState
from matrix.run.schedule import Schedule
from matrix.run.watcher import Working

ray = pytest.importorskip("ray")

__all__ = ["fake_tox"]


class Nodes:
    """A cluster of Ray on this machine; its head runs nothing."""

    def __init__(self, here: Path) -> None:
        from ray.cluster_utils import Cluster as LocalCluster

        self.here = here
        # A machine that is busy needs longer than the half minute that Ray waits for itself.
        for _ in range(4):
            try:
                self.cluster = LocalCluster(
                    initialize_head=True,
                    head_node_args={"num_cpus": 0, "include_dashboard": False},
                )
            except Exception:  # noqa: BLE001 - Ray raises no narrower one
                continue
            break
        self.nodes: list[object] = []

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self) -> object:
        number = len(self.nodes)
        cache = self.here / f"node{number}"
        for _ in range(4):
            try:
                node = self.cluster.add_node(num_cpus=1, env_vars={"MATRIX_CACHE": str(cache)})
            except Exception:  # noqa: BLE001
                continue
            self.nodes.append(node)
            return node
        raise AssertionError("Ray does not start a node")

    def kill(self, number: int) -> None:
        self.cluster.remove_node(self.nodes[number], allow_graceful=False)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("cluster"))
    for _ in range(3):
        nodes.add()
    yield nodes
    nodes.cluster.shutdown()


def job(name: str, round_: int = 1) -> Job:
    return Job(
        cell=load_releases().resolve(name),
        environment=name,
        platform="cpu",
        round=round_,
        estimate=Estimate(build_seconds=1, run_seconds=2),
        demand=Demand(cores=1, memory_mib=100, disk_mib=10),
    )


class Watched:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stages: set[str] = set()

    def event(self, event: Event) -> None:
        self.events.append(event)

    def tick(self, working: Sequence[Working]) -> None:
        self.stages |= {work.stage.cases[0] for work in working if work.stage and work.stage.cases}


def carry_out(
    fake: FakeTox, cluster: Cluster, *jobs: Job, watched: Watched | None = None
) -> tuple[tuple[JobEnd, ...], Watched]:
    watched = watched or Watched()
    nodes, unfit = nodes_of(cluster)
    nodes = [node for node in nodes if node.machine.cores]
    state = RunState.begin(Begun(records=str(fake.here / "records")), jobs)
    engine = RayEngine(
        cluster=cluster,
        nodes=nodes,
        records=fake.here / "records",
        jobs={job.key: job for job in jobs},
        schedule=Schedule(
            jobs,
            [node.machine for node in nodes],
            {node.machine.name: node.present for node in nodes},
        ),
        state=state,
        watcher=watched,
        tox=tuple(fake.command),
    )
    try:
        return engine.carry_out(), watched
    finally:
        state.close()


def test_records_come_back_and_a_lost_node_s_cells_run_elsewhere(
    fake_tox: FakeTox, three: Nodes
) -> None:
    with joined(ROOT, three.address) as cluster:
        ends, seen = carry_out(fake_tox, cluster, job(TORCH210), job(TORCH29), job(TORCH210, 2))
        assert [end.how for end in ends] == [HowEnded.DONE] * 3, ends
        paths = {end.record for end in ends}
        assert len(paths) == 3
        for path in paths:
            assert path and read(Path(path)).finished
        assert {path.parent for path in map(Path, paths)} == {fake_tox.here / "records/cpu"}  # type: ignore[arg-type]

        fake_tox.told(vllm019={"run": "hangs"})

        class Kills(Watched):
            killed = False

            def tick(self, working: Sequence[Working]) -> None:
                super().tick(working)
                if self.stages and not self.killed:
                    self.killed = True
                    fake_tox.told()
                    machine = working[0].task.machine
                    three.kill(numbers[machine])

        numbers = {
            node.machine.name: number
            for node in nodes_of(cluster)[0]
            for number, other in enumerate(three.nodes)
            if other.node_id == node.id  # type: ignore[attr-defined]
        }
        ends, seen = carry_out(fake_tox, cluster, job(TORCH210), watched=Kills())
        (end,) = ends
        assert end.how is HowEnded.DONE, end
        assert len(end.machines) == 1
        assert [event.machine for event in seen.events if event.what is Happened.LOST] == list(
            end.machines
        )
