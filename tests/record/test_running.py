"""matrix.record.running: whether the run that writes a record goes on."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from histories import CELLS, make
from matrix.record.running import is_marked, is_running, marked_running, split_running, sweep
from matrix.record.writer import write

UNFINISHED = make(finished=False)
HOLD = """
import sys, time
from pathlib import Path
from matrix.record.running import marked_running
with marked_running(Path(sys.argv[1])):
    print("marked", flush=True)
    time.sleep(60)
"""


def test_a_record_is_marked_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "cpu" / f"{CELLS[0]}.json"
    with marked_running(path):
        write(UNFINISHED, path)
        assert is_running(path, UNFINISHED)
        assert not is_running(path, make())
        assert not is_running(path.with_name("other.json"), UNFINISHED)
        other = path.with_name(f"{CELLS[1]}.json")
        assert split_running([(path, UNFINISHED), (other, UNFINISHED)]) == (
            [(other, UNFINISHED)],
            [(path, UNFINISHED)],
        )
        link = tmp_path / "link.json"
        link.symlink_to(path)
        assert is_running(link, UNFINISHED)
    assert not is_running(path, UNFINISHED)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_run_that_ends_after_its_record_was_read_did_not_die(tmp_path: Path) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    with marked_running(path):
        write(UNFINISHED, path)
        write(make(), path)
    assert split_running([(path, UNFINISHED)]) == ([(path, make())], [])
    path.unlink()
    assert split_running([(path, UNFINISHED)]) == ([(path, UNFINISHED)], [])


def test_a_reader_does_not_take_another_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    mark = tmp_path / f".{path.name}.running"
    mark.touch()
    with mark.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert not is_marked(path)


def test_a_killed_run_does_not_go_on(tmp_path: Path) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"marked\n"
        assert is_marked(path)
        child.send_signal(signal.SIGKILL)
    assert not is_marked(path)
    # Its mark is still there, and the next run in this folder removes it.
    assert len(list(tmp_path.iterdir())) == 1
    with marked_running(tmp_path / f"{CELLS[1]}.json"):
        sweep(tmp_path)
        assert [entry.name for entry in tmp_path.iterdir()] == [f".{CELLS[1]}.json.running"]


def test_a_run_removes_what_killed_runs_left_and_no_file_of_another_program(
    tmp_path: Path,
) -> None:
    left = (f".{CELLS[0]}.json.tmp", f".{CELLS[1]}.20261101T180000Z.json.0123456789abcdef.tmp")
    others = (".editor.tmp", ".notes.json.tmp", f".{CELLS[0]}.json.backup.tmp", "a.tmp")
    for name in (*left, f".{CELLS[0]}.json.running", *others):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(others)


def test_a_disk_without_locks_marks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int, __: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / f"{CELLS[0]}.json"
    with marked_running(path):
        assert not is_marked(path)
        (tmp_path / f".{path.name}.running").touch()
        assert not is_marked(path)
