"""A disk that fills while a run goes on: its record is written whole, and says so."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from histories import CELLS, make
from matrix._util.files import DiskFullError, write_text
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Record,
    RecordError,
    RunError,
    Rung,
    RungResult,
)
from matrix.record.reader import read
from matrix.record.running import marked_running
from matrix.record.writer import RESERVE_BYTES, mark_of, to_json, write
from matrix.rules.expectations import Expectations
from matrix.verdict.judge import judge
from matrix.verdict.states import Verdict


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Fake a disk without room but for what the marks of the listed records give back."""
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
        first = write(make(), path)
        assert mark_of(path).stat().st_size == RESERVE_BYTES  # whatever room is left, it holds
        second = write(make(finished=False), path)
    assert read(path) == second == replace(first, finished=False)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("before", "kind", "reason"),
    [
        (None, "no_space", "make room and run it again"),
        (
            RunError(kind=ErrorKind.IMPORTS, reason="OSError: x"),
            "no_space",
            "run it again; the run ended so: OSError: x",
        ),
        (RunError(kind=ErrorKind.WRONG_CELL, reason="another"), "wrong_cell", "another"),
    ],
)
def test_what_a_full_disk_may_have_caused_is_not_the_pairs(
    tmp_path: Path, full: list[Path], before: RunError | None, kind: str, reason: str
) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    failed = RungResult(rung=Rung.IMPORTS, ok=False, reason="OSError: x")
    with marked_running(path):
        full.append(path)
        written = write(make(error=before, rungs=(failed,)), path)
    assert read(path) == written and written.error is not None
    assert written.error.kind == kind and written.error.reason.endswith(reason)
    assert written.rungs == ((failed,) if kind == "wrong_cell" else ())
    assert judge(written, Expectations(rules=())).verdict == Verdict.UNTESTED


def test_as_much_room_is_kept_as_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = os.posix_fallocate

    def small(opened: int, start: int, size: int) -> None:
        if size > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(opened, start, size)

    monkeypatch.setattr(os, "posix_fallocate", small)
    path = tmp_path / f"{CELLS[0]}.json"
    with marked_running(path):
        assert mark_of(path).stat().st_size == 65536


def test_without_room_of_its_own_a_record_is_refused(tmp_path: Path, full: list[Path]) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    full.append(path)
    with pytest.raises(RecordError, match="No space left on device"):
        write(make(), path)


def test_a_last_write_on_a_full_disk_says_no_space(tmp_path: Path, full: list[Path]) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    with marked_running(path):
        path.write_text(to_json(make(finished=False)), encoding="utf-8")
        file = RecordFile(path, tmp_path)
        file.put(Case(case="last", outcome=Outcome.PASSED))
        full.append(path)
        file.finish()
    record: Record = read(path)
    assert record.finished and record.error is not None and record.error.kind == "no_space"
    assert record.cases[-1].case == "last"


def test_a_session_keeps_what_it_saw_and_says_no_space(tmp_path: Path, full: list[Path]) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    with marked_running(path):
        path.write_text(to_json(make(finished=False)), encoding="utf-8")
        full.append(path)
        file = RecordFile(path, tmp_path)
        file.put(Case(case="last", outcome=Outcome.PASSED))
        file.finish()
    record = read(path)
    assert record.error is not None and record.error.kind == "no_space"
    assert record.cases[-1].case == "last" and record.finished and file.trouble is None
