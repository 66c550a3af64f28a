"""The table as CSV."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from matrix.catalog.releases_file import load_releases
from matrix.record.model import Case, Outcome, Platform, Record, Start, StartKind
from matrix.report import csv_table
from matrix.report.model import Report
from matrix.rules.expectations import Expectations
from matrix.verdict.grid import environments, runs, survey
from matrix.verdict.table import tabulate

RELEASES = load_releases()
SOME = replace(RELEASES, torch=RELEASES.torch[-3:], vllm=RELEASES.vllm[-4:])


def failing(reason: str, torch: str, name: str = "") -> tuple[Path, Record]:
    starts = (
        Start(start=StartKind.COLD, seconds={"total": 61.24}),
        Start(start=StartKind.WARM, seconds={"total": 20.0}),
    )
    cases = (
        Case(case="good", outcome=Outcome.PASSED, starts=starts),
        Case(case="bad", outcome=Outcome.FAILED, reason=reason),
    )
    cell = "py311-torch215-vllm033"
    provenance = {"started": "2026-11-22T18:00:00Z", "torch": torch, "vllm": "0.33.0"}
    return Path(name or f"{cell}.json"), Record(
        cell=cell, platform=Platform.CUDA, finished=True, provenance=provenance, cases=cases
    )


def table(*records: tuple[Path, Record]) -> Report:
    judged = tabulate(records, Expectations(rules=()), releases=RELEASES)
    seen = runs(((entry.record, entry.verdict) for entry in judged.entries), RELEASES)
    return Report(table=judged, grid=survey(SOME, seen=seen))


def rows(made: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_table.render(made, environments(SOME)))))


def test_there_is_a_row_for_each_cell_and_platform() -> None:
    read = rows(table())
    assert len(read) == 2 * 3 * 4 * len(SOME.pythons)
    assert len({tuple(row.values())[:5] for row in read}) == len(read)
    assert all(row["ran"] == row["cold_seconds"] == "" for row in read)


def test_a_cell_that_ran_has_its_record() -> None:
    read = [row for row in rows(table(failing("no", "2.15.0"))) if row["ran"]]
    assert read == [
        {
            "cell": "py311-torch215-vllm033",
            "platform": "cuda",
            "python": "3.11",
            "torch": "2.15.0",
            "vllm": "0.33.0",
            "off_pin": "yes",
            "stock": "unknown",
            "verdict": "incompatible",
            "reached": "imports",
            "fails": "starts cold",
            "reason": "bad: no",
            "ran": "2026-11-22",
            "record": "py311-torch215-vllm033.json",
            "cases": "2",
            "cold_seconds": "61.2",
            "warm_seconds": "20.0",
            "part": "",
            "recompiles_warm": "",
            "predicted": "",
        }
    ]


def test_a_name_stands_only_beside_the_releases_that_it_installs() -> None:
    record = failing("no", RELEASES.torch[-1].version)
    cells = [row for row in rows(table(record)) if row["cell"]]
    assert len({(row["cell"], row["platform"]) for row in cells}) == len(cells)
    named = environments(SOME)
    for row in cells:
        cell = named[row["cell"]]
        assert (cell.torch, cell.vllm) == (row["torch"], row["vllm"])
    every = {(row["torch"], row["vllm"]) for row in rows(table())}
    assert {pair for pair in every if not any((r["torch"], r["vllm"]) == pair for r in cells)}


def test_what_ran_beside_its_name_keeps_it() -> None:
    path, record = failing("no", "2.14.0")
    provenance = {**record.provenance, "vllm": "0.32.0"}
    older = replace(record, cell="py311-torch214-vllm032", provenance=provenance)
    assert environments(RELEASES)[older.cell].torch == "2.14.1"
    ran = [row for row in rows(table((path, older))) if row["ran"]]
    assert [(row["cell"], row["torch"]) for row in ran] == [("py311-torch214-vllm032", "2.14.0")]


def test_a_record_of_no_cell_of_the_grid_stands_at_the_end() -> None:
    read = rows(table(failing("no", "2.15.0.dev1")))
    assert read[-1]["torch"] == "2.15.0.dev1" and read[-1]["reason"] == "bad: no"
    assert len(read) == 2 * 3 * 4 * len(SOME.pythons) + 1


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t=", "\r=", " =", "\x00="])
def test_no_text_is_a_formula(mark: str) -> None:
    evil = f'{mark}HYPERLINK("x")\n=1'
    record = failing("no", "2.15.0.dev1", f"{evil}.json")
    bad = replace(record[1].cases[1], case=evil, reason=evil)
    read = rows(table((record[0], replace(record[1], cases=(record[1].cases[0], bad)))))
    for row in read:
        for value in row.values():
            assert not value.startswith(("=", "+", "-", "@", "\t", "\r", " "))
    assert read[-1]["reason"].startswith("'") and "HYPERLINK" in read[-1]["reason"]


def test_a_record_of_no_cell_of_the_grid_fails_where_its_run_failed() -> None:
    [row] = [row for row in rows(table(failing("no", "2.99.0"))) if row["ran"]]
    assert (row["verdict"], row["reached"], row["fails"]) == (
        "incompatible",
        "imports",
        "starts cold",
    )
