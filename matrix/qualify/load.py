"""Which of many records a qualification has to read, by their summaries alone.

Pure. What is left out changes nothing that `matrix.qualify.engine` says: of a cell on a platform
with two
releases the newest of each kind (`matrix.store.fingerprint`) is read. One of them decides, and
what the others
show is not hidden by it (`matrix.qualify.sides`); the newest runs beside them tell its seconds. Of
what stands for no release the newest of each cell is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix.catalog.cells import factors
from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.qualify.query import (
    WRONG_CELL,
    Query,
    Skipped,
    age,
    is_asked,
    may_be_asked,
    same_release,
    versions_of,
)
from matrix.qualify.runs import (
    MOST_RUNS,
)
from matrix.record.model import Record, read_many
from matrix.store.query import History, by_index
from matrix.store.sources import Place as Source


@dataclass(frozen=True)
class Run:
    """A record as far as its summary tells (`matrix.store.summary.Summary`), and its path."""

    path: str
    cell: str
    platform: str
    started: str
    torch: str
    vllm: str
    error: str | None
    jobs: int
    kind: str
    cases: bool
    """Whether it has a case."""


_Place = tuple[str, str, str, str]
"""Cell, platform, torch, vLLM."""


def select(
    asked: Query, runs: Iterable[Run], releases: Releases, late: str | None = None
) -> tuple[list[str], Skipped]:
    """The paths to read, in their order, and what the others are; `late` as for `qualify`."""
    told: dict[_Place, list[Run]] = {}
    lost: dict[tuple[str, str, bool], Run] = {}
    places: dict[tuple[str, str, str, str, str | None, bool], _Place | None] = {}
    for run in runs:
        key = run.cell, run.platform, run.torch, run.vllm, run.error, run.cases
        if key not in places:
            places[key] = _place(run, releases)
        place = places[key]
        if place is not None:
            told.setdefault(place, []).append(run)
        elif may_be_asked(asked, run.cell, run.platform, *_said(run), releases):
            at = run.cell, run.platform, run.error == WRONG_CELL
            known = lost.get(at)
            newer = known is None or age(run.started, late) > age(known.started, late)
            if newer or (known is not None and run.started == known.started):
                # The file's name decides between two of one second, and not their order here.
                lost[at] = run if newer or known is None else min(run, known, key=_path)
    paths = [each.path for each in lost.values()]
    counts: dict[_Place, int] = {}
    for place, of in told.items():
        if _is_wanted(asked, place):
            some = _deciding(of, late)
            paths += some
            counts[place] = len(of) - len(some)
    held = frozenset((platform, torch, vllm) for _, platform, torch, vllm in told)
    return sorted(paths), Skipped(held, counts)


def _path(run: Run) -> str:
    return run.path


def _said(run: Run) -> tuple[str | None, str | None]:
    """The releases that ran, None for one that is not known."""
    if run.error == WRONG_CELL:
        return None, None
    # A summary says the name's minor release where the record does not know what ran.
    named = factors(run.cell)
    return (
        None if run.torch == named.torch else run.torch,
        None if run.vllm == named.vllm else run.vllm,
    )


def _place(run: Run, releases: Releases) -> _Place | None:
    found = versions_of(run.cell, *_said(run), run.error, run.cases, releases)
    return None if found is None else (run.cell, run.platform, *found)


def _is_wanted(asked: Query, place: _Place) -> bool:
    cell, platform, torch, vllm = place
    release, other = (torch, vllm) if asked.project == "torch" else (vllm, torch)
    return is_asked(asked, cell, platform, other) and any(
        same_release(release, each) for each in (asked.candidate, asked.baseline)
    )


def _deciding(runs: Sequence[Run], late: str | None) -> set[str]:
    """The paths of what decides or fails, and of the runs that tell the seconds.

    The one that started last is among them, for it is named where it comes from the future.
    """
    last = max(each.started for each in runs)
    newest: dict[str, tuple[bool, str]] = {}
    for each in runs:
        old = age(each.started, late)
        newest[each.kind] = max(old, newest.get(each.kind, old))
    told = sorted({age(each.started, late) for each in runs if each.jobs == 1})
    seconds = set(told[-MOST_RUNS:])
    return {
        each.path
        for each in runs
        if (old := age(each.started, late)) == newest[each.kind]
        or each.started == last
        or (each.jobs == 1 and old in seconds)
    }


@dataclass(frozen=True)
class Read:
    """The records that were read, one error for each file that is bad, and what was left out.

    `count` are all good records of the places, read or not.
    """

    records: list[tuple[Path, Record]]
    errors: list[MatrixError]
    count: int
    aside: Skipped


def read(
    places: Sequence[Source],
    asked: Query,
    releases: Releases,
    progress: Callable[[str], None],
    late: str | None,
) -> Read:
    """Read what the question needs; the same is told of it with an index and without.

    Raises HistoryError where an archive or an object store is named and DuckDB is missing.
    """
    if not by_index(places):
        records, errors = read_many([place for place in places if isinstance(place, Path)])
        return Read(records, list(errors), len(records), Skipped())
    with History(places, progress) as history:
        runs = [Run(*each) for each in history.runs()]
        paths, aside = select(asked, runs, releases, late)
        found, faults = history.records(paths)
        some = [(Path(path), record) for path, record in found.items()]
        return Read(some, [*history.errors, *faults], len(runs), aside)
