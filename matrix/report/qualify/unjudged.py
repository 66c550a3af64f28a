"""The comparisons of a qualification that are not judged, as lines that all forms share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from matrix._util.grouped import group
from matrix._util.text import clean, clip, plural, ratio, seconds
from matrix._util.versions import minor_of
from matrix.catalog.projects import Project
from matrix.qualify.cache_check import Cache, LostCache, lost_caches
from matrix.qualify.model import Match, Qualification
from matrix.qualify.query import Query
from matrix.qualify.speed import (
    LEAST_ROUNDS,
    SLOWDOWN,
    Dropped,
    DroppedCode,
    NoSpeed,
    Speed,
    SpeedCode,
    geometric_mean,
)
from matrix.qualify.unjudged import WarmCode
from matrix.qualify.unlike import UnlikeCode
from matrix.qualify.warm_code import COMPILED_AGAIN
from matrix.record.model import DefaultValue
from matrix.report.qualify.sections import case_name, few, place_name
from matrix.report.qualify.sentences import missing_phrase
from matrix.report.reasons import code_words, reason_words
from matrix.report.timings import FAILED_STEP
from matrix.verdict.reasons import EndedWithoutText
from matrix.verdict.recompiles import WrittenCode

WARM_CODE = "Warm starts that write compiled code, so they are not warm"
DEFAULTS = "Defaults of torch that changed, which are not judged"
METRICS = "Numbers of Inductor that changed, which are not judged"
_TORCH = " under the same vLLM, so torch changed"
_MOST_LINES = 40
_TEXT = 60
_PERCENT = round((SLOWDOWN - 1) * 100)


def alerts(qualification: Qualification) -> list[str]:
    """Return what a reader must not miss: lost caches, warm starts that compile, and the rest."""
    lines = _lost_cache_lines(qualification)
    cases = {
        (found.place, warm.case)
        for found in qualification.unjudged
        for warm in found.warm_code
        if _is_more(warm)
    }
    if cases:
        again = {
            (drift.place, drift.case)
            for drift in qualification.drifts
            if drift.counter == COMPILED_AGAIN
        }
        apart = all(_is_apart(match, qualification) for match in qualification.matches)
        lines.append(
            f"the warm start of {plural(len(cases), 'case')} writes more compiled code than the"
            f" baseline's is known to{_TORCH if cases <= again and apart else ''}; see below"
        )
    fused = [
        (change.before, change.after, case_name(change.case))
        for found in qualification.unjudged
        for change in found.fuses_less
    ]
    if fused:
        kernels = sorted({f"{after} instead of {before}" for before, after, _ in fused})
        lines.append(
            "Inductor fuses less: of as many nodes as at the baseline it generates more kernels"
            f" ({few(kernels, 'count')}) in {few([case for *_, case in fused])}; see below"
        )
    other = [case_name(case) for found in qualification.unjudged for case in found.other_code]
    if other and _same_minor(qualification.query):
        lines.append(
            "Inductor generates other code of as many nodes and kernels as at the baseline in"
            f" {few(sorted(set(other)))}; see below"
        )
    for found in qualification.unjudged:
        lines += [
            f"{place_name(found.place)}: {speed.start} starts are {_percent(speed)} % slower than"
            f" the baseline's: a slowdown, since it is more than {_PERCENT} %{_doubt(speed)}"
            for speed in found.speeds
            if speed.slower
        ]
    return lines


def _same_minor(query: Query) -> bool:
    """Return whether both sides are torch of one minor release, whose code should hardly differ."""
    same = minor_of(query.candidate) == minor_of(query.baseline)
    return same and query.project is Project.TORCH


def _lost_cache_lines(qualification: Qualification) -> list[str]:
    """Return the compile caches of torch that have no hit, with their cells."""
    found = [
        (_lost_words(lost) + _whose(lost, match, qualification), place_name(match.candidate.place))
        for match in qualification.matches
        if match.candidate.variant is None
        for lost in lost_caches(match.baseline, match.candidate)
    ]
    return [
        f"{words}: {few([name for _, name in places], 'cell')}"
        for words, places in group(found, lambda item: item[0]).items()
    ]


def _lost_words(lost: LostCache) -> str:
    name = {
        Cache.AOT_AUTOGRAD: "AOTAutograd's cache",
        Cache.GRAPHS: "Inductor's cache of graphs",
    }[lost.cache]
    if lost.misses:
        how = f"{name} misses in a second process what the first one saved, as with an unstable key"
    elif lost.bypasses:
        how = f"torch bypasses {name} in a second process"
    else:
        how = f"{name} is off: a second process does not use it"
    before = {None: "the baseline's is not known", 0: "the baseline's has no hit either"}
    hits = before.get(lost.before, "the baseline's hits")
    return f"torch.compile alone, without a start of vLLM: {how}; {hits}"


def _whose(lost: LostCache, match: Match, qualification: Qualification) -> str:
    """Return that torch changed, where both sides have the same vLLM and are stock."""
    return _TORCH if lost.before and _is_apart(match, qualification) else ""


def _is_apart(match: Match, qualification: Qualification) -> bool:
    """Return whether nothing but torch differs between the two sides, as far as is known."""
    not_stock = match.baseline.not_stock or match.candidate.not_stock
    same_vllm = match.baseline.vllm == match.candidate.vllm
    return same_vllm and not not_stock and qualification.query.project is Project.TORCH


def _is_more(warm: WarmCode) -> bool:
    return warm.before is None or warm.after.files > warm.before.files


def warm_code_lines(qualification: Qualification) -> list[str]:
    """Return what warm starts of the candidate wrote of compiled code, and the baseline's."""
    found = [
        (place_name(found.place), _warm_words(warm), warm.case)
        for found in qualification.unjudged
        for warm in found.warm_code
    ]
    return [
        f"{place}, {', '.join(case_name(case) for *_, case in items)}: {words}"
        for (place, words), items in group(found, lambda item: item[:2]).items()
    ]


