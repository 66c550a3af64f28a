"""The marks in the corner of a square: a note, an issue upstream, a run that is stale. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.report.model import Report
from matrix.report.page.links import linked
from matrix.report.plan import plan_words
from matrix.verdict.grid import ran_cell
from matrix.verdict.ladder import Progress

NOTE, ISSUE, STALE = "†", "#", "◷"


@dataclass(frozen=True, kw_only=True)
class Extras:
    """The marks in the corner of a square: notes and stale runs.

    `noted` has, by platform, torch and vLLM, whether a note names an issue upstream.
    """

    noted: Mapping[tuple[Platform, str, str], bool] = field(default_factory=dict)
    stale: Mapping[tuple[Cell, Platform], str] = field(default_factory=dict)

    def of(self, progress: Progress) -> str:
        """Return the marks of the corner of a square that shows this progress."""
        place = _place(progress)
        known = bool(progress.ran and any(progress.ran.issues)) or self.noted.get(place, False)
        found = ((NOTE, place in self.noted), (ISSUE, known), (STALE, self.is_stale(progress)))
        return "".join(mark for mark, holds in found if holds)

    def is_stale(self, progress: Progress) -> bool:
        """Tell whether the run of a cell is stale."""
        return progress.ran is not None and (progress.cell, progress.platform) in self.stale


def _place(progress: Progress) -> tuple[Platform, str, str]:
    return progress.platform, progress.cell.torch, progress.cell.vllm


def extras_of(report: Report, environments: Mapping[str, Cell]) -> Extras:
    """Return what the squares of a report say in their corners."""
    if report.grid is None:
        return Extras()
    noted: dict[tuple[Platform, str, str], bool] = {}
    for note in report.notes:
        issue = any(part.link for text in note.evidence for part in linked(text))
        for platform, torch, vllm in report.grid.squares:
            if note.covers(platform, torch, vllm):
                place = platform, torch, vllm
                noted[place] = noted.get(place, False) or issue
    stale: dict[tuple[Cell, Platform], str] = {}
    for entry in report.table.entries:
        record = entry.record
        reason = report.stale.get((record.cell, record.platform))
        cell = ran_cell(record) or environments.get(record.cell)
        if reason is not None and cell is not None:
            stale[cell, record.platform] = plan_words(reason)
    return Extras(noted=noted, stale=stale)
