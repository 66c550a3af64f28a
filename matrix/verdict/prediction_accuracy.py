"""How often predictions are right: on the pairs that ran on both platforms. Pure.

Each is predicted as if its record of CUDA did not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matrix.catalog.cells import Cell
from matrix.record.model import WHOLE_RUN
from matrix.verdict.prediction import ANSWERS, Forecast, Prediction, Shown, shown_by
from matrix.verdict.share import Share
from matrix.verdict.states import Verdict
from matrix.verdict.table import Entry

_NONE = Share(right=0, of=0)


class WrongForecast(NamedTuple):
    """A case, or `WHOLE_RUN`, of which CUDA showed something else than what was predicted."""

    torch: str
    vllm: str
    case: str
    predicted: Forecast
    measured: Forecast


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often predictions were right, case by case, over the pairs that ran on both platforms.

    `cases`: of all cases with an answer on both. `apart`: of those that failed or drifted on CUDA,
    since to predict that all is well is easy where all is. `wrong` are those predicted wrongly.
    """

    pairs: int = 0
    cases: Share = _NONE
    apart: Share = _NONE
    wrong: tuple[WrongForecast, ...] = ()


def deciding(
    measured: Iterable[tuple[Cell, Entry]], of_cpu: Iterable[tuple[Cell, Entry]]
) -> tuple[Cell, Entry] | None:
    """Return the run of CUDA by which the prediction of its pair is tried; None without a verdict.

    A stock one if there is one; of these one of a Python that the CPU ran too, the one with the
    most cases, the newest.
    """
    pythons = {cell.python for cell, _ in of_cpu}
    answering = [(cell, entry) for cell, entry in measured if entry.verdict.verdict in ANSWERS]
    return max(
        answering,
        default=None,
        key=lambda run: (
            not run[1].verdict.not_stock,
            run[0].python in pythons,
            len(run[1].record.cases),
            run[1].record.started,
            run[0],
        ),
    )


def accuracy_of(tried: Sequence[tuple[Prediction, Entry]]) -> Accuracy:
    """Return how often predictions were right, each compared with the run of CUDA that decides."""
    right: list[bool] = []
    apart: list[bool] = []
    wrong: list[WrongForecast] = []
    for prediction, entry in tried:
        for case, predicted, measured in _both(prediction, shown_by(entry)):
            right.append(predicted == measured)
            if measured.verdict is not Verdict.COMPATIBLE:
                apart.append(predicted == measured)
            if predicted != measured:
                torch, vllm = prediction.cell.torch, prediction.cell.vllm
                wrong.append(WrongForecast(torch, vllm, case, predicted, measured))
    return Accuracy(
        pairs=len(tried),
        cases=Share(right=sum(right), of=len(right)),
        apart=Share(right=sum(apart), of=len(apart)),
        wrong=tuple(wrong),
    )


def _both(prediction: Prediction, measured: Shown) -> Iterator[tuple[str, Forecast, Forecast]]:
    """Yield each case of which both have an answer; the run as a whole where no case has one.

    A run that fails as a whole answers for every case but those that the other side cannot run.
    """
    left_out = {*prediction.unanswered, *measured.unanswered}
    found = False
    for case in sorted({*prediction.cases, *measured.cases} - left_out):
        predicted = prediction.cases.get(case, prediction.run)
        seen = measured.cases.get(case, measured.run)
        if predicted is not None and seen is not None:
            found = True
            yield case, predicted, seen
    if not found and prediction.run is not None and measured.run is not None:
        yield WHOLE_RUN, prediction.run, measured.run