def _warm_words(warm: WarmCode) -> str:
    return f"{code_words(warm.after)}; {_before_words(warm.before)}"


def _before_words(before: WrittenCode | None) -> str:
    if before is None:
        return "what the baseline's wrote is not known"
    if not before.files:
        return "the baseline's wrote none"
    return f"the baseline's wrote {code_words(before)}"


def default_lines(qualification: Qualification, most: int = _MOST_LINES) -> list[str]:
    """Return the defaults that changed, at most so many; then what else is known of them."""
    changes = dict.fromkeys(
        f"{clean(change.config)}.{clean(change.name)}: {_value(change.before)}, now"
        f" {_value(change.after)}"
        for found in qualification.unjudged
        if found.defaults is not None
        for change in found.defaults.changed
    )
    lines = list(changes)[:most]
    if len(changes) > most:
        lines.append(f"and {len(changes) - most} more; --json has all")
    compared = dict.fromkeys(
        (found.defaults.added, found.defaults.removed)
        for found in qualification.unjudged
        if found.defaults is not None
    )
    lines += [
        f"{plural(added, 'name')} at the candidate alone, {removed} at the baseline alone"
        for added, removed in compared
        if added or removed
    ]
    lacking = [
        (found.lacks, place_name(found.place)) for found in qualification.unjudged if found.lacks
    ]
    lines += [
        f"the {side}'s record is older than these observations; run that side again to know them:"
        f" {few([name for _, name in places], 'cell')}"
        for side, places in group(lacking, lambda item: item[0]).items()
    ]
    return lines


def _value(value: DefaultValue) -> str:
    return clip(json.dumps(value), _TEXT)


def metric_rows(qualification: Qualification) -> list[list[str]]:
    """Return start, name, the change and the cases of each of Inductor's numbers that changed."""
    found = [
        (change.start, change.metric, f"{change.before}->{change.after}", change.case)
        for found in qualification.unjudged
        for change in found.metrics
    ]
    return [
        [start, clean(metric), change, few(list(dict.fromkeys(case_name(row[3]) for row in rows)))]
        for (start, metric, change), rows in group(found, lambda item: item[:3]).items()
    ]


