"""An index that goes away, or hangs, while tox installs a cell: nobody blames the pair."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from local_index import Fault as Answer
from local_index import Served, Slow
from matrix.record.reader import read
from matrix.verdict.states import Verdict
from small_cell import ROOT, Fault, can_mount, on_disks, verdict_of
from toxed import Tox, command_of, environ_of, write_wheel

NAME = f"py{sys.version_info.major}{sys.version_info.minor}-torch210"
needs_mounts = pytest.mark.skipif(
    not can_mount(), reason="this user may mount nothing: a namespace of its own is refused"
)
MANY = 20
"""More tries than uv makes."""


def words(folder: Path) -> tuple[str, ...]:
    """Return the arguments of tox that make the cell's environment."""
    return (
        *("-e", NAME, "-x", f"testenv:{NAME}.deps=big==1.0"),
        *("-x", f"testenv:{NAME}.skip_install=true", "-x", f"testenv:{NAME}.commands="),
        *("--", "--platform", "cpu", "--records", str(folder / "records"), "-k", "moe"),
    )


def variables(served: Served, folder: Path) -> dict[str, str]:
    """Return the environment variables of such a tox."""
    return {
        "UV_DEFAULT_INDEX": served.url,
        "UV_CACHE_DIR": str(folder / "uv-cache"),
        "UV_HTTP_RETRIES": "1",
        "UV_HTTP_TIMEOUT": "2",
        "UV_LINK_MODE": "copy",
        "OF_FAULTS": str(folder),
    }


def install(tox: Tox, served: Served, folder: Path) -> tuple[str, list[Path]]:
    """Have tox make the cell's environment; return what it printed, and the records so far."""
    done = tox(*words(folder), folder=folder, **variables(served, folder))
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


@pytest.mark.fault("a full disk of environments (tmpfs)")
@needs_mounts
@pytest.mark.parametrize(("size", "records"), [("32k", 0), ("3m", 1)])
def test_the_disk_of_environments_is_full(
    fault: Fault, served: Served, tmp_path: Path, size: str, records: int
) -> None:
    """The disk has no room for a Python, or for packages; then it has, and tox goes on there.

    Where tox cannot make the folder of an environment, it ends before it asks the matrix.
    """
    members = {"big.py": "x = 1\n" * 1_000_000}
    served.add_wheel(write_wheel(tmp_path / "wheels", "big", "1.0", members=members))
    disk = tmp_path / "tox"
    disk.mkdir()
    script = tmp_path / "twice.sh"
    script.write_text(
        f'"$@" > {tmp_path}/first 2>&1; mkdir -p {tmp_path}/records;'
        f" cp -a {tmp_path}/records {tmp_path}/kept; mount -o remount,size=200m {disk};"
        f' "$@" > {tmp_path}/second 2>&1 || exit 1; ls -d {disk}/*/lib/python*/site-packages/*'
    )
    wrapper = (*on_disks(f"mount -t tmpfs -o size={size} none {disk}"), "sh", str(script))
    tox = (sys.executable, "-m", "tox", *command_of(words(tmp_path), tmp_path))
    done = subprocess.run(
        [*wrapper, *tox],
        cwd=ROOT,
        env=environ_of({**variables(served, tmp_path), "TMPDIR": str(fault.cell.temporary)}),
        capture_output=True,
        text=True,
        check=False,
    )
    first = (tmp_path / "first").read_text()
    assert "No space left on device" in first, first
    found = list(map(read, (tmp_path / "kept").glob("*/*.json")))
    assert len(found) == records, first
    for record in found:
        assert record.finished and record.error is not None, first
        assert verdict_of(record) == Verdict.UNTESTED, record.error
    fault.left += fault.cell.left_running()
    assert not fault.left
    assert done.returncode == 0 and "big-1.0.dist-info" in done.stdout, (
        tmp_path / "second"
    ).read_text()
