"""Attributions as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from matrix._util.text import clean, clip, plural
from matrix.attribution.model import Attribution, Cause
from matrix.report import marks
from matrix.report.attribution.sentences import missing_runs, sentence, symptom_words
from matrix.verdict.ladder import Part

MAX_WIDTH = 400
"""Characters of a sentence in a table, whose columns would else be too wide to read."""
_LONGEST = 4000  # characters of one in a terminal, where its lines are folded
_MAX_SILENT = 10
_QUALIFY = "`matrix qualify` compares two releases, also by counters without an expectation"


def lines(
    attributions: Sequence[Attribution],
    silent: Sequence[tuple[str, str]] = (),
    parts: Mapping[tuple[str, str], Part] | None = None,
) -> str:
    """Return each cell with its attributions, one for all cases that share it.

    `silent` are the cells, by name and platform, that ran and have no answer. `parts` says how many
    cases the partial run of a cell has.
    """
    without = _without_answer(silent)
    if not attributions:
        where = " in what has an answer" if silent else ""
        return f"nothing fails or differs from what is expected{where}; {_QUALIFY}\n{without}"
    text: list[str] = []
    cell: tuple[str, str] | None = None
    for group in groups(attributions):
        first = group[0]
        if cell != (first.name, first.platform):
            cell = first.name, first.platform
            part = (parts or {}).get(cell)
            where = f"{clean(first.name)} on {clean(first.platform)}"
            text += [*([""] if text else []), f"{where}, {marks.part(part)}" if part else where]
        text.append(f"  {first.answer}")
        prefix = f"{case_name(first)}: " if len(group) > 1 else ""
        text.append(f"    {clip(prefix + clean(sentence(first)), _LONGEST)}")
        names = max(len(case_name(found)) for found in group)
        for found in group:
            symptoms = clip(symptom_words(found.symptoms), _LONGEST)
            text.append(f"    {case_name(found):<{names}}  {symptoms}")
        text += [f"    {run}" for run in missing_runs(first)]
    return "\n".join([*text, "", _summary(attributions)]) + "\n" + without


def groups(attributions: Iterable[Attribution]) -> list[list[Attribution]]:
    """Return those of one cell that share an answer together, in the order of the first of each."""
    found: dict[object, list[Attribution]] = {}
    for attribution in attributions:
        failures = [symptom.signature for symptom in attribution.symptoms if symptom.fails]
        key = (
            *(attribution.name, attribution.platform, attribution.cell, attribution.answer),
            *(attribution.after, attribution.since, attribution.until),
            *(attribution.flags, attribution.rests_on, attribution.missing, tuple(failures)),
            attribution.extensions,
            # Without an axis, only the sentence tells two answers apart.
            None if attribution.rests_on else sentence(attribution),
        )
        found.setdefault(key, []).append(attribution)
    return list(found.values())


def case_name(attribution: Attribution) -> str:
    """Return the name of the case, or of the run itself."""
    return clip(clean(attribution.case), 60) or "the run"


def _without_answer(silent: Sequence[tuple[str, str]]) -> str:
    if not silent:
        return ""
    names = [f"{clean(name)} on {clean(platform)}" for name, platform in silent[:_MAX_SILENT]]
    more = len(silent) - len(names)
    listing = ", ".join(names) + (f" and {more} more" if more else "")
    return f"no answer in {plural(len(silent), 'cell')}, where no run came to one: {listing}\n"


def _summary(attributions: Sequence[Attribution]) -> str:
    """Return how many attributions have which answer, in one line."""
    count = Counter(attribution.answer for attribution in attributions)
    cells = len({(attribution.name, attribution.platform) for attribution in attributions})
    answers = ", ".join(f"{answer} {count[answer]}" for answer in Cause if count[answer])
    return f"{len(attributions)} in {cells} cell{'' if cells == 1 else 's'}: {answers}"
