"""All starts and counters as Parquet."""

from pathlib import Path

import duckdb
import pytest

from histories import CELLS, failed, fill, make, pack_all, passed, silent
from matrix.record.writer import write
from matrix.store import export as exports
from matrix.store.export import export
from matrix.store.query import History
from matrix.store.summary import HistoryError


def test_an_export_has_every_start_and_counter(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make(), make(CELLS[1], cases=(passed, failed)), make()])
    pack_all(folder)
    write(make(platform="cuda"), folder / "cuda" / f"{CELLS[0]}.json")
    with History([folder], silent) as history:
        written = export(history.rows, tmp_path / "out")
    counts = {
        path.stem: duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
        for path in written
    }
    assert counts == {"records": (3,), "starts": (8,), "counters": (7,)}


def test_an_export_of_archives_alone_and_of_nothing(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    pack_all(folder)
    with History([folder], silent) as history:
        *_, counters = export(history.rows, tmp_path / "out")
    found = duckdb.execute("SELECT start, count FROM read_parquet(?)", [str(counters)]).fetchall()
    assert sorted(found) == [("cold", 3), ("warm", 0)]
    with History([fill(tmp_path, [])], silent) as history:
        *_, counters = export(history.rows, tmp_path / "none")
    assert duckdb.execute("SELECT * FROM read_parquet(?)", [str(counters)]).fetchall() == []


def test_an_export_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path, [make()])
    monkeypatch.setattr(exports, "_counters", lambda _: ("SELECT * FROM nowhere", {}))
    with (
        pytest.raises(HistoryError, match="cannot be searched"),
        History([folder], silent) as history,
    ):
        export(history.rows, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_to_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with (
        History([fill(tmp_path, [make()])], silent) as history,
        pytest.raises(HistoryError, match="out: cannot be written: Not a directory; name another"),
    ):
        export(history.rows, tmp_path / "out")
