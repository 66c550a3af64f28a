import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from histories import CELLS, LATE, fill, indexed, make, nights, silent, told
from matrix.engines import rows, summaries
from matrix.engines.history import History
from matrix.engines.record_index import INDEX
from matrix.engines.rows import literal
from matrix.records import read_many, write


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


def test_an_index_of_other_rules_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make()])
    plain = indexed(folder)
    made = (folder / INDEX).read_bytes()
    monkeypatch.setattr(summaries, "stamp", lambda: "another")
    assert indexed(folder) == plain
    assert (folder / INDEX).read_bytes() != made


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
    folder = fill(tmp_path, [make(started=f"2026-11-0{day}T18:00:00Z") for day in range(1, 6)])
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
    execute, others = rows.Rows.execute, list[object]()

    def hooked(self: rows.Rows, sql: str, values: object = None) -> Any:
        found = execute(self, sql, values)
        if not others and "read_parquet" in sql and "parquet_schema" not in sql:
            others.append(found)
            if sql.startswith("SELECT"):
                found = Told(found.fetchall())
            indexed(folder)  # another command brings the index up to date here
        return found

    monkeypatch.setattr(rows.Rows, "execute", hooked)
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
