"""A temporary folder of a process, and the removal of those that killed processes left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_PREFIX = "matrix-"
_ALIVE = "alive"
SHORT = Path("/tmp")  # noqa: S108 - for what needs a short path, whatever TMPDIR is
_YOUNG = 600.0  # seconds since which an empty folder was not written to


class Scratch:
    """A folder for this process alone; `close`, or the end of a `with` block, removes it.

    Its file `alive` is locked as long as the process runs, so that whoever comes later sees which
    folders nobody needs: also those of other containers, which process numbers would not
    show. `purpose` is a part of the folder's name, for people. It lies in `parent`, which is the
    temporary folder or `SHORT`: only there a folder that was left is found.
    """

    def __init__(self, purpose: str, parent: Path | None = None) -> None:
        """Make the folder, and remove those of the same user whose processes were killed."""
        sweep()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}-", dir=parent))
            # Another process may take it for one that was left, before it is locked.
            with contextlib.suppress(FileNotFoundError):
                self._alive = _locked(self.path / _ALIVE)
                break
        self._remove = weakref.finalize(self, remove, self.path)

    def __enter__(self) -> Path:
        """Return the path of the folder."""
        return self.path

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Remove the folder."""
        self.close()

    def close(self) -> None:
        """Remove the folder."""
        self._remove()
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1


def remove(folder: Path) -> None:
    """Remove a folder of this kind; its lock goes last.

    Where something of it cannot be removed, the lock stays too: a later process finds it free and
    tries again.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name == _ALIVE:
                continue
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()
        if all(path.name == _ALIVE for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)


def _locked(alive: Path) -> int:
    """Make the file and lock it; raises FileNotFoundError if its folder was removed."""
    opened = os.open(alive, os.O_RDWR | os.O_CREAT, 0o600)
    # A disk without locks: then the folder is never taken for one that was left.
    with contextlib.suppress(OSError):
        fcntl.flock(opened, fcntl.LOCK_EX)
    try:
        alive.stat()
    except FileNotFoundError:
        os.close(opened)
        raise
    return opened


def sweep() -> None:
    """Remove the folders of the same user whose processes were killed."""
    parents = dict.fromkeys((Path(tempfile.gettempdir()), SHORT))
    for folder in (found for parent in parents for found in parent.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            about = os.lstat(folder)
            if about.st_uid != os.getuid():
                continue
            # One whose process was killed before it had the file. A young one may be in use: what
            # runs in a cell makes folders without the file.
            if time.time() - about.st_mtime > _YOUNG:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    continue
            opened = os.open(folder / _ALIVE, os.O_RDWR)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
            finally:
                os.close(opened)
