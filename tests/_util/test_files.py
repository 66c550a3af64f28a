import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from matrix._util.files import (
    PARTIAL,
    FileError,
    create_bytes,
    digest_of,
    open_locked,
    remove_left_files,
    replacing,
    write_bytes,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_text_is_written_as_it_is_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "é\r\nb\n")
    assert path.read_bytes() == "é\r\nb\n".encode()
    write_bytes(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert names(path.parent) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_block_that_fails_changes_nothing(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_a_killed_block_left_goes_and_what_is_written_stays(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.0123456789abcdef.tmp").write_text("left")
    (tmp_path / ".b.txt.0123456789abcdef.tmp").write_text("another's")
    (tmp_path / ".a.txt.backup.tmp").write_text("another program's")
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            assert first.exists() and first != second
            second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == [".a.txt.backup.tmp", ".b.txt.0123456789abcdef.tmp", "a.txt"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt", durable=False):
        pass
    assert names(tmp_path) == []


def test_what_is_durable_is_on_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.exists()))
    with replacing(path, durable=False) as partial:
        partial.write_text("a")
    assert seen == []
    path.unlink()
    write_text(path, "b")
    assert seen == [False]


def test_a_refusal_of_the_disk_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.txt"
    with pytest.raises(FileError) as caught:
        write_text(path, "a")
    assert str(caught.value) == f"{path}: cannot be written: Not a directory"
    with pytest.raises(FileError, match=r"c\.txt: cannot be written: Not a directory"):
        create_bytes(tmp_path / "file" / "b" / "c.txt", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="cannot be written: Is a directory"):
        write_text(tmp_path / "folder", "a")
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_the_digest_of_a_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * size)
    assert digest_of(path) == hashlib.sha256(b"x" * size).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


KILLED_IN_A_WRITE = """
import os, signal, sys
from pathlib import Path
from matrix._util import files
replace = os.replace
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_text(Path(sys.argv[1]), "new" * 1000)
"""


def killed_in_a_write(path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_IN_A_WRITE, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL


def test_what_a_killed_writer_left_is_what_the_next_one_writes_into(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    killed_in_a_write(path)
    killed_in_a_write(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == [".a.txt.tmp", "a.txt"]
    write_text(path, "short")
    assert path.read_text() == "short"
    assert names(tmp_path) == ["a.txt"]


def test_what_killed_writers_left_is_removed_and_what_is_written_stays(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        killed_in_a_write(tmp_path / name)
    os.mkfifo(tmp_path / ".pipe.tmp")
    (tmp_path / ".editor.tmp").write_text("another program's")
    opened = open_locked(tmp_path / ".b.txt.tmp")
    remove_left_files(tmp_path, re.compile(rf"\.(?:[ab]\.txt|pipe){PARTIAL}"))
    assert names(tmp_path) == [".b.txt.tmp", ".editor.tmp"]
    os.close(opened)


@pytest.mark.parametrize("kind", ["link", "hard link", "folder"])
def test_what_somebody_put_in_the_place_of_a_part_is_not_written_into(
    tmp_path: Path, kind: str
) -> None:
    other, partial = tmp_path / "other", tmp_path / ".a.txt.tmp"
    other.write_text("theirs")
    if kind == "link":
        partial.symlink_to(other)
    elif kind == "hard link":
        os.link(other, partial)
    else:
        partial.mkdir()
    write_text(tmp_path / "a.txt", "own")
    assert other.read_text() == "theirs" and (tmp_path / "a.txt").read_text() == "own"
    assert names(tmp_path) == [".a.txt.tmp", "a.txt", "other"]
