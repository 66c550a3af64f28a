"""How many cases run at once, for every machine."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.memory import CASE_MIB
from matrix._util.nvidia import START_MIB
from matrix.inside.concurrency import jobs_for, parse_jobs
from matrix.record.model import Platform
from matrix.run.machine import Machine
from matrix.run.selection_jobs import cases_on_cpu

H100_MIB = 81000
H200_MIB = 143000


@pytest.mark.parametrize(
    ("asked", "platform", "cases", "cores", "free", "expected"),
    [
        (0, Platform.CUDA, 7, 16, H100_MIB, 7),
        (0, Platform.CUDA, 7, 8, H100_MIB, 5),
        (0, Platform.CUDA, 9, 16, H200_MIB, 9),
        (0, Platform.CUDA, 9, 13, H200_MIB, 8),
        (0, Platform.CUDA, 9, 16, H100_MIB, 7),
        (0, Platform.CUDA, 2, 16, H100_MIB, 2),
        (0, Platform.CUDA, 7, 16, 24000, 2),
        (0, Platform.CUDA, 7, 16, 100, 1),
        (0, Platform.CUDA, 7, 16, None, 1),
        (0, Platform.CUDA, 7, 1, H100_MIB, 1),
        (0, Platform.CPU, 7, 8, None, 1),
        (0, Platform.CPU, 9, 2, 22000, 2),
        (0, Platform.CPU, 9, 64, 64000, 9),
        (0, Platform.CPU, 9, 4, 14500, 3),
        (0, Platform.CPU, 9, 4, 4000, 1),
        (0, Platform.CPU, 9, 1, 64000, 1),
        (3, Platform.CUDA, 7, 1, 100, 3),
        (3, Platform.CPU, 7, 1, None, 3),
        (9, Platform.CPU, 7, 1, None, 7),
    ],
)
def test_jobs(
    *,
    asked: int,
    platform: Platform,
    cases: int,
    cores: int,
    free: int | None,
    expected: int,
) -> None:
    found = jobs_for(asked, platform, cases, cores=cores, bounded=True, free_mib=lambda: free)
    assert found == expected


@given(
    asked=st.integers(0, 20),
    platform=st.sampled_from(Platform),
    cases=st.integers(1, 20),
    cores=st.integers(1, 256),
    free=st.none() | st.integers(0, 200_000),
)
def test_at_least_one_never_more_than_cases_and_all_fit(
    asked: int, platform: Platform, cases: int, cores: int, free: int | None
) -> None:
    found = jobs_for(asked, platform, cases, cores=cores, bounded=True, free_mib=lambda: free)
    assert 1 <= found <= cases
    if not asked and found > 1:
        one = START_MIB if platform is Platform.CUDA else CASE_MIB
        assert found * one <= (free or 0)


@given(cores=st.integers(1, 256), memory=st.integers(0, 2**20))
def test_a_schedule_counts_with_as_many_cases_on_the_cpu_as_run(cores: int, memory: int) -> None:
    machine = Machine(name="here", cores=cores, memory_mib=memory, disk_mib=0)
    auto = parse_jobs("auto")
    assert cases_on_cpu(machine) == jobs_for(
        auto, Platform.CPU, cores, cores=cores, bounded=True, free_mib=lambda: memory
    )


def test_starts_that_measure_the_gpu_run_one_at_a_time() -> None:
    def never() -> int:
        raise AssertionError

    for number in (0, 7):
        assert jobs_for(number, Platform.CUDA, 7, cores=64, bounded=False, free_mib=never) == 1


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many"])
def test_what_is_no_number_of_jobs(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) or "invalid literal"):
        parse_jobs(text)
