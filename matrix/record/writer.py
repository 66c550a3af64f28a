"""Write a record: its one text, and its file, which a reader sees whole or not at all.

Importable inside a cell.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from matrix._util.files import FileError, write_text
from matrix.record.model import LEFT_OUT, Record, RecordError


def to_json(record: Record) -> str:
    """Return the one text of a record: keys sorted, ASCII, one trailing newline.

    Raises RecordError for values that JSON cannot hold, such as NaN.
    """
    try:
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{record.cell}: cannot be written as JSON: {error}") from None
    return text + "\n"


def write(record: Record, path: Path) -> None:
    """Write the record so that a reader sees the old file or the new one, never a part.

    Makes the folder if it is missing. Raises RecordError if the disk refuses.
    """
    try:
        write_text(path, to_json(record))
    except FileError as error:
        raise RecordError(str(error)) from None


def _plain(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value):
        named = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            name: member for name, member in named if member is not None or name not in LEFT_OUT
        }
    raise TypeError(f"{type(value).__name__} is not JSON")
