import os
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
    (tmp_path / "matrix-history-other").mkdir()  # nobody knows whose it is
    first = Scratch("search")
    assert not left.exists()
    second = Scratch("search")
    assert first.path.is_dir() and second.path.is_dir() and first.path != second.path
    for scratch in (first, second):
        scratch.close()
        scratch.close()
    assert [path.name for path in tmp_path.iterdir()] == ["matrix-history-other"]
