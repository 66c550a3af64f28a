"""How well the CPU predicts CUDA, as JSON: `matrix predict --json`.

`data/predict.schema.json` describes it.
"""

from __future__ import annotations

from matrix.report import agreement as counts
from matrix.report.json_lines import in_lines
from matrix.report.prediction import accuracy_values
from matrix.verdict.agreement import Agreement
from matrix.verdict.prediction_accuracy import Accuracy

_SCHEMA = 1


def to_json(agreement: Agreement, accuracy: Accuracy) -> str:
    """Return the comparison of both platforms' counts, and how often predictions were right."""
    content = {
        "schema": _SCHEMA,
        "agreement": counts.content(agreement),
        "explanations": counts.explanations(agreement),
        "predictions": accuracy_values(accuracy),
    }
    return in_lines(
        content,
        {
            "agreement": {"counters": {}, "pairs": [{"cases": []}]},
            "explanations": [],
            "predictions": {"wrong": []},
        },
    )
