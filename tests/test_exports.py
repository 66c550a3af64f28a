from pathlib import Path

import duckdb

from histories import CELLS, failed, fill, make, pack_all, passed, silent
from matrix.engines.exports import export
from matrix.engines.history import History
from matrix.records import write


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
