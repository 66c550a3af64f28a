"""What a schedule begins next, and where, move by move."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.run.board import ScheduleError
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.machine import Demand, Gpu, Lack, Machine, Resource
from matrix.run.schedule import Schedule
from matrix.run.simulation import simulate
from matrix.run.task import Finish, Present, SchedulePolicy, ScheduleStep, Task

_HERE = Machine(name="a", cores=2, memory_mib=100, disk_mib=100)
_THERE = replace(_HERE, name="b")


def job(name: str, seconds: float = 100, *, round_: int = 1, **demand: Any) -> Job:
    return Job(
        cell=Cell("3.11", "2.10.0", "0.19.1"),
        environment=name,
        platform=Platform.CUDA if "gpu_mib" in demand else Platform.CPU,
        round=round_,
        estimate=JobEstimate(build_seconds=10, run_seconds=seconds),
        demand=Demand(**demand),
        build=Demand(cores=1),
    )


def shown(step: ScheduleStep) -> list[str]:
    """Return each task of a step as: what, environment or job, machine, GPUs."""
    return [
        " ".join([task.kind, task.job or task.environment, f"@{task.machine}", *task.gpus])
        for task in step.tasks
    ]


class Run:
    """A schedule, and the tasks that go on in it by what `shown` says of them."""

    def __init__(self, jobs: list[Job], *machines: Machine, **more: Any) -> None:
        self.schedule = Schedule(jobs, machines or (_HERE,), **more)
        self.going: dict[str, Task] = {}
        self.ends: dict[str, JobEnd] = {}
        self.first = self.take(self.schedule.start())

    def take(self, step: ScheduleStep) -> list[str]:
        self.going |= dict(zip(shown(step), step.tasks, strict=True))
        self.ends |= {end.job: end for end in step.ends}
        return shown(step)

    def end(self, what: str, *, works: bool = True, **more: Any) -> list[str]:
        task = self.going.pop(what)
        if works and task.job is not None:
            more.setdefault("records", {task.job: f"{task.environment}.json"})
        return self.take(self.schedule.ended(task, Finish(works=works, seconds=7, **more)))


def test_the_longest_is_built_first_and_the_next_while_it_runs() -> None:
    run = Run([job("short", 50), job("long", 900), job("middle", 300)])
    assert run.first == ["build long @a", "build middle @a"]
    assert run.end("build long @a") == ["run long/cpu/1 @a"]
    assert run.end("build middle @a") == ["run middle/cpu/1 @a"]
    assert run.end("run middle/cpu/1 @a") == ["build short @a"]
    assert run.end("run long/cpu/1 @a") == []
    assert run.end("build short @a") == ["run short/cpu/1 @a"]
    assert run.schedule.left == 1
    assert run.end("run short/cpu/1 @a") == []
    assert run.schedule.left == 0
    end = run.ends["middle/cpu/1"]
    assert (end.how, end.record, end.machine, end.seconds) == ("done", "middle.json", "a", 7)


def test_no_more_is_built_ahead_than_could_run_at_once() -> None:
    run = Run([job(f"e{number}", cores=1, memory_mib=60) for number in range(3)])
    assert run.first == ["build e0 @a"]
    assert run.end("build e0 @a") == ["run e0/cpu/1 @a", "build e1 @a"]
    assert run.end("build e1 @a") == []


def test_a_second_run_takes_the_environment_that_is_there() -> None:
    jobs = [job("twice", 300), job("twice", 300, round_=2), *(job(f"e{n}") for n in range(5))]
    run = Run(jobs, replace(_HERE, cores=1), replace(_THERE, cores=1))
    assert run.first == ["build twice @a", "build e0 @b"]
    assert run.end("build twice @a") == ["run twice/cpu/1 @a"]
    assert run.end("run twice/cpu/1 @a") == ["run twice/cpu/2 @a"]


def test_a_machine_without_work_builds_what_another_has_no_turn_for() -> None:
    jobs = [job("twice", 300), job("twice", 200, round_=2)]
    run = Run(jobs, replace(_HERE, cores=1), replace(_THERE, cores=1))
    assert run.first == ["build twice @a", "build twice @b"]
    assert run.end("build twice @a") == ["run twice/cpu/1 @a"]
    assert run.end("build twice @b") == ["run twice/cpu/2 @b"]


def test_cells_share_gpus_and_each_gets_the_freest() -> None:
    gpus = [
        Gpu(device=name, name="H", total_mib=100, free_mib=mib)
        for name, mib in (("x", 70), ("y", 90))
    ]
    machine = replace(_HERE, cores=8, gpus=tuple(gpus))
    jobs = [job(f"e{number}", 900 - number, gpu_mib=40) for number in range(4)]
    present = {"a": [Present(environment=cell.environment, disk_mib=1) for cell in jobs]}
    run = Run(jobs, machine, present=present)
    assert run.first == ["run e0/cuda/1 @a y", "run e1/cuda/1 @a x", "run e2/cuda/1 @a y"]
    assert run.end("run e1/cuda/1 @a x") == ["run e3/cuda/1 @a x"]


def test_a_job_of_two_gpus_gets_two() -> None:
    gpus = tuple(Gpu(device=name, name="H", total_mib=100, free_mib=100) for name in "xy")
    run = Run(
        [job("two", gpu_mib=60, gpus=2), job("one", 50, gpu_mib=60)], replace(_HERE, gpus=gpus)
    )
    assert run.end("build two @a") == ["run two/cuda/1 @a x y"]
    assert run.end("build one @a") == []
    assert run.end("run two/cuda/1 @a x y") == ["run one/cuda/1 @a x"]


def test_where_the_disk_is_short_what_nobody_needs_is_removed_first() -> None:
    present = {
        "a": [
            Present(environment="old", disk_mib=50),
            Present(environment="e1", disk_mib=40),
            Present(environment="half", disk_mib=10, usable=False),
        ]
    }
    jobs = [job("e0", 900, disk_mib=40), job("e1", 500, disk_mib=40), job("e2", disk_mib=40)]
    run = Run(jobs, present=present)
    assert run.first == ["run e1/cpu/1 @a", "remove old @a"]
    assert run.end("remove old @a") == ["build e0 @a"]
    # What is half built would not be enough, and e1 is in use.
    assert run.end("build e0 @a") == ["run e0/cpu/1 @a"]
    assert run.end("run e1/cpu/1 @a") == ["remove e1 @a"]
    assert run.end("remove e1 @a") == ["build e2 @a"]


def test_what_a_job_waits_for_is_not_removed_for_another() -> None:
    present = {"a": [Present(environment=name, disk_mib=50) for name in ("busy", "ready")]}
    jobs = [
        job("busy", 900, cores=2, disk_mib=50),
        job("new", 500, disk_mib=50),
        job("ready", 100, disk_mib=50),
    ]
    run = Run(jobs, present=present)
    assert run.first == ["run busy/cpu/1 @a"]
    assert run.end("run busy/cpu/1 @a") == ["run ready/cpu/1 @a", "remove busy @a"]


def test_disk_that_cannot_be_had_back_is_missing_from_then_on() -> None:
    present = {"a": [Present(environment="old", disk_mib=50)]}
    run = Run([job("e0", disk_mib=60), job("e1", 50, disk_mib=50)], present=present)
    assert run.first == ["remove old @a"]
    assert run.end("remove old @a", works=False) == ["build e1 @a"]
    end = run.ends["e0/cpu/1"]
    assert (end.how, end.why) == (HowEnded.NOT_RUN, WhyNot.FITS_NOWHERE)
    assert end.lacks == (Lack(resource=Resource.DISK, needs=60, has=50),)


def test_a_build_that_fails_ends_its_jobs_and_no_others() -> None:
    run = Run([job("bad", 900), job("bad", round_=2), job("good")])
    left = {"bad/cpu/2": "bad.json"}
    run.end("build bad @a", works=False, records=left, log="bad.log", detail="no wheel")
    end = run.ends["bad/cpu/1"]
    assert (end.how, end.why, end.log, end.detail) == (
        "not_run",
        "build_failed",
        "bad.log",
        "no wheel",
    )
    assert run.ends["bad/cpu/2"].record == "bad.json"
    assert run.ends["bad/cpu/2"].how is HowEnded.DONE
    assert run.end("build good @a") == ["run good/cpu/1 @a"]


def test_a_build_that_fails_on_one_machine_leaves_jobs_to_the_other() -> None:
    run = Run([job("twice", 300), job("twice", 200, round_=2)], _HERE, _THERE)
    run.end("build twice @a")
    assert run.end("build twice @b", works=False) == []
    assert not run.ends
    assert run.end("run twice/cpu/1 @a") == ["run twice/cpu/2 @a"]


def test_a_build_that_fails_without_a_record_is_tried_on_another_machine() -> None:
    """A machine whose disk or network is broken takes no job with it."""
    run = Run([job("e0", 900), job("e1")], replace(_HERE, cores=1), replace(_THERE, cores=1))
    assert run.first == ["build e0 @a", "build e1 @b"]
    assert run.end("build e1 @b") == ["run e1/cpu/1 @b"]
    assert run.end("build e0 @a", works=False, detail="no space") == []
    assert not run.ends
    assert run.end("run e1/cpu/1 @b") == ["build e0 @b"]
    assert run.end("build e0 @b") == ["run e0/cpu/1 @b"]
    run.end("run e0/cpu/1 @b")
    assert run.ends["e0/cpu/1"].how is HowEnded.DONE


def test_a_build_that_fails_on_two_machines_ends_its_job() -> None:
    run = Run([job("e0")], _HERE, _THERE, replace(_HERE, name="c"))
    assert run.end("build e0 @a", works=False, detail="no space") == ["build e0 @b"]
    assert run.end("build e0 @b", works=False, log="b.log", detail="no wheel") == []
    end = run.ends["e0/cpu/1"]
    assert (end.why, end.machine, end.log) == (WhyNot.BUILD_FAILED, "b", "b.log")
    assert (end.detail, run.schedule.is_over) == ("no wheel", True)


def test_a_build_that_fails_with_a_record_ends_its_job() -> None:
    left = {"e0/cpu/1": "e0.json"}
    run = Run([job("e0")], replace(_HERE, cores=1), replace(_THERE, cores=1))
    assert run.end("build e0 @a", works=False, records=left) == []
    assert run.ends["e0/cpu/1"].record == "e0.json"
    assert run.schedule.is_over


def test_a_build_whose_record_names_the_machine_is_tried_on_another() -> None:
    left = {"e0/cpu/1": "e0.json"}
    run = Run([job("e0")], replace(_HERE, cores=1), replace(_THERE, cores=1))
    ended = partial(run.end, works=False, records=left, machine_fault=True)
    assert ended("build e0 @a") == ["build e0 @b"]
    ended("build e0 @b")
    end = run.ends["e0/cpu/1"]
    assert (end.how, end.record, end.machine) == (HowEnded.DONE, "e0.json", "b")


def test_where_the_machines_are_lost_that_could_try_again_the_build_has_failed() -> None:
    run = Run([job("e0", 900), job("e1")], replace(_HERE, cores=1), replace(_THERE, cores=1))
    run.end("build e0 @a", works=False, detail="no space")
    run.take(run.schedule.lost("b"))
    end = run.ends["e0/cpu/1"]
    assert (end.why, end.machine, end.detail) == (WhyNot.BUILD_FAILED, "a", "no space")


def test_a_run_without_a_record_is_not_run() -> None:
    run = Run([job("e0")])
    run.end("build e0 @a")
    run.end("run e0/cpu/1 @a", works=False, detail="killed")
    end = run.ends["e0/cpu/1"]
    assert (end.how, end.why, end.detail) == ("not_run", "no_record", "killed")


@pytest.mark.parametrize("records", [{}, {"e0/cpu/1": "a.json"}])
def test_a_run_for_which_its_machine_may_be_why_it_failed_is_tried_on_another(
    records: dict[str, str],
) -> None:
    """A machine without a driver or room takes no job with it."""
    run = Run([job("e0", 900), job("e1")], replace(_HERE, cores=1), replace(_THERE, cores=1))
    run.end("build e0 @a")
    run.end("build e1 @b")
    run.end("run e0/cpu/1 @a", works=False, records=records, machine_fault=bool(records))
    assert not run.ends
    assert run.end("run e1/cpu/1 @b") == ["build e0 @b"]
    assert run.end("build e0 @b") == ["run e0/cpu/1 @b"]
    run.end("run e0/cpu/1 @b")
    assert (run.ends["e0/cpu/1"].machine, run.schedule.is_over) == ("b", True)


def test_a_job_that_cannot_be_tried_again_ends_as_its_run_did() -> None:
    """Its other machine is lost, or cannot build; or the user ends the run."""
    left = partial(
        Run.end, what="run e0/cpu/1 @a", works=False, records={"e0/cpu/1": "a.json"},
        machine_fault=True,
    )  # fmt: skip
    for what in ("lost", "build", "stop"):
        run = Run([job("e0", 900), job("e1")], replace(_HERE, cores=1), replace(_THERE, cores=1))
        run.end("build e0 @a")
        left(run)
        assert not run.ends
        if what == "lost":
            run.take(run.schedule.lost("b"))
        elif what == "stop":
            run.take(run.schedule.stop())
        else:
            run.end("build e1 @b")
            run.end("run e1/cpu/1 @b")
            run.end("build e0 @b", works=False)
        end = run.ends["e0/cpu/1"]
        assert (end.how, end.record, end.machine) == (HowEnded.DONE, "a.json", "a"), what


def test_a_lost_machine_s_job_runs_elsewhere_and_is_set_aside_the_second_time() -> None:
    run = Run([job("e0", 900)], _HERE, _THERE)
    run.end("build e0 @a")
    late = run.going["run e0/cpu/1 @a"]
    assert run.take(run.schedule.lost("a")) == ["build e0 @b"]
    assert (
        run.schedule.ended(late, Finish(works=True, records={"e0/cpu/1": "late"})) == ScheduleStep()
    )
    run.end("build e0 @b")
    run.take(run.schedule.joined(replace(_HERE, name="c")))
    run.take(run.schedule.lost("b"))
    end = run.ends["e0/cpu/1"]
    assert (end.how, end.why, end.machines) == ("set_aside", "machines_lost", ("a", "b"))
    assert run.schedule.lost("b") == ScheduleStep()
    assert run.schedule.is_over


def test_of_machines_that_are_lost_together_none_gets_the_work_of_another() -> None:
    run = Run([job("e0", 900)], _HERE, _THERE, replace(_HERE, name="c"))
    assert run.take(run.schedule.lost("a", "b", "x")) == ["build e0 @c"]
    assert run.end("build e0 @c") == ["run e0/cpu/1 @c"]
    run.end("run e0/cpu/1 @c")
    assert run.ends["e0/cpu/1"].machines == ()


def test_what_was_lost_in_an_earlier_part_of_the_run_counts() -> None:
    run = Run([job("e0"), job("e1", 50)], lost={"e0/cpu/1": ["x", "y"], "e1/cpu/1": ["x"]})
    assert run.ends["e0/cpu/1"].machines == ("x", "y")
    assert run.first == ["build e1 @a"]
    run.end("build e1 @a")
    run.take(run.schedule.lost("a"))
    assert run.ends["e1/cpu/1"].machines == ("x", "a")


def test_a_build_with_which_two_machines_are_lost_is_not_tried_again() -> None:
    run = Run([job("e0"), job("e0", round_=2)], _HERE, _THERE, replace(_HERE, name="c"))
    assert run.first == ["build e0 @a", "build e0 @b"]
    assert run.take(run.schedule.lost("a")) == ["build e0 @c"]
    run.take(run.schedule.lost("b"))
    assert {end.how for end in run.ends.values()} == {HowEnded.SET_ASIDE}
    assert run.end("build e0 @c") == []
    assert run.schedule.is_over


def test_without_a_machine_jobs_end_or_wait_for_one() -> None:
    run = Run([job("e0")])
    run.take(run.schedule.lost("a"))
    assert run.ends["e0/cpu/1"].why is WhyNot.NO_MACHINE
    run = Run([job("e0")], policy=SchedulePolicy(waits=True))
    run.take(run.schedule.lost("a"))
    assert not run.schedule.is_over
    assert run.take(run.schedule.joined(_THERE)) == ["build e0 @b"]


def test_the_machine_that_comes_nearest_tells_what_is_lacking() -> None:
    small, large = replace(_HERE, cores=1, memory_mib=1), replace(_THERE, cores=4)
    run = Run([job("e0", cores=5, memory_mib=50)], small, large)
    assert run.ends["e0/cpu/1"].lacks == (Lack(resource=Resource.CORES, needs=5, has=4),)


def test_a_stop_begins_nothing_more_and_keeps_what_ends_with_a_record() -> None:
    run = Run([job("e0", 900), job("e1"), job("e2", 50)])
    run.end("build e0 @a")
    run.end("build e1 @a")
    assert run.take(run.schedule.stop()) == []
    assert run.ends["e2/cpu/1"].why is WhyNot.STOPPED
    assert run.end("run e0/cpu/1 @a") == []
    run.end("run e1/cpu/1 @a", works=False)
    assert run.ends["e0/cpu/1"].how is HowEnded.DONE
    assert run.ends["e1/cpu/1"].why is WhyNot.STOPPED
    assert run.schedule.is_over


def test_a_machine_that_is_lost_after_a_stop_ends_its_jobs() -> None:
    run = Run([job("e0")])
    run.end("build e0 @a")
    run.take(run.schedule.stop())
    run.take(run.schedule.lost("a"))
    assert (run.ends["e0/cpu/1"].why, run.schedule.is_over) == (WhyNot.STOPPED, True)


def test_a_policy_limits_builds_and_runs_of_an_environment() -> None:
    jobs = [job("e0", 900), job("e0", 800, round_=2), job("e1")]
    run = Run(jobs, policy=SchedulePolicy(builds_at_once=1, runs_at_once=2))
    assert run.first == ["build e0 @a"]
    assert run.end("build e0 @a") == ["run e0/cpu/1 @a", "run e0/cpu/2 @a"]


@pytest.mark.parametrize(
    ("jobs", "machines", "message"),
    [
        ([job("e0"), job("e0")], [_HERE], "job e0/cpu/1: it is given twice"),
        ([job("e0")], [_HERE, _HERE], "machine a: there are two of this name"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    jobs: list[Job], machines: list[Machine], message: str
) -> None:
    with pytest.raises(ScheduleError, match=message):
        Schedule(jobs, machines)


def test_a_simulation_takes_as_long_as_the_estimates_say() -> None:
    jobs = [job("e0", 100), job("e1", 50), job("e2", 30)]
    found = simulate(jobs, [_HERE])
    # e0 on one core until 110; e1 until 60 and e2 until 100 on the other.
    assert (found.seconds, found.tasks, len(found.ends)) == (110, 6, 3)
    found = simulate(jobs, [_HERE], seconds=lambda task, job: 1.0)
    assert found.seconds == 4


def test_a_simulation_removes_environments_too() -> None:
    jobs = [job("e0", 100, disk_mib=60), job("e1", 50, disk_mib=60)]
    assert simulate(jobs, [_HERE]).seconds == 10 + 100 + 5 + 10 + 50
