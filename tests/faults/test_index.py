"""An index that goes away, or hangs, while tox installs a cell: nobody blames the pair."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from local_index import Fault as Answer
from local_index import Served, Slow
from matrix.record.reader import read
from matrix.verdict.states import Verdict
from small_cell import Fault, verdict_of
from toxed import Tox, write_wheel

NAME = f"py{sys.version_info.major}{sys.version_info.minor}-torch210"
MANY = 20
"""More tries than uv makes."""


def install(tox: Tox, served: Served, folder: Path) -> tuple[str, list[Path]]:
    """Have tox make the cell's environment; return what it printed, and the records so far."""
    done = tox(
        *("-e", NAME, "-x", f"testenv:{NAME}.deps=big==1.0"),
        *("-x", f"testenv:{NAME}.skip_install=true", "-x", f"testenv:{NAME}.commands="),
        *("--", "--platform", "cpu", "--records", str(folder / "records"), "-k", "moe"),
        folder=folder,
        UV_DEFAULT_INDEX=served.url,
        UV_CACHE_DIR=str(folder / "uv-cache"),
        UV_HTTP_RETRIES="1",
        UV_HTTP_TIMEOUT="2",
        UV_LINK_MODE="copy",
        OF_FAULTS=str(folder),
    )
    return done.stdout + done.stderr, sorted((folder / "records").glob("*/*.json"))


@pytest.mark.fault("an index gone or slow in an install")
@pytest.mark.parametrize(
    ("where", "answers"),
    [
        ("/files/big-1.0-py3-none-any.whl", ["half"] * MANY),
        ("/files/big-1.0-py3-none-any.whl", [503] * MANY),
        ("/files/big-1.0-py3-none-any.whl", [Slow(30.0)] * MANY),
        ("/files/big-1.0-py3-none-any.whl.metadata", [500] * MANY),
        ("/simple/big/", [502] * MANY),
        ("/simple/big/", ["half"] * MANY),
    ],
    ids=["file half", "file 503", "file slow", "metadata 500", "page 502", "page half"],
)
def test_the_index_goes_away(
    fault: Fault, tox: Tox, served: Served, tmp_path: Path, where: str, answers: Sequence[Answer]
) -> None:
    big = write_wheel(tmp_path / "wheels", "big", "1.0", members={"big.py": "x = 1\n" * 100_000})
    served.add_wheel(big)
    served.faults[where] = list(answers)
    said, paths = install(tox, served, tmp_path)
    assert where in {path for path, _ in served.asked}
    (path,) = paths
    record = read(path)
    assert record.finished and record.error is not None, said
    assert verdict_of(record) == Verdict.UNTESTED, record.error
    fault.left += fault.cell.left_running()
    assert not fault.left
    # The same again with an index that answers: as if nothing had happened.
    served.faults.clear()
    said, paths = install(tox, served, tmp_path)
    assert paths == [path], said
    found = {folder.stem for folder in tmp_path.glob("tox/*/lib/python*/site-packages/*.dist-info")}
    assert "big-1.0" in found
