"""How good the schedule of many cells is, and how long it takes to plan: in simulated time.

    python benchmarks/schedule.py [--seed N] [--rounds N] [--most RATIO] [--seconds SECONDS]

The runs of 500 cells last as long as runs that the published records hold, drawn with a seed; each
has an environment of its own that is built first. They go on 8 slots: one machine, eight, one with
GPUs that three cells share, and one whose disk holds a quarter of the environments. Then 100,000
such cells on 125 machines of 8 slots are planned to their end. Prints the makespan by its lower
bound, and CPU seconds. Exits with 1 where a makespan is more than RATIO (default 1.05) of its lower
bound, or the 100,000 take SECONDS (default 10) or more in the best of the rounds.

The lower bound is what no schedule can beat: all the work, or that of the longest cell.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

from matrix.catalog.cells import Cell
from matrix.record.reader import read_many
from matrix.run.job import Job, JobEstimate
from matrix.run.machine import Demand, Gpu, Machine
from matrix.run.simulation import simulate

_RESULTS = Path(__file__).resolve().parent.parent / "results"
_BUILD_SECONDS = 35.0
"""How long uv took to install vLLM 0.16.0 and torch 2.9.1 with an empty cache."""
_DISK_MIB = 10_000
_CELL = Cell("3.11", "2.10.0", "0.19.1")
_SLOTS = 8


def main() -> int:
    """Measure and print; return 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description="Makespans, and the time to plan them.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=float, default=1.05)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    recorded = _recorded()
    print(f"{len(recorded)} recorded durations, {min(recorded):.0f} to {max(recorded):.0f} s")
    worst = _makespans(_drawn(recorded, 500, options.seed), _drawn(recorded, 500, options.seed, 3))
    took = _planned(_drawn(recorded, 100_000, options.seed), options.rounds)
    return int(worst > options.most or took >= options.seconds)


def _recorded() -> list[float]:
    found, _ = read_many([_RESULTS / "cuda", _RESULTS / "cpu"])
    seconds = [record.provenance.get("seconds") for _, record in found]
    return sorted(float(value) for value in seconds if isinstance(value, (int, float)))


def _drawn(recorded: list[float], count: int, seed: int, on_gpus: int = 0) -> list[Job]:
    """Return that many jobs; with `on_gpus` each takes a core and a part of a GPU."""
    random = Random(seed)
    demand = Demand(disk_mib=_DISK_MIB, gpu_mib=12_000 if on_gpus else 0)
    return [
        Job(
            cell=_CELL,
            environment=f"cell{number}",
            platform="cuda" if on_gpus else "cpu",
            estimate=JobEstimate(build_seconds=_BUILD_SECONDS, run_seconds=random.choice(recorded)),
            demand=demand,
        )
        for number in range(count)
    ]


def _makespans(jobs: list[Job], on_gpus: list[Job]) -> float:
    """Print the makespan on each kind of machine; return the worst by its lower bound."""
    each = [job.estimate.build_seconds + job.estimate.run_seconds for job in jobs]
    least = max(sum(each) / _SLOTS, *each)
    print(f"{len(jobs)} cells on {_SLOTS} slots: at least {least:.0f} s")
    gpus = tuple(
        Gpu(device=str(number), name="H200", total_mib=40_000, free_mib=36_000)
        for number in range(3)
    )
    kinds = {
        "one machine": (jobs, [_machine("m", _SLOTS)]),
        "eight machines": (jobs, [_machine(f"m{number}", 1) for number in range(_SLOTS)]),
        "three cells to a GPU": (on_gpus, [_machine("m", _SLOTS, gpus=gpus)]),
        "disk for 125": (jobs, [_machine("m", _SLOTS, environments=125)]),
        "disk for 12": (jobs, [_machine("m", _SLOTS, environments=12)]),
    }
    worst = 0.0
    for name, (asked, machines) in kinds.items():
        found = simulate(asked, machines)
        assert len(found.ends) == len(asked)
        ratio = found.seconds / least
        worst = max(worst, ratio)
        print(f"  {name:22} {found.seconds:8.0f} s  {ratio:.4f}  {found.tasks} tasks")
    return worst


def _planned(jobs: list[Job], rounds: int) -> float:
    """Print how long the whole plan of so many jobs takes; return the CPU seconds."""
    machines = [_machine(f"m{number}", _SLOTS, environments=100) for number in range(125)]
    best = 0.0
    for round_ in range(rounds):
        began = time.process_time()
        found = simulate(jobs, machines)
        took = time.process_time() - began
        best = took if round_ == 0 else min(best, took)
    print(
        f"{len(jobs)} cells on {len(machines) * _SLOTS} slots: planned in {best:.2f} CPU s,"
        f" {found.tasks} tasks, {found.seconds / 3600:.1f} h"
    )
    return best


def _machine(
    name: str, cores: int, *, environments: int = 1_000_000, gpus: tuple[Gpu, ...] = ()
) -> Machine:
    return Machine(
        name=name,
        cores=cores,
        memory_mib=64_000,
        disk_mib=environments * _DISK_MIB,
        gpus=gpus,
    )


if __name__ == "__main__":
    raise SystemExit(main())
