"""A pipe, a device, a folder or a huge file where a reader expects a file: one line, no waiting."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from histories import CELLS, make
from matrix._util.files import READ_LIMIT
from matrix.catalog.candidates.file import load_candidates
from matrix.catalog.constraints import load_constraints
from matrix.catalog.releases_file import load_releases, read_rows
from matrix.catalog.requirements import read_requirements
from matrix.checks.resolution.cache import load_resolutions
from matrix.errors import MatrixError
from matrix.qualify.state_files import read_history, read_rounds, read_runs
from matrix.record.jit_modules import load_jit_modules
from matrix.record.model import RecordError
from matrix.record.reader import RECORD_LIMIT, parse, read, read_many
from matrix.record.writer import write
from matrix.rules.expectations_file import load_expectations
from matrix.rules.notes import load_notes
from matrix.rules.platform_differences import load_explanations
from matrix.rules.upstream.file import load_upstream
from matrix.rules.waivers import load_waivers
from matrix.store.layout import INDEX, PACK
from matrix.store.query import History

KINDS = ("pipe", "device", "socket", "folder", "loop", "large")


def put(path: Path, kind: str) -> None:
    """Put something there that nobody can read to its end."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to(os.devnull)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)  # a bind takes at most 107 bytes of path
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(READ_LIMIT + 1)


READERS: dict[str, Callable[[Path], object]] = {
    "candidates": load_candidates,
    "cells": lambda path: load_releases(cells=path),
    "constraints": load_constraints,
    "expectations": load_expectations,
    "explanations": load_explanations,
    "jit modules": load_jit_modules,
    "notes": load_notes,
    "releases": load_releases,
    "requirements": read_requirements,
    "resolutions": load_resolutions,
    "rows of releases": read_rows,
    "upstream": load_upstream,
    "waivers": load_waivers,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_or_reads_without_end(tmp_path: Path, reader: str, kind: str) -> None:
    path = tmp_path / "given"
    put(path, kind)
    if kind == "loop" and reader in ("requirements", "resolutions"):
        READERS[reader](path)  # counts as missing, and none need be there
        return
    with pytest.raises(MatrixError) as caught:
        READERS[reader](path)
    said = str(caught.value)
    assert "\n" not in said and str(path) in said
    expected = {"large": "has more than 64 MiB", "loop": "Too many levels"}
    assert expected.get(kind, "Is a directory") in said or (
        kind not in expected and "is not a file" in said
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["torch216rc1.json", "runs.json", "rounds.json"])
def test_the_state_of_a_qualification_is_no_pipe(tmp_path: Path, name: str, kind: str) -> None:
    put(tmp_path / name, kind)
    read: dict[str, Callable[[], object]] = {
        "torch216rc1.json": lambda: read_history(tmp_path, "torch216rc1"),
        "runs.json": lambda: read_runs(tmp_path),
        "rounds.json": lambda: read_rounds(tmp_path),
    }
    with pytest.raises(MatrixError, match=name) as caught:
        read[name]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_records_names_what_cannot_be_read(tmp_path: Path, kind: str) -> None:
    put(tmp_path / f"{CELLS[1]}.json", kind)
    good = tmp_path / f"{CELLS[0]}.json"
    write(make(), good)
    records, errors = read_many([tmp_path])
    assert records == [(good, make())]
    (error,) = errors
    assert f"{CELLS[1]}.json: cannot be read: " in str(error)
    by_path, _ = read_many([tmp_path / f"{CELLS[1]}.json", good])
    assert by_path == records


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [f"{CELLS[1]}.json", f"2026-11-01{PACK}", INDEX])
def test_an_index_reads_around_it(tmp_path: Path, name: str, kind: str) -> None:
    pytest.importorskip("duckdb")
    put(tmp_path / name, kind)
    good = tmp_path / f"{CELLS[0]}.json"
    write(make(), good)
    said: list[str] = []
    with History([tmp_path], said.append, index=True) as history:
        found = history.newest(None, 0)
        errors = [*history.rows.errors, *history.errors]
    assert [path for path, _ in found.records] == [good]
    if name != INDEX and (name.endswith(".json") or kind not in ("folder", "loop")):
        assert any(name in str(error) for error in errors)


def test_a_record_has_a_largest_size(tmp_path: Path) -> None:
    path = tmp_path / f"{CELLS[0]}.json"
    path.write_text(" " * RECORD_LIMIT + "{}")
    with pytest.raises(RecordError, match="has more than 16 MiB"):
        read(path)
    with pytest.raises(RecordError, match="x: not a record: has more than 16 MiB"):
        parse(path.read_text(), "x")


def test_a_key_that_stands_twice_among_very_many_is_found_at_once() -> None:
    text = "{" + ", ".join(f'"{number}": 0' for number in range(300_000)) + ', "5": 0, "6": 1}'
    with pytest.raises(RecordError, match="the key '5' stands there twice"):
        parse(text, "x")
