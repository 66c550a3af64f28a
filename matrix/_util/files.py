"""Files: replaced at once or not at all, their digests, and their paths as people see them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from matrix.errors import MatrixError

_BLOCK = 1 << 20
_PARTIAL = ".tmp"
PARTIAL = r"(?:\.[0-9a-f]{16})?\.tmp"
"""How the name of a temporary file ends, after a dot and the name of the file, as a pattern."""
READ_LIMIT = 64 << 20
"""The most bytes that are read of a file that people or programs wrote, unless a reader differs."""
# A pipe or a link that somebody put in the place of an own file is neither waited for nor followed.
_NO_SURPRISE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileError(MatrixError):
    """A file that cannot be written."""


class DiskFullError(FileError):
    """A file for which the disk, or the quota of the user, has no room."""


class NameTakenError(FileError):
    """A file that was to be made, and is there already."""


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give the name of a temporary file, which replaces `path` if the block succeeds.

    The temporary file, empty, lies in the same folder, and is deleted where the block fails; what
    killed processes left of others is deleted first. The block writes into that very file, which is
    locked. `durable`: its content is on the disk before it replaces the file. Raises OSError if
    the disk refuses, and FileNotFoundError if nothing was written.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 16}{_PARTIAL}"):
        _remove_unlocked(left)
    partial = path.with_name(f".{path.name}.{os.urandom(8).hex()}{_PARTIAL}")
    opened = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_SURPRISE, 0o666)
    try:
        with contextlib.suppress(OSError):  # a disk without locks, where nobody deletes it either
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield partial
        if os.stat(partial).st_size == 0:
            raise FileNotFoundError(errno.ENOENT, "nothing was written", str(partial))
        if durable:
            sync(partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    finally:
        os.close(opened)


def sync(path: Path) -> None:
    """Wait until what a file or a folder holds is on the disk; raises OSError."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of a file at once, and make its folder if there is none.

    Raises DiskFullError if the disk is full, FileError if the disk refuses otherwise.
    """
    with _refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path) as (opened, partial):
            _write(opened, content)
            os.replace(partial, path)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file at once, as UTF-8; raises as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def create_bytes(path: Path, content: bytes) -> None:
    """Make a file with this content, whole at once, and its folder if there is none.

    Of several that make the same file at once one succeeds, also on a disk that machines share.
    Raises NameTakenError if there is something of this name, else as `write_bytes` does.
    """
    with _refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            opened = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
        except OSError:
            # A disk, or a system, without files that have no name.
            with _partial(path) as (opened, partial):
                _write(opened, content)
                _link(str(partial), path, content)
            return
        try:
            _write(opened, content)
            _link(f"/proc/self/fd/{opened}", path, content)
        finally:
            os.close(opened)


def check_folder(folder: Path) -> None:
    """Raise OSError if a folder, which may be there or not yet, cannot be written.

    It is tried: a disk that is read-only, or a folder of the kernel's, refuses also what the bits
    of a folder allow. Nothing is left.
    """
    import tempfile

    whole = folder.absolute()
    there = next(path for path in (whole, *whole.parents) if os.path.lexists(path))
    tempfile.TemporaryFile(dir=there).close()


def remove_left_files(folder: Path, named: re.Pattern[str]) -> None:
    """Remove the hidden files of such names that killed processes left; those of living ones stay.

    The folder may have a million files: their names are listed once.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name[0] == "." and named.fullmatch(name):
                _remove_unlocked(folder / name)


def _remove_unlocked(path: Path) -> None:
    """Remove a file unless a process holds its lock, or the disk has no locks."""
    with contextlib.suppress(OSError):
        opened = os.open(path, os.O_RDWR | _NO_SURPRISE)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(opened)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as the error that it is for people."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = DiskFullError if full else FileError
        # That a file is where its folder was to be made: as for what lies deeper in that file.
        why = os.strerror(errno.ENOTDIR) if error.errno == errno.EEXIST else error.strerror
        raise kind(f"{path}: cannot be written: {why or error}") from None


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[tuple[int, Path]]:
    """Open an empty, locked temporary file next to `path`, under a name that can be used again.

    So whatever a killed process left is what the next one writes into, and never a second file.
    The name is free, or another file's, when the block ends.
    """
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        opened = open_locked(partial)
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.getuid():
            os.close(opened)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    except OSError:
        # A disk without locks, or what another user put there: a name that nobody has.
        partial = path.with_name(f".{path.name}.{os.urandom(8).hex()}{_PARTIAL}")
        opened = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_SURPRISE, 0o666)
    try:
        os.ftruncate(opened, 0)
        yield opened, partial
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(opened), os.lstat(partial)):
                partial.unlink()
        os.close(opened)


def open_locked(path: Path, *, wait: bool = True) -> int:
    """Open the file of this name, made if there is none, and lock it.

    Return its descriptor: to close it gives the lock back. Raises BlockingIOError if another
    process has the lock and this one is not to `wait`, OSError if the disk has no locks.
    """
    while True:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | _NO_SURPRISE, 0o666)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Whoever had the lock before may have removed the file, or given it another name.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(opened), os.lstat(path)):
                    return opened
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)


def _write(opened: int, content: bytes) -> None:
    """Write all of it, to the disk."""
    left = memoryview(content)
    while left:
        left = left[os.write(opened, left) :]
    os.fsync(opened)


def _link(source: str, path: Path, content: bytes) -> None:
    """Give a file that has this content the name `path`; raises NameTakenError, OSError."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # With a folder, since without one Python does not follow the link of /proc.
        os.link(source, path, src_dir_fd=folder, follow_symlinks=True)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        _create_in_place(path, content)
    finally:
        os.close(folder)


def _create_in_place(path: Path, content: bytes) -> None:
    """Make the file on a disk without hard links: whoever reads it early may see a part."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise _taken(path) from None
    try:
        _write(opened, content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(opened)


def read_bytes(path: Path, limit: int = READ_LIMIT) -> bytes:
    """Return what a file holds, which is not read where it has more bytes than `limit`.

    Raises OSError, as for a file that cannot be read, also for what is not a file, such as a pipe
    or a device, or a link to one: to open it may wait for ever, and to read it may never end.
    """
    with open_regular(path) as file:
        # A file of its own size is not given the room of the limit.
        content = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)
        content += file.read(limit + 1 - len(content)) if content else b""
    if len(content) > limit:
        what = f"has more than {limit >> 20} MiB, the most that such a file can have"
        raise OSError(errno.EFBIG, what, str(path))
    return content


def read_text(path: Path, limit: int = READ_LIMIT) -> str:
    """Return the UTF-8 text of a file, its line ends as one newline; raises as `read_bytes` does.

    Raises UnicodeDecodeError for other bytes.
    """
    text = read_bytes(path, limit).decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; raises OSError for what is not one, as `read_bytes` does."""
    # To open a device may already do something, so what it is comes first.
    _check_regular(os.stat(path).st_mode, path)
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(opened).st_mode, path)
        return os.fdopen(opened, "rb")
    except BaseException:
        os.close(opened)
        raise


def _check_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a file, but a pipe, a socket or a device", str(path))


def no_file(path: Path) -> str | None:
    """Return what is wrong with a path that a person named as a file; None for a file."""
    if path.is_file():
        return None
    return "is not a file" if path.exists() else "no such file"


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


def _taken(path: Path) -> NameTakenError:
    return NameTakenError(f"{path}: exists already; choose another name")
