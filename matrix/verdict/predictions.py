"""The predictions for all pairs without an answer on CUDA. Pure.

A prediction is not evidence. It stands apart from the grid, so that no verdict, rung, badge, plan
or qualification can rest on it; reports show it next to what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.checks.declared import Declarations
from matrix.record.model import Platform
from matrix.verdict.grid import Links, Resolves, Square, cell_finder
from matrix.verdict.ladder import Progress, assess
from matrix.verdict.precedence import EvidenceLevel, evidence_of
from matrix.verdict.prediction import ANSWERS, Prediction, predict
from matrix.verdict.prediction_accuracy import Accuracy, accuracy_of, deciding
from matrix.verdict.table import Entry


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The prediction of each cell that has one, and how often such predictions were right."""

    of: Mapping[Cell, Prediction] = field(default_factory=dict)
    accuracy: Accuracy = field(default_factory=Accuracy)

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
        elif (run := deciding(measured, of_cpu)) is not None:
            cell, entry = run
            prediction = predict(cheap(cell), of_cpu)
            tried += [(prediction, entry)] if prediction is not None else []
    return Predictions(of=found, accuracy=accuracy_of(tried))


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
    if entry.verdict.verdict in ANSWERS:
        return True
    return evidence_of(entry.record, entry.verdict) is EvidenceLevel.CONCLUSIVE
