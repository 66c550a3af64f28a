"""Full disks, of the records and of the caches; caches that change between cold and warm."""

from __future__ import annotations

import random

import pytest

from matrix.verdict.states import Verdict
from small_cell import Fault, SmallCell, can_mount, is_whole, on_disks, verdict_of

needs_mounts = pytest.mark.skipif(
    not can_mount(), reason="this user may mount nothing: a namespace of its own is refused"
)


@pytest.mark.fault("a full disk of records (tmpfs)")
@needs_mounts
def test_the_disk_of_records_is_full(fault: Fault, cell: SmallCell, seed: int) -> None:
    """The disk has room for some of what a run writes, and not for all."""
    fault.begin()
    free = random.Random(seed).choice([0, 4, 8, 16, 32, 64, 128, 1100])
    disk, kept = cell.folder / "disk", cell.folder / "kept"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=4m none {disk}; cp -a {cell.records}/. {disk};"
        f" dd if=/dev/zero of={disk}/filler bs=1k 2> /dev/null || true;"
        f" truncate -s -{free}k {disk}/filler; set +e"
    )
    # The disk goes with its namespace, so what is on it is copied before.
    after = f'"$@"; status=$?; rm {disk}/filler; cp -a {disk} {kept}; exit $status'
    wrapper = (*on_disks(script)[:-1], "sh", "sh", "-c", after, "sh")
    status, output = cell.run(wrapper, RECORDS=str(disk))
    assert "Traceback" not in output, output
    cell.records.rename(cell.folder / "before")
    kept.rename(cell.records)
    fault.check()
    record = cell.newest()
    assert verdict_of(record) != Verdict.INCOMPATIBLE, output
    assert status == 0 or "No space left on device" in output or "became full" in output, output
    fault.run_again()


@pytest.mark.fault("a file size limit for records (ulimit -f)")
def test_records_meet_a_limit_of_size(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    status, output = cell.run(("sh", "-c", 'ulimit -f 0; exec "$@"', "sh"))
    fault.check()
    assert status == 1 and "Traceback" not in output
    assert "cannot be written: File too large" in output
    fault.run_again()


@pytest.mark.fault("a full disk of caches (tmpfs)")
@needs_mounts
def test_the_disk_of_caches_is_full(fault: Fault, cell: SmallCell) -> None:
    fault.begin()
    mounts = f"mount -t tmpfs -o size=8m none {cell.temporary}"
    _, output = cell.run(on_disks(mounts), FAULT="fill", JOBS="1")
    fault.check()
    record = cell.newest()
    assert record.finished and not is_whole(record), output
    assert verdict_of(record) == Verdict.UNTESTED, output
    assert "No space left on device" in output
    fault.run_again()


@pytest.mark.fault("caches changed between cold and warm")
@pytest.mark.parametrize("change", ["corrupt", "empty", "read only"])
def test_caches_change_between_the_starts(fault: Fault, cell: SmallCell, change: str) -> None:
    """The warm start counts what it did: it compiled again, or loaded from a read-only cache."""
    fault.begin()
    wrapper: tuple[str, ...] = ()
    if change == "read only":
        if not can_mount():
            pytest.skip("this user may mount nothing: a namespace of its own is refused")
        wrapper = on_disks(":")
    status, output = cell.run(wrapper, FAULT=change)
    # A folder on which a disk is mounted cannot be removed; the next run does it.
    fault.check(may_be_left="temporary matrix-run-" if wrapper else None)
    record = cell.newest()
    assert status == 0 and record.finished and record.error is None, output
    counted = [start.counters for case in record.cases for start in case.starts]
    cold, warm = {"compiled": 1, "loaded": 0}, {"compiled": 0, "loaded": 1}
    assert counted == [cold, warm, cold, cold, cold, warm], output
    fault.run_again()
