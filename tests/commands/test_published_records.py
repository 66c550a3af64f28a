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
def test_a_folder_of_records_takes_their_place(here: Path) -> None:
    (here / "records").mkdir()
    done = matrix(here, "plan", "--torch", "2.10", "--python", "3.11")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_written_beside_them(here: Path, published: Path) -> None:
    before = sorted(published.rglob("*"))
    refusal = "no folder results or records here; name one with records\n"
    done = matrix(here, "results", "index")
    assert (done.returncode, done.stderr) == (2, f"matrix: {refusal}")
    for command in (["pack", "--all", "--yes"], ["prune", "--keep", "1", "--yes"]):
        assert matrix(here, "results", *command).returncode == 2
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
