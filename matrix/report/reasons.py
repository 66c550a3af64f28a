"""The sentences of a verdict's reasons, and of what a start logged or compiled again."""

from __future__ import annotations

from collections.abc import Mapping

from matrix._util.text import plural
from matrix.record.model import EventKind, Outcome
from matrix.report.facts import NO_REASON, asked_words, facts_words
from matrix.report.provisional import PROVISIONAL, comparison_words, of_rank
from matrix.report.stock import described, mark
from matrix.verdict import reasons
from matrix.verdict.events import StartEvent
from matrix.verdict.ladder import Contradiction, ContradictionCode
from matrix.verdict.recompiles import Recompiles, WrittenCode
from matrix.verdict.states import Verdict

NO_ISSUE = "no public issue known"
"""The words for what compiles again without a rule that names an issue."""

_EVENTS: Mapping[EventKind, str] = {
    EventKind.LOAD_FAILED: "compiled again: a cached artifact did not load",
    EventKind.SAVE_FAILED: "could not save an artifact",
    EventKind.CACHE_BYPASSED: "did not use a cache",
    EventKind.CACHE_DISABLED: "had a cache off",
    EventKind.FELL_BACK: "fell back to another way",
    EventKind.RECOMPILED: "compiled a function more than once",
}
_OUTCOMES: Mapping[Outcome, str] = {
    Outcome.INTERRUPTED: "was interrupted",
    Outcome.RUNNING: "was still running when the run died",
    Outcome.OUT_OF_MEMORY: "ran out of memory",
}
_SO_FAR: Mapping[Verdict, str] = {
    Verdict.INCOMPATIBLE: "this case failed: ",
    Verdict.DRIFT: "this case drifts: ",
}
_PLAIN: Mapping[reasons.ReasonCode, str] = {
    reasons.ReasonCode.NOT_FINISHED: "the run did not finish",
    reasons.ReasonCode.NOTHING_RAN: "no case was run",
    reasons.ReasonCode.NOTHING_APPLIES: "no case applies to this cell",
    reasons.ReasonCode.NO_RELEASES: "the record does not name the torch and vLLM that ran",
    reasons.ReasonCode.CASE_RUNS: "is running",
}


def reason_words(reason: reasons.VerdictReason | None) -> str:
    """Return why a case, a run or a rung has its verdict; "" for no reason."""
    match reason:
        case None:
            return ""
        case reasons.Recorded(text=text):
            return text
        case reasons.Checked(facts=facts, asked=asked):
            text = facts_words(facts)
            return f"{text or NO_REASON} ({asked_words(asked)})" if asked else text
        case reasons.OfCase(case=case, reason=inner):
            return f"{case}: {reason_words(inner)}"
        case reasons.Drifts() | reasons.NotJudged() | reasons.NoStart():
            return _of_counters(reason)
        case reasons.PackageFails() | reasons.NotStock() | reasons.GoesOn():
            return _of_packages_or_run(reason)
        case reasons.Error() | reasons.EndedWithoutText() | reasons.NoReason() | reasons.FailedAt():
            return _of_end(reason)
        case _:
            return _PLAIN[reason.code]


def _of_end(
    reason: reasons.Error | reasons.EndedWithoutText | reasons.NoReason | reasons.FailedAt,
) -> str:
    match reason:
        case reasons.Error(kind=kind):
            return kind.replace("_", " ")
        case reasons.EndedWithoutText(outcome=outcome):
            return _OUTCOMES.get(outcome, outcome.replace("_", " "))
        case reasons.NoReason(outcome=outcome):
            return f"{outcome.replace('_', ' ')} without a reason"
        case reasons.FailedAt(rung=rung):
            return f"failed at {rung}"


