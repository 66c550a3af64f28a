"""One process at a time: who waits, what is left, and what a disk refuses."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from matrix.catalog.lock import LockError, alone
from matrix.errors import MatrixError


def test_the_second_one_waits_and_says_so(tmp_path: Path) -> None:
    order: list[str] = []
    lock, waits = tmp_path / "new" / ".lock", threading.Event()

    def wait() -> None:
        with alone(lock, waits.set):
            order.append("second")

    second = threading.Thread(target=wait)
    with alone(lock):
        second.start()
        assert waits.wait(30)
        order.append("first")
    second.join()
    assert order == ["first", "second"]
    assert not list(lock.parent.iterdir())


def test_who_comes_after_a_failure_does_not_wait(tmp_path: Path) -> None:
    def refuse() -> None:
        raise AssertionError

    lock = tmp_path / ".lock"
    with pytest.raises(KeyError), alone(lock):
        raise KeyError
    with alone(lock, refuse):
        assert lock.exists()
    assert not lock.exists()


def test_what_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(LockError, match=r"/file: cannot be locked to test \(.*\); move$"),
        alone(tmp_path / "file" / ".lock", refusal="cannot be locked to test", fix="move"),
    ):
        raise AssertionError


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_nobody_waits_where_the_disk_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("fcntl.flock", refusing(number))
    with alone(tmp_path / ".lock"):
        pass


def refusing(number: int) -> Callable[[int, int], None]:
    def flock(_file: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(MatrixError, match=r"\[index\]"), alone(tmp_path / ".lock"):
        raise AssertionError
