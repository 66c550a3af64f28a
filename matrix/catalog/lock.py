"""A lock, so that only one process at a time does something that others may want to do.

For what does not run in a cell: that, and the script of a bundle, have no filelock and use `flock`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

from matrix._util.text import pip_install
from matrix.errors import MatrixError

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)


class LockError(MatrixError):
    """A file that cannot be locked."""


@contextlib.contextmanager
def alone(
    lock: Path,
    waits: Callable[[], None] = lambda: None,
    refusal: str = "cannot be locked to write there",
    fix: str = "name a folder that this user may write",
) -> Iterator[None]:
    """Hold this lock for the block, after whoever holds it now.

    `waits` is called before that. The file is there only meanwhile, and its folder is made. Nobody
    waits where the disk has no locks. Raises LockError, `refusal` of the folder with the reason and
    the `fix`, where the disk refuses; MatrixError if the extra with filelock is not installed.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise MatrixError(
            "filelock is not installed; commands use it to wait for each other:"
            f" {pip_install('index')}"
        ) from None
    held = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(blocking=False)
        except Timeout:
            waits()
            held.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            why = error.strerror or error
            raise LockError(f"{lock.parent}: {refusal} ({why}); {fix}") from None
    try:
        yield
    finally:
        if held.is_locked:
            # While it is held: whoever waits for this file sees that it is gone, and takes another.
            with contextlib.suppress(OSError):
                lock.unlink()
            held.release()
