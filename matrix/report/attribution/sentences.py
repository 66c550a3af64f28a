"""The sentences of an attribution, made from its reason: who does what, and since when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from matrix._util.text import clean, clip, listed, plural
from matrix._util.versions import minor_of
from matrix.attribution import reasons
from matrix.attribution.model import Attribution, Cause, FlagDifference, MissingRun
from matrix.attribution.symptoms import Symptom
from matrix.catalog.cells import Cell
from matrix.record.defaults import DefaultChange
from matrix.record.model import DefaultValue
from matrix.report.provisional import rank_words
from matrix.report.reasons import event_words, reason_words
from matrix.report.stock import mark

_MAX_SYMPTOMS = 6
_MAX_CHANGES = 2

_AT_RUNG: Mapping[str, tuple[str, str]] = {
    "builds": ("is built", "does not build"),
    "resolves": ("resolves", "does not resolve"),
    "imports": ("is imported", "is not imported"),
    "starts cold": ("starts cold", "fails to start cold"),
    "starts warm": ("starts warm", "fails to start warm"),
}
"""What a cell does that passes a rung, and one that fails at it."""

_CONFOUNDERS: Mapping[str, str] = {
    reasons.ConfounderKind.TESTS: "the tests",
    reasons.ConfounderKind.MACHINE: "the machine",
    reasons.ConfounderKind.PACKAGES: "other packages",
}

_DIFFERENCES: Mapping[str, str] = {
    reasons.RunDifference.PLATFORM: "the platform",
    reasons.RunDifference.TORCH: "torch",
    reasons.RunDifference.VLLM: "vLLM",
    reasons.RunDifference.PYTHON: "Python",
}

_CODES: Mapping[reasons.QuestionCode, str] = {
    reasons.QuestionCode.FLAKY: "whether it is flaky",
    reasons.QuestionCode.FLAG: "whether it is the flag alone",
    reasons.QuestionCode.FLAG_OR_TESTS: "whether it is the flag or the tests",
}


def sentence(attribution: Attribution) -> str:
    """Return the reason of an attribution as one sentence, which ends with the answer."""
    reason = attribution.reason
    if isinstance(reason, reasons.AxisChanges | reasons.BothAxesChange):
        return _of_axes(attribution, reason)
    if isinstance(reason, reasons.ExtensionDiffers):
        return _of_extensions(attribution, reason)
    if isinstance(reason, reasons.OtherPythonClean | reasons.OtherPlatformClean):
        return _of_environment(attribution, reason)
    if isinstance(reason, reasons.RepeatsDisagree | reasons.NewerRunClean):
        return _of_repeats(attribution, reason)
    symptom, pair = attribution.symptoms[0], _pair(attribution.cell)
    if isinstance(reason, reasons.Intermittent):
        subject = f"{_counter(symptom)} {symptom.observed}"
        subject = "the failure" if symptom.fails else subject
        text = f"{subject} of {pair} comes and goes along {reason.along}"
    elif isinstance(reason, reasons.StockAndAnotherDiffer):
        text = _of_stock(attribution, reason)
    elif isinstance(reason, reasons.PythonAndAnotherDiffer):
        here, there = attribution.cell, Cell(reason.python, reason.torch, reason.vllm)
        place = f" on {reason.platform}" if reason.platform != attribution.platform else ""
        text = (
            f"{pair} {_shows(symptom)} on Python {here.python}, and {_pair(there)}"
            f" {_is_clean(symptom, reason.counted)}{place} on {there.python}:"
            f" {_DIFFERENCES[reason.differs]} and Python both differ"
        )
    else:
        text = f"{pair} {_shows(symptom)}, and {_also_shown_or_none(attribution.cell, reason)}"
    return f"{text}: unknown"


def _of_stock(attribution: Attribution, reason: reasons.StockAndAnotherDiffer) -> str:
    """Return what a clean run does, and that of it and the cell's only one is stock."""
    symptom, here = attribution.symptoms[0], attribution.cell
    there = Cell(reason.python, reason.torch, reason.vllm)
    where = {
        None: " in another run of the same cell",
        reasons.RunDifference.PYTHON: f" on Python {reason.python}",
        reasons.RunDifference.PLATFORM: f" on {reason.platform}",
    }.get(reason.differs, "")
    apart = clean(mark(reason.not_stock))
    named = "the packages" if reason.differs is None else "the packages too"
    return (
        f"{_pair(here)} {_shows(symptom)}{f' ({apart})' if reason.own else ''}, and {_pair(there)}"
        f" {_is_clean(symptom, reason.counted)}{where}{'' if reason.own else f' ({apart})'}:"
        f" {named} may be the cause, and a stock run is missing"
    )


