"""What is predicted of a pair without an answer on CUDA: by its run on the CPU and the first rungs.

Pure. A prediction is not evidence. It stands apart from the grid, so that no verdict, rung, badge,
plan or qualification can rest on it; reports show it next to what was measured. How often
predictions are right is measured on the pairs that ran on both platforms, each predicted as if its
record of CUDA did not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.checks.declared import Declarations
from matrix.record.model import WHOLE_RUN, Departure, Platform, Rung
from matrix.verdict.grid import Links, Resolves, Square, cell_finder
from matrix.verdict.judge import CaseVerdict
from matrix.verdict.ladder import CHEAP, Part, Progress, assess, badness, highest
from matrix.verdict.precedence import EvidenceLevel, evidence_of
from matrix.verdict.share import Share
from matrix.verdict.states import StepState, Verdict
from matrix.verdict.table import Entry

_ANSWERS = (Verdict.COMPATIBLE, Verdict.DRIFT, Verdict.INCOMPATIBLE)
_NONE = Share(right=0, of=0)


class Forecast(NamedTuple):
    """What a case comes to: its verdict, where it fails, whether its warm start compiles again."""

    verdict: Verdict
    fails: Rung | None = None
    recompiles: bool = False


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the CPU's run of a pair and the first rungs predict of a cell on CUDA.

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


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The prediction of each cell that has one, and how often such predictions were right."""

    of: Mapping[Cell, Prediction] = field(default_factory=dict)
    accuracy: Accuracy = Accuracy()

    def at(self, square: Square) -> Prediction | None:
        """Return the prediction of the Python that stands for a pair; None without one."""
        if square.platform is not Platform.CUDA or not any(
            progress.cell in self.of for progress in square.cells
        ):
            return None
        return self.of_progress(square.shown)

    def of_progress(self, progress: Progress) -> Prediction | None:
        """Return the prediction of a cell on a platform: only CUDA is predicted."""
        return self.of.get(progress.cell) if progress.platform is Platform.CUDA else None

    def groups(self, square: Square) -> list[tuple[tuple[str, ...], Prediction]]:
        """Return the predictions of a pair by its Pythons; those from one record and alike once."""
        found: dict[object, tuple[list[str], Prediction]] = {}
        for progress in square.cells:
            prediction = self.of_progress(progress)
            if prediction is not None:
                key = prediction.cpu, prediction.record, prediction.stands, prediction.unasked
                found.setdefault(key, ([], prediction))[0].append(progress.cell.python)
        return [(tuple(pythons), prediction) for pythons, prediction in found.values()]


NO_PREDICTIONS = Predictions()
"""Where nothing is predicted, and nobody knows how often it would be right."""


def predict_pairs(
    entries: Iterable[Entry], releases: Releases, *, resolves: Resolves, links: Links
) -> Predictions:
    """Return what the entries of the CPU and the static answers predict, and how often rightly.

    A pair with a conclusive record of CUDA, or one with an answer, has no prediction on any Python.
    """
    cheap = _cheap_rungs(releases, resolves, links)
    found: dict[Cell, Prediction] = {}
    tried: list[tuple[Prediction, Entry]] = []
    for torch, vllm, ran in _pairs(entries, releases):
        measured = [(cell, entry) for cell, entry in ran if entry.record.platform is Platform.CUDA]
        of_cpu = [(cell, entry) for cell, entry in ran if entry.record.platform is Platform.CPU]
        if not any(_is_answer(entry) for _, entry in measured):
            cells = (Cell(python, torch, vllm) for python in releases.pythons)
            predicted = (predict(cheap(cell), of_cpu) for cell in cells)
            found |= {prediction.cell: prediction for prediction in predicted if prediction}
        elif (deciding := _deciding(measured, of_cpu)) is not None:
            cell, entry = deciding
            prediction = predict(cheap(cell), of_cpu)
            tried += [(prediction, entry)] if prediction is not None else []
    return Predictions(of=found, accuracy=_accuracy(tried))


def predict(progress: Progress, ran: Iterable[tuple[Cell, Entry]]) -> Prediction | None:
    """Return what runs of the pair on the CPU predict of a cell of CUDA that no run speaks of.

    `progress` has the first rungs of the cell on CUDA. Nothing is predicted where one of them
    fails, which is the answer then, or where no run has a verdict. Of several runs the one on the
    same Python predicts, else the worst.
    """
    telling = [(cell, entry) for cell, entry in ran if entry.verdict.verdict in _ANSWERS]
    if progress.fails is not None or not telling:
        return None
    place, entry = min(telling, key=lambda run: _preference(progress.cell, *run))
    verdict = entry.verdict
    shown = _shown(entry)
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