def _of_counters(reason: reasons.Drifts | reasons.NotJudged | reasons.NoStart) -> str:
    match reason:
        case reasons.Drifts(difference=first):
            observed = "is not counted" if first.observed is None else f"is {first.observed}"
            more = f", and {reason.more} more" if reason.more else ""
            logged = "" if reason.event is None else f"; {event_words(reason.event)}"
            return (
                f"{first.start} {first.counter}{of_rank(first)} {observed}, expected"
                f" {first.expected}{more}{logged}"
            )
        case reasons.NotJudged(no_rule=no_rule, comparison=comparison):
            why = [] if comparison is None else [f"{PROVISIONAL}: {comparison_words(comparison)}"]
            if no_rule:
                starts = "start" if len(no_rule) == 1 else "starts"
                why.append(f"no expectation for its {' and '.join(no_rule)} {starts}")
            return "; ".join(why)
        case reasons.NoStart(start=start):
            return f"the record has no {start} start"


def _of_packages_or_run(
    reason: reasons.PackageFails | reasons.NotStock | reasons.GoesOn,
) -> str:
    inner = reason_words(reason.reason)
    match reason:
        case reasons.PackageFails(departure=departure):
            return f"{described(departure)}, so this shows nothing about the pair: {inner}"
        case reasons.NotStock(departures=departures, verdict=verdict):
            how = "failed" if verdict == Verdict.INCOMPATIBLE else "differs"
            return f"{mark(departures)}; {how}: {inner or reason.rung}"
        case reasons.GoesOn(verdict=verdict):
            so_far = "" if verdict is None else _SO_FAR.get(verdict, "")
            return "the run is in progress" + (f"; {so_far}{inner}" if reason.reason else "")


def contradiction_words(found: Contradiction) -> str:
    """Return which answer of a static check a run disproved."""
    day, reason = found.day, reason_words(found.reason)
    by = f" ({asked_words(found.asked)})" if found.asked else ""
    return {
        ContradictionCode.RAN_WITHOUT_WHEEL: (
            f"is not for this Python ({reason}), but ran on {day}"
        ),
        ContradictionCode.INSTALLED: (
            f"does not resolve ({reason or NO_REASON}), but was installed on {day}"
        ),
        ContradictionCode.NOT_INSTALLED: f"resolves{by}, but was not installed on {day}: {reason}",
        ContradictionCode.IMPORTED: (
            f"does not link ({reason or NO_REASON}), but was imported on {day}"
        ),
        ContradictionCode.NOT_IMPORTED: f"links, but was not imported on {day}: {reason}",
    }[found.code]


def event_words(event: StartEvent) -> str:
    """Return what a start logged, in words, and the text.

    >>> from matrix.record.model import StartKind
    >>> print(
    ...     event_words(
    ...         StartEvent(
    ...             start=StartKind.WARM,
    ...             kind=EventKind.LOAD_FAILED,
    ...             text="no key",
    ...             count=2,
    ...         )
    ...     )
    ... )
    warm start compiled again: a cached artifact did not load (2 times): no key
    """
    often = f" ({event.count} times)" if event.count > 1 else ""
    return f"{event.start} start {_EVENTS[event.kind]}{often}: {event.text}"


def recompiles_words(found: Recompiles) -> str:
    """Return what it counted, then the links, or that no public issue is known."""
    counted = recompiles_counted(found)
    return f"{counted} {' '.join(found.links)}" if found.links else f"{counted}, {NO_ISSUE}"


def recompiles_counted(found: Recompiles) -> str:
    """Return what it counted: `recompiles warm (num_compiled_artifacts_saved 4)`.

    What it wrote stands behind that: `; 3 files of compiled code, 12 KiB`.
    """
    counted = ", ".join(f"{name} {count}" for name, count in found.counters.items())
    wrote = [] if found.code is None else [code_words(found.code)]
    return f"recompiles warm ({'; '.join(filter(None, [counted, *wrote]))})"


def code_words(code: WrittenCode) -> str:
    """Return how much compiled code a start wrote.

    >>> code_words(WrittenCode(files=3, bytes=12_000))
    '3 files of compiled code, 12 KiB'
    """
    return f"{plural(code.files, 'file')} of compiled code, {max(1, round(code.bytes / 1024))} KiB"