def question_words(question: reasons.Question) -> str:
    """Return what a missing run would answer, as a clause."""
    subjects = question.subjects
    if question.code is reasons.QuestionCode.CAUSE:
        words = {**_CONFOUNDERS, **_DIFFERENCES}
        named = [words.get(subject, f"Python {subject}") for subject in subjects]
        return f"whether it is {' or '.join(named)}"
    if question.code is reasons.QuestionCode.EXTENSION:
        return f"whether it is {' or '.join(subjects)}"
    if question.code is reasons.QuestionCode.FIRST_RELEASE:
        return f"since which {subjects[0]}"
    if question.code is reasons.QuestionCode.ONE_PLATFORM:
        return f"whether it is {subjects[0]} alone"
    return _CODES[question.code]


def missing_runs(attribution: Attribution) -> list[str]:
    """Return the runs that would decide or show more, one line each; or that none would."""
    if attribution.answer is Cause.UNKNOWN and not attribution.missing:
        return ["no missing run that can work would decide"]
    return [
        f"to know {question_words(run.question)}: {run.name} on {run.platform}{how(run)}"
        for run in attribution.missing
    ]


def how(run: MissingRun) -> str:
    """Return the flags that a missing run gets, and whether its environment must be stock."""
    given = " ".join(f"{name}={value}" for name, value in run.flags)
    return (" in a stock environment" if run.stock else "") + (f" with {given}" if given else "")


def counter_words(attribution: Attribution) -> str:
    """Return the counters that it is about; "" for a failure, which its sentence has already."""
    return symptom_words([symptom for symptom in attribution.symptoms if not symptom.fails])


def symptom_words(symptoms: Sequence[Symptom]) -> str:
    """Return the first symptoms in a few words each, and how many more there are."""
    shown = [clean(_symptom(symptom)) for symptom in symptoms[:_MAX_SYMPTOMS]]
    more = len(symptoms) - len(shown)
    words = "; ".join(shown) + (f"; and {more} more" if more else "")
    logged = next((symptom.logged for symptom in symptoms if symptom.logged), None)
    return words if logged is None else f"{words} ({clean(event_words(logged))})"


def _symptom(symptom: Symptom) -> str:
    if symptom.fails:
        reason = reason_words(symptom.reason) or symptom.signature or "without a reason"
        return f"{_shows(symptom)}: {reason}"
    observed = "not counted" if symptom.observed is None else str(symptom.observed)
    return f"{_counter(symptom)} {observed}, not {symptom.wanted}"


def _counter(symptom: Symptom) -> str:
    """Return the start and the counter, with the rank where that is not the first one."""
    return f"{symptom.start} {symptom.counter}{rank_words(symptom.rank)}"


def _pair(cell: Cell) -> str:
    return f"vLLM {cell.vllm} under torch {cell.torch}"


def _shows(symptom: Symptom) -> str:
    """Return what a run does that shows the symptom."""
    if symptom.fails:
        return _AT_RUNG[str(symptom.rung)][1]
    return f"counts {_counter(symptom)} {symptom.observed}"


def _is_clean(symptom: Symptom, counted: int | None) -> str:
    """Return what a clean run does, which counted this."""
    if symptom.fails:
        return _AT_RUNG[str(symptom.rung)][0]
    return f"counts {_counter(symptom)} {counted}"