def _cheap_rungs(
    releases: Releases, resolves: Resolves, links: Links
) -> Callable[[Cell], Progress]:
    """Return what makes the progress of a cell on CUDA by the rungs that need no run."""
    declarations = Declarations(releases)

    def progress(cell: Cell) -> Progress:
        declared = declarations.of(cell)
        return assess(
            cell,
            Platform.CUDA,
            declared,
            resolves=resolves(cell, Platform.CUDA) if declared.fits else None,
            links=links(cell) if declared.fits else None,
        )

    return progress


def _pairs(
    entries: Iterable[Entry], releases: Releases
) -> Iterator[tuple[str, str, Sequence[tuple[Cell, Entry]]]]:
    """Yield each known pair that ran on the CPU, by torch and vLLM, with all that ran of it."""
    cell_of_record = cell_finder(releases)
    found: dict[tuple[str, str], dict[tuple[Cell, Platform], Entry]] = {}
    for entry in entries:
        cell = cell_of_record(entry.record)
        if cell is not None:
            ran = found.setdefault((cell.torch, cell.vllm), {})
            ran[cell, entry.record.platform] = entry
    for torch in releases.every_torch:
        for vllm in releases.every_vllm:
            ran = found.get((torch.version, vllm.version), {})
            if any(platform is Platform.CPU for _, platform in ran):
                every = [(cell, entry) for (cell, _), entry in ran.items()]
                yield torch.version, vllm.version, every


def _is_answer(entry: Entry) -> bool:
    """Tell whether a run is conclusive or has a verdict, so that nothing is left to predict."""
    if entry.verdict.verdict in _ANSWERS:
        return True
    return evidence_of(entry.record, entry.verdict) is EvidenceLevel.CONCLUSIVE


def _deciding(
    measured: Iterable[tuple[Cell, Entry]], of_cpu: Iterable[tuple[Cell, Entry]]
) -> tuple[Cell, Entry] | None:
    """Return the run of CUDA by which the prediction of its pair is tried; None without a verdict.

    A stock one if there is one; of these one of a Python that the CPU ran too, the one with the
    most cases, the newest.
    """
    pythons = {cell.python for cell, _ in of_cpu}
    answering = [(cell, entry) for cell, entry in measured if entry.verdict.verdict in _ANSWERS]
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


def _preference(wanted: Cell, cell: Cell, entry: Entry) -> tuple[object, ...]:
    """Return what sorts the runs of the CPU; the first one predicts."""
    ran = entry.ran
    standing = badness(ran.verdict, highest(ran.passed), ran)
    return cell.python != wanted.python, standing, cell


def _in_state(progress: Progress, state: StepState) -> tuple[Rung, ...]:
    return tuple(step.rung for step in progress.steps[: len(CHEAP)] if step.state is state)


class _Shown(NamedTuple):
    """What a run shows of each case; `run` of every other one, where the whole run fails."""

    cases: Mapping[str, Forecast]
    run: Forecast | None
    unanswered: tuple[str, ...]


def _shown(entry: Entry) -> _Shown:
    cases = entry.verdict.cases
    whole = entry.whole_run if entry.verdict.verdict is Verdict.INCOMPATIBLE else None
    return _Shown(
        cases={case.case: _forecast(case) for case in cases if case.verdict in _ANSWERS},
        run=None if whole is None else _forecast(whole),
        unanswered=tuple(case.case for case in cases if case.verdict not in _ANSWERS),
    )


def _forecast(case: CaseVerdict) -> Forecast:
    fails = case.rung if case.verdict is Verdict.INCOMPATIBLE else None
    return Forecast(case.verdict, fails, case.recompiles is not None)


def _accuracy(tried: Sequence[tuple[Prediction, Entry]]) -> Accuracy:
    right: list[bool] = []
    apart: list[bool] = []
    wrong: list[WrongForecast] = []
    for prediction, entry in tried:
        for case, predicted, measured in _both(prediction, _shown(entry)):
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


def _both(prediction: Prediction, measured: _Shown) -> Iterator[tuple[str, Forecast, Forecast]]:
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
