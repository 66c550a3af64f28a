"""A folder with one record of a passing run and its rules, for commands."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from made import provenance
from matrix.record.model import Case, Outcome, Record, Start, StartKind
from matrix.record.writer import write
from rules import ANY_CASE_TEXT

CELL = "py311-torch210-vllm019"


def make(saved: int = 0, **changes: Any) -> Record:
    starts = (
        Start(
            start=StartKind.COLD,
            seconds={"total": 61.2},
            counters={"num_compiled_artifacts_saved": 3},
        ),
        Start(
            start=StartKind.WARM,
            seconds={"total": 20.1},
            counters={"num_compiled_artifacts_saved": saved},
        ),
    )
    values = {
        "cell": CELL,
        "platform": "cpu",
        "finished": True,
        "provenance": provenance("2.10.0+cu128", "0.19.1", seconds=312.4),
        "cases": (
            Case(
                case="moe_startup[mega_aot=1]", outcome=Outcome.PASSED, seconds=81.3, starts=starts
            ),
        ),
        **changes,
    }
    return Record(**values)


def with_one_record(tmp_path: Path) -> Path:
    """Write the record and its rules into the folder, and return it."""
    (tmp_path / "rules.toml").write_text(ANY_CASE_TEXT, encoding="utf-8")
    write(make(), tmp_path / "records" / "cpu" / f"{CELL}.20261122T180000Z.json")
    return tmp_path


RECORD = f"records/cpu/{CELL}.20261122T180000Z.json"


def written(folder: Path, *records: Record) -> Path:
    """Write the records, each with a whole provenance, and return the folder."""
    for run in records:
        known = run.provenance
        whole = provenance(str(known["torch"]), str(known["vllm"]), "3.11")
        write(replace(run, provenance=whole), folder / f"{run.cell}.json")
    return folder
