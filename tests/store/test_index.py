"""The index of a folder follows its files; two commands share it; an end loses nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from histories import CELLS, LATE, fill, indexed, make, nights, pack_all, silent, told
from matrix.catalog import requirements
from matrix.record.reader import read_many
from matrix.record.writer import write
from matrix.store import database as rows
from matrix.store import ingest as summaries
from matrix.store.database import literal
from matrix.store.layout import INDEX, PACK
from matrix.store.query import History

ROOT = Path(__file__).parents[2]


def test_an_index_follows_its_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(started="2026-11-03T18:00:00Z", saved=1)])
    before = indexed(folder)
    (folder / "cpu" / f"{CELLS[0]}.1.json").unlink()
    after = indexed(folder)
    assert before[0] != after[0] == told(read_many([folder])[0], LATE)
    write(make(saved=3, started="2026-11-04T18:00:00Z"), folder / "cpu" / f"{CELLS[0]}.0.json")
    assert indexed(folder)[0] == told(read_many([folder])[0], LATE) != after[0]
    (folder / INDEX).write_bytes(b"PAR1 damaged PAR1")
    assert indexed(folder)[0] == told(read_many([folder])[0], LATE)
    (folder / f"{CELLS[0]}.bad.json").unlink()
    assert indexed(folder)[1] == []


@pytest.mark.parametrize(
    "change",
    ["cell = NULL, started = NULL", "platform = 'tpu'", "cell = '../../x'"],
)
def test_an_index_of_rows_that_nothing_wrote_is_made_again(tmp_path: Path, change: str) -> None:
    folder = fill(tmp_path, [make(), make(started="2026-11-03T18:00:00Z", saved=1)])
    before = indexed(folder)
    damage(folder / INDEX, change)
    assert indexed(folder) == before


def test_an_archive_of_rows_that_nothing_wrote_is_refused_in_a_line(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(CELLS[1])])
    for bad in folder.glob("*.bad.json"):
        bad.unlink()
    pack_all(folder)
    (archive,) = folder.glob(f"*{PACK}")
    damage(archive, "content = NULL")
    with History([archive], silent) as history:
        (error,) = history.errors
        assert history.count() == 0
    assert str(error).startswith(f"{archive}: no archive of records, or a damaged one (a row")


def damage(parquet: Path, change: str) -> None:
    """Change the columns of all rows of a file."""
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{parquet}')")
        db.execute(f"UPDATE t SET {change}")
        db.execute(f"COPY t TO '{parquet}' (FORMAT parquet)")


def test_an_index_of_other_rules_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    plain = indexed(folder)
    made = (folder / INDEX).read_bytes()
    monkeypatch.setattr(summaries, "stamp", lambda: "another")
    assert indexed(folder) == plain
    assert (folder / INDEX).read_bytes() != made


def test_an_index_of_other_requirements_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    other = tmp_path / "requirements.json"
    other.write_text('{"0.19.1": ["numpy"]}')
    plain = indexed(folder)
    made = (folder / INDEX).read_bytes()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(requirements, "REQUIREMENTS_FILE", other)
            requirements.known_requirements.cache_clear()
            summaries.digest_of_requirements.cache_clear()
            indexed(folder)
            again = (folder / INDEX).read_bytes()
    finally:
        requirements.known_requirements.cache_clear()
        summaries.digest_of_requirements.cache_clear()
    assert again != made
    assert indexed(folder) == plain
    assert (folder / INDEX).read_bytes() != again


def test_a_folder_that_nobody_may_write_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    said: list[str] = []

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    with History([folder], said.append, index=True) as history:
        assert history.count() == 1
    assert "cannot be written" in said[0]
    assert not list(folder.glob(".*"))


def test_side_by_side_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path, nights(5))
    alone = indexed(folder)
    (folder / INDEX).unlink()
    monkeypatch.setattr(rows, "_ALONE", 1)
    monkeypatch.setattr(rows, "_CHUNK", 2)
    assert indexed(folder, jobs=2) == alone


class Told(list[object]):
    """What a cursor told."""

    def fetchall(self) -> list[object]:
        return self


def test_two_commands_at_once_read_each_record_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, nights(1))
    indexed(folder)
    write(make(started="2026-11-02T18:00:00Z"), folder / "cpu" / f"{CELLS[0]}.1.json")
    execute, others = rows.RecordDatabase.execute, list[object]()

    def hooked(self: rows.RecordDatabase, sql: str, values: object = None) -> Any:
        found = execute(self, sql, values)
        if not others and "read_parquet" in sql and "parquet_schema" not in sql:
            others.append(found)
            if sql.startswith("SELECT"):
                found = Told(found.fetchall())
            indexed(folder)  # another command brings the index up to date here
        return found

    monkeypatch.setattr(rows.RecordDatabase, "execute", hooked)
    for _ in range(2):
        with History([folder], silent, index=True) as history:
            assert history.count() == 2
    assert others


def test_an_index_with_a_file_twice_is_made_anew(tmp_path: Path) -> None:
    folder = fill(tmp_path, nights(2))
    indexed(folder)
    twice = folder / "twice"
    duckdb.execute(
        "COPY (FROM read_parquet($index) UNION ALL FROM read_parquet($index)) TO $twice"
        " (FORMAT parquet)",
        {"index": literal(str(folder / INDEX)), "twice": str(twice)},
    )
    twice.replace(folder / INDEX)
    for _ in range(2):
        with History([folder], silent, index=True) as history:
            assert history.count() == 2


def reads(monkeypatch: pytest.MonkeyPatch, *, most: int = 99) -> list[str]:
    """Read two files at a time here, and be interrupted after so many times; what is read."""
    read: list[str] = []
    write_rows = summaries.write_rows

    def counted(files: Sequence[tuple[str, str, int, int]], out: Path) -> int:
        if len(read) >= 2 * most:
            raise KeyboardInterrupt
        read.extend(file for _, file, *_ in files)
        return write_rows(files, out)

    monkeypatch.setattr(rows, "_CHUNK", 2)
    monkeypatch.setattr(rows, "write_rows", counted)
    return read


def test_what_was_read_before_an_interrupt_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, nights(8))
    plain = told(read_many([folder])[0], LATE)
    with monkeypatch.context() as cut:
        first = reads(cut, most=2)
        with pytest.raises(KeyboardInterrupt):
            indexed(folder)
    rest = reads(monkeypatch)
    assert indexed(folder)[0] == plain
    assert (len(first), len(rest)) == (4, 5)
    assert sorted(first + rest) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.json")
    )
    assert indexed(folder)[0] == plain and len(rest) == 5


def test_what_was_read_before_a_kill_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, nights(8))
    killed = """
import os, signal, sys
from pathlib import Path
from matrix.store import database as rows
from matrix.store.query import History
write, rows._CHUNK, rows._SAVE_SECONDS = rows.write_rows, 2, 0.0
def once(files, out):
    if (Path(sys.argv[1]) / ".matrix-index.parquet").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return write(files, out)
rows.write_rows = once
History([Path(sys.argv[1])], print, index=True)
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", killed, str(folder)], env=environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    rest = reads(monkeypatch)
    assert indexed(folder)[0] == told(read_many([folder])[0], LATE)
    assert len(rest) == 7


def test_an_index_is_saved_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path, nights(5))
    reads(monkeypatch)
    sizes: list[int] = []
    replace = os.replace

    def seen(old: Path, new: Path) -> None:
        held = duckdb.execute("SELECT file FROM read_parquet(?)", [literal(str(old))]).fetchall()
        sizes.append(len(held))
        replace(old, new)

    monkeypatch.setattr(os, "replace", seen)
    monkeypatch.setattr(rows, "_SAVE_SECONDS", 0.0)
    indexed(folder)
    assert sizes == [2, 4, 6]
