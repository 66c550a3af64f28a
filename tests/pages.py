"""Made-up records and their table with all that a page shows."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matrix.advice.install import installs_of
from matrix.advice.tables_file import load_tables
from matrix.attribution.attribute import attribute
from matrix.attribution.known import KnownPairs
from matrix.catalog.releases_file import load_releases
from matrix.record.model import Case, Platform, Record
from matrix.record.startup_tests import load_startup_tests
from matrix.report.model import Report
from matrix.rules.expectations import Expectations
from matrix.rules.notes import Note
from matrix.verdict.answer import answers
from matrix.verdict.grid import runs, survey
from matrix.verdict.stale import stale_of
from matrix.verdict.table import tabulate

RELEASES = load_releases()
TABLES = load_tables()


def make(
    cell: str, torch: str, vllm: str, *cases: Case, platform: str = "cpu", **more: Any
) -> tuple[Path, Record]:
    """Return a run of a cell with the few things that a page asks of it, and its file."""
    provenance = {
        "started": "2026-11-22T18:00:00Z",
        "seconds": 312.4,
        "python": "3.11.7",
        "torch": torch,
        "vllm": vllm,
        "gpu": None,
        **more.pop("provenance", {}),
    }
    record = Record(
        cell=cell,
        platform=Platform(platform),
        finished=True,
        provenance=provenance,
        cases=cases,
        **more,
    )
    return Path(f"{cell}.json"), record


def whole_report(
    records: Iterable[tuple[Path, Record]], rules: Expectations, notes: tuple[Note, ...] = ()
) -> Report:
    """Return the table with its grid, attributions and notes."""
    table = tabulate(records, rules, releases=RELEASES)
    judged = [(entry.record, entry.verdict) for entry in table.entries]
    grid = survey(RELEASES, seen=runs(judged, RELEASES))
    blamed = attribute(judged, RELEASES, KnownPairs(grid=grid))
    return Report(
        table=table,
        grid=grid,
        attributions=blamed,
        notes=notes,
        answers=answers(grid, table.entries, RELEASES),
        stale=stale_of(table.entries, load_startup_tests()),
        installs=installs_of(grid, RELEASES, TABLES),
    )
