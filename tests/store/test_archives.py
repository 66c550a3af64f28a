"""Archives: as good as their files, no record lost, and what is damaged is named."""

import threading
from dataclasses import replace
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
    nights,
    pack_all,
    quick,
    silent,
    some_records,
    told,
)
from matrix._util import files
from matrix.record.model import Record
from matrix.record.reader import read
from matrix.record.writer import to_json, write
from matrix.rules.expectations_file import parse_expectations
from matrix.store import archive
from matrix.store import ingest as summaries
from matrix.store.archive import delete, pack
from matrix.store.database import literal
from matrix.store.layout import PACK
from matrix.store.protected import ProtectedRecords
from matrix.store.query import History
from matrix.store.retention import RetentionPolicy, Stored, prunable
from matrix.store.summary import HistoryError
from matrix.verdict.precedence import run_order


def packed_names(folder: Path) -> list[str]:
    """Return the names of the records in the folder's archives."""
    told = duckdb.execute(
        "SELECT file FROM read_parquet(?) ORDER BY file", [literal(f"{folder}/") + f"*{PACK}"]
    )
    return [file for (file,) in told.fetchall()]


def test_two_packs_of_one_day_lose_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = [make(started=f"2026-10-01T18:00:{second:02}Z") for second in range(9)]
    folder = fill(tmp_path, day[:4])
    put, others, told = archive._put, list[threading.Thread](), threading.Event()
    said: list[str] = []

    def pack_more() -> None:
        for number, record in enumerate(day[4:], 4):
            write(record, folder / "cpu" / f"{record.cell}.{number}.json")
        with History([folder], silent) as history:
            pack(folder, history.rows, "9999", never, tell, drop=True)
        told.set()

    def tell(line: str) -> None:
        said.append(line)
        told.set()

    def hooked(*given: object) -> None:
        if not others:
            others.append(threading.Thread(target=pack_more))
            others[0].start()
            assert told.wait(30)  # the other waits, or is done
        put(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "_put", hooked)
    pack_all(folder)
    others[0].join()
    assert packed_names(folder) == [f"cpu/{CELLS[0]}.{number}.json" for number in range(9)]
    assert not list(folder.rglob(f"{CELLS[0]}.?.json"))
    assert said == [f"{folder}: waits for another command that writes its archives"]
    assert not list(folder.glob("*.lock"))


def test_what_else_writes_an_archive_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, nights(1))
    pack_all(folder)
    write(make(started="2026-11-01T19:00:00Z"), folder / "cpu" / f"{CELLS[0]}.9.json")
    (archive,) = folder.glob(f"*{PACK}")
    sync = files.sync

    def hooked(path: Path) -> None:
        # Such as a copy from another machine, which takes no lock.
        archive.write_bytes(archive.read_bytes())
        sync(path)

    monkeypatch.setattr("matrix.store.archive.sync", hooked)
    with pytest.raises(HistoryError, match="was written meanwhile by something else; try again"):
        pack_all(folder)
    assert packed_names(folder) == [f"cpu/{CELLS[0]}.0.json"]
    assert (folder / "cpu" / f"{CELLS[0]}.9.json").exists()
    assert not list(folder.glob(".*.tmp"))


def test_a_file_written_after_it_was_read_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, nights(2))
    new = make(started="2026-11-01T18:00:00Z", saved=7)
    rewritten = folder / "cpu" / f"{CELLS[0]}.0.json"
    assert len(to_json(new)) == rewritten.stat().st_size
    said: list[str] = []
    put = archive._put

    def hooked(*given: object) -> None:
        put(*given)  # type: ignore[arg-type]
        write(new, rewritten)

    monkeypatch.setattr(archive, "_put", hooked)
    with History([folder], silent) as history:
        assert pack(folder, history.rows, "2026-11-02", never, said.append, drop=True).deleted == 0
    assert read(rewritten) == new
    assert said == [f"{rewritten}: was written meanwhile, so it stays"]


def test_a_prune_of_what_is_gone_or_new_goes_on(tmp_path: Path) -> None:
    folder = fill(tmp_path, nights(4))
    files = sorted((folder / "cpu").glob("*.json"))
    said: list[str] = []
    with History([folder], silent) as history:
        files[0].unlink()
        write(make(total=1.0), files[1])
        assert delete(history.rows, map(str, files[:3]), said.append) == 1
    assert said == [f"{files[1]}: was written meanwhile, so it stays"]
    assert sorted((folder / "cpu").glob("*.json")) == [files[1], files[3]]
    single = files[1]
    with History([single], silent) as history:
        write(make(total=2.0), single)
        assert delete(history.rows, [str(single)], silent) == 0
    with History([single], silent) as history:
        assert delete(history.rows, [str(single)], silent) == 1


