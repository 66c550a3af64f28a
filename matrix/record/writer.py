"""Write a record: its one text, and its file, which a reader sees whole or not at all.

Importable inside a cell.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from matrix._util.files import (
    DiskFullError,
    FileError,
    NameTakenError,
    create_bytes,
    write_bytes,
    write_text,
)
from matrix.record.content import plain
from matrix.record.model import ErrorKind, Record, RecordError, RunError, with_fault

RUNNING_SUFFIX = ".running"
RESERVE_BYTES = 1 << 20
"""The room that a run keeps free for its record: the mark holds it until the disk is full."""

_LEAST_RESERVE = 1 << 14
_FULL = RunError(
    kind=ErrorKind.NO_SPACE,
    reason="the disk of the records became full during the run: make room and run it again",
)


class RecordTakenError(RecordError):
    """A record that was to be made, and is there already."""


def to_json(record: Record) -> str:
    """Return the one text of a record: keys sorted, ASCII, one trailing newline.

    Raises RecordError for values that JSON cannot hold, such as NaN.
    """
    try:
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, default=plain)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{record.cell}: cannot be written as JSON: {error}") from None
    return text + "\n"


def write(record: Record, path: Path) -> Record:
    """Write the record so that a reader sees the old file or the new one, never a part.

    Makes the folder if it is missing. Return the record as it is written: where the disk is full, a
    record takes the room that `matrix.record.running` keeps free for it, and says so in its error.
    Raises RecordError if the disk refuses; the file then is the one that it was.
    """
    return _written(record, path, write_bytes)


def create(record: Record, path: Path) -> Record:
    """Write a record whose file is not there yet; return it as it is written, as `write` does.

    Raises RecordTakenError if there is something at this path, RecordError if the disk refuses.
    """
    return _written(record, path, create_bytes)


def _written(record: Record, path: Path, write_file: Callable[[Path, bytes], None]) -> Record:
    """Write the record's file; where the disk is full, into the room that is kept for it."""
    content = to_json(record).encode()
    try:
        write_file(path, content)
    except NameTakenError as error:
        raise RecordTakenError(str(error)) from None
    except DiskFullError as error:
        if not _free_reserve(path):
            raise RecordError(str(error)) from None
        return _write_on_a_full_disk(record, path)
    except FileError as error:
        raise RecordError(str(error)) from None
    return record


def _write_on_a_full_disk(record: Record, path: Path) -> Record:
    """Write the record with its error into the room that was given back; keep what is left."""
    record = with_fault(record, _FULL)
    try:
        write_text(path, to_json(record))
    except FileError as error:
        raise RecordError(str(error)) from None
    finally:
        with contextlib.suppress(OSError), mark_of(path).open("r+b") as mark:
            keep_reserve(mark.fileno())
    return record


def keep_reserve(mark: int) -> None:
    """Have an open mark hold as much room as the disk still has, `RESERVE_BYTES` at most."""
    size = RESERVE_BYTES
    while size >= _LEAST_RESERVE:
        with contextlib.suppress(OSError):
            os.posix_fallocate(mark, 0, size)
            return
        size //= 2


def mark_of(path: Path) -> Path:
    """Return the file that marks the record at this path as still being written."""
    return path.with_name(f".{path.name}{RUNNING_SUFFIX}")


def _free_reserve(path: Path) -> bool:
    """Give the room back that the mark of a running record holds; return whether it held any."""
    mark = mark_of(path)
    try:
        held = mark.stat().st_size
        os.truncate(mark, 0)
    except OSError:
        return False
    return held > 0
