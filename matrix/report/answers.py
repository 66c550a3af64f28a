"""The first answer for each vLLM in words: which torch, does it start warm, where, what to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matrix._util.text import at_most, clean, clip, listed, plural
from matrix.record.model import PLATFORMS, Outcome
from matrix.report import marks, prediction, stock
from matrix.report.reasons import NO_ISSUE, reason_words
from matrix.verdict.answer import VllmAnswer
from matrix.verdict.ladder import Progress
from matrix.verdict.states import StepState, Verdict
from matrix.verdict.table import Entry

_NAMES, _CASE, _REASON = 3, 60, 200


@dataclass(frozen=True, kw_only=True)
class AnswerWords:
    """An answer in words: a `label`, and in `warm` whether it starts warm and what recompiles.

    `where` is the GPU, or what was asked instead of one, `build` the torch that ran, with its
    CUDA, and the Python; `packages` whether they were stock, `started` when the run began. Each is
    "" without a run.
    """

    label: str
    warm: str
    where: str
    build: str
    started: str
    packages: str
    others: str


def words(answer: VllmAnswer) -> AnswerWords:
    """Return an answer in words."""
    entry = answer.entry
    return AnswerWords(
        label=label(answer),
        warm=warm_words(answer),
        where=where_words(entry) if entry is not None else "",
        build=_build(entry) if entry is not None else "",
        started=entry.record.started if entry is not None else "",
        packages="" if entry is None else stock_words(entry),
        others=_others(answer),
    )


def label(answer: VllmAnswer) -> str:
    """Return the answer in a sign and a word or two, with its marks: `✓ starts warm, not stock`."""
    progress, entry = answer.progress, answer.entry
    if entry is None:
        if progress.fails is not None:
            return "× fails"
        return "· never ran" if answer.prediction is None else "◌ predicted"
    names = {Verdict.DRIFT: "≠ counts differ", Verdict.INCOMPATIBLE: "× fails"}
    found = [names.get(progress.verdict, "? no answer")]
    if progress.verdict == Verdict.COMPATIBLE:
        found = ["↻ recompiles" if entry.verdict.recompiling else "✓ starts warm"]
        found += [stock.NOT_STOCK] if entry.verdict.not_stock else []
    return ", ".join(filter(None, [*found, marks.part(entry.part)]))


def warm_words(answer: VllmAnswer) -> str:
    """Return whether the pair starts warm, which cases compile again, or what is known instead.

    Of a partial run also how many of the cases ran.
    """
    if answer.entry is None:
        return _not_measured(answer)
    part = marks.part(answer.entry.part)
    return f"{_measured(answer.progress, answer.entry)}{f'; only {part} ran' if part else ''}"


def _measured(progress: Progress, entry: Entry) -> str:
    """Return what the run of a pair shows."""
    if progress.verdict == Verdict.COMPATIBLE:
        return _recompiling(entry)
    reason = clip(clean(reason_words(entry.verdict.reason)), _REASON)
    if progress.verdict == Verdict.DRIFT:
        return f"starts cold and warm, but counts differ: {reason}"
    if progress.verdict == Verdict.INCOMPATIBLE:
        return f"fails: {progress.fails or 'it did not start'}; {reason}"
    return f"ran, without an answer: {reason}" if reason else "ran, without an answer"


def _recompiling(entry: Entry) -> str:
    again, ran = entry.verdict.recompiling, _cases(entry)
    if not again:
        return f"starts warm: {plural(ran, 'case')}, none compiles again"
    links = dict.fromkeys(link for links in entry.verdict.issues for link in links)
    issues = ", ".join(map(marks.issue_name, links)) or NO_ISSUE
    names = [clip(clean(name), _CASE) for name in again]
    does = "compiles" if len(again) == 1 else "compile"
    shown = listed(at_most(_NAMES, names))
    return (
        f"starts warm, but {len(again)} of {plural(ran, 'case')} {does} again: {shown} ({issues})"
    )


def _cases(entry: Entry) -> int:
    return sum(case.outcome != Outcome.NOT_APPLICABLE for case in entry.record.cases)


def _not_measured(answer: VllmAnswer) -> str:
    """Return what is known of a pair that did not run on the authoritative platform."""
    progress, other = answer.progress, answer.elsewhere
    if progress.fails is not None:
        reason = clip(clean(reason_words(progress.reason)), _REASON)
        return f"fails: {progress.fails}; {reason}; never ran on {PLATFORMS[0]}"
    never = f"never ran on {PLATFORMS[0]}"
    if (found := answer.prediction) is not None:
        again = marks.recompile(len(found.recompiling))
        predicted = ", ".join(filter(None, [prediction.short(found), again]))
        return f"{never}; {predicted}, by its run on cpu of {found.day}"
    if other is not None:
        ran = f"{other.verdict.verdict} on {other.record.platform}"
        return f"{never}; {ran}, {other.date}"
    passed = [step.rung for step in progress.steps if step.state is StepState.PASSED]
    return f"never ran; {f'checks passed: {listed(passed)}' if passed else 'nobody asked'}"


def _others(answer: VllmAnswer) -> str:
    """Return with which other torch releases it ran, and how."""
    found = [
        ("as expected too", answer.others),
        ("as expected, but in part or not stock,", answer.marked),
        ("not as expected", answer.failing),
    ]
    return "; ".join(f"{how} with torch {listed(torch)}" for how, torch in found if torch)


def where_words(entry: Entry) -> str:
    """Return on what a run was measured: its GPU, else its platform."""
    gpu = entry.record.provenance.get("gpu")
    name = gpu.get("name") if isinstance(gpu, Mapping) else None
    return clip(clean(str(name)), _CASE) if name else str(entry.record.platform)


def _build(entry: Entry) -> str:
    """Return the torch that ran and the Python: `torch 2.10.0+cu128, Python 3.12`."""
    torch = entry.record.version("torch")
    named = f"torch {clip(clean(torch), _CASE)}, " if torch else ""
    return f"{named}Python {entry.factors.python}"


def stock_words(entry: Entry) -> str:
    """Return whether the packages of a run were as its vLLM requires."""
    verdict = entry.verdict
    if verdict.departures is None:
        return stock.UNKNOWN
    return stock.mark(verdict.not_stock) or "stock"
