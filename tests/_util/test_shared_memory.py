import mmap
import sys
import time
from pathlib import Path

import pytest

from matrix._util.shared_memory import sweep_shared

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_what_nobody_has_open_goes_and_all_else_stays(tmp_path: Path) -> None:
    began = time.time() - 60
    for name in ("psm_left", "nccl-Ab12", "psm_open", "psm_mapped", "others", "psm"):
        (tmp_path / name).write_bytes(b"x" * 10)
    (tmp_path / "psm_link").symlink_to(tmp_path / "others")
    (tmp_path / "psm_folder").mkdir()
    with (tmp_path / "psm_open").open("rb"):
        with (tmp_path / "psm_mapped").open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 10, access=mmap.ACCESS_READ)
        with mapped:
            sweep_shared(began, tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        *("psm_open", "psm_mapped", "others", "psm", "psm_link", "psm_folder"),
    }


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "psm_before").touch()
    sweep_shared(time.time() + 60, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["psm_before"]


def test_where_there_is_no_shared_memory_nothing_is_done(tmp_path: Path) -> None:
    sweep_shared(0.0, tmp_path / "none")
