"""The texts of all records of some places: of files, of archives, of object stores.

A search for words needs them: a record is read only where its text is of use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.files import READ_LIMIT, read_bytes
from matrix.errors import MatrixError
from matrix.record.model import Record, RecordError
from matrix.record.reader import of_file, parse
from matrix.store.layout import PACK, RecordSource, by_index, needs_duckdb, walk

if TYPE_CHECKING:
    from matrix.store.database import OnProgress


@dataclass(frozen=True, kw_only=True)
class StoredText:
    """The text of what may be a record, and its path: inside an archive `DAY.records.parquet/NAME`.

    `is_file`: it is a file of its own.
    """

    path: str
    content: bytes
    is_file: bool

    def record(self) -> Record:
        """Read the record. Raises RecordError: it is none, or a bad one."""
        try:
            text = self.content.decode("utf-8")
        except UnicodeDecodeError:
            raise RecordError(f"{self.path}: not a record: its bytes are not UTF-8 text") from None
        return of_file(text, Path(self.path)) if self.is_file else parse(text, self.path)


def stored_texts(places: Sequence[RecordSource], progress: OnProgress) -> Iterator[StoredText]:
    """Yield the text of each record of the places, and of files that may be one.

    Archives take DuckDB: where it is missing, `progress` gets what to install, and files alone are
    read. Of an archive that is damaged it gets that. Raises HistoryError for an object store that
    cannot be read.
    """
    if not by_index(places):
        yield from _of_files(places)
        return
    from matrix.store.query import History

    try:
        history = History(places, progress)
    except MatrixError as error:
        if any(isinstance(place, str) for place in places) or not lacks_duckdb(places):
            raise
        progress(f"records in archives are not read: {error}")
        yield from _of_files(places)
        return
    with history:
        for fault in history.rows.errors:
            progress(str(fault))
        for path, content, is_file in history.texts():
            yield StoredText(path=path, content=content, is_file=is_file)


def lacks_duckdb(places: Sequence[RecordSource]) -> bool:
    """Tell whether some of the records take DuckDB, which is not installed."""
    from matrix.store.database import duckdb

    return duckdb() is None and needs_duckdb(places)


def _of_files(places: Sequence[RecordSource]) -> Iterator[StoredText]:
    for path in _files(places):
        try:
            content = read_bytes(path, READ_LIMIT)
        except OSError:
            continue
        yield StoredText(path=str(path), content=content, is_file=True)


def _files(places: Sequence[RecordSource]) -> Iterator[Path]:
    for place in places:
        if isinstance(place, str) or place.name.endswith(PACK):
            continue
        if place.is_dir():
            entries = walk(place)
            yield from sorted(Path(entry.path) for entry in entries if _is_file(entry.name))
        elif place.is_file():
            yield place


def _is_file(name: str) -> bool:
    return name.endswith(".json")
