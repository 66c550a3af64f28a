"""Which records a qualification reads, and the release that each of them belongs to.

Of many records an index names those that matter by their summaries; the rest changes nothing that
`matrix.qualify.engine` reports. Of a cell on a platform with two releases the newest of each
fingerprint (`matrix.store.fingerprint`) is read: one of them decides, and it hides none of the
others (`matrix.qualify.runs`). The newest runs are read too, for their seconds, and of the records
that belong to no release the newest of each cell. All is pure but `read`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matrix._util.enums import StrEnum
from matrix.catalog.cells import factors
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.qualify.query import (
    MOST_RUNS,
    CellReleases,
    Context,
    Observed,
    PlatformReleases,
    Query,
    Skipped,
    may_match,
    releases_of,
)
from matrix.record.model import ErrorKind, Platform, Record
from matrix.record.reader import read_many
from matrix.record.running import split_running
from matrix.store.layout import RecordSource, by_index
from matrix.verdict.precedence import RunOrder, run_order

if TYPE_CHECKING:
    from matrix.store.query import RunRow

_OLDEST = RunOrder(today=False, started="")


class ReleasedRecord(NamedTuple):
    """A record with its file and the exact releases of torch and vLLM that ran."""

    path: Path
    record: Record
    torch: str
    vllm: str

    @property
    def place(self) -> CellReleases:
        """Return the cell, the platform and the releases."""
        return CellReleases(self.record.cell, self.record.platform, self.torch, self.vllm)


class UnidentifiedCause(StrEnum):
    """Why a record belongs to no release."""

    WRONG_CELL = "wrong cell"
    NO_RELEASE = "no release"


class UnidentifiedRecord(NamedTuple):
    """A record that belongs to no release, and why; `detail` is the error of the run."""

    path: Path
    record: Record
    cause: UnidentifiedCause
    detail: str | None = None

    @property
    def blocks(self) -> bool:
        """Return whether its cases may decide, so that the candidate cannot qualify without it."""
        return self.cause is UnidentifiedCause.NO_RELEASE


def observed(record: Record) -> Observed:
    """Return what a record holds about the releases that ran."""
    error = None if record.error is None else record.error.kind
    torch, vllm = (record.version(project) for project in Project)
    return Observed(
        cell=record.cell,
        platform=record.platform,
        torch=torch,
        vllm=vllm,
        error=error,
        has_cases=bool(record.cases),
    )


def released(records: Iterable[tuple[Path, Record]], releases: Releases) -> list[ReleasedRecord]:
    """Return the records whose releases are known, with these."""
    return [
        ReleasedRecord(path, record, *found)
        for path, record in records
        if (found := releases_of(observed(record), releases)) is not None
    ]


def unidentified(
    query: Query,
    records: Iterable[tuple[Path, Record]],
    chosen: Iterable[ReleasedRecord],
    context: Context,
) -> list[UnidentifiedRecord]:
    """Return the newest record of each cell that may be meant and belongs to no release.

    One that is older than a record of its cell in `chosen` for the candidate or the baseline is
    left out.
    """
    newest: dict[tuple[str, str], RunOrder] = {}
    for run in chosen:
        if query.compares(query.release(run.torch, run.vllm)):
            key = run.record.cell, run.record.platform
            started = run_order(run.record.started, context.late)
            newest[key] = max(started, newest.get(key, _OLDEST))
    found: dict[tuple[str, str, bool], tuple[Path, Record]] = {}
    for path, record in sorted(records, key=lambda item: str(item[0])):
        seen = observed(record)
        if releases_of(seen, context.releases) is not None or not may_match(
            query, seen, context.releases
        ):
            continue
        place = record.cell, record.platform, seen.error == ErrorKind.WRONG_CELL
        started = run_order(record.started, context.late)
        if place not in found or started > run_order(found[place][1].started, context.late):
            found[place] = path, record
    return [
        _unidentified(path, record)
        for (cell, platform, _), (path, record) in sorted(found.items(), key=lambda item: item[0])
        if run_order(record.started, context.late) >= newest.get((cell, platform), _OLDEST)
    ]


def _unidentified(path: Path, record: Record) -> UnidentifiedRecord:
    if record.error is not None and record.error.kind == ErrorKind.WRONG_CELL:
        cause, detail = UnidentifiedCause.WRONG_CELL, record.error.reason
        return UnidentifiedRecord(path=path, record=record, cause=cause, detail=detail)
    return UnidentifiedRecord(path=path, record=record, cause=UnidentifiedCause.NO_RELEASE)


def _observed(run: RunRow) -> Observed:
    """Return what a row holds about the releases that ran.

    It has the minor release of the cell's name where the record does not know what ran.
    """
    named = factors(run.cell)
    torch = None if run.torch == named.torch else run.torch
    vllm = None if run.vllm == named.vllm else run.vllm
    return Observed(
        cell=run.cell,
        platform=Platform(run.platform),
        torch=torch,
        vllm=vllm,
        error=run.error,
        has_cases=run.has_cases,
    )


def select(
    query: Query, runs: Iterable[RunRow], releases: Releases, late: str | None = None
) -> tuple[list[str], Skipped]:
    """Return the sorted paths of the records to read, and what the others are.

    `late` is as for `matrix.qualify.query.Context`.
    """
    groups: dict[CellReleases, list[RunRow]] = {}
    unidentified_runs: dict[tuple[str, str, bool], RunRow] = {}
    places: dict[tuple[object, ...], CellReleases | None] = {}
    for run in runs:
        key = run.cell, run.platform, run.torch, run.vllm, run.error, run.has_cases
        if key not in places:
            seen = _observed(run)
            found = releases_of(seen, releases)
            places[key] = None if found is None else CellReleases(run.cell, seen.platform, *found)
        place = places[key]
        if place is not None:
            groups.setdefault(place, []).append(run)
        elif may_match(query, _observed(run), releases):
            cell = run.cell, run.platform, run.error == ErrorKind.WRONG_CELL
            unidentified_runs[cell] = _newer(unidentified_runs.get(cell), run, late)
    paths = [run.path for run in unidentified_runs.values()]
    counts: dict[CellReleases, int] = {}
    for place, group in groups.items():
        other = query.other_release(place.torch, place.vllm)
        release = query.release(place.torch, place.vllm)
        if query.covers(place.cell, place.platform, other) and query.compares(release):
            needed = _needed(group, late)
            paths += needed
            counts[place] = len(group) - len(needed)
    held = frozenset(PlatformReleases(place.platform, place.torch, place.vllm) for place in groups)
    return sorted(paths), Skipped(releases=held, counts=counts)


def _newer(known: RunRow | None, run: RunRow, late: str | None) -> RunRow:
    """Return the newer of two runs; of two of one second that of the first path."""
    if known is None or run_order(run.started, late) > run_order(known.started, late):
        return run
    return min(run, known, key=lambda item: item.path) if run.started == known.started else known


def _needed(runs: Sequence[RunRow], late: str | None) -> set[str]:
    """Return the paths of the runs that may decide or fail, and of those for the seconds.

    The run that started last is among them: it is named where it is future-dated.
    """
    last = max(run.started for run in runs)
    newest: dict[str, RunOrder] = {}
    for run in runs:
        started = run_order(run.started, late)
        newest[run.outcome_key] = max(started, newest.get(run.outcome_key, started))
    order: dict[int, set[RunOrder]] = {}
    for run in runs:
        order.setdefault(run.jobs, set()).add(run_order(run.started, late))
    timed = {
        (jobs, started) for jobs, all_ in order.items() for started in sorted(all_)[-MOST_RUNS:]
    }
    return {
        run.path
        for run in runs
        if (started := run_order(run.started, late)) == newest[run.outcome_key]
        or run.started == last
        or (run.jobs, started) in timed
    }


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The records that were read, an error for each bad file, and what was skipped.

    `count` is the number of good records in all sources, read or not.
    """

    records: list[tuple[Path, Record]]
    errors: list[MatrixError]
    count: int
    skipped: Skipped


def read(
    sources: Sequence[RecordSource], query: Query, context: Context, progress: Callable[[str], None]
) -> Loaded:
    """Read the records that the query needs; an index changes nothing of the qualification.

    Raises HistoryError if an archive or an object store is named and DuckDB is missing.
    """
    if not by_index(sources):
        every, errors = read_many([source for source in sources if isinstance(source, Path)])
        records, _ = split_running(every)
        return Loaded(records=records, errors=list(errors), count=len(records), skipped=Skipped())
    from matrix.store.query import History

    with History(sources, progress) as history:
        runs = history.runs()
        paths, skipped = select(query, runs, context.releases, context.late)
        found, faults = history.records(paths)
        return Loaded(
            records=[(Path(path), record) for path, record in found.items()],
            errors=[*history.errors, *faults],
            count=len(runs),
            skipped=skipped,
        )
