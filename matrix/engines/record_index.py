"""The index of a folder of records: made, followed and kept, so that each is read once.

It (`.matrix-index.parquet`) holds the row of each record file by the file's size and time. What was
read by another law is read anew. It is no state that counts, and can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from matrix.engines import summaries
from matrix.engines.rows import COLUMNS, Rows, failure, literal
from matrix.engines.summaries import ROW
from matrix.history import HistoryError

__all__ = ["INDEX", "follow", "prefix"]

INDEX = ".matrix-index.parquet"
"""The index of a folder of records: a hidden file in it."""


def follow(rows: Rows, folder: Path, files: Mapping[str, tuple[int, int]], *, write: bool) -> None:
    """Add the rows of a folder's files (name -> size, time), from its index where that is fresh.

    The rest is read, and with `write` the index is brought up to date: while they are read too, so
    that a run that is cut short is gone on with.
    """
    index = _Index(rows, folder)
    known = index.known()
    kept = [file for file, about in known.items() if files.get(file) == about]
    stale = [file for file, about in files.items() if known.get(file) != about]
    if known:
        index.load(None if len(kept) == len(known) else kept)
    save = index.write if write else None
    if stale:
        rows.add_files([(index.prefix + file, file, *files[file]) for file in stale], save)
    elif save is not None and len(kept) < len(known):
        save()


def prefix(folder: Path) -> str:
    """What stands before a file's name in the path of its row."""
    return "" if str(folder) == "." else os.path.join(folder, "")


class _Index:
    """The index file of one folder."""

    def __init__(self, rows: Rows, folder: Path) -> None:
        self._rows, self.path = rows, folder / INDEX
        self.prefix = prefix(folder)
        self._refused = False

    def known(self) -> dict[str, tuple[int, int]]:
        """The size and time of each file that it holds; none where it is damaged or stale."""
        if not self.path.exists():
            return {}
        try:
            self._rows.check_columns(self.path, ROW)
            held = self._rows.execute(
                "SELECT file, size, mtime FROM read_parquet($path) WHERE stamp = $stamp",
                {"path": literal(str(self.path)), "stamp": summaries.stamp()},
            ).fetchall()
        except (failure(), HistoryError):
            return {}
        return {file: (size, mtime) for file, size, mtime in held}

    def load(self, kept: list[str] | None) -> None:
        """Add its rows: those of the files `kept`, or all."""
        values: dict[str, object] = {
            "path": literal(str(self.path)),
            "stamp": summaries.stamp(),
            "folder": self.prefix,
        }
        if kept is not None:
            values["kept"] = kept
        self._rows.execute(
            f"INSERT INTO rows SELECT $folder || file, NULL, {COLUMNS}"
            " FROM read_parquet($path) WHERE stamp = $stamp"
            + ("" if kept is None else " AND file IN (SELECT unnest($kept))"),
            values,
        )

    def write(self) -> None:
        """Write the folder's rows, all at once; where nobody may, say so once."""
        if self._refused:
            return
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            self._rows.execute(
                f"COPY (SELECT {COLUMNS} FROM rows"
                " WHERE source IS NULL AND path = $folder || file AND size > 0 ORDER BY file)"
                " TO $partial (FORMAT parquet, COMPRESSION zstd)",
                {"folder": self.prefix, "partial": str(partial)},
            )
            os.replace(partial, self.path)
        except (OSError, failure()) as error:
            # Such as a folder that nobody may write: all works without, only slower.
            self._refused = True
            self._rows.progress(
                f"{self.path}: cannot be written, so the next time takes as long: {error}"
            )
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
