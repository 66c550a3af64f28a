"""Write a record: its one text, and its file, which a reader sees whole or not at all.

Importable inside a cell.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

from matrix._util.files import DiskFullError, FileError, write_text
from matrix.record.model import LEFT_OUT, Record, RecordError

MARK = ".running"


def to_json(record: Record) -> str:
    """Return the one text of a record: keys sorted, ASCII, one trailing newline.

    Raises RecordError for values that JSON cannot hold, such as NaN.
    """
    try:
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{record.cell}: cannot be written as JSON: {error}") from None
    return text + "\n"


def write(record: Record, path: Path) -> bool:
    """Write the record so that a reader sees the old file or the new one, never a part.

    Makes the folder if it is missing. Return whether the disk was full, and the record took the
    room that `matrix.record.running` had kept free for it. Raises RecordError if the disk refuses.
    """
    text = to_json(record)
    try:
        write_text(path, text)
    except DiskFullError as error:
        if not _free_reserve(path):
            raise RecordError(str(error)) from None
    except FileError as error:
        raise RecordError(str(error)) from None
    else:
        return False
    try:
        write_text(path, text)
    except FileError as error:
        raise RecordError(str(error)) from None
    return True


def mark_of(path: Path) -> Path:
    """Return the file that marks the record at this path as still being written."""
    return path.with_name(f".{path.name}{MARK}")


def _free_reserve(path: Path) -> bool:
    """Give the room back that the mark of a running record holds; return whether it held any."""
    mark = mark_of(path)
    try:
        held = mark.stat().st_size
        os.truncate(mark, 0)
    except OSError:
        return False
    return held > 0


def _plain(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value):
        named = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            name: member for name, member in named if member is not None or name not in LEFT_OUT
        }
    raise TypeError(f"{type(value).__name__} is not JSON")
