"""Attributions as a section of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matrix._util.text import code, markdown, tabular
from matrix.attribution.model import Attribution
from matrix.report import marks
from matrix.report.attribution.sentences import how, sentence, symptom_words
from matrix.report.attribution.text import MAX_WIDTH, case_name, groups
from matrix.verdict.ladder import Part

_HEAD = """\
## Who changed

The cause of each failure and difference, by the runs of the cells around it: the same vLLM with \
another torch, the same torch with another vLLM, the same pair on another Python or platform, and \
repeated runs. A counter without an expectation is compared with the count of its vLLM under the \
torch that it pins.
"""


def section(
    attributions: Sequence[Attribution], parts: Mapping[tuple[str, str], Part] | None = None
) -> str:
    """Return the attributions as a section of Markdown; "" if there is none.

    `parts` says how many cases the partial run of a cell has, by its name and platform.
    """
    if not attributions:
        return ""
    rows = []
    for group in groups(attributions):
        first = group[0]
        part = marks.part((parts or {}).get((first.name, first.platform)))
        cases = ", ".join(code(case_name(found)) for found in group)
        symptoms = dict.fromkeys(symptom_words(found.symptoms) for found in group)
        runs = ", ".join(
            f"{code(run.name)} on {markdown(run.platform + how(run))}" for run in first.missing
        )
        rows.append(
            [
                f"{code(first.name)} on {markdown(first.platform)}{f', {part}' if part else ''}",
                markdown(first.answer),
                markdown(f"{case_name(first)}: {sentence(first)}", MAX_WIDTH),
                f"{cases}: {markdown('; '.join(symptoms), MAX_WIDTH)}",
                runs or "-",
            ]
        )
    return f"{_HEAD}\n{tabular(['cell', 'whose', 'evidence', 'what', 'runs to know more'], rows)}"
