"""A machine that has no memory, no GPU, another time, or no home: nobody blames the pair."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from matrix.record.model import Outcome
from matrix.verdict.states import Verdict
from small_cell import Fault, SmallCell, can_mount, is_whole, on_disks, verdict_of

NO_MOUNTS = "this user may mount nothing: a namespace of its own is refused"


@contextlib.contextmanager
def memory_group(mib: int) -> Iterator[Path | None]:
    """Give a control group of that much memory; None where this user may make none."""
    root = Path("/sys/fs/cgroup")
    one = (root / "memory").is_dir()
    group = (root / "memory" if one else root) / f"matrix-faults-{os.getpid()}"
    limit = "memory.limit_in_bytes" if one else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(f"{mib}M")
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


@pytest.mark.fault("out of memory in a control group")
def test_a_case_takes_all_memory_of_its_group(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    with memory_group(600) as group:
        if group is None:
            pytest.skip("this user may make no control group")
        join = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
        _, output = cell.run(join, FAULT="memory", JOBS="1")
        fault.check()
    record = cell.newest()
    assert record.finished and not is_whole(record), output
    assert verdict_of(record) != Verdict.INCOMPATIBLE, output
    fault.run_again()


@pytest.mark.fault("out of address space (ulimit -v)")
def test_a_case_takes_all_address_space(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    _, output = cell.run(("sh", "-c", 'ulimit -v 1500000; exec "$@"', "sh"), FAULT="memory")
    fault.check()
    record = cell.newest()
    assert record.finished and not is_whole(record), output
    assert verdict_of(record) != Verdict.INCOMPATIBLE, output
    fault.run_again()


@pytest.mark.fault("SIGSTOP of a case past the time limit")
def test_a_case_is_stopped(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    _, output = cell.run(FAULT="stop", RUN_TIMEOUT="6")
    fault.check()
    record = cell.newest()
    assert record.finished, output
    outcomes = {case.outcome for case in record.cases}
    assert Outcome.INTERRUPTED in outcomes and Outcome.TIMED_OUT not in outcomes
    assert verdict_of(record) != Verdict.INCOMPATIBLE
    fault.run_again()


@pytest.mark.fault("SIGSTOP of the harness past the time limit")
def test_the_harness_is_stopped(fault: Fault, cell: SmallCell, seed: int) -> None:
    fault.begin()
    chance = random.Random(seed)
    process = cell.start(PACE="0.2", RUN_TIMEOUT="4", JOBS="1")
    time.sleep(chance.uniform(0.2, fault.seconds))
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=60)
    fault.check()
    record = cell.newest()
    assert record.finished and verdict_of(record) != Verdict.INCOMPATIBLE, output
    fault.run_again()


@pytest.mark.fault("the clock jumps between runs")
@pytest.mark.parametrize("jump", [-400 * 86400, -1, 1, 400 * 86400])
def test_the_clock_jumps(fault: Fault, cell: SmallCell, jump: int) -> None:
    fault.begin()
    before = set(cell.every())
    status, output = cell.run(CLOCK_JUMP=str(jump))
    fault.check()
    (name,) = cell.every().keys() - before
    assert status == 0 and is_whole(cell.every()[name]), output
    fault.run_again()


@pytest.mark.fault("four runs in one second")
def test_runs_of_one_second(fault: Fault, cell: SmallCell, seed: int) -> None:
    fault.begin()
    runs = [cell.start(CLOCK_AT="2026-11-29T00:00:00+00:00") for _ in range(4)]
    outputs = [process.communicate(timeout=120)[0] for process in runs]
    fault.check()
    written = {
        Path(line.split(maxsplit=1)[1]).name
        for output in outputs
        for line in output.splitlines()
        if line.startswith("record ")
    }
    every = cell.every()
    assert len(written) == 4 and written <= every.keys(), outputs
    assert all(is_whole(every[name]) for name in written)
    assert not cell.left_in_records()
    fault.run_again()


@pytest.mark.fault("a GPU that vanishes (the driver's error)")
def test_the_gpu_vanishes(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    _, output = cell.run(FAULT="gpu")
    fault.check()
    record = cell.newest()
    assert record.finished and verdict_of(record) == Verdict.UNTESTED, output
    assert "GPU is lost" in str(record.cases)
    fault.run_again()


@pytest.mark.fault("no home")
@pytest.mark.parametrize("home", ["/nonexistent/home", "/dev/null", ""])
def test_there_is_no_home(fault: Fault, cell: SmallCell, home: str) -> None:
    fault.begin()
    before = set(cell.every())
    status, output = cell.run(HOME=home)
    fault.check()
    (name,) = cell.every().keys() - before
    assert status == 0 and is_whole(cell.every()[name]), output
    fault.run_again()


@pytest.mark.fault("a read-only home")
@pytest.mark.skipif(not can_mount(), reason=NO_MOUNTS)
def test_a_home_that_nobody_may_write(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    before = set(cell.every())
    mounts = f"mount -t tmpfs -o size=64k none {cell.home}; mount -o remount,ro {cell.home}"
    status, output = cell.run(on_disks(mounts))
    fault.check()
    (name,) = cell.every().keys() - before
    assert status == 0 and is_whole(cell.every()[name]), output
    fault.run_again()


@pytest.mark.fault("records that cannot be written")
@pytest.mark.skipif(not can_mount(), reason=NO_MOUNTS)
def test_a_folder_of_records_that_nobody_may_write(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    mounts = f"mount --bind {cell.records} {cell.records}; mount -o remount,bind,ro {cell.records}"
    status, output = cell.run(on_disks(mounts))
    fault.check()
    assert status == 1 and "Traceback" not in output
    assert "cannot be written: Read-only file system" in output
    fault.run_again()
