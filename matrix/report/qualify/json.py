"""A qualification as JSON, by `data/qualify.schema.json`.

What has a reason has it three times: its code and its operands for programs, and the sentence for
people.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Literal

from matrix.qualify.caveats import Caveat, PairCaveat
from matrix.qualify.model import Drift, Failure, Flag, Match, Qualification, Unknown, Waived
from matrix.qualify.runs import CellRun, Variant
from matrix.qualify.speed import Dropped, NoSpeed, Speed
from matrix.qualify.static_checks import RungComparison, Standing
from matrix.qualify.unjudged import Unjudged
from matrix.record.model import CellRef
from matrix.report.coded import because, coded, named, operand
from matrix.report.qualify import sections
from matrix.report.qualify.sentences import (
    caveat_sentence,
    failure_reason,
    no_times_sentence,
    unknown_sentence,
    variant_phrase,
)
from matrix.report.qualify.unjudged import dropped_sentence, no_speed_sentence
from matrix.report.reasons import reason_words
from matrix.rules.waivers import Waiver

_QUALIFY_SCHEMA = 3


def render(qualification: Qualification, given: Sequence[str] = ()) -> str:
    """Return the JSON text, always ASCII.

    `given` are the command's arguments that are not of the query: files and folders.
    """
    query = qualification.query
    content = {
        "schema": _QUALIFY_SCHEMA,
        "project": query.project,
        "candidate": query.candidate,
        "baseline": query.baseline,
        "asked": {
            "platforms": list(query.platforms),
            "pythons": list(query.pythons),
            "under": None if query.under is None else str(query.under),
        },
        "day": qualification.today.isoformat(),
        "verdict": qualification.verdict,
        "exit_status": qualification.exit_status,
        "compared": qualification.compared,
        "passed": qualification.passed,
        "unread": qualification.unread,
        "cells": [_match(match) for match in qualification.matches],
        "failures": [_failure(failure) for failure in qualification.failures],
        "drifts": [_drift(drift) for drift in qualification.drifts],
        "flags": [_flag(flag) for flag in qualification.flags],
        "unknown": [_unknown(unknown) for unknown in qualification.unknown],
        "rungs": [_rungs(row) for row in qualification.rungs],
        "times": [
            {
                **_place(time.place, time.case),
                "start": time.start,
                "before": list(time.before),
                "after": list(time.after),
            }
            for time in qualification.times
        ],
        "waivers": [
            *(_waiver(waiver, "waives", count) for waiver, count in qualification.waivers),
            *(_waiver(waiver, "expired", count) for waiver, count in qualification.expired),
            *(_waiver(waiver, "idle", 0) for waiver in qualification.unused),
            *(_waiver(waiver, "astray", 0) for waiver in qualification.unmatched),
        ],
        "waivers_elsewhere": qualification.elsewhere,
        "caveats": [_caveat(caveat) for caveat in qualification.caveats],
        "notes": sections.notes(qualification),
        "commands": sections.commands(qualification, given),
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _match(match: Match) -> dict[str, object]:
    no_times = match.no_times
    return {
        "platform": match.candidate.record.platform,
        "python": match.candidate.python,
        "compared": match.compared,
        "passed": match.passed,
        **_variant(match.candidate.variant),
        "times_not_comparable": None if no_times is None else no_times_sentence(no_times),
        "no_times": None if no_times is None else coded(no_times),
        "notes": [caveat_sentence(caveat) for caveat in match.caveats],
        "caveats": [_caveat(caveat) for caveat in match.caveats],
        "baseline": _run(match.baseline),
        "candidate": _run(match.candidate),
        "unjudged": None if match.unjudged is None else _unjudged(match.unjudged),
    }


def _unjudged(found: Unjudged) -> dict[str, object]:
    no_speed = found.no_speed
    return {
        "defaults": operand(found.defaults),
        "lacks": found.lacks,
        "metrics": [operand(change) for change in found.metrics],
        "warm_code": [operand(warm) for warm in found.warm_code],
        "speeds": [_speed(speed) for speed in found.speeds],
        "no_speed": None
        if no_speed is None
        else {**_values(no_speed), "reason": no_speed_sentence(no_speed)},
        "dropped": [
            {**_values(dropped), "reason": dropped_sentence(dropped)} for dropped in found.dropped
        ],
    }


def _speed(speed: Speed) -> dict[str, object]:
    return {
        **_values(speed),
        "ratios": [round(ratio, 4) for ratio in speed.ratios],
        "ratio": round(speed.ratio, 4),
        "slowdown": speed.slower,
    }


def _values(fact: Speed | NoSpeed | Dropped) -> dict[str, object]:
    names = [field.name for field in fields(fact)] if isinstance(fact, Speed) else fact._fields
    return {name: operand(getattr(fact, name)) for name in names}


def _run(run: CellRun) -> dict[str, object]:
    return {
        "cell": run.record.cell,
        "torch": run.torch,
        "vllm": run.vllm,
        "off_pin": run.entry.off_pin,
        "record": str(run.path),
        "started": run.record.started,
        "verdict": run.entry.verdict.verdict,
    }


def _failure(failure: Failure) -> dict[str, object]:
    return {
        **_place(failure.place, failure.case),
        "kind": failure.kind,
        "fails": failure.fails,
        "rung": failure.rung,
        "signature": failure.signature,
        "reason": failure_reason(failure),
        "detail": failure.detail and reason_words(failure.detail),
        "because": because(failure.detail),
        "pythons": list(failure.pythons),
        "before": failure.before,
        "ran": failure.ran,
        **_variant(failure.variant),
        **_waived(failure.waived),
    }


def _drift(drift: Drift) -> dict[str, object]:
    return {
        **_place(drift.place, drift.case),
        "kind": drift.kind,
        "fails": drift.fails,
        "start": drift.start,
        "counter": drift.counter,
        "before": drift.before,
        "after": drift.after,
        "expected": drift.expected,
        **({} if drift.rank is None else {"rank": drift.rank}),
        "not_stock": list(drift.not_stock),
        "without": list(drift.without),
        **_variant(drift.variant),
        **_waived(drift.waived),
    }


def _flag(flag: Flag) -> dict[str, object]:
    return {
        **_place(flag.place, flag.case),
        "flag": flag.flag,
        "before": flag.before,
        "after": flag.after,
    }


def _unknown(unknown: Unknown) -> dict[str, object]:
    return {
        "cell": unknown.cell,
        "platform": unknown.platform,
        "case": named(unknown.case),
        "reason": unknown_sentence(unknown),
        **coded(unknown.reason),
        "blocks": unknown.blocks and unknown.waived.waiver is None,
        "signature": unknown.signature,
        "rung": unknown.rung,
        "decides": unknown.decides,
        "variant": operand(unknown.variant),
        **_waived(unknown.waived),
    }


def _rungs(row: RungComparison) -> dict[str, object]:
    return {
        "platform": row.platform,
        "baseline": _standing(row.baseline),
        "candidate": _standing(row.candidate),
        "kind": row.change,
        "reason": row.reason and reason_words(row.reason),
        "releases": list(row.others),
        "pythons": list(row.pythons),
    }


def _standing(standing: Standing) -> dict[str, object]:
    return {"passed": standing.passed, "fails": standing.fails}


def _caveat(caveat: Caveat | PairCaveat) -> dict[str, object]:
    return {**coded(caveat), "text": caveat_sentence(caveat)}


def _variant(variant: Variant | None) -> dict[str, object]:
    text = None if variant is None else variant_phrase(variant)
    return {"apart": text, "variant": operand(variant)}


def _place(place: CellRef, case: str) -> dict[str, object]:
    return {
        "cell": place.cell,
        "platform": place.platform,
        "torch": place.torch,
        "vllm": place.vllm,
        "case": named(case),
    }


def _waived(waived: Waived) -> dict[str, object]:
    return {
        "waiver": None if waived.waiver is None else waived.waiver.id,
        "expired": None if waived.expired is None else waived.expired.id,
    }


_WaiverState = Literal["waives", "expired", "idle", "astray"]


def _waiver(waiver: Waiver, state: _WaiverState, count: int) -> dict[str, object]:
    return {
        "id": waiver.id,
        "state": state,
        "count": count,
        "why": waiver.why,
        "link": waiver.link,
        "until": waiver.until.isoformat(),
        "owner": waiver.owner,
    }
