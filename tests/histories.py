"""Folders of made-up records, for the tests of what works on many."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import rules
from matrix.record.model import (
    By,
    Case,
    Departure,
    ErrorKind,
    Outcome,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
    Why,
)
from matrix.record.writer import to_json
from matrix.report import markdown, table_json
from matrix.report.model import report_of
from matrix.store.archive import pack
from matrix.store.query import History
from matrix.verdict.table import tabulate

CELLS = ("py311-torch210-vllm019", "py311-torch29-vllm016")
LATE = "2026-11-20T00:00:00Z"
quick = settings(
    deadline=None,
    max_examples=5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_folders = itertools.count()


def make(
    cell: str = CELLS[0],
    platform: str = "cpu",
    started: str = "2026-10-22T18:00:00Z",
    total: float = 60.0,
    saved: int = 0,
    *,
    jobs: int = 1,
    **more: Any,
) -> Record:
    starts = (
        Start(
            start=StartKind.COLD,
            seconds={"total": total},
            counters={"num_compiled_artifacts_saved": 3},
        ),
        Start(
            start=StartKind.WARM,
            seconds={"total": 20.0},
            counters={"num_compiled_artifacts_saved": saved},
        ),
    )
    torch, vllm = ("2.10.0+cu128", "0.19.1") if cell == CELLS[0] else ("2.9.1", "0.16.0")
    provenance = {
        "started": started,
        "seconds": 3.0,
        "python": "3.11.7",
        "os": "Linux",
        "machine": "x86_64",
        "cpu": {"model": None, "cores": 2},
        "memory_mib": 1,
        "gpu": None,
        "torch": torch,
        "vllm": vllm,
        "triton": None,
        "cuda": None,
        "tests": {"commit": None, "fingerprint": "sha256:0"},
        "command": [],
        "model_source": "data",
        "jobs": jobs,
    }
    values: dict[str, Any] = {
        "cell": cell,
        "platform": platform,
        "finished": True,
        "provenance": provenance,
        "cases": (Case(case="moe_startup[mega_aot=1]", outcome=Outcome.PASSED, starts=starts),),
        **more,
    }
    return Record(**values)


passed = make().cases[0]
drifted = make(saved=7).cases[0]
failed = Case(
    case="b",
    outcome=Outcome.FAILED,
    reason="it \ud800 broke\0",
    signature="\ud800",
    starts=passed.starts[:1],
)
RAY = Departure(name="ray", required="ray>=2.48", installed=None, why=Why.MISSING, by=By.BUNDLE)
idle = Case(case="c", outcome=Outcome.NOT_APPLICABLE)
some_records = st.builds(
    make,
    cell=st.sampled_from(CELLS),
    platform=st.sampled_from(("cpu", "cuda")),
    started=st.sampled_from([f"2026-11-{day:02}T18:00:00Z" for day in (1, 2, 3, 4, 29, 30)]),
    finished=st.booleans(),
    error=st.sampled_from((None, None, "no_space", "imports", "timed_out", "wrong_cell")).map(
        lambda kind: kind and RunError(kind=ErrorKind(kind), reason="why")
    ),
    rungs=st.sampled_from(((), (), (RungResult(rung=Rung.IMPORTS, ok=False),))),
    cases=st.sampled_from(((passed,), (drifted,), (passed, failed), (failed,), (idle,), ())),
    deselected=st.integers(0, 1),
    total=st.sampled_from((60.0, 61.0)),
    jobs=st.sampled_from((1, 1, 2)),
    departures=st.sampled_from((None, (), (), (RAY,))),
)


def never(path: str, content: str) -> bool:
    """No record stays where it is."""
    return False


def silent(line: str) -> None:
    """Nobody listens."""


def fill(tmp_path: Path, records: list[Record]) -> Path:
    """Return a new folder with these records, and a bad file among them."""
    folder = tmp_path / f"many[{next(_folders)}]*"
    for number, record in enumerate(records):
        path = folder / record.platform / f"{record.cell}.{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(record), encoding="utf-8")
    folder.mkdir(exist_ok=True)
    (folder / f"{CELLS[0]}.bad.json").write_text('{"schema": 1,', encoding="utf-8")
    return folder


def nights(count: int) -> list[Record]:
    """So many records of one cell, a day each."""
    return [make(started=f"2026-11-{day:02}T18:00:00Z") for day in range(1, count + 1)]


def told(
    records: list[tuple[Path, Record]], late: str | None, first: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Return the table of the records; `first` as for `tabulate`."""
    table = tabulate(records, rules.ANY_CASE, late=late, first=first)
    report = report_of(table, rules.ANY_CASE)
    return markdown.render(report), table_json.render(report)


def indexed(
    folder: Path, late: str | None = LATE, **more: Any
) -> tuple[tuple[str, str], list[str]]:
    """Return the table of a folder by its index, and what is bad in it."""
    with History([folder], silent, index=True, **more) as history:
        found = history.newest(late)
    table = told(found.records, late, found.first_on_cuda)
    return table, [str(error) for error in found.errors]


def pack_all(folder: Path) -> None:
    """Put the folder's records into archives."""
    with History([folder], silent, index=True) as history:
        pack(folder, history.rows, "9999", never, silent, drop=True)
