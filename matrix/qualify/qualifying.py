"""The records that a qualification asks for: all of a few, or of many those that an index names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.qualify.load import Run, select
from matrix.qualify.sides import Aside, Asked
from matrix.record.model import Record, read_many
from matrix.store.query import History, by_index
from matrix.store.sources import Place

__all__ = ["Read", "read"]


@dataclass(frozen=True)
class Read:
    """The records that were read, one error for each file that is bad, and what was left out.

    `count` are all good records of the places, read or not.
    """

    records: list[tuple[Path, Record]]
    errors: list[MatrixError]
    count: int
    aside: Aside


def read(
    places: Sequence[Place],
    asked: Asked,
    releases: Releases,
    progress: Callable[[str], None],
    late: str | None,
) -> Read:
    """Read what the question needs; the same is told of it with an index and without.

    Raises HistoryError where an archive or an object store is named and DuckDB is missing.
    """
    if not by_index(places):
        records, errors = read_many([place for place in places if isinstance(place, Path)])
        return Read(records, list(errors), len(records), Aside())
    with History(places, progress) as history:
        runs = [Run(*each) for each in history.runs()]
        paths, aside = select(asked, runs, releases, late)
        found, faults = history.records(paths)
        some = [(Path(path), record) for path, record in found.items()]
        return Read(some, [*history.errors, *faults], len(runs), aside)
