"""A qualification for a terminal, as Markdown for an umbrella issue, and as JSON."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TypeVar

from packaging.version import Version

from matrix._util.text import (
    aligned,
    clean,
    clip,
    code,
    listed,
    markdown,
    plural,
    seconds,
    spans,
    tabular,
)
from matrix.qualify.model import (
    AS_BEFORE,
    EXPECTED,
    EXPECTED_AGAIN,
    FAILS_AS_BEFORE,
    FAILS_OTHERWISE,
    NEW,
    NO_RULE,
    NOT_ENOUGH,
    NOT_JUDGED,
    NOT_QUALIFIED,
    PROJECTS,
    QUALIFIED,
    REGRESSION,
    REPAIR,
    UNEXPECTED,
    Drift,
    Failure,
    Match,
    Qualification,
    Unknown,
)
from matrix.qualify.runs import CellRun
from matrix.qualify.static_checks import CANNOT_ASK, Rungs, Standing
from matrix.record.model import STARTS
from matrix.rules.waivers import Place, Waiver

__all__ = ["QUALIFY_SCHEMA", "lines", "page", "render"]

QUALIFY_SCHEMA = 2

_MARKS = {QUALIFIED: "✅", NOT_QUALIFIED: "❌", NOT_ENOUGH: "❔"}
_FAILURES = {
    REGRESSION: "Regressions: passed at the baseline",
    FAILS_OTHERWISE: "Failures with another signature, or at another rung, than the baseline's",
    FAILS_AS_BEFORE: "Failures that the baseline has too",
    REPAIR: "Repairs: failed at the baseline",
}
_DRIFTS = {
    UNEXPECTED: "Counters that are not as this release's own expectation",
    NO_RULE: "Counters that changed, and of which nothing is expected yet",
    EXPECTED: "Counters that changed as expected",
    EXPECTED_AGAIN: "Counters that are as expected again",
    AS_BEFORE: "Counters that drift as they did before",
    NEW: "Counters that the baseline did not count",
    NOT_JUDGED: "Counters that changed, and that are not judged",
}
_UNASKED = "Cannot be asked with these wheels: no regression, and no answer"
_FIRST = "First rungs, which need no run; to pass them is no answer"
_MOST_NAMES = 2
_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


def lines(told: Qualification, given: Sequence[str] = ()) -> str:
    """The qualification as aligned text, without any control character of a record's.

    `given` are the arguments of the command that are not of the question: files and folders.
    """
    said = [f"{_title(told)}: {told.verdict}", f"  {_counts(told)}"]
    said += [f"  {each}" for each in _why(told)]
    for kind, title in _FAILURES.items():
        failures = [each for each in told.failures if each.kind == kind]
        if failures:
            said += ["", title, *_failure_lines(failures)]
    if told.flags:
        said += ["", "Effective flags that differ", *(f"  {each}" for each in _flag_lines(told))]
    for kind, title in _DRIFTS.items():
        drifts = [each for each in told.drifts if each.kind == kind]
        if drifts:
            said += ["", title, *_drift_lines(drifts)]
    for title, unknown in _unknowns(told):
        said += ["", title, *(f"  {clean(each)}" for each in _unknown_lines(unknown))]
    said += _rung_lines(told.rungs, PROJECTS[told.asked.other])
    said += _time_lines(told)
    if told.waivers or told.expired or told.idle or told.astray:
        said += ["", "Waivers", *(f"  {clean(each)}" for each in _waiver_lines(told))]
    notes = _notes(told)
    if notes:
        said += ["", "Notes", *(f"  {clean(each)}" for each in notes)]
    commands = _commands(told, given)
    if commands:
        said += ["", "To repeat, or to know more", *(f"  {each}" for each in commands)]
    return "\n".join(line.rstrip() for line in said) + "\n"


def page(told: Qualification, given: Sequence[str] = ()) -> str:
    """The qualification as Markdown. Whatever a record says is shown as text, never as markup."""
    parts = [
        f"## {_MARKS[told.verdict]} {_title(told)}: {told.verdict}\n",
        f"{_counts(told)}.\n",
    ]
    why = _why(told)
    if why:
        parts.append("\n".join(f"- {markdown(each)}" for each in why) + "\n")
    for kind, title in _FAILURES.items():
        failures = [each for each in told.failures if each.kind == kind]
        if failures:
            parts += [f"### {title}\n", *_failure_parts(failures)]
    if told.flags:
        flags = "\n".join(f"- {markdown(each)}" for each in _flag_lines(told))
        parts += ["### Effective flags that differ\n", flags + "\n"]
    for kind, title in _DRIFTS.items():
        parts += _drift_parts([each for each in told.drifts if each.kind == kind], title)
    for title, unknown in _unknowns(told):
        listing = "\n".join(f"- {markdown(each, 600)}" for each in _unknown_lines(unknown))
        parts += [f"### {title}\n", listing + "\n"]
    parts += _rung_parts(told.rungs, PROJECTS[told.asked.other])
    parts += _time_parts(told)
    parts += _waiver_parts(told)
    notes = _notes(told)
    if notes:
        parts += ["### Notes\n", "\n".join(f"- {markdown(each)}" for each in notes) + "\n"]
    parts += _record_parts(told, given)
    return "\n".join(parts)


def render(told: Qualification, given: Sequence[str] = ()) -> str:
    """The qualification as JSON, by `data/qualify.schema.json`. Always ASCII."""
    content = {
        "schema": QUALIFY_SCHEMA,
        "project": told.asked.project,
        "candidate": told.asked.candidate,
        "baseline": told.asked.baseline,
        "asked": {
            "platforms": list(told.asked.platforms),
            "pythons": list(told.asked.pythons),
            "under": None if told.asked.under is None else str(told.asked.under),
        },
        "day": told.today.isoformat(),
        "verdict": told.verdict,
        "exit_status": told.exit_status,
        "compared": told.compared,
        "passed": told.passed,
        "unread": told.unread,
        "cells": [_match_content(each) for each in told.matches],
        "failures": [
            {
                **_place_content(each.place, each.case),
                "kind": each.kind,
                "fails": each.fails,
                "rung": each.rung,
                "signature": each.signature,
                "reason": each.reason,
                "before": each.before,
                "ran": each.ran,
                "apart": each.apart,
                **_waived_content(each),
            }
            for each in told.failures
        ],
        "drifts": [
            {
                **_place_content(each.place, each.case),
                "kind": each.kind,
                "fails": each.fails,
                "start": each.start,
                "counter": each.counter,
                "before": each.before,
                "after": each.after,
                "expected": each.wanted,
                "apart": each.apart,
                **_waived_content(each),
            }
            for each in told.drifts
        ],
        "flags": [
            {
                **_place_content(each.place, each.case),
                "flag": each.flag,
                "before": each.before,
                "after": each.after,
            }
            for each in told.flags
        ],
        "unknown": [
            {
                "cell": each.cell,
                "platform": each.platform,
                "case": each.case,
                "reason": each.reason,
                "blocks": each.blocks and each.waiver is None,
                "signature": each.signature,
                "rung": each.rung,
                "decides": each.decides,
                **_waived_content(each),
            }
            for each in told.unknown
        ],
        "rungs": [
            {
                "platform": each.platform,
                "baseline": {"passed": each.baseline.passed, "fails": each.baseline.fails},
                "candidate": {"passed": each.candidate.passed, "fails": each.candidate.fails},
                "kind": each.kind,
                "reason": each.reason,
                "releases": list(each.others),
                "pythons": list(each.pythons),
            }
            for each in told.rungs
        ],
        "times": [
            {
                **_place_content(each.place, each.case),
                "start": each.start,
                "before": list(each.before),
                "after": list(each.after),
            }
            for each in told.times
        ],
        "waivers": [
            *(_waiver_content(each, "waives", count) for each, count in told.waivers),
            *(_waiver_content(each, "expired", count) for each, count in told.expired),
            *(_waiver_content(each, "idle", 0) for each in told.idle),
            *(_waiver_content(each, "astray", 0) for each in told.astray),
        ],
        "notes": _notes(told),
        "commands": _commands(told, given),
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _title(told: Qualification) -> str:
    name = PROJECTS[told.asked.project]
    on = f" on {listed(told.platforms)}" if told.platforms else ""
    under = f", under {PROJECTS[told.asked.other]} {told.asked.under}" if told.asked.under else ""
    python = f", Python {listed(told.asked.pythons)}" if told.asked.pythons else ""
    return f"{name} {told.asked.candidate} against {told.asked.baseline}{on}{under}{python}"


def _counts(told: Qualification) -> str:
    failing = {(each.place, each.case) for each in told.failing if isinstance(each, Drift)}
    kinds = [each.kind for each in told.failures if each.fails or each.kind == REPAIR]
    drifts = sum(each.fails for each in told.drifts)
    broken = kinds.count(REGRESSION) + kinds.count(FAILS_OTHERWISE)
    waived = sum(count for _, count in told.waivers)
    where = f" in {plural(len(failing), 'case')}" if drifts else ""
    unasked = sum(each.rung is not None for each in told.blocking)
    parts = [
        plural(broken, "regression"),
        plural(kinds.count(REPAIR), "repair"),
        f"{plural(drifts, 'drift')}{where}",
        *([f"{waived} waived"] if waived else []),
        f"{sum(each.rung is None for each in told.blocking)} not known",
        *([f"{plural(unasked, 'cell')} cannot be asked"] if unasked else []),
    ]
    cells = sum(match.compared > 0 for match in told.matches)
    return f"{plural(told.compared, 'case')} of {plural(cells, 'cell')} compared: " + ", ".join(
        parts
    )


def _why(told: Qualification) -> list[str]:
    """What stands in the way, beyond the failures that are listed anyway."""
    said = []
    if not told.compared:
        said.append("no case has an answer on both sides, so nothing was compared")
    elif not told.passed and told.verdict == NOT_ENOUGH:
        said.append("no case that was compared passes, so nothing shows that it works")
    if any(each.expired for each in told.failing):
        said.append(
            "what an expired waiver accepted fails again, though the baseline may have it too"
        )
    if told.unread:
        said.append(f"{plural(told.unread, 'record')} could not be read, and may decide")
    if told.verdict == NOT_ENOUGH and told.blocking and told.compared:
        said.append("what has an answer on one side alone is too little; see what is not known")
    if any(each.rung == "links" for each in told.blocking):
        said.append(
            "what cannot be asked with these wheels has no answer until one is built for that"
            " torch; --under asks without it, and a waiver of its signature accepts that"
        )
    return said


def _failure_lines(failures: Sequence[Failure]) -> list[str]:
    said = []
    for signature, of in _group(failures, lambda each: each.signature).items():
        said.append(f"  {clean(signature)}")
        for (place, rung), cases in _group(of, lambda each: (each.place, each.rung)).items():
            said += [f"    {_at(place)}, {rung}: {_whole(each)}{_marked(each)}" for each in cases]
        before = sorted({each.before for each in of if each.before and each.before != signature})
        said += [f"    at the baseline: {clean(each)}" for each in before]
    return said


def _failure_parts(failures: Sequence[Failure]) -> list[str]:
    parts = []
    for signature, of in _group(failures, lambda each: each.signature).items():
        parts.append(f"**{markdown(signature)}**\n")
        before = sorted({each.before for each in of if each.before and each.before != signature})
        parts += [f"At the baseline: {markdown(each)}\n" for each in before]
        rows = [
            [
                code(each.place.cell),
                each.place.platform,
                f"{each.place.torch}, {each.place.vllm}",
                code(_whole(each)),
                markdown(each.rung or "-"),
                markdown(each.reason or ""),
                markdown(_mark(each)),
            ]
            for each in of
        ]
        parts.append(
            tabular(["cell", "platform", "torch, vLLM", "case", "rung", "reason", ""], rows)
        )
    return parts


def _drift_lines(drifts: Sequence[Drift]) -> list[str]:
    """One line a counter and start, with each of its changes, the most frequent first."""
    rows = []
    for of in _group(
        _ordered(drifts), lambda each: (each.start, each.counter, _mark(each))
    ).values():
        changes = Counter(_change(each) for each in of)
        first = of[0]
        rows.append(
            [
                f"  {first.start}",
                clean(first.counter),
                ", ".join(change for change, _ in changes.most_common()),
                _few([_named(each.case) for each in of]),
                clean(_mark(first)),
            ]
        )
    return aligned(rows)


def _change(drift: Drift, arrow: str = "->") -> str:
    said = _count(drift.after)
    if not drift.alone:
        said = f"{_count(drift.before)}{arrow}{said}"
    return f"{said} (expected {drift.wanted})" if drift.kind == UNEXPECTED else said


def _drift_parts(drifts: Sequence[Drift], title: str) -> list[str]:
    """The counters of which an expectation speaks, and the others folded below them."""
    if not drifts:
        return []
    parts = [f"### {title}\n"]
    judged = [each for each in drifts if each.judged]
    others = [each for each in drifts if not each.judged]
    if judged:
        parts.append(_drift_table(judged))
    if others:
        more = "Counters of which no expectation of either side speaks"
        parts.append(
            f"<details><summary>{more}: {plural(len(others), 'change')}</summary>\n\n"
            f"{_drift_table(others)}\n</details>\n"
        )
    return parts


def _drift_table(drifts: Sequence[Drift]) -> str:
    """One row a change, with its cases; the cells only where they are several."""

    def key(each: Drift) -> tuple[str, str, str, str]:
        return each.start, each.counter, _change(each, " → "), _mark(each)

    places = list(dict.fromkeys(each.place for each in drifts))
    rows = [
        [
            start,
            code(counter),
            change,
            ", ".join(dict.fromkeys(code(_named(each.case)) for each in of)),
            *([_cells(each.place for each in of)] if len(places) > 1 else []),
            markdown(mark),
        ]
        for (start, counter, change, mark), of in _group(_ordered(drifts), key).items()
    ]
    several = len(places) > 1
    table = tabular(["start", "counter", "change", "cases", *(["cells"] * several), ""], rows)
    return table if several else f"In {_cells(places)}:\n\n{table}"


def _cells(places: Iterable[Place]) -> str:
    return ", ".join(dict.fromkeys(f"{code(each.cell)} on {each.platform}" for each in places))


def _ordered(drifts: Iterable[Drift]) -> list[Drift]:
    """Cold before warm, and the counters that expectations speak of first."""

    def key(each: Drift) -> tuple[int, bool, str, int, int]:
        before, after = (-1 if count is None else count for count in (each.before, each.after))
        return STARTS.index(each.start), not each.judged, each.counter, before, after

    return sorted(drifts, key=key)


def _flag_lines(told: Qualification) -> list[str]:
    """Each flag that differs, and how many of the drifts are where it does."""
    drifting = [each for each in told.drifts if each.kind not in (AS_BEFORE, NEW, NOT_JUDGED)]
    said = []
    for (flag, before, after), of in _group(
        told.flags, lambda each: (each.flag, json.dumps(each.before), json.dumps(each.after))
    ).items():
        cases = {(each.place, each.case) for each in of}
        there = sum((each.place, each.case) in cases for each in drifting)
        same = told.compared - len(cases)
        where = f"{there} of {plural(len(drifting), 'counter change')} are there"
        if drifting and there == len(drifting):
            where = f"all {plural(there, 'counter change')} are there"
            where += (
                f", and none in the {plural(same, 'case')} where it is the same" if same else ""
            )
        told_where = f"; {where}" if drifting else ""
        said.append(
            f"{clean(flag)}: {clean(before)}, now {clean(after)}, in {len(cases)} of"
            f" {plural(told.compared, 'case')}{told_where}"
        )
    return said


def _unknowns(told: Qualification) -> list[tuple[str, list[Unknown]]]:
    """What is not known, and what cannot be: each with its title, where there is some."""
    groups = [
        ("Not known", [each for each in told.unknown if each.rung is None]),
        (_UNASKED, [each for each in told.unknown if each.rung is not None]),
    ]
    return [(title, unknown) for title, unknown in groups if unknown]


def _unknown_lines(unknown: Sequence[Unknown]) -> list[str]:
    """What is not known, those that block first; the same reason of many cases in one line."""
    groups = _group(
        sorted(unknown, key=lambda each: not each.blocks),
        lambda each: (each.cell, each.platform, each.reason, _mark(each), each.blocks),
    )
    said = []
    for (cell, platform, reason, mark, blocks), of in groups.items():
        names = [_named(each.case) for each in of if each.case is not None]
        cases = f", {_few(names)}" if names else ""
        said.append(
            f"{cell} on {platform}{cases}: {clip(clean(reason), 400)}{f' ({mark})' if mark else ''}"
            f"{'' if blocks else '; this does not count'}"
        )
    return said


def _rung_rows(rungs: Sequence[Rungs], project: str) -> list[list[str]]:
    """The first rungs as columns of plain text: both standings, of what, and what it means.

    What fares alike but for its reason is one row, with the reasons in it.
    """
    groups = _group(
        rungs, lambda each: (each.platform, each.baseline, each.candidate, each.kind, each.pythons)
    )
    order = list(dict.fromkeys(other for each in rungs for other in each.others))
    order.sort(key=Version)
    rows = []
    for (platform, before, after, kind, pythons), of in groups.items():
        others = {other for each in of for other in each.others}
        places = [at for at, other in enumerate(order) if other in others]
        on = f" on Python {listed(pythons)}" if pythons else ""
        reasons = list(dict.fromkeys(clean(each.reason) for each in of if each.reason))
        more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        why = f"{clip(reasons[0], 160)}{more}" if reasons and kind is not None else ""
        rows.append(
            [
                platform,
                f"{_standing(before)} -> {_standing(after)}",
                f"{project} {spans(order, places)}{on}",
                ": ".join(filter(None, [_KINDS.get(kind, kind) if kind else "", why])),
            ]
        )
    return rows


_KINDS = {CANNOT_ASK: "cannot be asked with these wheels"}


def _standing(standing: Standing) -> str:
    return f"no {standing.fails}" if standing.fails else standing.passed or "not asked"


def _rung_lines(rungs: Sequence[Rungs], project: str) -> list[str]:
    if not rungs:
        return []
    rows = aligned([[f"  {row[0]}", *row[1:]] for row in _rung_rows(rungs, project)])
    return ["", _FIRST, *rows]


def _rung_parts(rungs: Sequence[Rungs], project: str) -> list[str]:
    if not rungs:
        return []
    rows = [
        [platform, markdown(change.replace("->", "→")), markdown(what), markdown(why)]
        for platform, change, what, why in _rung_rows(rungs, project)
    ]
    head = ["platform", "baseline → candidate", f"with {project}", ""]
    return [f"### {_FIRST}\n", tabular(head, rows)]


def _time_lines(told: Qualification) -> list[str]:
    said = []
    if told.times:
        rows = [
            [
                f"  {each.start}",
                seconds(median(each.before)),
                "->",
                seconds(median(each.after)),
                _named(each.case),
                _at(each.place),
            ]
            for each in told.times
        ]
        said += aligned([["  start", "from", "", "to, s", "case", "cell"], *rows], right=(1, 3))
    said += [f"  {clean(each)}" for each in _no_times(told)]
    return ["", "Seconds, which are not judged", *said] if said else []


def _time_parts(told: Qualification) -> list[str]:
    rows = [
        [
            code(each.place.cell),
            each.place.platform,
            code(_named(each.case)),
            each.start,
            f"{seconds(median(each.before))} ({len(each.before)})",
            f"{seconds(median(each.after))} ({len(each.after)})",
        ]
        for each in told.times
    ]
    parts = []
    if rows:
        head = ["cell", "platform", "case", "start", "baseline, s (runs)", "candidate, s (runs)"]
        parts.append(tabular(head, rows, right=(4, 5)))
    parts += [f"- {markdown(each)}\n" for each in _no_times(told)]
    return ["### Seconds, which are not judged\n", *parts] if parts else []


def _no_times(told: Qualification) -> list[str]:
    found = [(match.no_times, match.candidate.place) for match in told.matches if match.no_times]
    return [
        f"{why}: {_few([_at(place) for _, place in of], 'cell')}"
        for why, of in _group(found, lambda each: each[0]).items()
    ]


def _waiver_lines(told: Qualification) -> list[str]:
    said = [
        f"{each.id} waives {count}, until {each.until}: {each.why} ({each.link})"
        for each, count in told.waivers
    ]
    said += [
        f"{each.id} EXPIRED on {each.until}, so {count} it waived count again: {each.link}"
        for each, count in told.expired
    ]
    said += [
        f"{each.id} matches nothing here{_over(told, each)}; take it out if it is mended:"
        f" {each.link}"
        for each in told.idle
    ]
    said += [
        f"{each.id} speaks of the candidate and of no cell that was compared{_of(each)}; mend it or"
        f" take it out: {each.link}"
        for each in told.astray
    ]
    return said


def _of(waiver: Waiver) -> str:
    where = [each for each in (waiver.cell, waiver.platform) if each is not None]
    return f" ({', '.join(where)})" if where else ""


def _over(told: Qualification, waiver: Waiver) -> str:
    return f" and expired on {waiver.until}" if waiver.expired(told.today) else ""


def _waiver_parts(told: Qualification) -> list[str]:
    states = [
        *((each, f"waives {count}") for each, count in told.waivers),
        *((each, f"expired; {count} count again") for each, count in told.expired),
        *((each, f"matches nothing{_over(told, each)}") for each in told.idle),
        *((each, f"is of no cell that was compared{_of(each)}") for each in told.astray),
    ]
    rows = [
        [
            markdown(each.id),
            state,
            markdown(each.why),
            each.until.isoformat(),
            markdown(each.owner or "-"),
            f"<{each.link}>",
        ]
        for each, state in states
    ]
    head = ["waiver", "", "why", "until", "owner", "link"]
    return ["### Waivers\n", tabular(head, rows)] if rows else []


def _notes(told: Qualification) -> list[str]:
    said = list(told.notes)
    for match in told.matches:
        said += [f"{_at(match.candidate.place)}: {each}" for each in match.notes]
    if told.elsewhere:
        said.append(f"{plural(told.elsewhere, 'waiver')} of other releases or platforms left out")
    return list(dict.fromkeys(said))


def _commands(told: Qualification, given: Sequence[str]) -> list[str]:
    """What runs the candidate's cells again, or for the first time, and asks this question."""
    asked = told.asked
    cells = {
        (each.decides or each.cell, each.platform): None
        for each in told.unknown
        if each.blocks and each.rung is None
    }
    for match in told.matches:
        place = match.candidate.place
        cells[place.cell, place.platform] = None
    which = asked.platforms[0] if len(asked.platforms) == 1 else "all"
    more = "".join(f" --python {each}" for each in asked.pythons)
    more += f" --under '{asked.under}'" if asked.under else ""
    return [
        *(f"tox -e {cell} -- --platform {platform}" for cell, platform in cells),
        f"matrix qualify --{asked.project} {asked.candidate} --baseline {asked.baseline}"
        f" --platform {which}{more}{''.join(f' {shlex.quote(each)}' for each in given)}",
    ]


