"""What a cell takes in each engine where the cell itself takes almost nothing.

    PYTHONPATH=tests .tox/ray/bin/python benchmarks/ray_overhead.py [CELLS]

A program stands for tox. Prints the seconds of a cell on this machine, and on a cluster of Ray that
starts here, one after another on one core, and what Ray adds: it should be under 2 s. `tox -e ray
--notest` makes the environment.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fake_tox import ROOT, TORCH210, FakeTox
from matrix.catalog.releases_file import load_releases
from matrix.run.cluster import joined, nodes_of
from matrix.run.engine import Engine
from matrix.run.environments import Environments
from matrix.run.job import Job, JobEstimate
from matrix.run.limits import Limits, machine_here
from matrix.run.local_engine import LocalEngine, RunPlace
from matrix.run.machine import Demand
from matrix.run.ray_engine import RayEngine
from matrix.run.run_state import Begun, RunEvent, RunState
from matrix.run.schedule import Schedule
from matrix.run.watcher import Working


class Silent:
    def event(self, event: RunEvent) -> None: ...

    def tick(self, working: Sequence[Working]) -> None: ...


def jobs_of(count: int) -> list[Job]:
    job = Job(
        cell=load_releases().resolve(TORCH210),
        environment=TORCH210,
        platform="cpu",
        estimate=JobEstimate(build_seconds=1, run_seconds=1),
        demand=Demand(cores=1, memory_mib=10, disk_mib=10),
    )
    return [replace(job, round=number) for number in range(1, count + 1)]


def seconds_of_a_cell(engine: Engine) -> float:
    began = time.monotonic()
    ends = engine.carry_out()
    assert all(end.record for end in ends), ends
    return (time.monotonic() - began) / len(ends)


def local(fake: FakeTox, jobs: Sequence[Job], state: RunState) -> float:
    machine = machine_here(fake.here, Limits(cores=1))
    place = RunPlace(
        root=fake.here,
        tox=fake.command,
        environments=Environments(folder=fake.here / ".tox", cache=fake.here / "uv"),
        records=fake.here / "local",
    )
    return seconds_of_a_cell(
        LocalEngine(
            place=place,
            jobs={job.key: job for job in jobs},
            schedule=Schedule(jobs, [machine]),
            state=state,
            watcher=Silent(),
        )
    )


def by_ray(fake: FakeTox, jobs: Sequence[Job], state: RunState) -> float:
    with joined(ROOT, None, Limits(cores=1)) as cluster:
        nodes, unfit = nodes_of(cluster)
        assert nodes, unfit
        return seconds_of_a_cell(
            RayEngine(
                cluster=cluster,
                nodes=nodes,
                records=fake.here / "ray",
                tox=tuple(fake.command),
                jobs={job.key: job for job in jobs},
                schedule=Schedule(jobs, [node.machine for node in nodes]),
                state=state,
                watcher=Silent(),
            )
        )


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fake = FakeTox(Path(folder))
        jobs = jobs_of(count)
        state = RunState.begin(Begun(records=folder), jobs)
        here, there = local(fake, jobs, state), by_ray(fake, jobs, state)
        state.close()
    print(f"{count} cells, environment included; a cell takes")
    print(f"  on this machine  {here:.2f} s")
    print(f"  by Ray           {there:.2f} s: {there - here:+.2f} s, {there / here:.2f} times")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
