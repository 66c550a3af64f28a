"""The words for what is predicted, in every form of the table: never those of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from matrix._util.text import aligned, clean, clip, listed, plural
from matrix.record.model import Rung
from matrix.report import marks, stock
from matrix.report.coded import named, operand
from matrix.verdict.grid import Square
from matrix.verdict.prediction import Forecast, Prediction
from matrix.verdict.prediction_accuracy import Accuracy
from matrix.verdict.predictions import Predictions
from matrix.verdict.states import Verdict

PREDICTED = "predicted"
"""The word before everything that is predicted."""

EXPLAINED = "what the CPU's run and the first rungs predict"
"""What `predicted` means, in a few words."""

_CASE = 60  # characters of the name of a case, which a record may make as long as it likes


def short(found: Prediction | None) -> str:
    """Return what a square says of a prediction, `predicted as expected`; "" without one."""
    return "" if found is None else f"{PREDICTED} {_verdict(found.verdict, found.fails)}"


def sentence(found: Prediction) -> str:
    """Return what is predicted, by which run of the CPU, and which rungs nobody asked."""
    again = marks.recompile(len(found.recompiling))
    parts = [_verdict(found.verdict, found.fails), again]
    text = f"{', '.join(filter(None, parts))}; by {found.cpu} on cpu ({found.day})"
    run = [stock.NOT_STOCK if found.not_stock else "", marks.part(found.part)]
    if found.unanswered:
        run.append(f"{plural(len(found.unanswered), 'case')} without an answer")
    text += "".join(f", {words}" for words in run if words)
    if found.stands:
        text += f"; checks passed: {listed(found.stands)}"
    if found.unasked:
        text += f"; not asked: {listed(found.unasked)}"
    return text


def accuracy_words(accuracy: Accuracy) -> str:
    """Return how often predictions were right, and of what is hard to predict how often."""
    cases, apart = accuracy.cases, accuracy.apart
    if not cases.of:
        return "no case that ran on both has a verdict, so nobody knows how often that is right"
    was = "was" if cases.right == 1 else "were"
    text = (
        f"of {plural(cases.of, 'case')} that ran on both, {cases.right} {was} predicted correctly"
    )
    if not apart.of:
        return f"{text}; none of them failed or drifted on cuda"
    return f"{text}; of the {apart.of} that failed or drifted on cuda, {apart.right}"


def legend(accuracy: Accuracy) -> str:
    """Return what `predicted` means in a grid, and how often it is right."""
    return f"{PREDICTED}: {EXPLAINED}; {accuracy_words(accuracy)}"


def summary(accuracy: Accuracy) -> list[str]:
    """Return lines of what was predicted wrongly, and how often predictions were right."""
    rows = [
        (
            f"torch {wrong.torch}, vLLM {wrong.vllm}",
            clip(clean(wrong.case), _CASE) or "the run",
            _forecast(wrong.predicted),
            _forecast(wrong.measured),
        )
        for wrong in accuracy.wrong
    ]
    head = ("predicted wrongly", "case", "predicted", "on cuda")
    return [*(["", *aligned([head, *rows])] if rows else []), "", legend(accuracy)]


def of_square(predictions: Predictions, square: Square) -> dict[str, object]:
    """Return the predictions of a pair as JSON values, by key; nothing if there is none."""
    found = [_values(pythons, prediction) for pythons, prediction in predictions.groups(square)]
    return {PREDICTED: found} if found else {}


def accuracy_values(accuracy: Accuracy) -> dict[str, object]:
    """Return how often predictions were right as JSON values."""
    return {
        "pairs": accuracy.pairs,
        "cases": operand(accuracy.cases),
        "apart": operand(accuracy.apart),
        "wrong": [
            {
                "torch": wrong.torch,
                "vllm": wrong.vllm,
                "case": named(wrong.case),
                "predicted": operand(wrong.predicted),
                "measured": operand(wrong.measured),
            }
            for wrong in accuracy.wrong
        ],
    }


def _values(pythons: Sequence[str], found: Prediction) -> dict[str, object]:
    return {
        "pythons": list(pythons),
        "verdict": found.verdict,
        "fails": found.fails,
        "recompiles": list(found.recompiling),
        "cpu": {"cell": found.cpu, "record": found.record, "ran": found.day},
        "stands": list(found.stands),
        "unasked": list(found.unasked),
        "unanswered": list(found.unanswered),
        "partial": operand(found.part),
        "not_stock": [stock.described(departure) for departure in found.not_stock],
    }


def _verdict(verdict: Verdict, fails: Rung | None) -> str:
    if verdict is Verdict.COMPATIBLE:
        return "as expected"
    return "drift" if verdict is Verdict.DRIFT else f"no {fails or 'start'}"


def _forecast(found: Forecast) -> str:
    again = ", recompiles warm" if found.recompiles else ""
    return _verdict(found.verdict, found.fails) + again
