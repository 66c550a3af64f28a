"""The index of a folder of records: made, followed and kept, so that each is read once.

It (`.matrix-index.parquet`) holds the row of each record file by the file's size and time. What
another version of summaries wrote is read again. The index can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matrix._util.files import replacing
from matrix.store import ingest as summaries
from matrix.store.database import COLUMNS, UNSOUND, RecordDatabase, failure, literal
from matrix.store.layout import INDEX


def follow(
    rows: RecordDatabase, folder: Path, files: Mapping[str, tuple[int, int]], *, write: bool
) -> None:
    """Add the rows of a folder's files (name -> size, time), from its index where that is fresh.

    The rest is read, and with `write` the index is brought up to date: while they are read too, so
    that a run that is cut short is gone on with.
    """
    index = _Index(rows, folder)
    known = index.read()
    kept = [file for file, about in known.items() if files.get(file) == about]
    stale = [file for file, about in files.items() if known.get(file) != about]
    index.keep(kept, len(known))
    save = index.write if write else None
    if stale:
        rows.add_files([(index.prefix + file, file, *files[file]) for file in stale], save)
    elif save is not None and len(kept) < len(known):
        save()


def prefix(folder: Path) -> str:
    """Return the text in front of a file's name in the path of its row."""
    return "" if str(folder) == "." else os.path.join(folder, "")


class _Index:
    """The index file of one folder."""

    def __init__(self, rows: RecordDatabase, folder: Path) -> None:
        self._rows, self.path = rows, folder / INDEX
        self.prefix = prefix(folder)
        self._refused = False

    def read(self) -> dict[str, tuple[int, int]]:
        """Add all its rows; returns the size and time of each file, none where it is damaged.

        The file is read once, since another command may put a new one in its place at any time.
        Until `keep` the rows name the index as their source.
        """
        held, sound = [], True
        if os.path.isfile(self.path):
            with contextlib.suppress(failure()):
                self._rows.execute(
                    f"INSERT INTO rows SELECT $folder || file, $path, {COLUMNS}"
                    " FROM read_parquet($literal) WHERE stamp = $stamp",
                    {
                        "folder": self.prefix,
                        "path": str(self.path),
                        "literal": literal(str(self.path)),
                        "stamp": summaries.stamp(),
                    },
                )
                held = self._rows.execute(
                    "SELECT file, size, mtime FROM rows WHERE source = ?", [str(self.path)]
                ).fetchall()
                sound = not self._rows.execute(
                    f"SELECT 1 FROM rows WHERE source = ? AND {UNSOUND} LIMIT 1", [str(self.path)]
                ).fetchall()
        known = {file: (size, mtime) for file, size, mtime in held}
        # A file that stands there twice would count twice for good.
        return known if sound and len(known) == len(held) else {}

    def keep(self, files: Sequence[str], known: int) -> None:
        """Leave the rows of these files alone, of the so many known."""
        mine = {"path": str(self.path)}
        if len(files) < known or not known:
            self._rows.execute(
                "DELETE FROM rows WHERE source = $path AND file NOT IN (SELECT unnest($files))",
                {**mine, "files": files},
            )
        self._rows.execute("UPDATE rows SET source = NULL WHERE source = $path", mine)

    def write(self) -> None:
        """Write the folder's rows, all at once; where nobody may, say so once."""
        if self._refused:
            return
        try:
            # An index that a power cut takes is made again, so nobody waits for the disk.
            with replacing(self.path, durable=False) as partial:
                self._rows.execute(
                    f"COPY (SELECT {COLUMNS} FROM rows"
                    " WHERE source IS NULL AND path = $folder || file AND size > 0 ORDER BY file)"
                    " TO $partial (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)",
                    {"folder": self.prefix, "partial": str(partial)},
                )
        except (OSError, failure()) as error:
            # Such as a folder that nobody may write: all works without, only slower.
            self._refused = True
            self._rows.progress(
                f"{self.path}: cannot be written, so the next time takes as long: {error}"
            )