def test_a_prune_that_cannot_go_on_tells_what_it_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path, nights(3))
    files = sorted(map(str, (folder / "cpu").glob("*.json")))
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if str(path) == files[1]:
            raise OSError(30, "Read-only file system")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with (
        History([folder], silent) as history,
        pytest.raises(HistoryError, match="file system; 1 of 3 files were deleted before"),
    ):
        delete(history.rows, files, silent)


def test_a_prune_leaves_what_was_packed_meanwhile(tmp_path: Path) -> None:
    folder = fill(tmp_path, nights(1))
    pack_all(folder)
    with History([folder], silent) as history:
        path = f"{folder}/2026-11-01{PACK}/cpu/{CELLS[0]}.0.json"
        write(make(started="2026-11-01T19:00:00Z"), folder / "cpu" / f"{CELLS[0]}.9.json")
        pack_all(folder)
        assert delete(history.rows, [path], silent) == 1
    assert packed_names(folder) == [f"cpu/{CELLS[0]}.9.json"]


def test_a_record_of_a_newer_schema_stays_in_its_archive(tmp_path: Path) -> None:
    folder = fill(tmp_path, nights(1))
    pack_all(folder)
    (archive,) = folder.glob(f"*{PACK}")
    newer = archive.with_name("newer")
    duckdb.execute(
        "COPY (SELECT * FROM read_parquet($old) UNION ALL SELECT * REPLACE ('cpu/new.json' AS file,"
        " replace(text, '\"schema\": 3', '\"schema\": 99') AS text, 'another' AS stamp)"
        " FROM read_parquet($old)) TO $new (FORMAT parquet)",
        {"old": literal(str(archive)), "new": str(newer)},
    )
    newer.replace(archive)
    for number in (8, 9):
        write(
            make(started=f"2026-11-01T19:00:0{number}Z"),
            folder / "cpu" / f"{CELLS[0]}.{number}.json",
        )
        pack_all(folder)
    good = [f"cpu/{CELLS[0]}.{number}.json" for number in (0, 8, 9)]
    assert packed_names(folder) == ["cpu/new.json", *good]
    with History([folder], silent) as history:
        assert [str(error) for error in history.errors if "schema" in str(error)]
        assert history.count() == 3


def test_a_damaged_archive_is_not_packed_into(tmp_path: Path) -> None:
    folder = fill(tmp_path, nights(2))
    (folder / f"2026-11-01{PACK}").write_bytes(b"PAR1 no")
    said: list[str] = []
    with History([folder], silent) as history:
        packed = pack(folder, history.rows, "9999", never, said.append, drop=True)
    assert [path.name for path in packed.files] == [f"{CELLS[0]}.1.json"]
    assert "is damaged, so nothing is packed into it" in said[0]


def test_what_a_killed_pack_left_is_swept(tmp_path: Path) -> None:
    folder = fill(tmp_path, nights(1))
    left = folder / f".2026-11-01{PACK}.12345.tmp"
    left.touch()
    pack_all(folder)
    assert sorted(path.name for path in folder.glob(".*")) == [".matrix-index.parquet"]


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
        [
            *((Path(f"{number}.json"), record) for number, record in enumerate(records)),
            (Path("9.json"), more),
        ],
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
    assert "has another cell or time than its summary" in str(found.errors[0])


def test_the_first_run_of_a_vllm_on_cuda_stays(tmp_path: Path) -> None:
    early, late = (
        make(platform="cuda", started=f"2026-11-{day:02}T18:00:00Z", finished=day > 1)
        for day in (1, 2)
    )
    folder = fill(tmp_path, [early, late, make(platform="cpu", started="2026-11-01T19:00:00Z")])
    nothing = ProtectedRecords(names=frozenset(), contents=frozenset())
    with History([folder], silent) as history:
        stored = history.for_policy(LATE, parse_expectations("", "none"), nothing)
    assert not prunable(stored, RetentionPolicy(keep=1))
    assert [run.first for run in stored if run.started == early.started] == [True]
    rest = [replace(run, first=False) for run in stored]
    assert [run.started for run in prunable(rest, RetentionPolicy(keep=1))] == [early.started]


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
        shown, first = history.shown(LATE), history.first()
        stored = [
            (
                Stored(
                    key=row.content,
                    cell=row.cell,
                    platform=row.platform,
                    order=run_order(row.started, LATE),
                    whole=row.complete,
                    shown=row.content in shown,
                    first=row.content in first,
                ),
                row.paths,
            )
            for row in history.stored()
        ]
        gone = {
            stored_run.key
            for stored_run in prunable((run for run, _ in stored), RetentionPolicy(keep=keep))
        }
        files = [path for run, paths in stored if run.key in gone for path in paths]
        assert delete(history.rows, files, silent) == len(files)
    assert indexed(folder) == before
    with History([folder], silent) as history:
        assert len(history.stored()) == len(stored) - len(gone)
