"""Jobs and machines: what they refuse, and what a machine lacks."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.run.job import Job, JobError, JobEstimate
from matrix.run.machine import Demand, DemandError, Gpu, Lack, Machine, Resource, lacks

_JOB = Job(
    cell=Cell("3.11", "2.10.0", "0.19.1"),
    environment="py311-torch210-vllm019",
    platform=Platform.CPU,
    estimate=JobEstimate(build_seconds=40, run_seconds=600),
    demand=Demand(cores=2),
)
_GPU = Gpu(device="0", name="NVIDIA H200", total_mib=143771, free_mib=100000)
_MACHINE = Machine(name="here", cores=8, memory_mib=32000, disk_mib=90000, gpus=(_GPU,))


def test_each_round_and_platform_has_a_key_of_its_own() -> None:
    jobs = [_JOB, replace(_JOB, round=2), replace(_JOB, platform=Platform.CUDA)]
    assert len({job.key for job in jobs}) == 3


@pytest.mark.parametrize(
    "made",
    [
        lambda: replace(_JOB, round=0),
        lambda: replace(_JOB, environment=""),
        lambda: JobEstimate(build_seconds=-1, run_seconds=0),
        lambda: JobEstimate(build_seconds=0, run_seconds=math.nan),
        lambda: JobEstimate(build_seconds=math.inf, run_seconds=0),
    ],
)
def test_a_job_that_nothing_can_run_is_refused(made: Callable[[], object]) -> None:
    with pytest.raises(JobError):
        made()


@pytest.mark.parametrize(
    "made",
    [
        lambda: Demand(memory_mib=-1),
        lambda: Demand(gpu_mib=1, gpus=0),
        lambda: replace(_GPU, free_mib=-1),
        lambda: replace(_MACHINE, cores=-1),
        lambda: replace(_MACHINE, gpus=(_GPU, replace(_GPU, name="NVIDIA H100"))),
    ],
)
def test_a_machine_that_cannot_be_is_refused(made: Callable[[], object]) -> None:
    with pytest.raises(DemandError):
        made()


def test_a_machine_lacks_what_any_of_the_demands_has_too_much_of() -> None:
    build = Demand(cores=1, memory_mib=64000)
    run = Demand(cores=9, memory_mib=1000, disk_mib=90000, gpu_mib=120000)
    assert lacks(_MACHINE, [build, run]) == (
        Lack(resource=Resource.CORES, needs=9, has=8),
        Lack(resource=Resource.MEMORY, needs=64000, has=32000),
        Lack(resource=Resource.GPU_MEMORY, needs=120000, has=100000),
    )
    assert lacks(_MACHINE, [Demand(cores=8, gpu_mib=100000)]) == ()
    assert lacks(replace(_MACHINE, gpus=()), [Demand(gpu_mib=1)]) == (
        Lack(resource=Resource.GPU_MEMORY, needs=1, has=0),
    )


def test_two_gpus_are_lacking_where_one_has_the_memory() -> None:
    two = Demand(gpu_mib=60000, gpus=2)
    other = Gpu(device="1", name="NVIDIA H200", total_mib=143771, free_mib=59999)
    assert lacks(replace(_MACHINE, gpus=(_GPU, other)), [two]) == (
        Lack(resource=Resource.GPUS, needs=2, has=1),
    )
    assert lacks(replace(_MACHINE, gpus=(_GPU, replace(other, free_mib=60000))), [two]) == ()
