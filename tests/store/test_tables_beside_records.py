"""The published table lies beside its records: no reader takes its JSON for a record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command import matrix
from histories import silent
from matrix.record.reader import read_many
from matrix.store.layout import walk
from matrix.store.query import History

ROOT = Path(__file__).parents[2]
CELL = "py311-torch210-vllm019"
TABLE = ("compatibility.json", "api/vllm/0.19.1.json", "api/torch/2.10.0.json")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Make a folder of one record and the files of the published table that are JSON."""
    for name in (f"cpu/{CELL}.json", *TABLE):
        to = tmp_path / "results" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "results" / name, to)
    return tmp_path


@pytest.mark.parametrize("named", ["results", "."])
def test_readers_find_the_record_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(here)
    (path,) = (entry.path for entry in walk(Path(named)))
    assert path.endswith(f"results/cpu/{CELL}.json")
    records, errors = read_many([Path(named)])
    assert ([record.cell for _, record in records], errors) == ([CELL], [])
    with History([Path(named)], silent, index=True) as history:
        assert history.rows.errors == [] and history.errors == []


@pytest.mark.parametrize("named", [".", "../results", "results/../"])
def test_a_merge_of_the_folder_takes_no_table_for_a_record(here: Path, named: str) -> None:
    folder = here / ("results" if named.startswith(".") else "")
    done = matrix(folder, "results", "merge", named, "--into", str(here / "all"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("all: 1 record, 1 new, 0 there already\n")


def test_commands_read_the_record_alone(here: Path) -> None:
    done = matrix(here, "results", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"results/cpu/{CELL}.json\n1 record\n")
    done = matrix(here, "results", "merge", "results", "--into", "all")
    assert (done.returncode, done.stdout) == (0, "all: 1 record, 1 new, 0 there already\n")
    done = matrix(here, "results", "merge", "all", "--into", "results")
    assert (done.returncode, done.stdout) == (0, "results: 1 record, 0 new, 1 there already\n")
    assert matrix(here, "check").returncode == 0
    done = matrix(here, "results", "pack", "results", "--all", "--yes")
    assert done.returncode == 0
    assert all((here / "results" / name).is_file() for name in TABLE)


def test_a_table_made_where_its_records_lie_is_the_same_a_second_time(here: Path) -> None:
    made = []
    for _ in range(2):
        done = matrix(here, "table", "results", "--out", "results")
        assert (done.returncode, done.stderr) == (0, "")
        made.append((here / "results" / "compatibility.json").read_bytes())
    assert made[0] == made[1]


def test_a_folder_that_is_named_is_read_whatever_its_name(here: Path) -> None:
    folder = here / "api" / "vllm"
    shutil.copytree(here / "results" / "cpu", folder)
    records, errors = read_many([folder])
    assert ([record.cell for _, record in records], errors) == ([CELL], [])
    assert len(list(walk(folder))) == 1
