"""The published table is that of the published records, by the code and the data of this commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import matrix
from matrix.report.page import PAGE_FILE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    done = matrix(ROOT, "table", "results", "--out", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_file_is_current(made: Path) -> None:
    """The page's data is deflated, and another zlib gives other bytes: it is only there."""
    names = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    held = [name for name in names if (ROOT / "results" / name).is_file()]
    other = [
        str(name)
        for name in names
        if name.name != PAGE_FILE
        and (
            name not in held or (ROOT / "results" / name).read_bytes() != (made / name).read_bytes()
        )
    ]
    assert sorted(other) == [], "run tox -e publish"
    assert Path(PAGE_FILE) in held


def test_no_file_of_an_older_table_is_left(made: Path) -> None:
    for folder in ("api", "badges"):
        there = {path.relative_to(made) for path in (made / folder).rglob("*")}
        assert {
            path.relative_to(ROOT / "results") for path in (ROOT / "results" / folder).rglob("*")
        } == there
