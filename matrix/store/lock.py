"""One process at a time: a folder whose archives are written or deleted is locked meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from matrix.store.summary import HistoryError

LOCK = ".matrix-archives.lock"
"""The file that is locked, in that folder; it is there only meanwhile."""


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder for the block, after whoever holds it now; report to `say` that it waits.

    Raises HistoryError where the folder cannot be locked, such as one that nobody may write.
    """
    # Imported here, since the extra that has it is needed by nothing else of the commands.
    from filelock import FileLock, Timeout

    path = folder / LOCK
    lock = FileLock(path)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            say(f"{folder}: waits for another command that writes its archives")
            lock.acquire()
    except OSError as error:
        raise HistoryError(
            f"{folder}: cannot be locked to write archives: {error.strerror or error}"
        ) from None
    try:
        yield
    finally:
        # While it is held: whoever waits for this file sees that it is gone and takes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
