"""The prediction for a cell on CUDA from a CPU run of the pair and the first rungs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from matrix.catalog.cells import Cell
from matrix.record.model import Departure, Rung
from matrix.verdict.judge import CaseVerdict
from matrix.verdict.ladder import CHEAP, Part, Progress, badness, highest
from matrix.verdict.share import Share
from matrix.verdict.states import StepState, Verdict
from matrix.verdict.table import Entry

ANSWERS = (Verdict.COMPATIBLE, Verdict.DRIFT, Verdict.INCOMPATIBLE)
"""The verdicts that say something of a pair."""
_NONE = Share(right=0, of=0)


class Forecast(NamedTuple):
    """The result of a case: its verdict, where it fails, whether its warm start compiles again."""

    verdict: Verdict
    fails: Rung | None = None
    recompiles: bool = False


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for a cell on CUDA from the CPU's run of the pair and the first rungs.

    `cpu` is the cell whose run on the CPU it is from, `record` the file of that run and `day` its
    start; `not_stock` and `part` are of that run. `verdict`, `fails` and `recompiling` are those
    predicted of the pair, `cases` of each case, and `run` of every other case where the whole run
    fails. `stands` are the rungs of CUDA that checks passed, `unasked` those without an answer,
    `unanswered` the cases of which the CPU has no answer.
    """

    cell: Cell
    cpu: str
    record: str
    day: str
    verdict: Verdict
    fails: Rung | None = None
    recompiling: tuple[str, ...] = ()
    cases: Mapping[str, Forecast] = field(default_factory=dict)
    run: Forecast | None = None
    stands: tuple[Rung, ...] = ()
    unasked: tuple[Rung, ...] = ()
    unanswered: tuple[str, ...] = ()
    part: Part | None = None
    not_stock: tuple[Departure, ...] = ()


def predict(progress: Progress, ran: Iterable[tuple[Cell, Entry]]) -> Prediction | None:
    """Return what runs of the pair on the CPU predict for a cell of CUDA without a run.

    `progress` has the first rungs of the cell on CUDA. Nothing is predicted where one of them
    fails, which is the answer then, or where no run has a verdict. Of several runs the one on the
    same Python predicts, else the worst.
    """
    telling = [(cell, entry) for cell, entry in ran if entry.verdict.verdict in ANSWERS]
    if progress.fails is not None or not telling:
        return None
    place, entry = min(telling, key=lambda run: _preference(progress.cell, *run))
    verdict = entry.verdict
    shown = shown_by(entry)
    return Prediction(
        cell=progress.cell,
        cpu=place.name,
        record=entry.file,
        day=entry.date,
        verdict=verdict.verdict,
        fails=entry.ran.fails,
        recompiling=verdict.recompiling,
        cases=shown.cases,
        run=shown.run,
        stands=_in_state(progress, StepState.PASSED),
        unasked=_in_state(progress, StepState.UNKNOWN),
        unanswered=shown.unanswered,
        part=entry.part,
        not_stock=verdict.not_stock,
    )


def _preference(wanted: Cell, cell: Cell, entry: Entry) -> tuple[object, ...]:
    """Return what sorts the runs of the CPU; the first one predicts."""
    ran = entry.ran
    standing = badness(ran.verdict, highest(ran.passed), ran)
    return cell.python != wanted.python, standing, cell


def _in_state(progress: Progress, state: StepState) -> tuple[Rung, ...]:
    return tuple(step.rung for step in progress.steps[: len(CHEAP)] if step.state is state)


class Shown(NamedTuple):
    """The result of each case in a run; `run` for every other one if the whole run fails."""

    cases: Mapping[str, Forecast]
    run: Forecast | None
    unanswered: tuple[str, ...]


def shown_by(entry: Entry) -> Shown:
    """Return what a run shows of each case."""
    cases = entry.verdict.cases
    whole = entry.whole_run if entry.verdict.verdict is Verdict.INCOMPATIBLE else None
    return Shown(
        cases={case.case: _forecast(case) for case in cases if case.verdict in ANSWERS},
        run=None if whole is None else _forecast(whole),
        unanswered=tuple(case.case for case in cases if case.verdict not in ANSWERS),
    )


def _forecast(case: CaseVerdict) -> Forecast:
    fails = case.rung if case.verdict is Verdict.INCOMPATIBLE else None
    return Forecast(case.verdict, fails, case.recompiles is not None)