def speed_lines(qualification: Qualification) -> list[str]:
    """Return the geometric means of both sides, what does not count, and why others lack."""
    lines = [
        f"{place_name(found.place)}: {words}"
        for found in qualification.unjudged
        for words in (*map(_speed_words, found.speeds), *map(dropped_sentence, found.dropped))
    ]
    missing = [
        (no_speed_sentence(match.unjudged.no_speed), place_name(match.candidate.place))
        for match in _untimed(qualification.matches)
        if match.unjudged is not None and match.unjudged.no_speed is not None
    ]
    lines += [
        f"{sentence}: {few([name for _, name in places], 'cell')}"
        for sentence, places in group(missing, lambda item: item[0]).items()
    ]
    return lines


def _untimed(matches: Iterable[Match]) -> Iterator[Match]:
    """Yield the matches whose geometric means lack for another reason than their seconds do."""
    for match in matches:
        found = None if match.unjudged is None else match.unjudged.no_speed
        in_turns = found is None or found.code is not SpeedCode.NOT_IN_TURNS
        dropped = match.unjudged is not None and match.unjudged.dropped
        if found is not None and (dropped or not (in_turns and match.no_times is not None)):
            yield match


def _speed_words(speed: Speed) -> str:
    """Return the geometric means of a start with their spread, and what the ratio means."""
    before, after = (_sample(values) for values in (speed.before, speed.after))
    percent = _percent(speed)
    change = f"{abs(percent)} % {'slower' if percent > 0 else 'faster'}" if percent else "the same"
    slower = ", a slowdown" if speed.slower else ""
    doubt = _doubt(speed) if percent else ""
    spread = f"{ratio(min(speed.ratios))} to {ratio(max(speed.ratios))}"
    return (
        f"{speed.start}, geometric mean of {plural(speed.cases, 'case')} in"
        f" {plural(len(speed.ratios), 'round')}: {before} -> {after}, ratio {ratio(speed.ratio)}"
        f" ({spread}), {change}{slower}{doubt}"
    )


def _doubt(speed: Speed) -> str:
    return "" if speed.steady else ", though not in every round"


def _sample(values: tuple[float, ...]) -> str:
    spread = f"{seconds(min(values))} to {seconds(max(values))}"
    return f"{seconds(geometric_mean(values))} s ({spread})"


def dropped_sentence(dropped: Dropped) -> str:
    """Return which run does not count in the speeds, and why."""
    match dropped.code:
        case DroppedCode.CUT_SHORT:
            assert dropped.missing is not None
            why = f"it {missing_phrase(dropped.missing)}"
        case DroppedCode.CASE:
            assert dropped.case is not None and dropped.outcome is not None
            ended = EndedWithoutText(outcome=dropped.outcome)
            why = f"{case_name(dropped.case)}: {reason_words(ended)}"
        case UnlikeCode.OTHER_TESTS:
            why = "the startup tests take another time since one of the two runs of its round"
        case UnlikeCode.OTHER_JOBS:
            why = "the two runs of its round had other numbers of cases side by side"
        case UnlikeCode.OTHER_MACHINE:
            why = "the two runs of its round were on different machines"
        case UnlikeCode.OTHER_STEPS:
            why = FAILED_STEP
    return (
        f"the run of the {dropped.side} at {clean(dropped.started)} does not count, nor does its"
        f" round: {why}"
    )


def _percent(speed: Speed) -> int:
    return round((speed.ratio - 1) * 100)


def no_speed_sentence(reason: NoSpeed) -> str:
    """Return why the geometric means of two sides are not compared."""
    match reason.code:
        case UnlikeCode.OTHER_TESTS:
            why = "the startup tests take another time since the runs of one side"
        case UnlikeCode.OTHER_JOBS:
            why = "the two sides ran with other numbers of cases side by side"
        case UnlikeCode.OTHER_MACHINE:
            why = "other machine"
        case UnlikeCode.OTHER_STEPS:
            why = FAILED_STEP
        case SpeedCode.TOO_FEW_RUNS:
            why = (
                f"{plural(reason.baseline, 'run')} of the baseline and {reason.candidate} of the"
                f" candidate; {LEAST_ROUNDS} of each do, in turns"
            )
        case SpeedCode.NOT_IN_TURNS:
            why = "all runs of one side came before those of the other; let them take turns"
        case SpeedCode.NO_CASE:
            why = "no case passed in every run"
    return f"geometric means are not comparable: {why}"
