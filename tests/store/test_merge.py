"""`matrix results merge`: nothing lost, nothing twice, nothing outside the folder."""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import matrix
from histories import CELLS, make, pack_all, quick, silent, some_records
from matrix._util.files import FileError, create_bytes
from matrix.errors import MatrixError
from matrix.record.content import content_hash
from matrix.record.model import SCHEMA, Record
from matrix.record.reader import read, read_many
from matrix.record.running import marked_running
from matrix.record.writer import to_json
from matrix.store import merge as merging
from matrix.store.merge import Merged, MergeError, merge

NAME = f"{CELLS[0]}.20261122T180000Z.json"
_folders = itertools.count()


def put(folder: Path, record: Record, name: str = NAME, *beside: str) -> Path:
    """Write a record as a run leaves it, with these texts as its log and JUnit file."""
    path = folder / record.platform / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(record))
    for ending, text in zip((".log", ".junit.xml"), beside, strict=False):
        path.with_suffix(ending).write_text(text)
    return path


def contents(folder: Path) -> set[str]:
    """Return the digests of the records of a folder; no file of it is bad."""
    records, errors = read_many([folder])
    assert errors == []
    found = [content_hash(record) for _, record in records]
    assert len(set(found)) == len(found), "a record is there twice"
    return set(found)


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return every file of a folder, hidden ones too, with its bytes and its time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def counted(merged: Merged) -> tuple[int, int, int, int, int]:
    return merged.new, merged.known, merged.renamed, merged.beside, len(merged.refused)


def refused(merged: Merged) -> str:
    (error,) = merged.refused
    return str(error)


def test_records_come_with_their_logs_and_bytes(tmp_path: Path) -> None:
    one = put(tmp_path / "a", make(), NAME, "log", "<testsuites/>")
    one.write_text(json.dumps(json.loads(one.read_text())))  # another layout of the same record
    put(tmp_path / "b" / "deeper", make(platform="cuda"))
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "into", silent)
    assert counted(merged) == (2, 0, 0, 2, 0)
    assert {name: content for name, (content, _) in files(tmp_path / "into").items()} == {
        f"cpu/{NAME}": one.read_bytes(),
        f"cpu/{NAME.removesuffix('.json')}.log": b"log",
        f"cpu/{NAME.removesuffix('.json')}.junit.xml": b"<testsuites/>",
        f"cuda/{NAME}": to_json(make(platform="cuda")).encode(),
    }


def test_to_merge_twice_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path / "a", make(), NAME, "log")
    put(tmp_path / "b", make(total=1.0), NAME, "other log")
    places, into = [tmp_path / "a", tmp_path / "b"], tmp_path / "into"
    assert counted(merge(places, into, silent)) == (2, 0, 1, 2, 0)
    before = files(into)
    assert counted(merge(places, into, silent)) == (0, 2, 0, 0, 0)
    assert counted(merge([into], into, silent)) == (0, 2, 0, 0, 0)
    assert files(into) == before


def test_one_record_under_two_names_and_layouts_is_there_once(tmp_path: Path) -> None:
    put(tmp_path / "a", make())
    other = put(tmp_path / "a", make(), f"{CELLS[0]}.json")
    other.write_text(json.dumps(json.loads(other.read_text())))
    assert counted(merge([tmp_path / "a"], tmp_path / "into", silent)) == (1, 1, 0, 0, 0)
    assert len(files(tmp_path / "into")) == 1


def test_two_records_of_one_name_both_stay(tmp_path: Path) -> None:
    every = [make(total=float(total)) for total in range(1, 4)]
    for number, record in enumerate(every):
        put(tmp_path / str(number), record, NAME, f"log {number}")
    merged = merge([tmp_path / str(number) for number in range(3)], tmp_path / "into", silent)
    assert counted(merged) == (3, 0, 2, 3, 0)
    stem = tmp_path / "into" / "cpu" / NAME.removesuffix(".json")
    for number, ending in enumerate(("", ".2", ".3")):
        assert read(Path(f"{stem}{ending}.json")) == every[number]
        assert Path(f"{stem}{ending}.log").read_text() == f"log {number}"


def test_another_log_of_a_record_that_is_there_stays_too(tmp_path: Path) -> None:
    put(tmp_path / "a", make(), NAME, "whole")
    put(tmp_path / "b", make(), NAME, "cut sho")
    into = tmp_path / "into"
    merge([tmp_path / "a"], into, silent)
    for _ in range(2):
        merge([tmp_path / "b", tmp_path / "a"], into, silent)
    stem = NAME.removesuffix(".json")
    assert sorted(files(into)) == [f"cpu/{NAME}", f"cpu/{stem}.log", f"cpu/{stem}.other2.log"]


