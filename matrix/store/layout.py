"""The places of records: folders, files, archives and object stores, without reading them.

Most commands read a few loose records, and import no more of the store than this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matrix.catalog.cells import CellError, factors
from matrix.errors import MatrixError
from matrix.record.model import RecordError
from matrix.record.tables import is_table

RUNS = "runs"
"""The folder of runs of many cells, below that of records."""

PACK = ".records.parquet"
"""How the name of an archive of records ends."""

INDEX = ".matrix-index.parquet"
"""The index of a folder of records: a hidden file in it."""

_LARGE = 500
"""From how many record files on a folder gets an index unasked: some 4 s of reading without."""

RecordSource = Path | str
"""A folder or file of records, or the address of a folder in an object store (`s3://...`)."""


def pays(places: Iterable[RecordSource]) -> bool:
    """Return whether records of these places are better read by an index than one by one.

    They are where one is there already, where an archive or an object store is among them, or where
    a folder holds `_LARGE` records.
    """
    for place in places:
        if isinstance(place, str) or place.name.endswith(PACK):
            return True
        if not os.path.isdir(place):
            continue
        if os.path.exists(place / INDEX):
            return True
        for count, entry in enumerate(walk(place), 1):
            if entry.name.endswith(PACK) or count >= _LARGE:
                return True
    return False


def needs_duckdb(places: Iterable[RecordSource]) -> bool:
    """Return whether some of the records cannot be read without DuckDB."""
    for place in places:
        if isinstance(place, str) or place.name.endswith(PACK):
            return True
        if os.path.isdir(place) and any(entry.name.endswith(PACK) for entry in walk(place)):
            return True
    return False


def by_index(places: Sequence[RecordSource]) -> bool:
    """Return whether to read the places by an index: it pays and DuckDB is there, or is needed."""
    if not pays(places):
        return False
    from matrix.store.database import duckdb

    return duckdb() is not None or needs_duckdb(places)


def has_record(folder: Path) -> bool:
    """Tell whether a folder has an archive or a file whose name is that of a record, good or bad.

    A folder below it that cannot be read may have one.
    """
    errors: list[MatrixError] = []
    return any(
        entry.name.endswith(PACK) or _is_cell(entry.name.partition(".")[0])
        for entry in walk(folder, errors)
    ) or bool(errors)


def _is_cell(name: str) -> bool:
    """Tell whether it is the full name of a cell."""
    try:
        return factors(name).vllm is not None
    except CellError:
        return False


def walk(folder: Path, errors: list[MatrixError] | None = None) -> Iterator[os.DirEntry[str]]:
    """Yield what `read_many` would read of a folder, and the archives in it, in any order.

    A folder that cannot be read goes to `errors`.
    """
    below, cut = [str(folder)], len(str(folder))
    while below:
        where = below.pop()
        try:
            with os.scandir(where) as found:
                entries = list(found)
        except OSError as error:
            if errors is not None:
                why = error.strerror or error
                errors.append(RecordError(f"{where}: cannot be read: {why}"))
            continue
        for entry in entries:
            name = entry.name
            archive = name.endswith(PACK) and not os.path.isdir(entry.path)
            record = name.endswith(".json") and not is_table(where[cut:], name)
            if (archive or record) and not name.startswith("."):
                yield entry
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
