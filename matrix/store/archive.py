"""Archives of records: whole records by day in Parquet, as they are read.

An archive (`*.records.parquet`) holds each record as the very text of its file, with its row
(`matrix.store.database`) beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from matrix.store import ingest as summaries
from matrix.store.database import COLUMNS, Rows, failure, literal, mark
from matrix.store.summary import HistoryError

__all__ = ["PACK", "load", "texts"]

PACK = ".records.parquet"
"""How the name of an archive of records ends."""

# What any release packed; what else there is goes by the stamp.
_PACKED = ("stamp", "file", "started", "text")


def load(rows: Rows, source: str) -> None:
    """Add the rows of an archive; what another release packed is read anew."""
    found = mark(source)
    try:
        rows.check_columns(source, _PACKED)
        stamps = rows.execute(
            "SELECT DISTINCT stamp FROM read_parquet($source)", {"source": literal(source)}
        ).fetchall()
        if stamps == [(summaries.stamp(),)]:
            rows.execute(
                f"INSERT INTO rows SELECT $source || '/' || file, $source, {COLUMNS}"
                " FROM read_parquet($literal)",
                {"source": source, "literal": literal(source)},
            )
        else:
            if stamps:
                rows.stale.add(source)
                rows.progress(
                    f"{source}: was packed by another release of this matrix, so all of it is"
                    " read; `matrix results pack --yes` on its folder packs it anew"
                )
            told = rows.execute(
                "SELECT file, text FROM read_parquet($source)", {"source": literal(source)}
            )
            rows.add_texts(source, told)
        if found is not None:
            rows.marks[source] = found
    except (failure(), HistoryError) as error:
        line = " ".join(str(error).split())
        rows.errors.append(
            HistoryError(f"{source}: no archive of records, or a damaged one ({line[:150]})")
        )


def texts(rows: Rows, source: str, files: Sequence[str], first: str, last: str) -> dict[str, str]:
    """The texts of records of an archive by their names; they started from `first` to `last`."""
    # The days spare the groups of rows that hold none of these.
    told = rows.execute(
        "SELECT file, text FROM read_parquet($source)"
        " WHERE started BETWEEN $first AND $last AND file IN (SELECT unnest($files))",
        {"source": literal(source), "first": first, "last": last, "files": list(files)},
    )
    return dict(told.fetchall())
