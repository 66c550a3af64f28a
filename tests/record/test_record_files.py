"""Records as files: written whole or not at all, read by their names, bad ones named."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from full_record import CELL, make
from matrix._util.paths import DATA
from matrix.record.model import (
    ErrorKind,
    RecordError,
    RunError,
)
from matrix.record.reader import read, read_many
from matrix.record.writer import to_json, write


def broken(change: Callable[[Any], object]) -> str:
    data = json.loads(to_json(make()))
    change(data)
    return json.dumps(data)


def test_write_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results" / "cpu" / f"{CELL}.json"
    write(make(finished=False), path)
    write(make(), path)
    assert read(path) == make()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_failed_write_keeps_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{CELL}.json"
    write(make(), path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="cannot be written: No space left on device"):
        write(make(finished=False), path)
    assert read(path) == make()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write(make(finished=False), path)
    assert read(path) == make()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_killed_writer_leaves_a_whole_record(tmp_path: Path) -> None:
    path = tmp_path / f"{CELL}.json"
    write(make(), path)
    script = (
        "import os, sys; from pathlib import Path; from matrix.record import reader, writer\n"
        "path = Path(sys.argv[1]); old = reader.read(path)\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "writer.write(old, path)\n"
    )
    root = str(DATA.parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert ended.returncode == -9
    assert read(path) == make()
    # What the killed writer left beside it is not taken for a record.
    found, errors = read_many([tmp_path])
    assert [place for place, _ in found] == [path]
    assert not errors


def test_read_knows_both_names_of_a_record(tmp_path: Path) -> None:
    for name in (f"{CELL}.json", f"{CELL}.20261122T180000Z.json"):
        write(make(), tmp_path / name)
        assert read(tmp_path / name) == make()


def test_read_refuses_a_record_of_another_cell(tmp_path: Path) -> None:
    path = tmp_path / "py312-torch210-vllm019.json"
    write(make(), path)
    with pytest.raises(RecordError, match=f"cell: is {CELL}, but the file's name says py312"):
        read(path)


@pytest.mark.parametrize(
    ("key", "version"), [("python", "3.12.3"), ("torch", "2.9.1+cu128"), ("vllm", "0.20.2")]
)
def test_read_refuses_a_record_that_contradicts_its_cell(
    tmp_path: Path, key: str, version: str
) -> None:
    path = tmp_path / f"{CELL}.json"
    facts = make().provenance
    write(make(provenance={**facts, key: version}), path)
    with pytest.raises(RecordError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}: provenance.{key}: is {version}, but the cell is {CELL}; run the cell again by"
        f" tox -e {CELL}"
    )
    assert [str(error) for error in read_many([tmp_path])[1]] == [str(caught.value)]
    told = make(
        provenance={**facts, key: version}, error=RunError(kind=ErrorKind.WRONG_CELL, reason="why")
    )
    write(told, path)
    assert read(path) == told


@pytest.mark.parametrize("version", [None, "", "nightly", "2.10.1rc1"])
def test_read_takes_a_version_that_does_not_contradict(tmp_path: Path, version: object) -> None:
    record = make(provenance={**make().provenance, "torch": version})
    write(record, tmp_path / f"{CELL}.json")
    assert read(tmp_path / f"{CELL}.json") == record
    bare = make(finished=False, provenance={"started": "2026-11-22T18:00:00Z"})
    write(bare, tmp_path / f"{CELL}.json")
    assert read(tmp_path / f"{CELL}.json") == bare


def test_read_says_why_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read: No such file"):
        read(tmp_path / "none.json")
    with pytest.raises(RecordError, match="cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RecordError, match="not UTF-8"):
        read(tmp_path / "bytes.json")


def test_read_many_goes_on_past_the_bad_ones(tmp_path: Path) -> None:
    good = tmp_path / "cpu" / f"{CELL}.json"
    write(make(), good)
    (tmp_path / "cpu" / f"{CELL}.2.json").write_text(to_json(make())[:-20])
    (tmp_path / "cpu" / f"{CELL}.3.json").write_text(
        broken(lambda d: d["provenance"].update(user="joe"))
    )
    (tmp_path / "cpu" / f"{CELL}.log").write_text("not a record")
    found, errors = read_many([tmp_path, tmp_path / "cpu", tmp_path / "missing"])
    assert found == [(good, make())]
    said = [str(error) for error in errors]
    assert said[0].endswith("missing: does not exist; name a folder of records, or a record")
    assert "truncated" in said[1]
    assert "provenance" in said[2] and "'user'" in said[2]
    assert len(said) == 3


def test_read_many_names_a_folder_that_it_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(make(), tmp_path / name / f"{CELL}.json")
    look = os.scandir

    def refuse(place: Any) -> Any:
        if str(place).endswith("b"):
            raise PermissionError(13, "Permission denied", str(place))
        return look(place)

    monkeypatch.setattr(os, "scandir", refuse)
    records, errors = read_many([tmp_path])
    assert [path for path, _ in records] == [tmp_path / "a" / f"{CELL}.json"]
    assert [str(error) for error in errors] == [f"{tmp_path}/b: cannot be read: Permission denied"]


def test_read_many_takes_single_records(tmp_path: Path) -> None:
    path = tmp_path / "cpu" / f"{CELL}.json"
    write(make(), path)
    assert read_many([path]) == ([(path, make())], [])
    assert read_many([path, tmp_path]) == ([(path, make())], [])
