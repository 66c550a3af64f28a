from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import (
    CELLS,
    LATE,
    fill,
    indexed,
    make,
    never,
    pack_all,
    quick,
    silent,
    some_records,
    told,
)
from matrix.record.model import Record
from matrix.record.writer import write
from matrix.store import ingest as summaries
from matrix.store.archive import delete, pack
from matrix.store.database import literal
from matrix.store.layout import PACK
from matrix.store.query import History
from matrix.store.retention import Policy, Stored, prunable
from matrix.verdict.precedence import run_order


@quick
@given(st.lists(some_records, max_size=9), some_records)
def test_an_archive_is_as_good_as_its_files(
    tmp_path: Path, records: list[Record], more: Record
) -> None:
    folder = fill(tmp_path, records)
    plain, errors = indexed(folder)
    with History([folder], silent, index=True) as history:
        packed = pack(folder, history.rows, "9999", never, silent)
    assert len(packed.files) == len(records)
    assert indexed(folder)[0] == plain  # each record is there twice, and counts once
    for path in packed.files:
        path.unlink()
    assert indexed(folder) == (plain, errors)
    # A second night goes into the same archives.
    write(more, folder / f"{more.cell}.more.json")
    wanted = told(
        [*((Path(f"{at}.json"), each) for at, each in enumerate(records)), (Path("9.json"), more)],
        LATE,
    )[1].count('"cell"')
    with History([folder], silent, index=True) as history:
        pack(folder, history.rows, "9999", never, silent, drop=True)
        count = history.count()
    with History([folder], silent) as history:
        assert history.count() == count == len(records) + 1
    assert indexed(folder)[0][1].count('"cell"') == wanted


def test_an_archive_of_other_rules_is_read_and_packed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, [make(), make(CELLS[1], saved=1)])
    plain = indexed(folder)
    pack_all(folder)
    monkeypatch.setattr(summaries, "stamp", lambda: "another")
    said: list[str] = []
    with History([folder], said.append, index=True) as history:
        assert told(history.newest(LATE).records, LATE) == plain[0]
        pack(folder, history.rows, "9999", never, said.append)
    assert "was packed by another release" in said[0]
    with History([folder], said.append) as history:
        assert told(history.newest(LATE).records, LATE) == plain[0]
    assert len(said) == 1


def test_what_is_packed_already_is_not_written_again(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    written = set()
    for _ in range(2):
        with History([folder], silent, index=True) as history:
            packed = pack(folder, history.rows, "9999", never, silent)
        assert packed.files == (folder / "cpu" / f"{CELLS[0]}.0.json",)
        (archive,) = packed.archives
        written.add(archive.stat().st_ino)
    assert len(written) == 1


def test_another_record_of_a_packed_name_stays(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    pack_all(folder)
    write(make(saved=3), folder / "cpu" / f"{CELLS[0]}.0.json")
    said: list[str] = []
    with History([folder], silent, index=True) as history:
        packed = pack(folder, history.rows, "9999", never, said.append)
    assert not packed.files
    assert "has another record of this name; rename the file" in said[0]


def test_a_damaged_archive_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    (folder / f"2026-01{PACK}").write_bytes(b"PAR1 no")
    duckdb.execute("COPY (SELECT 1 AS a) TO ? (FORMAT parquet)", [str(folder / f"2026-02{PACK}")])
    with History([folder], silent) as history:
        found = history.newest(LATE)
    assert len(found.records) == 1
    lines = [str(error) for error in found.errors]
    assert sum("no archive of records, or a damaged one" in line for line in lines) == 2
    assert all("\n" not in line for line in lines)


def test_an_archive_that_lies_is_told(tmp_path: Path) -> None:
    folder = fill(tmp_path, [make()])
    pack_all(folder)
    (archive,) = folder.glob(f"*{PACK}")
    other = tmp_path / f"x{PACK}"
    duckdb.execute(
        f"COPY (SELECT * REPLACE ('{CELLS[1]}' AS cell) FROM read_parquet($archive)) TO $other"
        " (FORMAT parquet)",
        {"archive": literal(str(archive)), "other": str(other)},
    )
    with History([other], silent) as history:
        found = history.newest(LATE)
    assert not found.records
    assert "says another cell or time than its summary does" in str(found.errors[0])


@quick
@given(st.lists(some_records, max_size=9), st.booleans(), st.integers(1, 2))
def test_pruning_changes_no_table(
    tmp_path: Path, records: list[Record], packed: bool, keep: int
) -> None:
    folder = fill(tmp_path, records)
    if packed:
        pack_all(folder)
    before = indexed(folder)
    with History([folder], silent) as history:
        shown = history.shown(LATE)
        stored = [
            (
                Stored(
                    row.content,
                    row.cell,
                    row.platform,
                    run_order(row.started, LATE),
                    row.complete,
                    row.content in shown,
                ),
                row.paths,
            )
            for row in history.stored()
        ]
        gone = {each.key for each in prunable((each for each, _ in stored), Policy(keep))}
        files = [path for each, paths in stored if each.key in gone for path in paths]
        assert delete(history.rows, files, silent) == len(files)
    assert indexed(folder) == before
    with History([folder], silent) as history:
        assert len(history.stored()) == len(stored) - len(gone)
