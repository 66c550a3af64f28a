"""What each engine adds to a cell, where the cell itself takes almost nothing.

    PYTHONPATH=tests .tox/ray/bin/python benchmarks/ray_overhead.py [--cells N] [--engine local]

A program stands for tox. It runs bare, by the engine of this machine, and on a cluster of Ray that
starts here, each time one after another on one core, an environment included. Prints the seconds of
a cell, and what the engines add. Exits with 1 where this machine's adds 1 s or more, or Ray's 2 s.
`--local-most` and `--ray-most` are other limits; `--engine local` leaves Ray out, and needs none.
`tox -e ray --notest` makes the environment.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fake_tox import ROOT, TORCH210, FakeTox
from matrix.catalog.releases_file import load_releases
from matrix.record.model import Platform
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
        platform=Platform.CPU,
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
    )
    return seconds_of_a_cell(
        LocalEngine(
            place=place,
            records=fake.here / "local",
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


def bare(fake: FakeTox, count: int) -> float:
    """Return the seconds of a cell where nothing but the stand-in runs: what no engine saves."""
    options = ("--platform", "cpu", "--records", str(fake.here / "bare"))
    began = time.monotonic()
    for how in (("--notest",), *[("--skip-env-install",)] * count):
        words = (*fake.command, *how, "-e", TORCH210, "--", *options)
        subprocess.run(words, cwd=fake.here, check=True)
    return (time.monotonic() - began) / count


def main() -> int:
    parser = argparse.ArgumentParser(description="What an engine adds to a cell.")
    parser.add_argument("--cells", type=int, default=10)
    parser.add_argument("--engine", choices=("both", "local"), default="both")
    parser.add_argument("--local-most", type=float, default=1.0)
    parser.add_argument("--ray-most", type=float, default=2.0)
    options = parser.parse_args()
    engines = {"on this machine": (local, options.local_most), "by Ray": (by_ray, options.ray_most)}
    if options.engine == "local":
        del engines["by Ray"]
    with tempfile.TemporaryDirectory() as folder:
        fake = FakeTox(Path(folder))
        jobs = jobs_of(options.cells)
        least = bare(fake, options.cells)
        print(f"{options.cells} cells, environment included; a cell takes")
        print(f"  bare             {least:.2f} s", flush=True)
        missed = False
        state = RunState.begin(Begun(records=folder), jobs)
        for name, (run, most) in engines.items():
            took = run(fake, jobs, state)
            missed |= took - least >= most
            print(f"  {name:15}  {took:.2f} s: {took - least:+.2f} s, of {most:g} s at most")
        state.close()
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
