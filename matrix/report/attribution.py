"""Attributions for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from matrix._util.text import clean, clip, code, markdown, plural, tabular
from matrix.attribution.attribute import ANSWERS, UNKNOWN, Attribution, Missing
from matrix.attribution.symptoms import FAILS, Symptom

__all__ = [
    "content",
    "deciding",
    "entries",
    "lines",
    "section",
    "summary",
    "to_json",
    "what",
]

_SCHEMA = 1
_WIDEST = 400
_MOST_SYMPTOMS = 6
_MOST_SILENT = 10
_HEAD = """\
## Whose fault

What fails or differs, attributed from the cells beside it: the same vLLM under other torch, the \
same torch under other vLLM, the same pair on another Python or platform, repeated runs. A counter \
that has no expectation is held against what its vLLM counts under the torch that it pins.
"""


def lines(
    attributions: Sequence[Attribution],
    silent: Sequence[tuple[str, str]] = (),
    *,
    wide: int = _WIDEST,
) -> str:
    """Each cell with what is attributed in it, told alike for all cases of which it holds.

    `silent` are the cells, by name and platform, that ran and have no answer.
    """
    without = _without_answer(silent)
    if not attributions:
        return f"nothing fails or differs{' in what has an answer' if silent else ''}\n{without}"
    said: list[str] = []
    cell: tuple[str, str] | None = None
    for group in _groups(attributions):
        first = group[0]
        if cell != (first.name, first.platform):
            cell = first.name, first.platform
            said += [*([""] if said else []), f"{clean(first.name)} on {clean(first.platform)}"]
        said.append(f"  {first.answer}")
        of = f"{_case(first)}: " if len(group) > 1 else ""
        said.append(f"    {clip(of + clean(first.evidence), wide)}")
        width = max(len(_case(each)) for each in group)
        for each in group:
            said.append(f"    {_case(each):<{width}}  {clip(symptom_words(each.symptoms), wide)}")
        said += [f"    {each}" for each in deciding(first)]
    return "\n".join([*said, "", summary(attributions)]) + "\n" + without


def _without_answer(silent: Sequence[tuple[str, str]]) -> str:
    if not silent:
        return ""
    named = [f"{clean(name)} on {clean(platform)}" for name, platform in silent[:_MOST_SILENT]]
    more = len(silent) - len(named)
    told = ", ".join(named) + (f" and {more} more" if more else "")
    return f"no answer in {plural(len(silent), 'cell')}, where no run came to one: {told}\n"


def deciding(attribution: Attribution) -> list[str]:
    """The runs that would decide or tell more, one line each; or that none would."""
    if attribution.answer == UNKNOWN and not attribution.missing:
        return ["no run that can work and is missing would tell more"]
    return [
        f"to know {each.why}: {each.name} on {each.platform}{_with(each)}"
        for each in attribution.missing
    ]


def what(attribution: Attribution) -> str:
    """The counters that it speaks of; "" for a failure, which its sentence has already."""
    counters = [each for each in attribution.symptoms if each.kind != FAILS]
    return symptom_words(counters)


def summary(attributions: Sequence[Attribution]) -> str:
    """How many of which answer, in one line."""
    count = Counter(each.answer for each in attributions)
    cells = len({(each.name, each.platform) for each in attributions})
    told = ", ".join(f"{answer} {count[answer]}" for answer in ANSWERS if count[answer])
    return f"{len(attributions)} in {cells} cell{'' if cells == 1 else 's'}: {told}"


def section(attributions: Sequence[Attribution]) -> str:
    """The attributions as a section of Markdown; "" where there is none."""
    if not attributions:
        return ""
    rows = []
    for group in _groups(attributions):
        first = group[0]
        cases = ", ".join(code(_case(each)) for each in group)
        symptoms = dict.fromkeys(symptom_words(each.symptoms) for each in group)
        decide = ", ".join(
            f"{code(each.name)} on {markdown(each.platform + _with(each))}"
            for each in first.missing
        )
        rows.append(
            [
                f"{code(first.name)} on {markdown(first.platform)}",
                markdown(first.answer),
                markdown(f"{_case(first)}: {first.evidence}", _WIDEST),
                f"{cases}: {markdown('; '.join(symptoms), _WIDEST)}",
                decide or "-",
            ]
        )
    return f"{_HEAD}\n{tabular(['cell', 'whose', 'evidence', 'what', 'runs to know more'], rows)}"


def entries(attributions: Iterable[Attribution]) -> list[dict[str, object]]:
    """The attributions as JSON values, one for each case and cause."""
    return [
        {
            "cell": each.name,
            "platform": each.platform,
            "case": each.case,
            "answer": each.answer,
            "evidence": each.evidence,
            "after": each.after,
            "since": each.since,
            "until": each.until,
            "symptoms": [_symptom(symptom) for symptom in each.symptoms],
            "flags": [
                {
                    "flag": flag.flag,
                    "here": flag.here,
                    "there": flag.there,
                    "decides": flag.decides,
                }
                for flag in each.flags
            ],
            "beside": list(each.beside),
            "missing": [
                {
                    "cell": missing.name,
                    "platform": missing.platform,
                    "why": missing.why,
                    "flags": dict(missing.flags),
                }
                for missing in each.missing
            ],
        }
        for each in attributions
    ]


def to_json(attributions: Iterable[Attribution], silent: Iterable[tuple[str, str]] = ()) -> str:
    """The attributions as JSON. Always ASCII. `silent` as for `lines`."""
    return json.dumps(content(attributions, silent), indent=1, sort_keys=True) + "\n"


def content(
    attributions: Iterable[Attribution], silent: Iterable[tuple[str, str]] = ()
) -> dict[str, object]:
    """The attributions with the number of their schema, and the cells without an answer."""
    return {
        "schema": _SCHEMA,
        "attributions": entries(attributions),
        "unanswered": [{"cell": name, "platform": platform} for name, platform in silent],
    }


def _symptom(symptom: Symptom) -> dict[str, object]:
    return {
        "kind": symptom.kind,
        "rung": symptom.rung,
        "signature": symptom.signature,
        "start": symptom.start,
        "counter": symptom.counter,
        "observed": symptom.observed,
        "wanted": symptom.wanted,
    }


def _groups(attributions: Iterable[Attribution]) -> list[list[Attribution]]:
    """Those of one cell that are told alike, in the order of the first of each."""
    found: dict[object, list[Attribution]] = {}
    for each in attributions:
        fails = [symptom.signature for symptom in each.symptoms if symptom.kind == FAILS]
        key = (
            *(each.name, each.platform, each.cell, each.answer, each.after, each.since),
            *(each.until, each.flags, each.beside, each.missing, tuple(fails)),
        )
        # What no line tells is told by its sentence alone.
        found.setdefault((key, None if each.beside else each.evidence), []).append(each)
    return list(found.values())


def _case(attribution: Attribution) -> str:
    return clip(clean(attribution.case), 60) or "the run"


def symptom_words(symptoms: Sequence[Symptom]) -> str:
    told = [clean(each.told) for each in symptoms[:_MOST_SYMPTOMS]]
    more = len(symptoms) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def _with(missing: Missing) -> str:
    given = " ".join(f"{name}={value}" for name, value in missing.flags)
    return f" with {given}" if given else ""
