"""Many processes write records into one folder at once: each has its own, and none is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from histories import CELLS, make
from matrix.record.model import Record, RecordError
from matrix.record.provenance import timestamp
from matrix.record.reader import read, read_many
from matrix.record.running import begun, is_marked, marked_running
from matrix.record.writer import RecordTakenError, create, mark_of, to_json

BEGAN = datetime(2026, 11, 29, tzinfo=timezone.utc)
WRITERS, RECORDS = 4, 20
WRITE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_many_writers import tries, RECORDS
from matrix.record.running import begun
print("ready", flush=True)
sys.stdin.readline()
for number in range(RECORDS):
    with begun(tries(Path(sys.argv[1]), f"{sys.argv[0]} {number}")) as (path, _):
        print(path.name)
"""


def tries(folder: Path, driver: str = "none", count: int = 1000) -> Iterator[tuple[Path, Record]]:
    """As a run does: a name a second; `driver` tells who wrote the record."""
    for second in range(count):
        moment = BEGAN + timedelta(seconds=second)
        record = make(started=timestamp(moment))
        facts = {**record.provenance, "command": [driver]}
        yield (
            folder / f"{CELLS[0]}.{moment:%Y%m%dT%H%M%SZ}.json",
            make(started=timestamp(moment), provenance=facts),
        )


def test_runs_of_one_second_in_many_processes_lose_no_record(tmp_path: Path) -> None:
    """The law of `benchmarks/records.py`, which has a million of them."""
    folder = tmp_path / "records"
    here = Path(__file__)
    paths = [str(here.parent), str(here.parents[1]), str(here.parents[2])]
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITE, str(folder), *paths],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(WRITERS)
        ]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        written = [writer.communicate(timeout=120)[0].split() for writer in writers]
    names = [name for own in written for name in own]
    assert len(names) == len(set(names)) == WRITERS * RECORDS
    records, errors = read_many([folder])
    assert not errors and sorted(path.name for path, _ in records) == sorted(names)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert {record.provenance["started"] for _, record in records} == {
        timestamp(BEGAN + timedelta(seconds=second)) for second in range(WRITERS * RECORDS)
    }


def test_a_record_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (first, record), *_ = tries(tmp_path)
    create(record, first)
    before = first.read_bytes()
    with pytest.raises(RecordTakenError, match="exists already; choose another name"):
        create(make(finished=False), first)
    assert first.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [first.name]


@pytest.mark.parametrize("lacks", ["nothing", "nameless", "links", "both"])
def test_what_a_disk_lacks_costs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    opens = os.open

    def without_nameless(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opens(path, flags, mode)

    def without_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if lacks in ("nameless", "both"):
        monkeypatch.setattr(os, "open", without_nameless)
    if lacks in ("links", "both"):
        monkeypatch.setattr(os, "link", without_links)
    (path, record), *_ = tries(tmp_path)
    create(record, path)
    assert path.read_text() == to_json(record)
    with pytest.raises(RecordTakenError):
        create(make(), path)
    assert path.read_text() == to_json(record)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_name_that_another_run_has_marked_is_its_own(tmp_path: Path) -> None:
    first, second = (path for path, _ in tries(tmp_path, count=2))
    with marked_running(first), begun(tries(tmp_path)) as (path, record):
        assert path == second and read(path) == record and is_marked(path)
        with pytest.raises(BlockingIOError), marked_running(second):
            pass
    assert not is_marked(second)
    assert [entry.name for entry in tmp_path.iterdir()] == [second.name]


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_what_is_no_record_takes_a_name_too(tmp_path: Path, kind: str) -> None:
    first, second = (path for path, _ in tries(tmp_path, count=2))
    if kind == "folder":
        first.mkdir()
    elif kind == "pipe":
        os.mkfifo(first)
    else:
        first.symlink_to("nowhere")
    with begun(tries(tmp_path)) as (path, _):
        assert path == second
    assert not mark_of(first).exists()


def test_no_free_name_is_an_error(tmp_path: Path) -> None:
    with begun(tries(tmp_path, count=1)):
        pass
    with pytest.raises(RecordError, match="no name is free"), begun(tries(tmp_path, count=1)):
        pass


def test_a_pipe_in_the_place_of_a_mark_holds_nobody_up(tmp_path: Path) -> None:
    (path, _), *_ = tries(tmp_path)
    os.mkfifo(mark_of(path))
    assert not is_marked(path)
    with begun(tries(tmp_path)) as (own, _):
        assert own == path
