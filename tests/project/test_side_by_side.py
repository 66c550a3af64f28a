"""The benchmark that compares two records: what it says, and what it refuses."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from made import provenance
from matrix.record.model import Case, Outcome, Platform, Record, Rung, RungResult, Start, StartKind
from matrix.record.writer import write

ROOT = Path(__file__).resolve().parents[2]
CELL = "py311-torch210-vllm019"


def make(seconds: float, saved: int = 3, **facts: Any) -> Record:
    starts = (
        Start(start=StartKind.COLD, seconds={"total": 1.0}, counters={"saved": saved}),
        Start(start=StartKind.WARM, seconds={}, counters={"saved": 0}),
    )
    told = provenance("2.10.0", "0.19.1", seconds=seconds, **facts)
    cases = (Case(case="moe", outcome=Outcome.PASSED, starts=starts),)
    return Record(
        cell=CELL,
        platform=Platform.CPU,
        finished=True,
        provenance=told,
        rungs=(RungResult(rung=Rung.IMPORTS, ok=True, seconds=10.0),),
        cases=cases,
    )


@pytest.mark.parametrize(
    ("together", "status", "said"),
    [
        (make(40.0, jobs=7), 0, "ratio       0.40, without imports 0.33\n"),
        (make(40.0, jobs=7), 0, "together    7 at once     40.0 s  without imports    30.0 s\n"),
        (make(40.0), 0, "counters    2 compared, identical\n"),
        (make(40.0, saved=4), 1, "  moe cold saved: 3 alone, 4 together\n"),
        (
            dataclasses.replace(make(40.0), cases=(Case(case="moe", outcome=Outcome.CRASHED),)),
            1,
            "  moe: passed alone, crashed together\n  moe cold saved: 3 alone, None together\n",
        ),
        (dataclasses.replace(make(40.0), cases=()), 1, "  moe: only in one of them\n"),
        (dataclasses.replace(make(40.0), platform=Platform.CUDA), 2, "platform: cpu and cuda"),
        (make(0.0), 2, "provenance.seconds: is 0.0; the run did not end"),
    ],
)
def test_two_records_are_compared(tmp_path: Path, together: Record, status: int, said: str) -> None:
    paths = [tmp_path / f"{CELL}.{name}.json" for name in ("alone", "together")]
    for path, record in zip(paths, (make(100.0), together), strict=True):
        write(record, path)
    command = [sys.executable, str(ROOT / "benchmarks/side_by_side.py"), "--records"]
    done = subprocess.run(
        [*command, *map(str, paths)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in (done.stderr if status == 2 else done.stdout)
    assert done.returncode == status
