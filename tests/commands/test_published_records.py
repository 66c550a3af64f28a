"""A wheel alone has the published records: they are read where no folder of records is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command import matrix
from matrix._util.paths import checkout_of
from matrix.commands import arguments, results

ROOT = Path(__file__).parents[2]
CELL = "py311-torch210-vllm019"
SAID = "matrix: no folder results or records here, so the records published with matrix "


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the published records of a wheel: one of them."""
    folder = tmp_path / "site" / "published"
    (folder / "cpu").mkdir(parents=True)
    shutil.copy(ROOT / "results" / "cpu" / f"{CELL}.json", folder / "cpu")
    for module in (arguments, results):
        monkeypatch.setattr(module, "PUBLISHED", folder)
    monkeypatch.setattr(arguments, "_ROOT", tmp_path)
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    "command", ["grid", "plan", "recommend", "results list", "ci --format github"]
)
def test_they_are_read_and_a_line_says_so_once(here: Path, command: str) -> None:
    done = matrix(here, *command.split())
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(SAID) and line.endswith(" are read")
    if command.startswith("results"):
        assert done.stdout.count(f"{CELL}.json") == 1


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("kind", ["record", "damaged", "archive"])
def test_a_folder_of_records_takes_their_place(here: Path, kind: str) -> None:
    name = "2026-11-22.records.parquet" if kind == "archive" else f"{CELL}.json"
    below = here / "records" / "cpu"
    below.mkdir(parents=True)
    if kind == "record":
        shutil.copy(ROOT / "results" / "cpu" / name, below)
    else:
        (below / name).write_text("{", encoding="utf-8")
    done = matrix(here, "plan", "--torch", "2.10", "--python", "3.11")
    assert "published" not in done.stderr
    assert done.returncode == (0 if kind == "record" else 2)
    assert (name in done.stderr) == (kind != "record")


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("file", [None, "accuracy.txt", "run1.json"])
@pytest.mark.parametrize(
    "command", ["grid", "table", "explain libcudart.so.13", "recommend --model glm_4.5"]
)
def test_an_unrelated_folder_does_not_take_their_place(
    here: Path, command: str, file: str | None
) -> None:
    (here / "results").mkdir()
    if file is not None:
        (here / "results" / file).write_text('{"acc": 1}', encoding="utf-8")
    done = matrix(here, *command.split())
    (line,) = done.stderr.splitlines()
    assert line.startswith("matrix: no record in results, so the records published with matrix ")
    assert "none was looked through" not in done.stdout


def test_nothing_is_written_beside_them(here: Path, published: Path) -> None:
    before = sorted(published.rglob("*"))
    makes = "here; `matrix run CELL` makes records, or name a folder of them\n"
    done = matrix(here, "results", "index")
    assert (done.returncode, done.stderr) == (2, f"matrix: no folder results or records {makes}")
    for command in (["pack", "--all", "--yes"], ["prune", "--keep", "1", "--yes"]):
        done = matrix(here, "results", *command)
        assert (done.returncode, done.stderr) == (2, f"matrix: no folder records {makes}")
    assert sorted(published.rglob("*")) == before


def test_an_installed_package_takes_the_current_folder_for_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkout_of(ROOT / "matrix") == ROOT
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert checkout_of(tmp_path / "site-packages" / "matrix") == gone
    gone.rmdir()
    assert checkout_of(tmp_path / "site-packages" / "matrix") == tmp_path / "site-packages"


def test_an_index_of_an_empty_folder_says_that_it_has_no_record(
    here: Path, published: Path
) -> None:
    done = matrix(here, "results", "index")
    assert done.returncode == 2
    assert done.stderr.startswith("matrix: no folder results or records here; `matrix run CELL`")
    (here / "records").mkdir()
    done = matrix(here, "results", "index")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "matrix: no record in records; `matrix run CELL` makes one\n"


def test_a_check_holds_the_explanations_against_them(here: Path, published: Path) -> None:
    (published / "cuda").mkdir()
    other_python = CELL.replace("py311", "py312")
    shutil.copy(ROOT / "results" / "cuda" / f"{other_python}.json", published / "cuda")
    done = matrix(here, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "counters that differ: " in done.stdout
    assert "no torch and vLLM have results of both platforms" not in done.stdout


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("refresh", "--releases"),
        ("upstream", "--upstream"),
        ("linkage --fill", "--tables"),
        ("linkage --read a.whl", "--tables"),
        ("wheels --fill", "--file"),
        ("wheels --read a.whl", "--file"),
        (f"jit {CELL}.json --write", "--list"),
        (f"calibrate {CELL}.json --write", "--expectations"),
        ("resolve py312-torch210-vllm019 --refresh", "--data"),
    ],
)
def test_the_data_of_an_installed_package_is_not_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str
) -> None:
    monkeypatch.setattr(arguments, "INSTALLED", True)
    monkeypatch.setattr(arguments, "CHECKOUT", here)
    done = matrix(here, *command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "is part of the installed matrix " in done.stderr
    assert done.stderr.endswith(f"use a checkout, or name another by {option}\n")


def test_an_install_inside_a_checkout_is_told_to_be_editable(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "INSTALLED", True)
    done = matrix(here, "refresh")
    assert done.returncode == 2
    assert done.stderr.startswith("matrix: releases.json: is part of the installed matrix ")
    assert done.stderr.endswith(
        "; `pip install -e .` lets matrix write that of the checkout here, or name another by"
        " --releases\n"
    )
