"""One process at a time: a folder whose archives are written or deleted is locked meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from matrix.store.summary import HistoryError

__all__ = ["LOCK", "alone"]

LOCK = ".matrix-archives.lock"
"""The file that is locked, in that folder; it is there only meanwhile."""


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder for the block, after whoever holds it now; `say` tells that it waits.

    Raises HistoryError where the folder cannot be locked, such as one that nobody may write.
    """
    path = folder / LOCK
    try:
        opened = _taken(path, say)
    except OSError as error:
        raise HistoryError(
            f"{folder}: cannot be locked to write archives: {error.strerror or error}"
        ) from None
    try:
        yield
    finally:
        # Before it is let go: whoever waits for this file sees that it is gone and takes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(opened)


def _taken(path: Path, say: Callable[[str], None]) -> int:
    while True:
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{path.parent}: waits for another command that writes its archives")
                fcntl.flock(opened, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(opened), os.stat(path)):
                    return opened
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)