def test_what_is_wrong_is_named_and_the_rest_is_merged(tmp_path: Path) -> None:
    source = tmp_path / "a"
    good = put(source, make())
    cut = put(source, make(), f"{CELLS[0]}.cut.json")
    cut.write_bytes(good.read_bytes()[:-40])
    newer = put(source, make(), f"{CELLS[0]}.newer.json")
    newer.write_text(json.dumps({**json.loads(good.read_text()), "schema": SCHEMA + 1}))
    named = put(source, make(), f"{CELLS[1]}.json")
    (source / "notes.json").write_text("{}")
    merged = merge([source], tmp_path / "into", silent)
    assert counted(merged) == (1, 0, 0, 0, 4)
    lines = sorted(map(str, merged.refused))
    assert [line.partition(": ")[0] for line in lines] == sorted(
        map(str, (cut, newer, named, source / "notes.json"))
    )
    assert any("newer than this matrix knows" in line for line in lines)
    assert contents(tmp_path / "into") == {content_hash(make())}
    assert cut.exists()


def test_a_folder_without_a_good_record_is_one_line(tmp_path: Path) -> None:
    into = tmp_path / "into"
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    assert refused(merge([tmp_path / "empty"], into, silent)) == (
        f"{tmp_path}/empty: contains no record; name a folder with the records of runs"
    )
    other = tmp_path / "npm"
    other.mkdir()
    for name in ("package", "package-lock"):
        (other / f"{name}.json").write_text("{}")
    assert refused(merge([other], into, silent)).startswith(
        f"{other}: no record in it can be read: 2 files are wrong, such as {other}/package"
    )
    gone = tmp_path / "gone"
    assert refused(merge([gone], into, silent)) == (
        f"{gone}: does not exist; name a folder of records, or a record"
    )
    assert len(merge([gone, gone / "x", other], into, silent).refused) == 3
    assert not into.exists(), "a folder that holds no record looks like one of records"
    assert counted(merge([other, put(tmp_path / "good", make())], into, silent))[0] == 1


def test_links_and_pipes_in_a_source_are_refused(tmp_path: Path) -> None:
    secret = put(tmp_path / "elsewhere", make(total=9.0), NAME, "secret")
    source = tmp_path / "a"
    path = put(source, make())
    os.mkfifo(source / f"{CELLS[0]}.pipe.json")
    os.mkfifo(path.with_suffix(".log"))
    path.with_suffix(".junit.xml").symlink_to(secret.with_suffix(".log"))
    (source / f"{CELLS[0]}.link.json").symlink_to(secret)
    (source / "loop").symlink_to(source)
    (source / "2026-11-22.records.parquet").symlink_to(secret)
    os.mknod(source / "s.json", stat.S_IFSOCK | 0o600)  # a bind takes at most 107 bytes of path
    merged = merge([source], tmp_path / "into", silent)
    assert counted(merged) == (1, 0, 0, 0, 7)
    lines = "\n".join(map(str, merged.refused))
    assert lines.count("is a link, not a file") == 4
    assert "s.json: is a pipe, a socket or a device, not a file" in lines
    assert contents(tmp_path / "into") == {content_hash(make())}
    assert len(files(tmp_path / "into")) == 1


def test_what_lies_too_deep_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "a", make())
    deep = tmp_path / "a" / "/".join("x" * 40)
    put(deep, make(total=1.0))
    merged = merge([tmp_path / "a"], tmp_path / "into", silent)
    assert "lies too deep" in refused(merged)
    assert merged.new == 1


def test_more_bytes_than_any_record_has_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "RECORD_LIMIT", 1 << 20)
    put(tmp_path / "a", make())
    with (tmp_path / "a" / f"{CELLS[0]}.large.json").open("wb") as file:
        file.truncate((1 << 20) + 1)
    merged = merge([tmp_path / "a"], tmp_path / "into", silent)
    assert refused(merged).endswith("has more than 1 MiB")
    assert merged.new == 1


def test_a_record_of_a_run_that_goes_on_waits(tmp_path: Path) -> None:
    path = put(tmp_path / "a", make(finished=False))
    with marked_running(path):
        merged = merge([tmp_path / "a"], tmp_path / "into", silent)
    assert refused(merged) == f"{path}: its run goes on; merge it when it has ended"
    assert merge([tmp_path / "a"], tmp_path / "into", silent).new == 1


