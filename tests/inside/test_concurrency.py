"""How many cases run at once, for every machine."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.nvidia import START_MIB
from matrix.inside.concurrency import jobs_for, parse_jobs
from matrix.record.model import Platform
from matrix.run.machine import Machine
from matrix.run.selection_jobs import MEMORY_MIB, cases_by_cores

H100_MIB = 81000
H200_MIB = 143000


@pytest.mark.parametrize(
    ("asked", "platform", "cases", "cores", "free", "expected"),
    [
        (None, Platform.CPU, 7, 64, None, 1),
        (None, Platform.CUDA, 7, 16, H100_MIB, 7),
        (0, Platform.CUDA, 7, 16, H100_MIB, 7),
        (0, Platform.CUDA, 7, 8, H100_MIB, 5),
        (None, Platform.CUDA, 9, 16, H200_MIB, 9),
        (None, Platform.CUDA, 9, 13, H200_MIB, 8),
        (None, Platform.CUDA, 9, 16, H100_MIB, 7),
        (0, Platform.CUDA, 2, 16, H100_MIB, 2),
        (0, Platform.CUDA, 7, 16, 24000, 2),
        (0, Platform.CUDA, 7, 16, 100, 1),
        (0, Platform.CUDA, 7, 16, None, 1),
        (0, Platform.CUDA, 7, 1, H100_MIB, 1),
        (0, Platform.CPU, 7, 8, None, 4),
        (3, Platform.CUDA, 7, 1, 100, 3),
        (3, Platform.CPU, 7, 1, None, 3),
        (9, Platform.CPU, 7, 1, None, 7),
    ],
)
def test_jobs(
    *,
    asked: int | None,
    platform: Platform,
    cases: int,
    cores: int,
    free: int | None,
    expected: int,
) -> None:
    found = jobs_for(asked, platform, cases, cores=cores, bounded=True, free_mib=lambda: free)
    assert found == expected


@given(
    asked=st.none() | st.integers(0, 20),
    platform=st.sampled_from(Platform),
    cases=st.integers(1, 20),
    cores=st.integers(1, 256),
    free=st.none() | st.integers(0, 200_000),
)
def test_at_least_one_never_more_than_cases_and_all_fit(
    asked: int | None, platform: Platform, cases: int, cores: int, free: int | None
) -> None:
    found = jobs_for(asked, platform, cases, cores=cores, bounded=True, free_mib=lambda: free)
    assert 1 <= found <= cases
    if platform is Platform.CUDA and not asked and found > 1:
        assert found * START_MIB <= (free or 0)


@given(cores=st.integers(1, 256))
def test_a_schedule_counts_with_as_many_cases_on_the_cpu_as_run(cores: int) -> None:
    machine = Machine(name="here", cores=cores, memory_mib=MEMORY_MIB * cores, disk_mib=0)
    auto = parse_jobs("auto")
    assert cases_by_cores(machine) == jobs_for(
        auto, Platform.CPU, cores, cores=cores, bounded=True, free_mib=lambda: None
    )


def test_starts_that_measure_the_gpu_run_one_at_a_time() -> None:
    def never() -> int:
        raise AssertionError

    for number in (None, 0, 7):
        assert jobs_for(number, Platform.CUDA, 7, cores=64, bounded=False, free_mib=never) == 1


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many"])
def test_what_is_no_number_of_jobs(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) or "invalid literal"):
        parse_jobs(text)
