"""A plan as aligned text, as names of tox environments, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from matrix._util.text import aligned, at_most, clean, clip, plural
from matrix.report.coded import coded, operand
from matrix.report.reasons import contradiction_words, reason_words
from matrix.report.stock import described, differing
from matrix.verdict import plan_reasons as reasons
from matrix.verdict.ladder import Progress
from matrix.verdict.plan import Planned

_SCHEMA = 2
_WIDEST = 100
_DIGITS = 12  # of a SHA-256, for people


def lines(
    planned: Sequence[Planned],
    *,
    every: bool = False,
    held: Sequence[Planned] = (),
    off_pin: int = 0,
) -> str:
    """Return what would run, a line each, and a sum; with `every` also the rest, and why.

    `held` and `off_pin` as for `summary`.
    """
    shown = [item for item in planned if item.runs or every]
    head = ["environment", "platform", "minutes", "known", "why"]
    rows = [
        [
            item.cell.name,
            item.platform,
            _minutes(item) if item.runs else "-",
            _known(item.progress),
            clip(clean(why_words(item)), _WIDEST),
        ]
        for item in shown
    ]
    table = aligned([head, *rows], right=(2,)) if rows or not held else []
    return "\n".join([*table, summary(planned, every=every, held=held, off_pin=off_pin)]) + "\n"


def why_words(item: Planned) -> str:
    """Return why a plan has a cell, after what brought its pair into the plan."""
    why = "; ".join(map(plan_words, (item.why, *(item.also if item.runs else ()))))
    if item.brought is None or not item.runs:
        return why
    how = "next to" if item.brought.code is reasons.BroughtCode.BESIDE else "new"
    return f"{how} {item.brought.project.label} {item.brought.version}; {why}"


def plan_words(reason: reasons.PlanReason) -> str:
    """Return why a cell would run, would run as it did, or cannot work."""
    match reason:
        case reasons.CannotWork(reason=inner):
            return reason_words(inner)
        case reasons.Running(since=since, other=other):
            running = f"is running since {since}"
            if other is not None:
                return f"{running} with torch {other.torch} and vLLM {other.vllm}"
            return f"{running} with some of the cases" if reason.partial else running
        case reasons.NotStale(day=day):
            return f"ran on {day}, not stale"
        case reasons.ObservedLess(day=day):
            return f"ran on {day} and recorded neither torch's defaults nor its caches"
        case _:
            return _stale(reason)


def _stale(reason: reasons.StaleReason) -> str:
    match reason:
        case reasons.NeverRan():
            text = "never ran"
        case reasons.EndedEarly(kind=kind):
            text = f"its run ended early ({kind.replace('_', ' ')})"
        case reasons.RanUnfinished():
            text = "its run did not finish"
        case reasons.PackageFailed(departure=departure):
            text = f"its environment was not what vLLM requires ({described(departure)})"
        case reasons.RanNotStock(departures=departures):
            text = f"its environment was not stock ({differing(departures)})"
        case reasons.Partial(held=held, total=total):
            text = f"ran {held} of {total} cases"
        case reasons.NoCase():
            text = "its run had no case"
        case reasons.CasesUntested(cases=cases):
            text = f"its run has no answer for {_some(cases)}"
        case reasons.TooOld(days=days, most=most):
            text = f"ran {_days(days)} ago, and a record may be {_days(most)} old"
        case reasons.Forced(day=day):
            text = f"ran on {day}, asked for by --force"
        case _:
            text = _difference(reason)
    return text


def _difference(reason: reasons.KeyDifference) -> str:
    """Return how the key of a record differs from that of what would run here."""
    match reason:
        case reasons.RanOtherReleases(torch=torch, vllm=vllm):
            text = f"ran torch {torch} with vLLM {vllm}"
        case reasons.UnknownTests():
            text = "made with startup tests that this checkout does not know"
        case reasons.TestsChanged(changes=changed):
            text = f"startup tests changed: {'; '.join(changed)}"
        case reasons.OtherBuild(candidate=candidate, ran=ran, here=here):
            text = f"ran another build of {candidate} ({ran}, now {here})"
        case reasons.OtherFile(project=project, ran=ran, here=here):
            text = (
                f"ran another wheel of {project} (SHA-256 {ran[:_DIGITS]}, here {here[:_DIGITS]})"
            )
        case reasons.OtherPackages(changes=packages, resolved=day):
            resolved = "" if day is None else f", by what was resolved on {day}"
            text = f"ran {_some(list(map(_package, packages)))}{resolved}"
        case reasons.OtherMachine(ran=ran, here=here):
            text = f"ran on {ran}, now on {here}"
        case reasons.OtherGpu(ran=ran, here=kinds):
            text = f"ran on {ran}, now on {' or '.join(kinds)}"
        case reasons.OtherDriver(ran=ran, here=here):
            text = f"ran with NVIDIA driver {ran}, now {here}"
        case reasons.RanWithOtherFlags(flags=flags):
            changes = [f"{flag.name}={flag.ran}, asked for {flag.asked}" for flag in flags]
            text = f"ran with {_some(changes)}"
    return text


def _package(change: reasons.PackageChange) -> str:
    """Return a package of a run: `with numpy 2.2.6 (now 2.3.0)`, `without ray (now 2.48)`."""
    before = f"without {change.name}" if change.ran is None else f"with {change.name} {change.ran}"
    return f"{before} ({'now without' if change.here is None else f'now {change.here}'})"


def _some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many there are besides."""
    return ", ".join(at_most(most, names))


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"