@pytest.mark.parametrize("kind", ["file", "other", "link"])
def test_a_folder_of_other_things_is_no_place_for_records(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "a", make())
    into = tmp_path / "into"
    outside = tmp_path / "outside"
    outside.mkdir()
    if kind == "file":
        into.write_text("mine")
    else:
        into.mkdir()
        if kind == "other":
            (into / "thesis.tex").write_text("mine")
        else:
            (into / "cpu").symlink_to(outside)
    before = files(tmp_path)
    with pytest.raises(MergeError, match=r"into(/cpu)?: is (not a folder|a link)"):
        merge([tmp_path / "a"], into, silent)
    assert files(tmp_path) == before


def test_archives_are_merged_and_known(tmp_path: Path) -> None:
    source, into = tmp_path / "a", tmp_path / "into"
    for day in (1, 2):
        put(source, make(started=f"2026-11-0{day}T18:00:00Z"), f"{CELLS[0]}.{day}.json")
    pack_all(source)
    assert not list(source.rglob("*.json"))
    assert counted(merge([source], into, silent)) == (2, 0, 0, 0, 0)
    wanted = contents(into)
    assert counted(merge([source], into, silent)) == (0, 2, 0, 0, 0)
    pack_all(into)
    put(tmp_path / "b", make(started="2026-11-02T18:00:00Z"))
    put(tmp_path / "b", make(total=1.0), f"{CELLS[0]}.new.json")
    assert counted(merge([source, tmp_path / "b"], into, silent)) == (1, 3, 0, 0, 0)
    assert contents(into) == {content_hash(make(total=1.0))}
    assert len(wanted) == 2


def test_a_name_in_an_archive_leads_nowhere(tmp_path: Path) -> None:
    source = tmp_path / "a"
    put(source, make(started="2026-11-01T18:00:00Z"))
    pack_all(source)
    (archive,) = source.glob("*.records.parquet")
    with duckdb.connect() as engine:
        values = {"old": str(archive), "new": str(tmp_path / "bad.records.parquet")}
        engine.execute(
            "COPY (SELECT * REPLACE ('../../evil\n.json' AS file) FROM read_parquet($old))"
            " TO $new (FORMAT parquet)",
            values,
        )
    merged = merge([tmp_path / "bad.records.parquet"], tmp_path / "into", silent)
    assert counted(merged) == (1, 0, 0, 0, 0)
    assert list(files(tmp_path / "into")) == [f"cpu/{CELLS[0]}.20261101T180000Z.json"]


def test_a_store_that_cannot_be_read_leaves_the_rest(tmp_path: Path) -> None:
    put(tmp_path / "a", make())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2026-11-01.records.parquet").write_text("no archive")
    places: list[Path | str] = ["gs://bucket/records", tmp_path / "b", tmp_path / "a"]
    merged = merge(places, tmp_path / "into", silent)
    assert counted(merged) == (1, 0, 0, 0, 2)
    assert "gs:// is not supported" in str(merged.refused[0])
    assert "damaged" in str(merged.refused[1])


