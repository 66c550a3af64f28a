"""The progress and the answer of a bisection, as text for a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields

from matrix._util.text import aligned, clean, clip, listed
from matrix.attribution.bisect import BisectionOutcome, Search, SkipCode
from matrix.catalog.candidates.steps import LineChange, LineStep
from matrix.record.model import Platform
from matrix.report.attribution.sentences import symptom_words
from matrix.report.stock import mark

_MAX_WIDTH = 400


def line_text(search: Search, case: str, platform: Platform, change: LineChange | None) -> str:
    """Return what the steps of a line did that were tried, and where the line changes."""
    text = lines(search, case, platform, tried=True)
    if change is None:
        return text
    text += f"last before it: {_described(change.last)}\n"
    for step in change.between:
        text += f"{'may be it' if len(change.between) > 1 else 'it is'}: {_described(step)}\n"
    return text + (f"in between: {change.page}\n" if change.page else "")


def _described(step: LineStep) -> str:
    """Return the day or the commit of a step, and what the commit says."""
    return f"{step.point}  {clean(step.title)}" if step.title else step.point


def first_run(search: Search, command: str, where: str | None = None) -> str:
    """Return how many runs a search takes at most, and the command of the first.

    `where` is the index or the repository of a line of builds; a line of releases has none.
    """
    steps, labels = search.bisection.steps, list(search.labels.values())
    what, ends = f"{len(labels)} releases", ""
    if where is not None:
        what = f"{len(labels)} builds of {search.moving} of {where}"
        ends = f", from {labels[0]} to {labels[-1]}"
    return f"at most {_runs(steps)} for {what}{ends}\n{command}\n"


def _runs(count: int, more: str = "") -> str:
    return f"{count} {more}run{'' if count == 1 else 's'}"


def to_json(
    search: Search,
    case: str,
    platform: Platform,
    change: LineChange | None = None,
    runs: int | None = None,
) -> str:
    """Return a search as JSON, always ASCII: the outcome of each environment, and the answer.

    `change` and `runs` are those of a line of candidates.
    """
    found = search.bisection
    environments = [
        {
            "environment": name,
            "label": search.release(name),
            "outcome": None if outcome is None else str(outcome),
            "skip": _skip_value(search, name),
        }
        for name, outcome in search.outcomes.items()
    ]
    return (
        json.dumps(
            {
                "schema": 1,
                "case": case,
                "platform": platform,
                "moving": str(search.moving),
                "environments": environments,
                "fixed": search.fixed,
                "symptoms": [symptom_words([symptom]) for symptom in search.symptoms],
                "good": found.good,
                "bad": found.bad,
                "next": found.next,
                "first_bad": found.first_bad,
                "unnamed": list(search.left_out),
                "candidates": list(found.candidates),
                "steps": found.steps,
                "runs": runs,
                "change": None if change is None else _change_value(change),
            },
            indent=1,
        )
        + "\n"
    )


def _skip_value(search: Search, name: str) -> dict[str, object] | None:
    skip = search.skips.get(name)
    return None if skip is None else {"code": str(skip.code), "detail": skip.detail}


def _change_value(change: LineChange) -> dict[str, object]:
    return {
        "last": _step_value(change.last),
        "between": [_step_value(step) for step in change.between],
        "page": change.page,
    }


def _step_value(step: LineStep) -> dict[str, object]:
    return {field.name: getattr(step, field.name) for field in fields(step)}


def lines(search: Search, case: str, platform: Platform, *, tried: bool = False) -> str:
    """Return what each environment did, and the first release whose result differs.

    With `tried` the environments that never ran are left out.

    The outcomes are in the words of what was searched for: `bad` and `good` for a failure, `good`
    after `bad` for a fix, `changed` and `as before` for counters.
    """
    package = search.moving.label
    counts = any(not symptom.fails for symptom in search.symptoms)
    first_word, last_word = ("changed", "as before") if counts else ("bad", "good")
    if search.fixed:
        first_word, last_word = "good", "bad"
    words: dict[BisectionOutcome | None, str] = {
        **{outcome: str(outcome) for outcome in BisectionOutcome},
        BisectionOutcome.BAD: first_word,
        BisectionOutcome.GOOD: last_word,
        BisectionOutcome.UNCLEAR: "ran with flags that may not be its own",
        None: "not run",
    }
    rows = [
        [f"{package} {search.release(name)}", words[outcome] + _why(search, name), name]
        for name, outcome in search.outcomes.items()
        if outcome is not None or not tried
    ]
    text = [f"{clean(case)} on {platform}", *(f"  {row}" for row in aligned(rows))]
    if search.symptoms:
        symptoms = clip(symptom_words(search.symptoms), _MAX_WIDTH)
        text.append(f"{'changed' if counts else 'bad'} is: {symptoms}")
    return "\n".join([*text, _answer(search, package, first_word, last_word)]) + "\n"


_SKIPS: Mapping[SkipCode, str] = {
    SkipCode.RULED_OUT: "a check shows that it cannot run",
    SkipCode.NO_RESULT: "its run has no result for this case",
    SkipCode.NEITHER: "it does something else",
    SkipCode.NOT_MADE: "it cannot be made",
}


def _why(search: Search, name: str) -> str:
    """Return why an environment is skipped, in parentheses; "" for one that is not."""
    skip = search.skips.get(name)
    if skip is None:
        return ""
    if skip.code is SkipCode.NOT_STOCK:
        return f" ({mark(skip.not_stock)}; a stock run is missing)"
    detail = f": {clip(clean(skip.detail), _MAX_WIDTH)}" if skip.detail else ""
    return f" ({_SKIPS[skip.code]}{detail})"


def _without_name(search: Search) -> str:
    """Return which releases that may be the first one have no environment, as a clause."""
    names = search.left_out
    return f"; {listed(names)} {'has' if len(names) == 1 else 'have'} no name here" if names else ""


def _answer(search: Search, package: str, first_word: str, last_word: str) -> str:
    """Return the first release whose result differs, or how many runs remain."""
    progress = search.bisection
    last = None if progress.good is None else search.release(progress.good)
    if progress.first_bad is not None:
        first = search.release(progress.first_bad)
        unnamed = _without_name(search)
        if unnamed:
            newest = f"at most {first}{unnamed}"
            return f"the first {first_word} {package} is newer than {last} and {newest}"
        return f"{package} {first} is the first {first_word} one, {last} the last {last_word}"
    if progress.done:
        # All but the newest of the candidates were skipped.
        *skipped, newest = (search.release(name) for name in progress.candidates)
        either = f"{', '.join(skipped)} or {newest}"
        return (
            f"{package} {either} is the first {first_word} one, {last} the last {last_word};"
            f" {listed(skipped)} cannot be judged{_without_name(search)}"
        )
    return f"at most {_runs(progress.steps, 'more ')} to the end"