def summary(
    planned: Sequence[Planned],
    *,
    every: bool = False,
    held: Sequence[Planned] = (),
    off_pin: int = 0,
) -> str:
    """Return how much would run, in one line.

    The minutes are those of earlier runs, if necessary of the pair on another Python. `held` are
    the cells whose records stand; where nothing is to run they are counted, with the parts of their
    keys that were not compared. `off_pin` is how many cells --off-pin would add there.
    """
    todo = [item for item in planned if item.runs]
    pruned = len(planned) - len(todo)
    cannot = f"; {pruned} cannot work{'' if every else ' (--all shows why)'}" if pruned else ""
    if not todo:
        more = f"; --off-pin adds {plural(off_pin, 'cell')}" if off_pin else ""
        return f"nothing to run{_holding(held)}{cannot}{more}"
    stale = [item for item in todo if not item.holds]
    holding = len(todo) - len(stale)
    also = ""
    if holding:
        them, them_out = (
            ("its record holds", "it") if holding == 1 else ("their records hold", "them")
        )
        also = f"; {holding} more would run again, though {them} (--stale leaves {them_out} out)"
    known = [item.seconds for item in stale if item.seconds is not None]
    took = ""
    if known:
        took = f"; {sum(known) / 60:.0f} minutes for the {len(known)} whose minutes are known"
    return f"{len(stale) or 'nothing'} to run{took}{also}{cannot}"


def _holding(held: Sequence[Planned]) -> str:
    if not held:
        return ""
    count = len(held)
    words = f": {count} record{' holds' if count == 1 else 's hold'}"
    parts = [
        f"{part} of {number}"
        for part in reasons.KeyPart
        if (number := sum(part in item.not_compared for item in held))
    ]
    return f"{words} (not known, so not compared: {', '.join(parts)})" if parts else words


def names(planned: Sequence[Planned]) -> str:
    """Return the environments to run, each once, as `tox -e` takes them; "" for none."""
    return ",".join(dict.fromkeys(item.cell.name for item in planned if item.runs))


def content(planned: Sequence[Planned], tests_version: int) -> str:
    """Return the plan as JSON, with what would not run, too. Always ASCII.

    `tests_version` is that of the startup tests as they are now.
    """
    cells = [
        {
            "name": item.cell.name,
            "platform": item.platform,
            "python": item.cell.python,
            "torch": item.cell.torch,
            "vllm": item.cell.vllm,
            "off_pin": item.progress.off_pin,
            "runs": item.runs,
            "stale": item.stale,
            "tests_changed": list(item.tests_changed),
            "why": why_words(item),
            "because": coded(item.why),
            "also": list(map(coded, item.also)),
            "not_compared": list(item.not_compared),
            "brought": operand(item.brought),
            "verdict": item.progress.verdict,
            "reached": item.progress.reached,
            "fails": item.progress.fails,
            "reason": item.progress.reason and reason_words(item.progress.reason),
            "unknown": list(item.progress.unknown),
            "contradictions": list(map(contradiction_words, item.progress.contradictions)),
            "seconds": item.seconds,
            "seconds_of": item.seconds_of,
        }
        for item in planned
    ]
    whole = {"schema": _SCHEMA, "tests_version": tests_version, "cells": cells}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _known(progress: Progress) -> str:
    """Return what is known of a cell: the rung that it reached or fails at; whether off-pin."""
    if progress.fails is not None:
        known = f"fails at {progress.fails}"
    else:
        known = f"{progress.reached or 'nothing'}{' ?' if progress.skipped else ''}"
    known += ", off-pin" if progress.off_pin else ""
    return known + (", contradicted" if progress.contradictions else "")


def _minutes(planned: Planned) -> str:
    """Return the minutes of the cell's own run, or those of another Python with a tilde."""
    if planned.seconds is None:
        return "-"
    own = planned.seconds_of == planned.cell.name
    return f"{'' if own else '~'}{planned.seconds / 60:.1f}"
