"""The engine of a Ray cluster: three nodes on this machine, and a program that stands for tox."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fake_tox import ROOT, TORCH29, TORCH210, FakeTox
from fault_table import Found
from matrix.catalog.releases_file import load_releases
from matrix.record.model import Platform
from matrix.record.reader import read
from matrix.run.cluster import Cluster, joined, nodes_of
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.machine import Demand
from matrix.run.ray_engine import RayEngine
from matrix.run.run_state import Begun, Happened, RunEvent, RunState
from matrix.run.schedule import Schedule
from matrix.run.watcher import Working
from ray_nodes import Nodes
from watched_runs import Seen

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("cluster"))
    for _ in range(3):
        nodes.add()
    yield nodes
    nodes.close()


def job(name: str, round_: int = 1) -> Job:
    return Job(
        cell=load_releases().resolve(name),
        environment=name,
        platform=Platform.CPU,
        round=round_,
        estimate=JobEstimate(build_seconds=1, run_seconds=2),
        demand=Demand(cores=1, memory_mib=100, disk_mib=10),
    )


def engine_of(
    fake: FakeTox, cluster: Cluster, *jobs: Job, watched: Seen, most: int = 9
) -> RayEngine:
    nodes = nodes_of(cluster)[0][:most]
    return RayEngine(
        cluster=cluster,
        nodes=nodes,
        records=fake.here / "records",
        jobs={job.key: job for job in jobs},
        schedule=Schedule(
            jobs,
            [node.machine for node in nodes],
            {node.machine.name: node.present for node in nodes},
        ),
        state=RunState.begin(Begun(records=str(fake.here / "records")), jobs),
        watcher=watched,
        tox=tuple(fake.command),
    )


def carry_out(
    fake: FakeTox, cluster: Cluster, *jobs: Job, watched: Seen | None = None, most: int = 9
) -> tuple[tuple[JobEnd, ...], Seen]:
    watched = watched or Seen()
    engine = engine_of(fake, cluster, *jobs, watched=watched, most=most)
    try:
        return engine.carry_out(), watched
    finally:
        engine.state.close()


def test_what_tasks_report_to_lies_where_the_run_was_begun(fake_tox: FakeTox, three: Nodes) -> None:
    """On another node it could be lost with that, and every task would stop."""
    with joined(ROOT, three.address) as cluster:
        engine = engine_of(fake_tox, cluster, job(TORCH29), watched=Seen())
        with engine._open():
            where = engine._desk.__ray_call__.remote(
                lambda _: ray.get_runtime_context().get_node_id()
            )
            assert ray.get(where, timeout=100) == cluster.here()
        engine.state.close()


def lost(watched: Seen) -> list[str | None]:
    return [event.machine for event in watched.events if event.what is Happened.LOST]


def test_each_record_comes_back_once(fake_tox: FakeTox, three: Nodes) -> None:
    with joined(ROOT, three.address) as cluster:
        ends, seen = carry_out(fake_tox, cluster, job(TORCH210), job(TORCH29), job(TORCH210, 2))
    assert [end.how for end in ends] == [HowEnded.DONE] * 3, ends
    paths = {Path(str(end.record)) for end in ends}
    assert paths == set((fake_tox.here / "records/cpu").glob("*.json"))
    assert len(paths) == 3 and all(read(path).finished for path in paths)
    assert not lost(seen)


def unfinished(fake: FakeTox) -> list[str]:
    """Return the records that are here and not whole, and parts of files."""
    paths = list((fake.here / "records/cpu").glob("*"))
    parts = [path.name for path in paths if path.name.startswith(".")]
    records = [path for path in paths if path.suffix == ".json" and path.name not in parts]
    return [*parts, *(path.name for path in records if not read(path).finished)]


class Kills(Seen):
    """Kills the node that runs a cell, so often; then the cell is one that ends."""

    def __init__(self, nodes: Nodes, fake: FakeTox, times: int = 1) -> None:
        super().__init__()
        self.cluster, self.fake, self.left = nodes, fake, times
        self.done: set[str] = set()

    def tick(self, working: Sequence[Working]) -> None:
        super().tick(working)
        for work in working:
            if work.stage and self.left and work.task.machine not in self.done:
                self.left -= 1
                self.done.add(work.task.machine)
                if not self.left:
                    self.fake.told()
                self.cluster.kill(self.cluster.number(work.task.machine))


@pytest.mark.fault("a node of Ray that is lost in mid-run")
def test_the_cells_of_a_lost_node_run_elsewhere(
    fake_tox: FakeTox, three: Nodes, found: Found
) -> None:
    fake_tox.told(vllm019={"run": "hangs"})
    with joined(ROOT, three.address) as cluster:
        kills = Kills(three, fake_tox)
        (end,), seen = carry_out(fake_tox, cluster, job(TORCH210), watched=kills)
    if end.record is None or not read(Path(end.record)).finished:
        found.lost.append(end.job)
    found.left += unfinished(fake_tox)
    assert end.how is HowEnded.DONE
    assert set(end.machines) == kills.done and lost(seen) == list(end.machines)


@pytest.mark.fault("two nodes of Ray that one cell kills")
def test_a_cell_that_kills_two_nodes_is_set_aside(
    fake_tox: FakeTox, three: Nodes, found: Found
) -> None:
    three.add()
    fake_tox.told(vllm019={"run": "hangs"})
    with joined(ROOT, three.address) as cluster:
        kills = Kills(three, fake_tox, times=2)
        ends, _ = carry_out(fake_tox, cluster, job(TORCH210), job(TORCH29), watched=kills)
    by_job = {end.job: end for end in ends}
    aside = by_job[job(TORCH210).key]
    assert (aside.how, aside.why) == (HowEnded.SET_ASIDE, WhyNot.MACHINES_LOST)
    assert set(aside.machines) == kills.done and len(kills.done) == 2
    other = by_job[job(TORCH29).key]
    found.lost += [] if other.how is HowEnded.DONE else [other.job]
    found.left += unfinished(fake_tox)


class EndsTheFault(Seen):
    """Has the cell run well once it has failed on a node."""

    def __init__(self, fake: FakeTox) -> None:
        super().__init__()
        self.fake = fake

    def event(self, event: RunEvent) -> None:
        super().event(event)
        if event.what is Happened.FAILED:
            self.fake.told()


def test_a_cell_that_fails_for_its_node_runs_on_another(fake_tox: FakeTox, three: Nodes) -> None:
    three.add()
    fake_tox.told(vllm019={"run": "no driver"})
    with joined(ROOT, three.address) as cluster:
        (end,), seen = carry_out(fake_tox, cluster, job(TORCH210), watched=EndsTheFault(fake_tox))
    assert end.how is HowEnded.DONE and read(Path(str(end.record))).error is None
    (failed,) = [event for event in seen.events if event.what is Happened.FAILED]
    assert failed.detail == "no driver answers" and failed.machine != end.machine
    assert len(list((fake_tox.here / "records/cpu").glob("*.json"))) == 2


class Joins(Seen):
    """Starts a node once a cell runs, which ends only after the other cell."""

    def __init__(self, nodes: Nodes, fake: FakeTox) -> None:
        super().__init__()
        self.nodes, self.fake, self.number = nodes, fake, -1

    def event(self, event: RunEvent) -> None:
        super().event(event)
        if event.end is not None:
            (self.fake.here / "go").touch()

    def tick(self, working: Sequence[Working]) -> None:
        super().tick(working)
        if self.stages and self.number < 0:
            self.number = self.nodes.add()


def test_a_node_that_joins_late_gets_work(fake_tox: FakeTox, three: Nodes) -> None:
    fake_tox.told(vllm019={"run": "hangs"}, vllm016={})
    with joined(ROOT, three.address) as cluster:
        joins = Joins(three, fake_tox)
        first = replace(job(TORCH210), estimate=JobEstimate(build_seconds=1, run_seconds=9))
        ends, _ = carry_out(fake_tox, cluster, first, job(TORCH29), watched=joins, most=1)
    by_job = {end.job: end for end in ends}
    late = by_job[job(TORCH29).key]
    assert late.how is HowEnded.DONE and three.number(str(late.machine)) == joins.number
    said = [event for event in joins.events if event.what is Happened.JOINED]
    assert [(event.machine, event.works) for event in said] == [(late.machine, True)]
