"""The records of a cell that count: the same with an index and without, also of running ones."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from histories import CELLS, LATE, RAY, make, nights, passed, silent, some_records
from made import provenance
from matrix import cli
from matrix.attribution.attribute import attribute
from matrix.attribution.bisect import (
    BisectionError,
    environments_along,
    observed_along,
    parse_range,
    search,
)
from matrix.attribution.known import KnownPairs
from matrix.attribution.observations import observe
from matrix.attribution.runs_index import judge_records
from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.commands import context
from matrix.record.model import (
    CacheFiles,
    CacheKind,
    Case,
    CheckedCompile,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.record.reader import read
from matrix.record.running import marked_running
from matrix.record.writer import to_json, write
from matrix.rules.expectations_file import load_expectations, parse_expectations
from matrix.store.fingerprint import environment_key, outcome_key
from matrix.store.layout import INDEX
from matrix.store.load import newest_records
from matrix.store.loaded import LoadedRecords
from matrix.store.query import History
from matrix.store.summary import summarise, times
from matrix.verdict.grid import Grid, environments, ran_cell
from matrix.verdict.judge import judge
from matrix.verdict.precedence import EvidenceLevel, late_from
from matrix.verdict.states import Verdict
from matrix.verdict.table import tabulate
from rules import ANY_CASE, ANY_CASE_TEXT
from schemas import valid

FLAG = "VLLM_USE_MEGA_AOT_ARTIFACT"
BISECTED = {
    "torch": parse_range("2.11.0..2.13.0", "--torch"),
    "vllm": parse_range("0.20.2", "--vllm"),
}
TONIGHT = "2026-11-23T18:00:00Z"
EXPECTATIONS = load_expectations()
RELEASES = load_releases()
AXIS = environments_along(environments(RELEASES), "3.11", **BISECTED)
NO_RULES = parse_expectations("", "none.toml")
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
    """Return a run of one case of vLLM 0.20.2: it fails to start warm so, or counts this."""
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


def dead(record: Record) -> Record:
    reason = "ImportError: x"
    rungs = (RungResult(rung=Rung.IMPORTS, ok=False, reason=reason),)
    return replace(
        record, rungs=rungs, cases=(), error=RunError(kind=ErrorKind.IMPORTS, reason=reason)
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
    departures=st.sampled_from((None, (), (), (RAY,))),
)
_RUNS = st.lists(st.one_of(_RUN, _RUN, _RUN, _RUN.map(dead)), min_size=1, max_size=16)


@cache
def grid() -> Grid:
    """Return the grid as the cheap rungs have it: made once, for it is the slow part."""
    return context.grid_of([], RELEASES)


def conclusions(found: LoadedRecords) -> list[object]:
    """All that the commands conclude from some records: the table, attributions, a bisection."""
    table = tabulate(found.records, EXPECTATIONS, releases=RELEASES, late=TONIGHT)
    judged = judge_records(found.records, found.runs, table.verdicts, EXPECTATIONS)
    moving, axis = AXIS
    observations = [
        observation
        for judgement in judged
        if (cell := ran_cell(judgement.record)) is not None
        for observation in observe(
            judgement.record, judgement.verdict, cell, TONIGHT, judgement.runs
        )
    ]
    known = KnownPairs(grid=grid())
    labels = {name: getattr(cell, moving) for name, cell in axis.items()}
    seen, unclear = observed_along(axis, "a[b=1]", Platform.CPU, observations)
    try:
        searched: object = search(moving, labels, seen, set(), unclear)
    except BisectionError as error:
        searched = str(error)
    return [
        [(to_json(entry.record), entry.verdict, entry.file) for entry in table.entries],
        attribute(judged, RELEASES, known, changes=True, late=TONIGHT),
        attribute(judged, RELEASES, known, late=TONIGHT),
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
            plain = newest_records([folder], TONIGHT, silent, repeats=repeats)
            indexed = history.newest(TONIGHT, repeats)
            assert len(indexed.records) <= len(plain.records)
            assert conclusions(indexed) == conclusions(plain)


def test_of_runs_that_tell_the_same_the_newest_is_read(tmp_path: Path) -> None:
    """It stands for all of them, and for no run of another environment or outcome."""
    nights = [run(day=f"2026-10-{day:02}", total=60.0 + day) for day in range(1, 29)]
    others = [run(cpu="Xeon"), run(fails="KeyError: x"), run(fails="KeyError: x", day="2026-10-02")]
    for number, record in enumerate((*nights, *others)):
        write(record, tmp_path / f"{record.cell}.{number:02}.json")
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


def test_machine_code_of_a_warm_start_and_the_cache_check_make_another_kind() -> None:
    def wrote(files: int) -> Record:
        found = CacheFiles(files=9, bytes=9, new_files=files, new_bytes=files)
        (case,) = run().cases
        cold, warm = case.starts
        warm = replace(warm, caches={CacheKind.COMPILED: found})
        return replace(run(), cases=(replace(case, starts=(cold, warm)),))

    checked = {key: {"inductor.fxgraph_cache_hit": 1} for key in CheckedCompile}
    keys = [
        outcome_key(record)
        for record in (
            run(),
            wrote(7),
            replace(run(), cache_check=checked),
            replace(run(), cache_check={**checked, CheckedCompile.GRAPHS: {}}),
        )
    ]
    assert len(set(keys)) == 4
    assert outcome_key(wrote(0)) == keys[0] and outcome_key(wrote(9)) == keys[1]


ROOT = Path(__file__).parents[2]


@given(some_records)
def test_no_expectation_takes_back_a_failure(record: Record) -> None:
    bare = judge(record, NO_RULES).verdict
    for rules in (ANY_CASE, EXPECTATIONS):
        assert (judge(record, rules).verdict == Verdict.INCOMPATIBLE) == (
            bare == Verdict.INCOMPATIBLE
        )


@given(some_records, some_records)
def test_alike_as_judged_is_of_one_verdict(one: Record, other: Record) -> None:
    if summarise(one).verdict_key == summarise(other).verdict_key:
        assert judge(one, ANY_CASE).verdict == judge(other, ANY_CASE).verdict


def test_a_real_record_is_summarised() -> None:
    record = read(ROOT / "results" / "cpu" / "py311-torch210-vllm019.json")
    told = summarise(record)
    assert (told.complete, told.evidence, told.torch, len(told.cases)) == (
        True,
        EvidenceLevel.CONCLUSIVE,
        "2.10.0+cu128",
        9,
    )
    seconds = record.cases[0].starts[0].seconds
    assert told.cases[0].cold == seconds["total"] - seconds["inspect"]
    slower = make(total=61.0)
    assert summarise(slower).verdict_key == summarise(make()).verdict_key
    assert summarise(slower).content != summarise(make()).content
    assert summarise(make(saved=1)).verdict_key != summarise(make()).verdict_key


def test_times_are_of_runs_with_as_many_jobs_and_count_once() -> None:
    runs = [make(started=f"2026-11-0{day}T00:00:00Z", total=60.0 + day) for day in (3, 1, 2)]
    beside = make(started="2026-11-02T12:00:00Z", total=200.0)
    beside = Record(**{**vars(beside), "provenance": {**beside.provenance, "jobs": 8}})
    told = times([*runs, beside, runs[0]])
    assert told.times(CELLS[0], Platform.CPU, "moe_startup[mega_aot=1]", StartKind.COLD) == (
        ("2026-11-01T00:00:00Z", 61.0),
        ("2026-11-02T00:00:00Z", 62.0),
        ("2026-11-03T00:00:00Z", 63.0),
    )
    assert told.times(CELLS[0], Platform.CUDA, "moe_startup[mega_aot=1]", StartKind.COLD) == ()


def test_a_record_from_the_future_hides_no_other() -> None:
    late = late_from(datetime(2026, 11, 22, 18, tzinfo=timezone.utc))
    now = (Path("now.json"), make(saved=1))
    future = (Path("future.json"), make(started="2099-01-01T00:00:00Z"))
    for records, limit, shown in (
        ([now, future], None, "future.json"),
        ([future, now], late, "now.json"),
        ([future], late, "future.json"),
    ):
        table = tabulate(records, ANY_CASE, late=limit)
        assert [entry.file for entry in table.entries] == [shown]


@pytest.mark.parametrize("started", ["2026-11-23T18:00:00Z", "2026-11-22T18:00:00Z"])
def test_a_day_ahead_is_not_the_future(started: str) -> None:
    assert started <= late_from(datetime(2026, 11, 22, 18, tzinfo=timezone.utc))


def test_a_record_of_the_future_takes_no_times_away() -> None:
    past = nights(3)
    wrong = make(started="2031-01-01T00:00:00Z")
    other = replace(wrong, provenance={**wrong.provenance, "jobs": 8})
    assert times([*past, other], LATE) == times(past)
    assert times([other], LATE) == times([other]) != times([])


GOES_ON = make(
    started="2026-10-23T18:00:00Z",
    finished=False,
    cases=(passed, Case(case="b", outcome=Outcome.RUNNING)),
)


@contextlib.contextmanager
def folder(here: Path, *others: Record, indexed: bool, running: Record = GOES_ON) -> Iterator[None]:
    """Give a folder `records` with other records, and one that is being written."""
    for number, record in enumerate(others):
        write(record, here / "records" / "cpu" / f"{record.cell}.{number}.json")
    path = here / "records" / "cpu" / f"{CELLS[0]}.9.json"
    with marked_running(path):
        write(running, path)
        if indexed:
            (here / "records" / INDEX).touch()
        yield


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    status = cli.main(list(command))
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize(
    ("others", "shown"),
    [
        ((), ("untested", "the run is in progress")),
        ((make(cases=(), deselected=9),), ("untested", "the run is in progress")),
        ((make(deselected=1, finished=False),), ("untested", "the run did not finish")),
        ((make(),), ("compatible", None)),
    ],
    ids=["alone", "with a typo", "with a part", "with a complete one"],
)
def test_the_table_shows_a_run_that_goes_on_only_where_nothing_else_has_an_answer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    indexed: bool,
    others: tuple[Record, ...],
    shown: tuple[str, str | None],
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text(ANY_CASE_TEXT, encoding="utf-8")
    with folder(tmp_path, *others, indexed=indexed):
        cli.main(["table", "records", "--out", "out", "--expectations", str(rules)])
    (cell,) = json.loads((tmp_path / "out" / "compatibility.json").read_text("utf-8"))["cells"]
    assert (cell["verdict"], cell["reason"]) == shown


@pytest.mark.parametrize("indexed", [True, False])
def test_a_plan_does_not_start_it_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    indexed: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    only = ("--torch", "2.10", "--vllm", "0.19", "--python", "3.11", "--platform", "cpu")
    with folder(tmp_path, make(deselected=1), indexed=indexed):
        assert printed(capsys, "plan", "records", *only, "--stale").endswith("nothing to run\n")
        assert "is running since 2026-10-23T18:00:00Z" in printed(capsys, "plan", "records", *only)
    assert "1 to run" in printed(capsys, "plan", "records", *only, "--stale")


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (
            {"provenance": {**GOES_ON.provenance, "torch": "2.10.1+cpu"}},
            "with torch 2.10.1 and vLLM 0.19.1",
        ),
        ({"deselected": 2}, "with some of the cases"),
    ],
    ids=["another patch", "a part"],
)
def test_a_plan_says_of_a_run_that_will_not_answer_what_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    how: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    only = ("--torch", "2.10", "--vllm", "0.19", "--python", "3.11", "--platform", "cpu")
    with folder(tmp_path, indexed=False, running=replace(GOES_ON, **change)):
        told = printed(capsys, "plan", "records", *only, "--stale")
    assert f"is running since 2026-10-23T18:00:00Z {how}" in told and "1 to run" in told


def test_a_failure_of_a_run_that_goes_on_is_reported_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    failing = Case(case="moe", outcome=Outcome.FAILED, reason="KeyError: 'x'")
    with folder(tmp_path, indexed=False, running=replace(GOES_ON, cases=(failing,))):
        told = printed(capsys, "ci", "--format", "github", "records")
    assert "0 of 1 cell not as expected" in told and "::error" not in told
    assert "the run is in progress; this case failed: KeyError: 'x'" in told


def test_lists_name_it_and_nothing_packs_or_deletes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with folder(tmp_path, make(), make(started="2026-10-21T18:00:00Z"), indexed=True):
        listed = printed(capsys, "results", "list", "--verdict", "untested", "records")
        assert " running " in listed and "1 record" in listed
        assert " running " not in printed(
            capsys, "results", "list", "--verdict", "compatible", "records"
        )
        rows = valid("results_list", printed(capsys, "results", "list", "--json", "records"))
        assert (rows[0]["verdict"], rows[0]["running"]) == ("untested", True)
        assert "1 record (1 file) would be deleted, 1 stay" in printed(
            capsys, "results", "prune", "--keep", "1", "records"
        )
        assert "2 record files packed" in printed(
            capsys, "results", "pack", "--all", "--yes", "records"
        )
        assert len(list((tmp_path / "records").rglob("*.json"))) == 1
    assert " running " not in printed(capsys, "results", "list", "records")


def test_a_list_finds_it_by_releases_that_no_other_record_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with folder(tmp_path, make(CELLS[1]), indexed=True):
        for option in (("--torch", "2.10"), ("--vllm", "0.19.1"), ("--verdict", "untested")):
            listed = printed(capsys, "results", "list", *option, "records")
            assert " running " in listed and "1 record" in listed, option
