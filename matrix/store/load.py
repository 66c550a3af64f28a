"""Records as commands read them: one by one, or by an index where that pays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matrix.record.model import Record
from matrix.record.reader import read, read_many
from matrix.record.running import split_running
from matrix.store.layout import PACK, RecordSource, by_index, needs_duckdb
from matrix.store.loaded import LoadedRecords
from matrix.store.summary import HistoryError, Times, times
from matrix.verdict.agreement import first_on_cuda
from matrix.verdict.precedence import RunOrder, run_order

if TYPE_CHECKING:
    from matrix.store.database import OnProgress


def newest_records(
    places: Sequence[RecordSource],
    late: str | None,
    progress: OnProgress,
    *,
    repeats: int | None = 0,
) -> LoadedRecords:
    """Return the records of which `tabulate` makes the table, as it would of all, and the errors.

    Of each cell on each platform the `repeats` newest runs have a say in an attribution (of some
    that started in one second all; None: every run), and of these one of each kind and setting is
    read, the newest: it shows what all of them would.

    What is never in the table is not read again. `late` as for `tabulate`. Where nothing is large
    (`pays`), or where DuckDB is missing and nothing needs it, all records are read, one by one.
    """
    local = [place for place in places if isinstance(place, Path)]
    if not by_index(places):
        every, errors = read_many(local)
        records, running = split_running(every)
        started = [(str(path), record.started) for path, record in records]
        seconds = times((record for _, record in records), late)
        say = _newest_runs(records, late, repeats)
        return LoadedRecords(
            records=records,
            errors=list(errors),
            late=_late(started, late),
            times=seconds,
            runs=say,
            running=running,
            first_on_cuda=first_on_cuda(record for _, record in records),
        )
    from matrix.store.query import History

    with History(places, progress) as history:
        return history.newest(late, repeats)


def times_of(
    cell: tuple[str, str], places: Sequence[RecordSource], late: str | None, progress: OnProgress
) -> Times:
    """Return the times of one cell on one platform, of all records of the places."""
    from matrix.store.database import duckdb
    from matrix.store.query import History

    if duckdb() is None and not needs_duckdb(places):
        records, _ = read_many(place for place in places if isinstance(place, Path))
        every = times((record for _, record in split_running(records)[0]), late)
        return Times(
            series={key: points for key, points in every.series.items() if key[:2] == cell}
        )
    with History(places, progress) as history:
        return history.times(late, cell=cell)


def one_record(name: str, progress: OnProgress) -> Record:
    """Return the record in a file, a store, or an archive (`DAY.records.parquet/NAME`).

    Raises RecordError or HistoryError: there is none, or it is bad.
    """
    archive, mark, _ = name.partition(f"{PACK}/")
    if not mark and "://" not in name:
        return read(Path(name))

    from matrix.store.query import History

    held = f"{archive}{PACK}" if mark else name
    with History([held if "://" in held else Path(held)], progress) as packed:
        found = packed.record(name)
        if found is not None:
            return found
        # What is wrong with the archive, or with the record, says more than that it is not there.
        faults = [*packed.rows.errors, *packed.errors]
    for fault in faults:
        if str(fault).startswith((f"{held}:", name)):
            raise fault
    raise HistoryError(f"{name}: is not in the archive; `matrix results list` names its records")


def _newest_runs(
    records: Iterable[tuple[Path, Record]], late: str | None, most: int | None
) -> dict[Path, int]:
    """Return the `most` newest runs of each cell on each platform; all that started together.

    Each stands for itself.
    """
    cells: dict[tuple[str, str], list[tuple[RunOrder, Path]]] = {}
    for path, record in records:
        run = run_order(record.started, late), path
        cells.setdefault((record.cell, record.platform), []).append(run)
    found = {}
    for runs in cells.values():
        orders = sorted((order for order, _ in runs), reverse=True)[:most]
        found.update({path: 1 for order, path in runs if orders and order >= orders[-1]})
    return found


def _late(started: Sequence[tuple[str, str]], late: str | None) -> list[tuple[str, str]]:
    future = [row for row in started if late is not None and row[1] > late]
    return [] if len(future) == len(started) else future
