"""matrix.store.fingerprint: of runs that tell the same one is read, and the same is said of all."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from histories import silent
from made import provenance
from matrix.attribution.attribute import attribute
from matrix.attribution.bisect import (
    BisectionError,
    environments_along,
    observed_along,
    parse_range,
    search,
)
from matrix.attribution.observations import observe
from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.commands import context
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.record.writer import to_json, write
from matrix.rules.expectations_file import load_expectations
from matrix.store.fingerprint import environment_key, outcome_key
from matrix.store.layout import INDEX
from matrix.store.load import newest_records
from matrix.store.loaded import LoadedRecords
from matrix.store.query import History
from matrix.store.summary import summarise
from matrix.verdict.grid import Grid, environments, ran_cell
from matrix.verdict.table import tabulate

FLAG = "VLLM_USE_MEGA_AOT_ARTIFACT"
BISECTED = {
    "torch": parse_range("2.11.0..2.13.0", "--torch"),
    "vllm": parse_range("0.20.2", "--vllm"),
}
LATE = "2026-11-23T18:00:00Z"
EXPECTATIONS = load_expectations()
RELEASES = load_releases()
_folders = itertools.count()


def run(
    torch: str = "2.12.1",
    day: str = "2026-10-05",
    fails: str | None = None,
    *,
    flag: bool = False,
    tests: str = "sha256:1",
    cpu: str = "EPYC",
    package: str = "1.0",
    saved: int = 0,
    total: float = 60.0,
    **more: Any,
) -> Record:
    """A run of one case of vLLM 0.20.2: it fails to start warm with this text, or counts this."""
    counted = ({"num_compiled_artifacts_saved": 3}, {"num_compiled_artifacts_saved": saved})
    starts = tuple(
        Start(start=StartKind(name), seconds={"total": total}, counters=counters)
        for name, counters in zip(("cold", "warm"), counted, strict=True)
    )
    seen = Case(case="a[b=1]", outcome=Outcome.PASSED, flags={FLAG: flag}, starts=starts)
    if fails is not None:
        seen = replace(
            seen, outcome=Outcome.FAILED, reason="it broke", failure=fails, starts=starts[:1]
        )
    facts = provenance(
        f"{torch}+cu130",
        started=f"{day}T18:00:00Z",
        cpu={"model": cpu, "cores": 2},
        tests={"commit": None, "fingerprint": tests},
    )
    values: dict[str, Any] = {
        "platform": "cpu",
        "finished": True,
        "provenance": facts,
        "packages": {"aiohttp": package},
        "rungs": (RungResult(rung=Rung.IMPORTS, ok=True),),
        "cases": (seen,),
        **more,
    }
    return Record(cell=Cell("3.11", torch, "0.20.2").name, **values)


def dead(each: Record) -> Record:
    reason = "ImportError: x"
    rungs = (RungResult(rung=Rung.IMPORTS, ok=False, reason=reason),)
    return replace(
        each, rungs=rungs, cases=(), error=RunError(kind=ErrorKind.IMPORTS, reason=reason)
    )


_TORCH = ("2.11.0", "2.12.1", "2.13.0")
_DAYS = [f"2026-10-{day:02}" for day in range(1, 8)] + ["2999-01-01"]
_RUN = st.builds(
    run,
    st.sampled_from((*_TORCH, "2.12.1")),
    st.sampled_from(_DAYS),
    st.sampled_from((None, None, "KeyError: x", "KeyError: y")),
    flag=st.booleans(),
    tests=st.sampled_from(("sha256:1", "sha256:1", "sha256:2")),
    cpu=st.sampled_from(("EPYC", "EPYC", "Xeon")),
    package=st.sampled_from(("1.0", "1.0", "2.0")),
    saved=st.sampled_from((0, 0, 3)),
    total=st.sampled_from((60.0, 61.0)),
    finished=st.sampled_from((True, True, True, False)),
    deselected=st.sampled_from((0, 0, 0, 1)),
)
_RUNS = st.lists(st.one_of(_RUN, _RUN, _RUN, _RUN.map(dead)), min_size=1, max_size=16)


@cache
def grid() -> Grid:
    """The grid as the cheap rungs have it: made once, for it is the slow part."""
    return context.grid_of([])


def conclusions(found: LoadedRecords) -> list[object]:
    """All that the commands conclude from some records: the table, attributions, a bisection."""
    table = tabulate(found.records, EXPECTATIONS, releases=RELEASES, late=LATE)
    judged = context.judged(argparse.Namespace(expectations=None), table, found)
    moving, axis = environments_along(environments(RELEASES), "3.11", **BISECTED)
    observations = [
        observation
        for judgement in judged
        if (cell := ran_cell(judgement.record)) is not None
        for observation in observe(judgement.record, judgement.verdict, cell, LATE, judgement.runs)
    ]
    seen, unclear = observed_along(axis, "a[b=1]", "cpu", observations)
    try:
        searched: object = search(moving, axis, seen, set(), unclear)
    except BisectionError as error:
        searched = str(error)
    return [
        [(to_json(entry.record), entry.verdict, entry.file) for entry in table.entries],
        attribute(judged, RELEASES, grid(), changes=True, late=LATE),
        attribute(judged, RELEASES, grid(), late=LATE),
        searched,
        (found.late, found.times, list(map(str, found.errors))),
    ]


# Flaky; a bisection over two sets of flags; repeats on two machines.
@example([run(fails="KeyError: x"), run(day="2026-10-06")])
@example(
    [
        run("2.11.0"),
        *(run(day=day, fails="KeyError: x", flag=True) for day in _DAYS[:2]),
        run(day=_DAYS[3]),
        run("2.13.0", fails="KeyError: x"),
    ]
)
@example(
    [run(day=day, fails="KeyError: x", cpu="Xeon") for day in _DAYS[:3]]
    + [run(day=day) for day in _DAYS[3:7]]
)
@settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(_RUNS)
def test_with_an_index_and_without_the_same_is_said(tmp_path: Path, records: list[Record]) -> None:
    folder = tmp_path / f"many{next(_folders)}"
    for number, record in enumerate(records):
        write(record, folder / f"{record.cell}.{number:02}.json")
    with History([folder], silent, index=False) as history:
        for repeats in (3, None):
            plain = newest_records([folder], LATE, silent, repeats=repeats)
            indexed = history.newest(LATE, repeats)
            assert len(indexed.records) <= len(plain.records)
            assert conclusions(indexed) == conclusions(plain)


def test_of_runs_that_tell_the_same_the_newest_is_read(tmp_path: Path) -> None:
    """It stands for all of them, and for no run of another environment or outcome."""
    nights = [run(day=f"2026-10-{day:02}", total=60.0 + day) for day in range(1, 29)]
    others = [run(cpu="Xeon"), run(fails="KeyError: x"), run(fails="KeyError: x", day="2026-10-02")]
    for at, each in enumerate((*nights, *others)):
        write(each, tmp_path / f"{each.cell}.{at:02}.json")
    (tmp_path / INDEX).touch()
    found = newest_records([tmp_path], None, lambda line: None, repeats=None)
    told = {to_json(record): found.runs[path] for path, record in found.records}
    assert told == {to_json(nights[-1]): 28, to_json(others[0]): 1, to_json(others[1]): 2}


@pytest.mark.parametrize(
    "other",
    [
        run(fails="KeyError: y"),
        run(fails="KeyError: x", tests="sha256:2"),
        run(fails="KeyError: x", flag=True),
        run(fails="KeyError: x", deselected=1),
        run("2.13.0", fails="KeyError: x"),
        run(),
        dead(run(fails="KeyError: x")),
        run(fails="KeyError: x", rungs=(RungResult(rung=Rung.IMPORTS, ok=False, reason="no"),)),
        run(fails="KeyError: x", error=RunError(kind=ErrorKind.CRASHED, reason="why")),
    ],
)
def test_what_tells_another_thing_is_of_another_kind(other: Record) -> None:
    one = run(fails="KeyError: x")
    again = run(day="2026-10-09", fails="KeyError: x", total=99.0, cpu="Xeon")
    assert outcome_key(one) == outcome_key(again) != outcome_key(other)
    assert environment_key(one) == environment_key(other) != environment_key(again)
    keys = outcome_key(one), environment_key(one)
    assert (summarise(one).outcome_key, summarise(one).environment_key) == keys
