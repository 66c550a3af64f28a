"""A disk that fills while a run goes on: its record is written whole, and says so."""

import errno
import os
from pathlib import Path

import pytest

from histories import CELLS, make
from matrix._util.files import DiskFullError, write_text
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.model import Case, Outcome, RecordError
from matrix.record.reader import read
from matrix.record.running import RESERVE_BYTES, marked_running
from matrix.record.writer import mark_of, to_json, write


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A disk without room but for what the marks of the records in the list give back."""
    records: list[Path] = []
    replace = os.replace

    def refuse(before: Path, after: Path) -> None:
        marks = [mark_of(path) for path in records]
        if all(not mark.exists() or mark.stat().st_size for mark in marks):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(before, after)

    monkeypatch.setattr(os, "replace", refuse)
    return records


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_told_apart_from_one_that_refuses(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="cannot be written: No space left on device"):
        write_text(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_record_takes_the_room_that_was_kept_for_it(tmp_path: Path, full: list[Path]) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    with marked_running(path):
        assert mark_of(path).stat().st_size == RESERVE_BYTES
        full.append(path)
        assert write(make(), path)
        assert not write(make(), path)
    assert read(path) == make()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_without_room_of_its_own_a_record_is_refused(tmp_path: Path, full: list[Path]) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    full.append(path)
    with pytest.raises(RecordError, match="No space left on device"):
        write(make(), path)


def test_a_session_keeps_what_it_saw_and_says_no_space(tmp_path: Path, full: list[Path]) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    with marked_running(path):
        path.write_text(to_json(make(finished=False)), encoding="utf-8")
        full.append(path)
        file = RecordFile(path)
        file.put(Case(case="last", outcome=Outcome.PASSED))
        file.finish()
    record = read(path)
    assert record.error is not None and record.error.kind == "no_space"
    assert record.cases[-1].case == "last" and record.finished
