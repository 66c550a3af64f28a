import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from matrix._util.scratch import Scratch

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal
from matrix._util.scratch import Scratch
scratch = Scratch("search")
(scratch.path / "rows.jsonl").touch()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (tmp_path / "matrix-history-other" / "kept").mkdir(parents=True)  # nobody knows whose it is
    (tmp_path / "matrix-history-empty").mkdir()  # killed as it had made it
    os.utime(tmp_path / "matrix-history-empty", (0, 0))
    (tmp_path / "matrix-young").mkdir()  # of a cell, which is about to write to it
    first = Scratch("search")
    assert not left.exists()
    second = Scratch("search")
    assert first.path.is_dir() and second.path.is_dir() and first.path != second.path
    for scratch in (first, second):
        scratch.close()
        scratch.close()
    left_there = sorted(path.name for path in tmp_path.iterdir())
    assert left_there == ["matrix-history-other", "matrix-young"]


def test_what_was_left_where_paths_are_short_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets do not lie in a temporary folder whose path is too long for them."""
    short = tmp_path / "short"
    short.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("matrix._util.scratch.SHORT", short)
    with Scratch("sockets", short) as used, Scratch("search"):
        assert used.is_dir() and used.parent == short
    left = Scratch("sockets", short)
    (left.path / "7").touch()
    fcntl.flock(left._alive, fcntl.LOCK_UN)  # as its process was killed
    with Scratch("search"):
        assert not left.path.exists()


def test_a_folder_that_another_process_removed_too_early_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("matrix._util.scratch.SHORT", tmp_path)
    locks = fcntl.flock
    removed: list[Path] = []

    def removing(opened: int, how: int) -> None:
        if not removed:
            removed.extend(tmp_path.iterdir())
            shutil.rmtree(removed[0])
        locks(opened, how)

    monkeypatch.setattr(fcntl, "flock", removing)
    with Scratch("search") as folder:
        assert folder.is_dir() and removed != [folder]
    assert not list(tmp_path.iterdir())
