"""Files: replaced at once or not at all, their digests, and their paths as people see them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from matrix.errors import MatrixError

_BLOCK = 1 << 20


class FileError(MatrixError):
    """A file that cannot be written."""


class DiskFullError(FileError):
    """A file for which the disk, or the quota of the user, has no room."""


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give the name of a temporary file, which takes the place of `path` when the block ends well.

    The temporary file lies in the same folder, and is deleted where the block fails. `durable`: its
    content is on the disk before it takes the place. Raises OSError where the disk refuses.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        if durable:
            sync(partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


@contextlib.contextmanager
def alone(folder: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let one process at a time do in a folder what the block does; the next one waits.

    `waits` is called before that. Nothing is left in the folder. Nobody waits where the disk has no
    locks, or the folder does not exist.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, opened)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waits()
                fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def sync(path: Path) -> None:
    """Wait until what a file or a folder holds is on the disk; raises OSError."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of a file at once, and make its folder where there is none.

    Raises DiskFullError where the disk is full, FileError where the disk refuses otherwise.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = DiskFullError if full else FileError
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file at once, as UTF-8; raises as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def from_here(path: Path | str) -> str:
    """Return the path as a person would type it here; the address of an object store as it is."""
    if isinstance(path, str) and "://" in path:
        return path
    whole = Path(path).absolute()
    here = Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else path)
