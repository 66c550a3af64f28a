"""The engine of this machine: what its children get, what is removed, and what is left."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from fake_tox import ROOT, TORCH29, TORCH210, FakeTox
from matrix.catalog.releases_file import load_releases
from matrix.record.model import Platform
from matrix.run.environments import Environments
from matrix.run.job import HowEnded, Job, JobEnd, JobEstimate, WhyNot
from matrix.run.local_engine import LocalEngine, RunPlace
from matrix.run.machine import Demand, Gpu, Machine
from matrix.run.past_run import read_run
from matrix.run.run_state import Begun, Happened, RunEvent, RunState
from matrix.run.schedule import Schedule
from matrix.run.task import Present
from matrix.run.watcher import Working
from waiting import alive, wait_for
from watched_runs import Seen

GPUS = tuple(
    Gpu(device=device, name="H200", total_mib=140_000, free_mib=24_000) for device in ("4", "6")
)
HERE = Machine(name="here", cores=8, memory_mib=64_000, disk_mib=1000, gpus=GPUS)


def job(name: str, *, platform: Platform = Platform.CPU, **demand: Any) -> Job:
    takes: dict[str, Any] = {"cores": 1, "memory_mib": 100, "disk_mib": 400, **demand}
    return Job(
        cell=load_releases().resolve(name),
        environment=name,
        platform=platform,
        estimate=JobEstimate(build_seconds=1, run_seconds=2),
        demand=Demand(**takes),
    )


def carry_out(
    fake: FakeTox,
    *jobs: Job,
    machine: Machine = HERE,
    present: tuple[Present, ...] = (),
    seen: Seen | None = None,
) -> tuple[tuple[JobEnd, ...], Seen]:
    seen = seen or Seen()
    state = RunState.begin(Begun(records=str(fake.here / "records")), jobs)
    engine = LocalEngine(
        place=RunPlace(
            root=fake.here,
            tox=fake.command,
            environments=Environments(folder=fake.here / ".tox", cache=fake.here / "uv"),
        ),
        records=fake.here / "records",
        jobs={job.key: job for job in jobs},
        schedule=Schedule(jobs, [machine], {"here": present}),
        state=state,
        watcher=seen,
    )
    try:
        return engine.carry_out(), seen
    finally:
        state.close()


def test_each_cell_on_cuda_sees_its_own_gpu(fake_tox: FakeTox) -> None:
    fake_tox.told(vllm019={"together": 2}, vllm016={"together": 2})
    jobs = [job(name, platform=Platform.CUDA, gpu_mib=20_000) for name in (TORCH210, TORCH29)]
    ends, _ = carry_out(fake_tox, *jobs)
    assert [end.how for end in ends] == [HowEnded.DONE, HowEnded.DONE]
    runs = [call for call in fake_tox.calls() if "--notest" not in call["argv"]]
    assert sorted(call["gpus"] for call in runs) == ["4", "6"]


def test_two_cells_share_a_gpu_that_has_room_for_both(fake_tox: FakeTox) -> None:
    jobs = [job(name, platform=Platform.CUDA, gpu_mib=12_000) for name in (TORCH210, TORCH29)]
    one = Machine(name="here", cores=8, memory_mib=64_000, disk_mib=1000, gpus=GPUS[:1])
    carry_out(fake_tox, *jobs, machine=one)
    assert {call["gpus"] for call in fake_tox.calls() if "--notest" not in call["argv"]} == {"4"}


def test_an_environment_goes_when_the_disk_is_short(fake_tox: FakeTox) -> None:
    """One that stands there, and then that of the cell that has run."""
    old = fake_tox.here / ".tox/py311-torch213-vllm032"
    (old / "bin").mkdir(parents=True)
    small = Machine(name="here", cores=1, memory_mib=64_000, disk_mib=700)
    ends, seen = carry_out(
        fake_tox,
        job(TORCH210),
        job(TORCH29),
        machine=small,
        present=(Present(environment=old.name, disk_mib=500, usable=False),),
    )
    assert {end.how for end in ends} == {HowEnded.DONE}
    removed = [event.environment for event in seen.events if event.what is Happened.REMOVED]
    assert removed[0] == old.name and len(removed) == 2
    assert len(list((fake_tox.here / ".tox").iterdir())) == 1


def test_what_cannot_be_removed_stops_nothing(fake_tox: FakeTox) -> None:
    small = Machine(name="here", cores=1, memory_mib=64_000, disk_mib=900)
    ends, _ = carry_out(
        fake_tox,
        job(TORCH210),
        machine=small,
        present=(Present(environment="py311-torch213-vllm032", disk_mib=800),),
    )
    (end,) = ends
    assert end.how is HowEnded.NOT_RUN and end.why in (WhyNot.FITS_NOWHERE, WhyNot.NO_MACHINE)


@pytest.mark.programs
def test_an_environment_whose_removal_cannot_begin_stays_whole(fake_tox: FakeTox) -> None:
    """Nothing is taken away that is not deleted: it would take the disk under another name."""
    old = fake_tox.here / ".tox/py311-torch213-vllm032"
    (old / "bin").mkdir(parents=True)
    small = Machine(name="here", cores=1, memory_mib=64_000, disk_mib=900)

    class NoLogs(Seen):
        def event(self, event: RunEvent) -> None:
            super().event(event)
            if event.what is Happened.BUILT and event.works:
                shutil.rmtree(fake_tox.here / "records/runs", ignore_errors=True)

    carry_out(
        fake_tox,
        job(TORCH210),
        job(TORCH29),
        machine=small,
        present=(Present(environment=old.name, disk_mib=300, usable=False),),
        seen=NoLogs(),
    )
    assert {path.name for path in (fake_tox.here / ".tox").iterdir()} >= {old.name, TORCH210}


def test_an_environment_that_somebody_removes_before_its_run_is_made_again(
    fake_tox: FakeTox,
) -> None:
    class Removes(Seen):
        def event(self, event: RunEvent) -> None:
            super().event(event)
            if event.what is Happened.BUILT and event.environment == TORCH210:
                shutil.rmtree(fake_tox.here / ".tox" / TORCH210)

    carry_out(fake_tox, job(TORCH210), job(TORCH29), seen=Removes())
    as_it_is = {
        call["argv"][call["argv"].index("-e") + 1]
        for call in fake_tox.calls()
        if "--skip-env-install" in call["argv"]
    }
    assert as_it_is == {TORCH29}


def test_a_run_that_goes_on_tells_its_case(fake_tox: FakeTox) -> None:
    fake_tox.told(vllm019={"run": "hangs"})

    class Ends(Seen):
        def tick(self, working: Sequence[Working]) -> None:
            super().tick(working)
            if self.stages:
                (fake_tox.here / "go").touch()

    _, seen = carry_out(fake_tox, job(TORCH210), seen=Ends())
    assert seen.stages == {"moe_startup[mega_aot=1]"}


def test_a_terminal_that_is_gone_ends_no_run(fake_tox: FakeTox) -> None:
    class Gone(Seen):
        def event(self, event: RunEvent) -> None:
            raise BrokenPipeError

        def tick(self, working: Sequence[Working]) -> None:
            raise BrokenPipeError

    (end,), _ = carry_out(fake_tox, job(TORCH210), seen=Gone())
    assert end.how is HowEnded.DONE


def test_a_tox_that_does_not_start_is_no_record(fake_tox: FakeTox) -> None:
    fake_tox.program.unlink()
    (end,), _ = carry_out(fake_tox, job(TORCH210))
    assert end.how is HowEnded.NOT_RUN and end.why is WhyNot.BUILD_FAILED
    assert "No such file" in end.detail


DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from matrix import cli
from matrix.run import rerun
rerun.tox_command = lambda: {command!r}
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.programs
def test_a_run_that_is_killed_leaves_no_child_and_goes_on(fake_tox: FakeTox) -> None:
    """SIGKILL leaves no time: the kernel interrupts the children, and the journal has the jobs."""
    fake_tox.told(vllm019={"run": "hangs"})
    driver = fake_tox.here / "driver.py"
    tests = str(ROOT / "tests")
    driver.write_text(DRIVER.format(root=str(ROOT), tests=tests, command=fake_tox.command))
    # As in the background of a shell, which has it ignore SIGINT.
    line = ["env", "--ignore-signal=INT", sys.executable, str(driver), "run", TORCH210, TORCH29]
    line += ["--platform", "cpu", "--cores", "1", "--memory", "16000"]
    with subprocess.Popen(line, cwd=fake_tox.here, stderr=subprocess.PIPE) as process:
        wait_for(lambda: list((fake_tox.here / "records/cpu").glob("*.json")), "the cell's record")
        process.kill()
    wait_for(lambda: not any(alive(call["pid"]) for call in fake_tox.calls()), "the child's end")
    (folder,) = (fake_tox.here / "records/runs").iterdir()
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"what": "ended", "end": {"jo')
    fake_tox.told()
    resumed = subprocess.run(
        [*line[2:4], "run", "--resume"],
        cwd=fake_tox.here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "2 compatible" in resumed.stdout
    assert len(read_run(folder).ends) == 2