def _record_parts(told: Qualification, given: Sequence[str]) -> list[str]:
    rows = [
        [
            side,
            f"{code(ran.record.cell)}{' (off-pin)' if ran.entry.off_pin else ''}",
            ran.record.platform,
            *(markdown(str(ran.record.provenance.get(key) or "-")) for key in _VERSIONS),
            markdown(_device(ran)),
            markdown(str(ran.record.provenance.get("os") or "-")),
            markdown(ran.entry.part or str(len(ran.record.cases))),
            ran.record.started,
            code(str(ran.path)),
        ]
        for match in told.matches
        for side, ran in (("baseline", match.baseline), ("candidate", match.candidate))
    ]
    parts = []
    if rows:
        head = ["", "cell", "platform", *_VERSIONS.values(), "device", "system", "cases"]
        parts += ["### Environment and records\n", tabular([*head, "started", "record"], rows)]
        parts += [
            f"- {code(match.candidate.record.cell)} on {match.candidate.record.platform}, packages"
            f" that differ: {markdown(changed, 1000)}\n"
            for match in told.matches
            if (changed := _packages(match))
        ]
    commands = _commands(told, given)
    return [*parts, "### Commands\n", "```console\n" + "\n".join(commands) + "\n```\n"]


_VERSIONS = {
    "torch": "torch",
    "vllm": "vLLM",
    "triton": "triton",
    "cuda": "CUDA",
    "python": "Python",
}


