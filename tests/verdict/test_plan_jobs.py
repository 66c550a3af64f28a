"""The jobs that a plan becomes: each cell once, balanced, no more than the service takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.catalog.cells import Cell
from matrix.record.model import PLATFORMS, Platform
from matrix.verdict.plan import PlanError, Planned, Wanted
from matrix.verdict.plan_jobs import ENVIRONMENT_SECONDS, UNKNOWN_SECONDS, CiJob, jobs_of
from plans import planned

EXAMPLE = next(item for item in planned(Wanted()) if item.runs)
PYTHONS = ("3.10", "3.11", "3.12")


def item(
    number: int, seconds: float | None, python: str = "3.11", platform: Platform = Platform.CPU
) -> Planned:
    cell = Cell(python=python, torch="2.10.0", vllm=f"0.{number}.0")
    return replace(EXAMPLE, cell=cell, seconds=seconds, platform=platform)


some_plans = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(1, 20_000)),
        st.sampled_from(PYTHONS),
        st.sampled_from(PLATFORMS),
        st.booleans(),
    ),
    max_size=20,
).map(
    lambda drawn: [
        replace(item(number, seconds, python, platform), runs=runs)
        for number, (seconds, python, platform, runs) in enumerate(drawn)
    ]
)


def expected_seconds(chosen: Planned) -> float:
    return ENVIRONMENT_SECONDS + (UNKNOWN_SECONDS if chosen.seconds is None else chosen.seconds)


def test_each_cell_is_a_job_where_the_service_takes_so_many() -> None:
    plan = [item(number, 60.0 * number) for number in range(1, 4)]
    assert jobs_of(plan, 3) == tuple(
        CiJob(
            cells=(f"py311-torch210-vllm0{number}",),
            platform=Platform.CPU,
            python="3.11",
            seconds=ENVIRONMENT_SECONDS + 60.0 * number,
        )
        for number in (3, 2, 1)
    )
    assert jobs_of([], 3) == ()


def test_what_cannot_work_has_no_job() -> None:
    assert jobs_of([replace(item(1, 1.0), runs=False)], 3) == ()


def test_more_cells_than_jobs_share_them_the_longest_first() -> None:
    plan = [item(number, seconds) for number, seconds in enumerate([100, 9000, 200, 300, 8000])]
    jobs = jobs_of(plan, 2)
    assert [job.cells for job in jobs] == [
        ("py311-torch210-vllm01", "py311-torch210-vllm00"),
        ("py311-torch210-vllm04", "py311-torch210-vllm03", "py311-torch210-vllm02"),
    ]
    assert jobs[1].name == "py311-torch210-vllm04-and-2-more-cpu"
    assert {job.seconds for job in jobs} == {10_300.0}


def test_a_run_of_unknown_seconds_is_counted() -> None:
    (job,) = jobs_of([item(1, None), item(2, 5.0)], 1)
    assert (job.unknown, job.seconds) == (1, 2 * ENVIRONMENT_SECONDS + UNKNOWN_SECONDS + 5.0)


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(1.0, 60), (1800.0, 60), (1801.0, 61), (3600.0, 120), (1e6, 360)]
)
def test_a_time_limit_is_twice_what_a_job_should_take(seconds: float, minutes: int) -> None:
    job = CiJob(
        cells=("py311-torch210-vllm01",), platform=Platform.CPU, python="3.11", seconds=seconds
    )
    assert job.minutes(360) == minutes


def test_more_kinds_of_machine_than_jobs_are_refused() -> None:
    with pytest.raises(PlanError, match="--max-jobs 2: the cells have 3 kinds of machine"):
        jobs_of([item(1, 1.0, python) for python in PYTHONS], 2)


@given(some_plans, st.integers(6, 25))
def test_each_cell_runs_once_and_no_job_mixes_machines(plan: Sequence[Planned], most: int) -> None:
    jobs = jobs_of(plan, most)
    every = [chosen for chosen in plan if chosen.runs]
    assert len(jobs) == min(len(every), most) or len(jobs) <= most < len(every)
    assert Counter((cell, job.platform) for job in jobs for cell in job.cells) == Counter(
        (chosen.cell.name, chosen.platform) for chosen in every
    )
    of = {(chosen.cell.name, chosen.platform): chosen.cell.python for chosen in every}
    assert all(of[cell, job.platform] == job.python for job in jobs for cell in job.cells)
    assert len({job.name for job in jobs}) == len(jobs)


@given(some_plans, st.integers(6, 25), st.randoms(use_true_random=False))
def test_the_order_of_the_plan_changes_no_job(
    plan: Sequence[Planned], most: int, random: Random
) -> None:
    shuffled = list(plan)
    random.shuffle(shuffled)
    assert jobs_of(shuffled, most) == jobs_of(plan, most)


@given(some_plans, st.integers(6, 25))
def test_the_jobs_of_a_machine_are_balanced(plan: Sequence[Planned], most: int) -> None:
    """No job takes longer than its share and one cell: the bound of longest first."""
    jobs = jobs_of(plan, most)
    for platform, python in {(job.platform, job.python) for job in jobs}:
        seconds = [job.seconds for job in jobs if (job.platform, job.python) == (platform, python)]
        longest = max(
            expected_seconds(chosen)
            for chosen in plan
            if chosen.runs and (chosen.platform, chosen.cell.python) == (platform, python)
        )
        assert max(seconds) <= sum(seconds) / len(seconds) + longest + 1e-6
