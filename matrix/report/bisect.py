"""The progress and the answer of a bisection, as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from matrix._util.text import aligned, clean, clip, listed
from matrix.attribution.bisect import Outcome, Search, SkipCode
from matrix.report.attribution.sentences import symptom_words
from matrix.report.stock import mark

_MAX_WIDTH = 400


def lines(search: Search, case: str, platform: str) -> str:
    """Return what each environment did, and the first release whose result differs.

    The outcomes are in the words of what was searched for: `bad` and `good` for a failure, `good`
    after `bad` for a fix, `changed` and `as before` for counters.
    """
    package = "torch" if search.moving == "torch" else "vLLM"
    counts = any(not symptom.fails for symptom in search.symptoms)
    first_word, last_word = ("changed", "as before") if counts else ("bad", "good")
    if search.fixed:
        first_word, last_word = "good", "bad"
    words: dict[Outcome | None, str] = {
        **{outcome: str(outcome) for outcome in Outcome},
        Outcome.BAD: first_word,
        Outcome.GOOD: last_word,
        Outcome.UNCLEAR: "ran with flags that may not be its own",
        None: "not run",
    }
    rows = [
        [f"{package} {search.release(name)}", words[outcome] + _why(search, name), name]
        for name, outcome in search.outcomes.items()
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
}


def _why(search: Search, name: str) -> str:
    """Return why an environment is skipped, in parentheses; "" for one that is not."""
    skip = search.skips.get(name)
    if skip is None:
        return ""
    if skip.code is SkipCode.NOT_STOCK:
        return f" ({mark(skip.not_stock)}; a stock run is missing)"
    return f" ({_SKIPS[skip.code]})"


def _answer(search: Search, package: str, first_word: str, last_word: str) -> str:
    """Return the first release whose result differs, or how many runs remain."""
    progress = search.bisection
    last = None if progress.good is None else search.release(progress.good)
    if progress.first_bad is not None:
        first = search.release(progress.first_bad)
        return f"{package} {first} is the first {first_word} one, {last} the last {last_word}"
    if progress.done:
        # All but the newest of the candidates were skipped.
        *skipped, newest = (search.release(name) for name in progress.candidates)
        either = f"{', '.join(skipped)} or {newest}"
        return (
            f"{package} {either} is the first {first_word} one, {last} the last {last_word};"
            f" {listed(skipped)} cannot be told"
        )
    return f"at most {progress.steps} more run{'' if progress.steps == 1 else 's'} to the end"
