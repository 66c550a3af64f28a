"""Many made-up selections with many faults: the referee's laws, by seeds.

They are larger and fail more often than those of Hypothesis, which finds small ones.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.run.job import Job, JobEstimate
from matrix.run.machine import Demand, Gpu, Machine
from matrix.run.task import Present, SchedulePolicy, TaskKind
from referee import Referee

_CELL = Cell("3.11", "2.10.0", "0.19.1")
_SEEDS = 200
"""For each block; a block takes about a second."""


def _jobs(random: Random) -> list[Job]:
    found = []
    for number in range(random.randint(1, random.choice([3, 6, 25]))):
        build = Demand(cores=random.randint(0, 2), memory_mib=random.randint(0, 3))
        for round_ in range(1, random.choice([1, 1, 2, 3]) + 1):
            on_gpu = random.random() < 0.2
            found.append(
                Job(
                    cell=_CELL,
                    environment=f"e{number}",
                    platform=Platform.CUDA if on_gpu else Platform.CPU,
                    round=round_,
                    estimate=JobEstimate(
                        build_seconds=random.choice([0, 35]),
                        run_seconds=random.choice([0, 130, 300, 760]),
                    ),
                    demand=Demand(
                        cores=random.choice([0, 1, 1, 2, 4]),
                        memory_mib=random.randint(0, 4),
                        disk_mib=random.randint(0, 4),
                        gpu_mib=random.randint(1, 5) if on_gpu else 0,
                        gpus=random.choice([1, 1, 2]),
                    ),
                    build=build,
                )
            )
    return found


def _machine(random: Random, name: str) -> Machine:
    gpus = (
        Gpu(device=str(number), name="H", total_mib=9, free_mib=random.randint(3, 9))
        for number in range(random.choice([0, 1, 2]))
    )
    return Machine(
        name=name,
        cores=random.choice([8, 5, 4, 2]),
        memory_mib=random.choice([9, 6, 5]),
        disk_mib=random.choice([4, 6, 9, 12]),
        gpus=tuple(gpus),
    )


def _present(random: Random, jobs: list[Job]) -> tuple[Present, ...]:
    names = [*sorted({job.environment for job in jobs}), "old", "older"]
    return tuple(
        Present(environment=name, disk_mib=random.randint(0, 5), usable=random.random() < 0.5)
        for name in random.sample(names, random.randint(0, min(3, len(names))))
    )


def _carried_out(seed: int) -> Referee:
    """Carry out a made-up schedule, with faults as often as the seed has it."""
    random = Random(seed)
    jobs = _jobs(random)
    machines = [_machine(random, f"m{number}") for number in range(random.randint(1, 3))]
    present = {machine.name: _present(random, jobs) for machine in machines}
    policy = SchedulePolicy(
        runs_at_once=random.choice([1, 1, 2]),
        builds_at_once=random.choice([None, 1]),
        tries=random.randint(1, 3),
        losses=random.randint(1, 3),
        overtakes=random.choice([0, 1, 3]),
    )
    referee = Referee(jobs, machines, present, policy)
    referee.start()
    faults = random.choice([0.0, 0.1, 0.3])
    while not referee.is_over:
        assert referee.going, "jobs are left, and nothing goes on"
        assert len(referee.begun) < 300 * (len(jobs) + 3), "it goes on for ever"
        task, fault = random.choice(referee.going), random.random() / faults if faults else 9.0
        if fault < 0.2 and referee.machines:
            referee.lose(random.choice(sorted(referee.machines)))
        elif fault < 0.3:
            referee.join(_machine(random, f"j{len(referee.begun)}.{random.random()}"))
        elif fault < 0.31:
            referee.stop()
        else:
            works, record, fault_ = (random.random() >= faults for _ in range(3))
            referee.end(task, works=works, record=record, machine_fault=not fault_)
    assert set(referee.ends) == {job.key for job in jobs}
    return referee


@pytest.mark.parametrize("block", range(10))
def test_every_job_ends_once_whatever_fails(block: int) -> None:
    ends: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for seed in range(block * _SEEDS, (block + 1) * _SEEDS):
        try:
            referee = _carried_out(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        ends.update(end.why or end.how for end in referee.ends.values())
        kinds.update(task.kind for task in referee.begun)
    # Each block is of every sort.
    assert set(kinds) == set(TaskKind)
    assert {"done", "no_record", "build_failed", "machines_lost", "fits_nowhere"} <= set(ends)