def _of_repeats(
    attribution: Attribution, reason: reasons.RepeatsDisagree | reasons.NewerRunClean
) -> str:
    symptom = attribution.symptoms[0]
    text = f"{_pair(attribution.cell)} {_shows(symptom)}"
    if isinstance(reason, reasons.NewerRunClean):
        return (
            f"{text}, and {_is_clean(symptom, symptom.wanted)} in a newer run with other tests: it"
            " may be the tests, or flaky: unknown"
        )
    text += f" in {reason.shows} of {reason.runs} runs of the same cell"
    if not reason.differences:
        return f"{text}, and nothing distinguishes them: flaky"
    text += f", and in these {listed(list(map(_repeat_difference, reason.differences)))}"
    if attribution.answer is Cause.UNKNOWN:
        return f"{text}: it may be flaky, or the environment: unknown"
    return f"{text}: the environment"


def _repeat_difference(difference: reasons.RepeatDifference) -> str:
    shows = "missing" if difference.shows is None else difference.shows
    return f"{difference.name} is {shows} and not {listed(list(map(str, difference.clean)))}"


def _of_environment(
    attribution: Attribution, reason: reasons.OtherPythonClean | reasons.OtherPlatformClean
) -> str:
    symptom, pair = attribution.symptoms[0], _pair(attribution.cell)
    also = _confounders(reason.confounders)
    if isinstance(reason, reasons.OtherPlatformClean):
        return (
            f"{pair} {_shows(symptom)} on {attribution.platform} and"
            f" {_is_clean(symptom, reason.counted)} on {reason.platform}: the platform{also}"
        )
    python = attribution.cell.python
    alone = "" if also else " alone"
    return (
        f"{_on_pythons(attribution, reason.clean_pythons)} and {_shows(symptom)} on {python}: the"
        f" environment, Python {python}{alone}{also}"
    )


def _on_pythons(attribution: Attribution, pythons: Sequence[str]) -> str:
    """Return that the same pair is clean on these other Pythons."""
    symptom = attribution.symptoms[0]
    does = _is_clean(symptom, symptom.wanted)
    return f"{_pair(attribution.cell)} {does} on Python {listed(pythons)}"


def _of_axes(attribution: Attribution, reason: reasons.AxisChanges | reasons.BothAxesChange) -> str:
    """Return what the axes show, and the answer with since and until when."""
    cell = attribution.cell
    if isinstance(reason, reasons.BothAxesChange):
        change = reason.torch
        text = f"{_axis(attribution, change)}, and {_axis(attribution, reason.vllm)}"
        moved = f"torch {_when(change)} with vLLM {_when(reason.vllm)}"
    else:
        change = reason.change
        text = _axis(attribution, change)
        if reason.also_shown is not None:
            text += f", and {_shown_along(cell, reason.also_shown)} shows it too"
        moved = _when(change)
    if reason.clean_pythons:
        text += f", but {_on_pythons(attribution, reason.clean_pythons)}"
        moved += f", on Python {cell.python} alone"
    flags = _flags(attribution.flags, change)
    also = f"{_defaults(attribution.defaults)}{_confounders(reason.confounders)}"
    return f"{text}: {attribution.answer}, {moved}{flags}{also}"


def _of_extensions(attribution: Attribution, reason: reasons.ExtensionDiffers) -> str:
    """Return what the axis shows, which extensions do not link there, and the answer."""
    cell, change, named = attribution.cell, reason.change, listed(reason.extensions)
    does, that = ("does", "that") if len(reason.extensions) == 1 else ("do", "those")
    lacks = listed(reason.lacks)
    links = listed([release for release in reason.links if release in change.clean])
    if change.along is reasons.Along.TORCH:
        both = " and" if len(reason.lacks) == 1 else ", and"
        what = (
            f"{named} of vLLM {cell.vllm} {does} not link with torch {lacks}{both} {does} with"
            f" {links}"
        )
    else:
        what = (
            f"{named} of vLLM {lacks} {does} not link with torch {cell.torch}, and {that} of"
            f" {links} {does}"
        )
    text = _axis(attribution, change)
    also = f"{_defaults(attribution.defaults)}{_confounders(reason.confounders)}"
    if reason.shown_by is None:
        flags = _flags(attribution.flags, change)
        subject = f"{change.along} or {' or '.join(reason.extensions)}"
        return f"{text}, but {what}: unknown: {subject} can be the cause{flags}{also}"
    when = _when(change)
    answer = f"{attribution.answer}{f', {change.along} {when}' if when else ''}"
    if reason.shown_by is reasons.ExtensionEvidence.NAMED:
        answer += f", because the failure names {named}"
    return f"{text}, and {what}: {answer}{also}"


