"""Changes from record to record: a new verdict, or another one than before. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from matrix.record.model import Platform, Record
from matrix.verdict.grid import ran_cell
from matrix.verdict.judge import CellVerdict
from matrix.verdict.states import Verdict

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class VerdictChange:
    """A record of a cell with an answer, and the verdict before it where there was one."""

    record: Record
    verdict: CellVerdict
    before: CellVerdict | None = None


def changes(
    judged: Iterable[tuple[Record, CellVerdict]], late: str | None = None
) -> tuple[VerdictChange, ...]:
    """Return what changed, newest first.

    A record changes something where it is the first with an answer of its releases on its platform
    and Python, or where its verdict, its rung, what recompiles or whether it is stock is another
    than that of the one before. A partial record is left out, since its other cases may well have
    made another verdict; so is what started after `late`, which comes from the future.
    """
    runs: dict[tuple[object, ...], list[tuple[Record, CellVerdict]]] = {}
    for record, verdict in judged:
        known = _TIME.fullmatch(record.started) and (late is None or record.started <= late)
        if known and not record.deselected and _is_answer(verdict):
            key = record.cell, ran_cell(record), record.platform
            runs.setdefault(key, []).append((record, verdict))
    found = []
    for ran in runs.values():
        before: CellVerdict | None = None
        for record, verdict in sorted(ran, key=lambda run: (run[0].started, _shown(run[1]))):
            if before is None or _shown(before) != _shown(verdict):
                found.append(VerdictChange(record=record, verdict=verdict, before=before))
            before = verdict
    return tuple(sorted(found, key=_order, reverse=True))


def _is_answer(verdict: CellVerdict) -> bool:
    return verdict.verdict != Verdict.UNTESTED or verdict.provisional is not None


def _shown(verdict: CellVerdict) -> tuple[str, str, tuple[str, ...], bool]:
    """Return what makes two verdicts the same to a reader."""
    rung = "" if verdict.verdict == Verdict.COMPATIBLE else str(verdict.rung or "")
    again = tuple(sorted(verdict.recompiling))
    return str(verdict.verdict), rung, again, bool(verdict.not_stock)


def _order(change: VerdictChange) -> tuple[str, bool, str]:
    record = change.record
    return record.started, record.platform == Platform.CUDA, record.cell