def _device(ran: CellRun) -> str:
    gpu, cpu = (ran.record.provenance.get(key) for key in ("gpu", "cpu"))
    if isinstance(gpu, dict):
        return f"{gpu.get('name')}, driver {gpu.get('driver')}"
    return f"{cpu.get('model')}, {cpu.get('cores')} cores" if isinstance(cpu, dict) else "-"


def _packages(match: Match) -> str:
    first, second = match.baseline.record.packages, match.candidate.record.packages
    if not first or not second:
        return ""
    return ", ".join(
        f"{name} {first.get(name, 'none')} → {second.get(name, 'none')}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    )


def _match_content(match: Match) -> dict[str, object]:
    return {
        "platform": match.candidate.record.platform,
        "python": match.candidate.python,
        "compared": match.compared,
        "passed": match.passed,
        "apart": match.candidate.apart,
        "times_not_comparable": match.no_times,
        "notes": list(match.notes),
        **{
            side: {
                "cell": ran.record.cell,
                "torch": ran.torch,
                "vllm": ran.vllm,
                "off_pin": ran.entry.off_pin,
                "record": str(ran.path),
                "started": ran.record.started,
                "verdict": ran.entry.verdict.verdict,
            }
            for side, ran in (("baseline", match.baseline), ("candidate", match.candidate))
        },
    }


def _place_content(place: Place, case: str) -> dict[str, object]:
    return {
        "cell": place.cell,
        "platform": place.platform,
        "torch": place.torch,
        "vllm": place.vllm,
        "case": case or None,
    }


def _waived_content(each: Failure | Drift | Unknown) -> dict[str, object]:
    return {
        "waiver": each.waiver.id if each.waiver else None,
        "expired": each.expired.id if each.expired else None,
    }


def _waiver_content(waiver: Waiver, state: str, count: int) -> dict[str, object]:
    return {
        "id": waiver.id,
        "state": state,
        "count": count,
        "why": waiver.why,
        "link": waiver.link,
        "until": waiver.until.isoformat(),
        "owner": waiver.owner,
    }


def _mark(each: Failure | Drift | Unknown) -> str:
    marks = []
    if not isinstance(each, Unknown) and each.apart is not None:
        marks.append(f"with {each.apart}")
    if each.waiver is not None:
        marks.append(f"waived by {each.waiver.id}")
    elif each.expired is not None:
        marks.append(f"waiver {each.expired.id} expired on {each.expired.until}")
    return ", ".join(marks)


def _marked(each: Failure | Drift | Unknown) -> str:
    mark = clean(_mark(each))
    return f" ({mark})" if mark else ""


def _at(place: Place) -> str:
    return f"{place.cell} on {place.platform}"


def _whole(failure: Failure) -> str:
    return _named(failure.case) if failure.ran else "no run, the rung alone"


def _named(case: str | None) -> str:
    return clip(clean(case), 80) if case else "the whole run"


def _count(value: int | None) -> str:
    return "none" if value is None else str(value)


def _few(names: Sequence[str], what: str = "case") -> str:
    """The names, or how many where they are many; one that is there twice, of two cells, is two."""
    return ", ".join(names) if len(names) <= _MOST_NAMES else plural(len(names), what)


def _group(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> Mapping[_Key, list[_Item]]:
    found: dict[_Key, list[_Item]] = {}
    for each in items:
        found.setdefault(key(each), []).append(each)
    return found
