"""What tox notes of the releases that it installed, by a real uv from a local index."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fake_wheels import write_wheel
from matrix._util.files import digest_of
from matrix.catalog.releases_file import load_releases
from matrix.run.wheel_content import NOTE, read_note

if TYPE_CHECKING:
    from local_index import Served
    from toxed import Tox

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NAME = f"py{PYTHON.replace('.', '')}-torch211"
CELL = load_releases().resolve(NAME)


@pytest.fixture
def wheel(tmp_path: Path, served: Served) -> Path:
    served.ranges = True
    path = write_wheel(tmp_path, "torch", CELL.torch)
    served.add_wheel(path)
    return path


def run(tox: Tox, folder: Path, index: str, **environ: str) -> str:
    """Let tox make a cell's environment of its torch alone, and run nothing in it."""
    done = tox(
        *("-e", NAME, "-x", f"testenv:{NAME}.deps=torch=={CELL.torch}"),
        *("-x", f"testenv:{NAME}.skip_install=true", "-x", f"testenv:{NAME}.commands="),
        folder=folder,
        UV_DEFAULT_INDEX=index,
        UV_CACHE_DIR=str(folder / "cache"),
        UV_NO_CONFIG="1",
        NO_PROXY="*",
        NETRC="/dev/null",
        **environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


@pytest.mark.programs
def test_tox_notes_the_file_of_a_release(
    tox: Tox, tmp_path: Path, served: Served, wheel: Path
) -> None:
    run(tox, tmp_path, served.url)
    (found,) = read_note(tmp_path / "tox" / NAME).values()
    assert found is not None
    assert (found.index, found.file, found.sha256) == (served.url, wheel.name, digest_of(wheel))
    served.asked.clear()
    run(tox, tmp_path, served.url)
    assert served.asked == []


@pytest.mark.programs
def test_an_index_that_fails_is_a_line_and_stops_nothing(
    tox: Tox, tmp_path: Path, served: Served, wheel: Path
) -> None:
    run(tox, tmp_path, served.url)
    (tmp_path / "tox" / NAME / NOTE).unlink()
    said = run(tox, tmp_path, "http://127.0.0.1:9/simple")
    assert "matrix: records lack the index of torch and vLLM: torch: the index" in said
    assert not (tmp_path / "tox" / NAME / NOTE).exists()
    assert run(tox, tmp_path, "http://127.0.0.1:9/simple", UV_OFFLINE="1") == ""
