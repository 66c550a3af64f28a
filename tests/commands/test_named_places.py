"""A place of records that is not there, or holds none, is named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import matrix

CELL = "py311-torch210-vllm019"
READERS = (
    "recommend",
    "upgrade --from 0.19 --to 0.20",
    "grid",
    "table",
    "plan",
    "watch --state s.json",
    "ci --format github",
    "predict",
    "bisect --torch 2.9..2.10 --vllm 0.19 --case a --platform cpu",
    f"attribute {CELL}",
    "qualify --torch 2.12.1 --baseline 2.11.0",
    "results list",
    "results index",
    "results pack",
    "results export --parquet p",
    "results prune --keep 1",
    "results merge --into r",
)


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_place_gets_no_answer(tmp_path: Path, reader: str) -> None:
    done = matrix(tmp_path, *reader.split(), "nofolder")
    line = "matrix: nofolder: does not exist; name a folder of records, or a record\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reader", "folders"),
    [
        ("table", "results or records"),
        ("predict", "results or records"),
        ("qualify --torch 2.12.1 --baseline 2.11.0", "results or records"),
        ("results list", "results or records"),
        ("results pack", "records"),
        ("results prune --keep 30 --older-than 90d", "records"),
    ],
)
def test_where_no_folder_is_one_line_says_what_makes_one(
    tmp_path: Path, reader: str, folders: str
) -> None:
    done = matrix(tmp_path, *reader.split())
    line = f"matrix: no folder {folders} here; `matrix run CELL` makes records, or name a folder"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("reader", ["recommend", "grid", "plan --vllm 0.20 --platform cpu"])
def test_a_place_without_a_record_is_named(tmp_path: Path, reader: str) -> None:
    (tmp_path / "empty").mkdir()
    done = matrix(tmp_path, *reader.split(), "empty")
    assert done.returncode == 0
    assert done.stderr == "matrix: no record in empty; `matrix run CELL` makes one\n"


@pytest.mark.parametrize(
    "reader", ["recommend", "grid", "plan --vllm 0.20 --platform cpu", "results list"]
)
def test_a_default_folder_without_a_record_is_named(tmp_path: Path, reader: str) -> None:
    (tmp_path / "results").mkdir()
    done = matrix(tmp_path, *reader.split())
    assert done.returncode == 0
    assert done.stderr == "matrix: no record in results; `matrix run CELL` makes one\n"


@pytest.mark.parametrize("reader", ["table", "grid", "plan", "predict"])
def test_a_missing_place_and_an_empty_one_are_one_line(tmp_path: Path, reader: str) -> None:
    (tmp_path / "empty").mkdir()
    done = matrix(tmp_path, reader, "nofolder", "empty")
    line = "matrix: nofolder: does not exist; name a folder of records, or a record\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
