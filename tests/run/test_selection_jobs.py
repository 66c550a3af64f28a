"""The jobs of a plan: what each takes of a machine, and how long it is thought to take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.memory import CASE_MIB
from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.run.environments import LINKED_MIB, WHOLE_MIB
from matrix.run.machine import Gpu, Machine, lacks
from matrix.run.nvidia import gpu_need_mib
from matrix.run.selection_jobs import (
    RUN_SECONDS,
    Asked,
    cases_on_cpu,
    fitted,
    gpus_of_a_cell,
    jobs_of,
    most_of,
)
from matrix.verdict.plan import Wanted
from plans import planned, record

H200, T4 = 143_771, 15_360


def machine(*gpus: int, cores: int = 16) -> Machine:
    found = tuple(
        Gpu(device=str(number), name="GPU", total_mib=mib, free_mib=mib)
        for number, mib in enumerate(gpus)
    )
    return Machine(name="here", cores=cores, memory_mib=10**6, disk_mib=10**6, gpus=found)


def whole(cell: Cell) -> int:
    return WHOLE_MIB


def linked(cell: Cell) -> int:
    return LINKED_MIB


def jobs(
    *of: Any, here: Machine, platform: Platform = Platform.CPU, **more: Any
) -> tuple[Any, ...]:
    plan = planned(Wanted(platforms=(platform,)), *of)
    return jobs_of(plan, [here], Asked(**{"disk_mib": whole, **more}))


def test_what_ran_takes_as_long_again_and_the_others_as_long_as_is_usual() -> None:
    runs = (
        record(platform="cpu", provenance={"seconds": 400.0}),
        record("py311-torch29-vllm016", "cpu", provenance={"seconds": 200.0}),
    )
    found = {job.environment: job.estimate.run_seconds for job in jobs(*runs, here=machine())}
    assert found["py311-torch210-vllm019"] == 400.0
    assert found["py310-torch210-vllm019"] == 400.0  # the same pair on another Python
    assert found["py311-torch29-vllm016"] == 200.0
    assert found["py311-torch211-vllm026"] == 300.0
    assert {job.estimate.run_seconds for job in jobs(here=machine())} == {RUN_SECONDS}


def test_a_cell_on_the_cpu_takes_a_core_for_each_case_at_once() -> None:
    job = jobs(here=machine())[0]
    assert (job.cases_at_once, job.demand.cores, job.demand.memory_mib) == (1, 1, CASE_MIB)
    assert job.demand.gpu_mib == 0 and job.demand.disk_mib == WHOLE_MIB
    job = jobs(here=machine(), cases_at_once=4, disk_mib=linked, pytest_args=("-k", "moe"))[0]
    assert (job.cases_at_once, job.demand.cores, job.demand.memory_mib) == (4, 4, 4 * CASE_MIB)
    assert job.pytest_args == ("-k", "moe") and job.demand.disk_mib == LINKED_MIB
    assert job.estimate.build_seconds < jobs(here=machine())[0].estimate.build_seconds
    assert jobs(here=machine(cores=2), cases_at_once=4)[0].demand.cores == 2


@pytest.mark.parametrize(("cores", "memory", "cases"), [(8, 64000, 8), (8, 9000, 2), (1, 9, 1)])
def test_as_many_cases_as_have_their_cores_and_memory(cores: int, memory: int, cases: int) -> None:
    assert cases_on_cpu(replace(machine(cores=cores), memory_mib=memory)) == cases


@pytest.mark.parametrize(("number", "each"), [(1, 8), (2, 4), (3, 2), (9, 1), (40, 1)])
def test_cells_on_the_cpu_share_its_cases_at_once(number: int, each: int) -> None:
    here = replace(machine(cores=8), memory_mib=64000)
    plan = planned(Wanted(platforms=(Platform.CPU,)))[:number]
    found = jobs_of(plan, [here], Asked(disk_mib=whole))
    assert {(job.cases_at_once, job.demand.cores) for job in found} == {(each, each)}


@pytest.mark.parametrize(
    ("nodes", "cells", "each"),
    [((16, 8), 1, 8), ((16, 8), 2, 8), ((8, 8, 8, 8), 8, 4), ((8, 8), 3, 4), ((8, 1), 2, 1)],
)
def test_cells_on_nodes_fit_the_smallest_of_them(
    nodes: tuple[int, ...], cells: int, each: int
) -> None:
    """However many cores the largest has, a job that it loses runs on another one."""
    machines = [replace(machine(cores=cores), memory_mib=64000) for cores in nodes]
    plan = planned(Wanted(platforms=(Platform.CPU,)))[:cells]
    found = jobs_of(plan, machines, Asked(disk_mib=whole))
    assert {job.cases_at_once for job in found} == {each}
    assert all(lacks(node, (job.demand,)) == () for node in machines for job in found)


@given(
    cores=st.integers(1, 64),
    then=st.integers(1, 64),
    memory=st.integers(0, 2**18),
    at_once=st.none() | st.integers(1, 64),
)
def test_a_resumed_job_has_no_more_cases_at_once_than_there_is_room_for(
    cores: int, then: int, memory: int, at_once: int | None
) -> None:
    before = replace(machine(cores=cores), memory_mib=64000)
    now = replace(machine(cores=then), memory_mib=memory)
    job = jobs(here=before, cases_at_once=at_once)[0]
    found = fitted(job, [now])
    assert found.cases_at_once is not None and job.cases_at_once is not None
    assert 1 <= found.cases_at_once <= min(job.cases_at_once, cases_on_cpu(now))
    assert found.demand.cores <= then and fitted(found, [now]) == found
    most = max(cases_on_cpu(before), cases_on_cpu(now))
    assert fitted(job, [before, now]).cases_at_once == min(job.cases_at_once, most)
    old = replace(job, cases_at_once=None)  # as a journal of before has it
    assert fitted(old, [now]).cases_at_once == 1
    gpu = jobs(here=machine(H200), platform=Platform.CUDA)[0]
    assert fitted(gpu, [now]) is gpu


def test_jobs_are_made_for_the_node_with_the_largest_gpu_then_the_most_cores() -> None:
    large, small, none, no_gpu = machine(80_000), machine(9), machine(), machine(cores=32)
    assert most_of([none, no_gpu]) == no_gpu
    assert most_of([large, no_gpu, small]) == large
    plan = planned(Wanted(platforms=(Platform.CUDA,)))
    mixed, asked = [no_gpu, small, large], Asked(disk_mib=whole)
    assert jobs_of(plan, mixed, asked) == jobs_of(plan, [large], asked)


def test_several_cells_fit_a_large_gpu_and_one_case_a_small_one() -> None:
    job = jobs(here=machine(H200), platform=Platform.CUDA)[0]
    assert (job.cases_at_once, job.demand.gpu_mib) == (4, 4 * gpu_need_mib(H200))
    assert 3 * job.demand.gpu_mib <= H200 < 4 * job.demand.gpu_mib
    job = jobs(here=machine(T4), platform=Platform.CUDA)[0]
    assert job.cases_at_once == 3
    assert jobs(here=machine(H200, cores=2), platform=Platform.CUDA)[0].cases_at_once == 2
    assert jobs(here=machine(H200), platform=Platform.CUDA, cases_at_once=8)[0].cases_at_once == 8


def test_a_cell_on_two_gpus_takes_the_memory_of_its_cases_on_each() -> None:
    two = machine(H200, H200)
    full = replace(two, gpus=(two.gpus[0], replace(two.gpus[1], free_mib=900)))
    for here in (machine(), machine(H200), machine(H200, T4), full):
        assert gpus_of_a_cell(here) == 1
    assert gpus_of_a_cell(two) == 2
    # Of slices CUDA sees the first alone.
    slices = tuple(replace(gpu, device=f"MIG-{gpu.device}") for gpu in two.gpus)
    assert gpus_of_a_cell(replace(two, gpus=slices)) == 1
    (job, *_) = jobs(here=two, platform=Platform.CUDA, gpus=2)
    assert job.demand == replace(
        jobs(here=two, platform=Platform.CUDA)[0].demand, gpus=2, memory_mib=4 * CASE_MIB
    )
    (job, *_) = jobs(here=machine(H200, T4), platform=Platform.CUDA, gpus=2)
    assert (job.cases_at_once, job.demand.memory_mib) == (1, 2 * CASE_MIB)
    (job, *_) = jobs(here=two, platform=Platform.CUDA, gpus=2, whole_gpus=True)
    assert job.demand.whole_gpus
    for platform, gpus in ((Platform.CUDA, 1), (Platform.CPU, 2)):
        (job, *_) = jobs(here=two, platform=platform, gpus=gpus, whole_gpus=True)
        assert (job.demand.gpus, job.demand.whole_gpus) == (1, False)


@given(gpus=st.lists(st.integers(2_500, 200_000), min_size=1, max_size=3), cores=st.integers(1, 64))
def test_what_nobody_chose_fits_the_machine(gpus: list[int], cores: int) -> None:
    here = machine(*gpus, cores=cores)
    for job in jobs(here=here, platform=Platform.CUDA):
        assert lacks(here, [job.demand]) == ()


def test_without_a_gpu_a_cell_on_cuda_says_what_it_lacks() -> None:
    here = machine()
    assert lacks(here, [jobs(here=here, platform=Platform.CUDA)[0].demand])
