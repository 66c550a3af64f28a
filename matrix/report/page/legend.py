"""The legend of the page: what its squares and cases use, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from matrix.record.model import Outcome
from matrix.report import prediction
from matrix.report.model import Report
from matrix.report.page.extras import ISSUE, NOTE, STALE, Extras
from matrix.verdict.grid import Grid
from matrix.verdict.ladder import Progress
from matrix.verdict.states import Verdict


class Item(NamedTuple):
    """One item of the legend: the classes and the text of a chip, and what it means."""

    style: str
    shown: str
    means: str


def legend(report: Report, extras: Extras) -> list[Item]:
    """Return the items of the legend that a square of the page, or a case, uses."""
    used = _used(report, extras)
    return [item for key, item in _items(report) if key in used]


def _used(report: Report, extras: Extras) -> set[str]:
    grid = report.grid
    found = {
        key
        for progress in ([] if grid is None else _shown(grid))
        for key in _keys(progress, report, extras)
    }
    outcomes = {case.outcome for entry in report.table.entries for case in entry.record.cases}
    return found | ({"not applicable"} if Outcome.NOT_APPLICABLE in outcomes else set())


def _shown(grid: Grid) -> Iterator[Progress]:
    """Yield the progress of each cell that the page can show; equal ones may come but once."""
    rows = {release.version for release in grid.rows}
    columns = {release.version for release in grid.columns}
    for (_, torch, vllm), square in grid.squares.items():
        if torch in columns and vllm in rows:
            yield from square.cells


def _keys(progress: Progress, report: Report, extras: Extras) -> Iterator[str]:
    ran, known = progress.ran, progress.verdict
    if ran is None:
        if progress.fails is not None:
            yield "fails"
        else:
            yield "asked" if progress.reached else "unasked"
    elif progress.provisional is not None and progress.fails is None:
        yield "provisional"
    else:
        yield f"ran {known}"
    if progress.skipped and progress.fails is None:
        yield "skipped"
    if ran is not None:
        yield from (
            key
            for key, holds in (
                ("not stock", progress.not_stock),
                ("recompiles", ran.recompiling),
                ("part", ran.part),
            )
            if holds
        )
    yield from extras.of(progress)
    if report.predictions.of and report.predictions.of_progress(progress) is not None:
        yield "predicted"


def _items(report: Report) -> Iterator[tuple[str, Item]]:
    """Yield all that there is, each with the key that says whether it is used."""
    ran, apart = "r s3", "r s3 n"
    yield f"ran {Verdict.COMPATIBLE}", Item(ran, "✓E", "compatible")
    yield "not stock", Item(apart, "✓E*", "not stock: a package was not as this vLLM requires")
    yield "recompiles", Item(apart, "✓E↻", "cases compile again on their warm start, as known")
    yield "part", Item(apart, "✓E◔", "only some of the cases ran")
    yield f"ran {Verdict.DRIFT}", Item("r s1", "≠E", "drift: starts, but counts differ")
    yield f"ran {Verdict.INCOMPATIBLE}", Item("r s0", "×W", "incompatible: fails at this rung")
    yield f"ran {Verdict.UNTESTED}", Item("r s2", "?I", "untested, though it ran")
    means = "provisional: beyond what is known of its counters, compared with the nearest release"
    yield "provisional", Item("r s2", "≈W", f"{means} that is")
    yield "fails", Item("s0", "×L", "fails, nothing was run")
    yield "asked", Item("s2", "·L", "the highest rung that passed, nothing was run")
    yield "skipped", Item("s2", "·L?", "and a rung below was not asked")
    yield "unasked", Item("s2", "·", "nobody asked")
    yield "predicted", Item("s2", "·L◌", prediction.legend(report.predictions.accuracy))
    yield "not applicable", Item("s4", "–", "a case that does not apply")
    yield NOTE, Item("s2", NOTE, "a note: what to know of the pair")
    yield ISSUE, Item("s2", ISSUE, "an issue upstream is known")
    yield (
        STALE,
        Item("s2", STALE, "stale: the startup tests changed since, in a way that can matter"),
    )