def test_an_archive_whose_texts_are_damaged_leaves_the_rest(tmp_path: Path) -> None:
    broken, good = tmp_path / "a", tmp_path / "b"
    put(broken, make(started="2026-11-01T18:00:00Z"))
    pack_all(broken)
    (archive,) = broken.glob("*.records.parquet")
    content = bytearray(archive.read_bytes())
    with duckdb.connect() as engine:
        ((first, size),) = engine.execute(
            "SELECT data_page_offset, total_compressed_size FROM parquet_metadata(?)"
            " WHERE path_in_schema = 'text'",
            [str(archive)],
        ).fetchall()
    content[first + size // 2 : first + size] = bytes(size - size // 2)
    archive.write_bytes(content)
    put(good, make(total=1.0))
    merged = merge([broken, good], tmp_path / "into", silent)
    assert counted(merged) == (1, 0, 0, 0, 1)
    assert archive.name in refused(merged) and "\n" not in refused(merged)


def test_a_full_disk_loses_nothing_and_the_next_merge_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [make(total=float(total)) for total in range(1, 5)]
    for number, record in enumerate(every):
        put(tmp_path / "a", record, f"{CELLS[0]}.{number}.json", "log")
    made = itertools.count()
    real = create_bytes

    def full(path: Path, content: bytes) -> None:
        if next(made) >= 5:
            raise FileError(f"{path}: cannot be written: No space left on device")
        real(path, content)

    monkeypatch.setattr(merging, "create_bytes", full)
    with pytest.raises(MatrixError, match="No space left"):
        merge([tmp_path / "a"], tmp_path / "into", silent)
    assert len(contents(tmp_path / "into")) == 3
    monkeypatch.setattr(merging, "create_bytes", real)
    assert counted(merge([tmp_path / "a"], tmp_path / "into", silent)) == (1, 3, 0, 2, 0)
    assert contents(tmp_path / "into") == set(map(content_hash, every))


def test_two_merges_at_once_lose_nothing(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path / str(number % 4), make(total=float(number // 2)), f"{CELLS[0]}.{number}.json")
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(
                lambda number: merge([tmp_path / str(number)], tmp_path / "into", silent), range(4)
            )
        )
    assert sum(merged.new for merged in done) == 10
    assert len(contents(tmp_path / "into")) == 10


def test_a_long_merge_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "_PROGRESS_SECONDS", 0.0)
    for number in range(2):
        put(tmp_path / "a", make(total=float(number)), f"{CELLS[0]}.{number}.json")
    said: list[str] = []
    merge([tmp_path / "a"], tmp_path / "into", said.append)
    assert said == [f"{tmp_path}/into: {count} records merged so far" for count in (1, 2)]


def folder_of(tmp_path: Path, records: Iterable[Record]) -> Path:
    """Return a new folder with these records, of which several may share a name."""
    folder = tmp_path / f"source {next(_folders)}"
    folder.mkdir()
    for number, record in enumerate(records):
        put(folder / str(number), record, f"{record.cell}.json")
    return folder


def joined(tmp_path: Path, *places: Path) -> Path:
    into = tmp_path / f"into {next(_folders)}"
    merge(places, into, silent)
    return into


some_folders = st.lists(some_records, min_size=1, max_size=4)


@quick
@given(some_folders, some_folders, some_folders)
def test_a_merge_is_a_union_of_sets(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[Record],
    second: list[Record],
    third: list[Record],
) -> None:
    tmp_path = tmp_path_factory.mktemp("merge")
    a, b, c = (folder_of(tmp_path, records) for records in (first, second, third))
    every = {content_hash(record) for record in (*first, *second, *third)}
    assert contents(joined(tmp_path, a, b, c)) == every
    assert contents(joined(tmp_path, c, b, a)) == every
    left = joined(tmp_path, joined(tmp_path, a, b), c)
    assert contents(left) == every
    assert contents(joined(tmp_path, a, joined(tmp_path, b, c))) == every
    assert contents(joined(tmp_path, a, a)) == contents(joined(tmp_path, a))
    before = files(left)
    merge([b, left, a, c], left, silent)
    assert files(left) == before


def test_the_command_prints_counts_in_one_line(tmp_path: Path) -> None:
    put(tmp_path / "a", make(), NAME, "log")
    put(tmp_path / "b", make(total=1.0))
    put(tmp_path / "b", make(), f"{CELLS[0]}.json")
    done = matrix(tmp_path, "results", "merge", "a", "b", "--into", "results")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "results: 3 records, 2 new (1 under a free name), 1 there already, 1 log or JUnit file\n"
    )
    (tmp_path / "c").mkdir()
    done = matrix(tmp_path, "results", "merge", "c", "a", "--into", "results")
    assert done.returncode == 2
    assert done.stderr == "matrix: c: contains no record; name a folder with the records of runs\n"
    assert done.stdout == "results: 1 record, 0 new, 1 there already; 1 refused\n"
    done = matrix(tmp_path, "results", "merge", "c", "--into", "new/results")
    assert (done.returncode, (tmp_path / "new").exists()) == (2, False)


def test_many_faults_are_twenty_lines(tmp_path: Path) -> None:
    put(tmp_path / "a", make())
    for number in range(25):
        (tmp_path / "a" / f"{CELLS[0]}.{number}.json").write_text("{")
    done = matrix(tmp_path, "results", "merge", "a", "--into", "results")
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 21)
    assert lines[-1] == "matrix: and 5 more that were rejected"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--into", "results"), "the following arguments are required: FOLDER"),
        (("a",), "the following arguments are required: --into"),
        (("a", "--into", "s3://bucket/records"), "--into: an object store is not written"),
        (("a", "--into", ""), "'' is not a path"),
        (("a", "--into", "a/cpu/" + NAME), "is not a folder; name one"),
    ],
)
def test_bad_arguments_end_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], fault: str
) -> None:
    put(tmp_path / "a", make())
    done = matrix(tmp_path, "results", "merge", *arguments)
    assert done.returncode == 2
    assert fault in done.stderr.splitlines()[-1]