def _axis(attribution: Attribution, change: reasons.AxisChange) -> str:
    """Return which releases along an axis are clean, and which show the symptom."""
    cell, symptom = attribution.cell, attribution.symptoms[0]
    clean_releases, shows = listed(change.clean), listed(change.shows)
    if change.along is reasons.Along.TORCH:
        stays, under, other = f"vLLM {cell.vllm}", "under torch", "under"
    else:
        stays, under, other = f"torch {cell.torch}", "with vLLM", "with"
    text = f"{stays} {_is_clean(symptom, change.counted)} {under} {clean_releases} and"
    if symptom.fails:
        return f"{text} {_shows(symptom)} {other} {shows}"
    observed = "nothing" if symptom.observed is None else symptom.observed
    return f"{text} {observed} {other} {shows}"


def _shown_along(cell: Cell, shown: reasons.ShownAlong) -> str:
    if shown.along is reasons.Along.TORCH:
        return f"vLLM {cell.vllm} under torch {listed(shown.releases)}"
    return f"torch {cell.torch} with vLLM {listed(shown.releases)}"


def _also_shown_or_none(cell: Cell, reason: reasons.NoCleanNeighbour) -> str:
    if not reason.also_shown:
        return "no neighbour that ran shows more"
    shown = " and ".join(_shown_along(cell, shown) for shown in reason.also_shown)
    return f"{shown} shows it too"


def _when(change: reasons.AxisChange) -> str:
    """Return when the symptom comes and goes along an axis, as exactly as the runs show."""
    text = []
    if change.since is not None:
        text.append(f"since {_boundary(change.since)}")
    if change.until is not None:
        text.append(f"until {_boundary(change.until)}, where it is gone")
    return " and ".join(text)


def _boundary(boundary: reasons.Boundary) -> str:
    if boundary.precision is reasons.Precision.MINOR:
        return minor_of(boundary.high)
    if boundary.precision is reasons.Precision.RANGE:
        return f"a release after {boundary.low} and up to {boundary.high}"
    return boundary.high


def _flags(flags: Sequence[FlagDifference], change: reasons.AxisChange) -> str:
    """Return the flags that differ from the nearest clean release, and whether they decide."""
    if not flags:
        return ""
    there = f"{change.along} {change.clean[0]}"
    named = listed([f"{flag.flag} ({flag.there} at {there}, {flag.here} here)" for flag in flags])
    if flags[0].decides is None:
        return f", with another default of {named}"
    if flags[0].decides:
        return f", by the default of {named} alone: with the other value it is gone"
    return f", and not by the default of {named}: with the other value it stays"


def _defaults(defaults: Sequence[DefaultChange]) -> str:
    """Return the first of torch's defaults that changed there: a hint, which no run decides."""
    if not defaults:
        return ""
    named = [
        f"the default of {change.config}.{change.name} from {_default(change.before)} to"
        f" {_default(change.after)}"
        for change in defaults[:_MAX_CHANGES]
    ]
    more = len(defaults) - len(named)
    others = [f"{plural(more, 'other default')}"] if more else []
    return f"; a hint: torch changed {listed([*named, *others])} there"


def _default(value: DefaultValue) -> str:
    return clip(json.dumps(value), 40)


def _confounders(confounders: Sequence[reasons.Confounder]) -> str:
    """Return what differs too, and so may be the cause as well."""
    if not confounders:
        return ""
    changes = [_environment_change(change) for found in confounders for change in found.changes]
    more = len(changes) - _MAX_CHANGES
    how = "; ".join(changes[:_MAX_CHANGES]) + (f" and {more} more" if more > 0 else "")
    kinds: Iterable[reasons.ConfounderKind] = (found.kind for found in confounders)
    named = [_CONFOUNDERS[kind] for kind in kinds]
    verb = "differs" if named == [_CONFOUNDERS[reasons.ConfounderKind.MACHINE]] else "differ"
    return f" ({listed(named)} {verb} too, and may be it{f': {how}' if how else ''})"


def _environment_change(change: reasons.EnvironmentChange) -> str:
    there, here = (value or "missing" for value in (change.there, change.here))
    return f"{change.name} {there} there, {here} here"
