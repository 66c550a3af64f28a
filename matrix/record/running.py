"""Which records are still being written.

A run writes its record again and again, with `finished` false until its end. Whether it continues
or died cannot be seen in the record, and not by its age either: a case may take an hour. So the
process that runs a cell holds a lock (`flock`) on a hidden file next to its record for as long as
it runs. The kernel lets go of the lock however the process ends, so a run that was killed never
counts as running. This holds for all processes of a machine, in containers too, and for other
machines where a shared disk has locks; elsewhere an unfinished record counts as one whose run died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from matrix._util.files import PARTIAL, open_locked, remove_left_files
from matrix.record.model import Record, RecordError
from matrix.record.reader import read
from matrix.record.writer import RUNNING_SUFFIX, RecordTakenError, create, keep_reserve, mark_of

_LEFT = re.compile(
    rf"\.py[0-9]+-torch\w+-vllm\w+(?:\.[\w-]+)*\.json(?:{re.escape(RUNNING_SUFFIX)}|{PARTIAL})",
    re.ASCII,
)
"""The mark of a record, or a part of its file."""


@contextlib.contextmanager
def begun(tries: Iterable[tuple[Path, Record]]) -> Iterator[tuple[Path, Record]]:
    """Write the first of the records whose path is free, and mark it as running during the block.

    Of several processes that try the same paths each gets one of its own. Raises RecordError if
    the disk refuses, and where no path is free.
    """
    for path, record in tries:
        if os.path.lexists(path):
            continue
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(marked_running(path))
                record = create(record, path)  # noqa: PLW2901 - as it is written
            except (BlockingIOError, RecordTakenError):
                continue
            yield path, record
            return
    raise RecordError("no name is free for a new record; choose another folder of records")


@contextlib.contextmanager
def marked_running(path: Path) -> Iterator[None]:
    """Mark the record at this path as still being written, during the block.

    The record need not be there yet. Where the disk has no locks it is not marked. The mark also
    holds room for the record, which `matrix.record.writer.write` takes where the disk is full.
    Raises BlockingIOError if another process marks it.
    """
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open_locked(mark_of(path), wait=False)
        keep_reserve(lock)
    except BlockingIOError:
        raise
    except OSError:
        pass
    try:
        yield
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                mark_of(path).unlink()
            os.close(lock)


def sweep(folder: Path) -> None:
    """Remove what killed runs left in a folder of records: marks, and parts of files."""
    remove_left_files(folder, _LEFT)


def is_running(path: Path, record: Record) -> bool:
    """Return whether the run that writes the record at this path continues."""
    return not record.finished and is_marked(path)


def is_marked(path: Path) -> bool:
    """Return whether a living process marked the record at this path as still being written."""
    try:
        opened = os.open(mark_of(Path(os.path.realpath(path))), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Shared, so that two readers do not take each other for the writer.
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(opened)
    return False


def split_running(
    records: Iterable[tuple[Path, Record]],
) -> tuple[list[tuple[Path, Record]], list[tuple[Path, Record]]]:
    """Return the records whose runs ended, however, and those whose runs are not finished.

    A run may end after its record was read: then its record is the one that it left.
    """
    ended: list[tuple[Path, Record]] = []
    running: list[tuple[Path, Record]] = []
    for path, record in records:
        if is_running(path, record):
            running.append((path, record))
        else:
            ended.append((path, record if record.finished else _as_left(path, record)))
    return ended, running


def _as_left(path: Path, record: Record) -> Record:
    """Return the record as its file is now; as it was read where the file cannot be read."""
    try:
        return read(path)
    except RecordError:
        return record
