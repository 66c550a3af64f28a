"""Attributions as JSON: codes and operands for programs, and the sentences for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass

from matrix.attribution.model import Attribution, MissingRun
from matrix.attribution.reasons import AttributionReason
from matrix.attribution.symptoms import Symptom
from matrix.record.model import Departure
from matrix.report import marks, stock
from matrix.report.attribution.sentences import question_words, sentence
from matrix.verdict.ladder import Part

SCHEMA = 2
"""Schema 1 was the same without `reason` and `question`."""


def to_json(
    attributions: Iterable[Attribution],
    silent: Iterable[tuple[str, str]] = (),
    parts: Mapping[tuple[str, str], Part] | None = None,
) -> str:
    """Return the attributions as JSON, always ASCII.

    `silent` are the cells, by name and platform, that ran and have no answer. `parts` says how many
    cases the partial run of a cell has.
    """
    return json.dumps(content(attributions, silent, parts), indent=1, sort_keys=True) + "\n"


def content(
    attributions: Iterable[Attribution],
    silent: Iterable[tuple[str, str]] = (),
    parts: Mapping[tuple[str, str], Part] | None = None,
) -> dict[str, object]:
    """Return the attributions with the number of their schema, and the cells without an answer."""
    return {
        "schema": SCHEMA,
        "attributions": entries(attributions),
        "unanswered": [{"cell": name, "platform": platform} for name, platform in silent],
        "partial": [
            {"cell": name, "platform": platform, "part": marks.part(part), **part._asdict()}
            for (name, platform), part in (parts or {}).items()
        ],
    }


def entries(attributions: Iterable[Attribution]) -> list[dict[str, object]]:
    """Return the attributions as JSON values, one for each case and cause."""
    return [
        {
            "cell": attribution.name,
            "platform": attribution.platform,
            "case": attribution.case,
            "answer": attribution.answer,
            "reason": _reason(attribution.reason),
            "evidence": sentence(attribution),
            "after": attribution.after,
            "since": attribution.since,
            "until": attribution.until,
            "symptoms": [_symptom(symptom) for symptom in attribution.symptoms],
            "flags": [_members(flag) for flag in attribution.flags],
            "defaults": [change._asdict() for change in attribution.defaults],
            "beside": list(attribution.rests_on),
            "missing": [_missing(run) for run in attribution.missing],
        }
        for attribution in attributions
    ]


def _reason(reason: AttributionReason) -> dict[str, object]:
    return {"code": reason.code, **_members(reason)}


def _members(value: object) -> dict[str, object]:
    """Return what `dataclasses.asdict` does; that takes three times as long: it copies texts."""
    return {name: _value(member) for name, member in vars(value).items()}


def _value(value: object) -> object:
    if value is None or isinstance(value, (str, int)):  # most are
        return value
    if isinstance(value, Departure):
        return stock.values(value)
    if isinstance(value, tuple):
        return tuple(_value(item) for item in value)
    return _members(value) if is_dataclass(value) else value


def _missing(run: MissingRun) -> dict[str, object]:
    return {
        "cell": run.name,
        "platform": run.platform,
        "question": _members(run.question),
        "why": question_words(run.question),
        "flags": dict(run.flags),
        "stock": run.stock,
    }


def _symptom(symptom: Symptom) -> dict[str, object]:
    return {
        "kind": symptom.kind,
        "rung": symptom.rung,
        "signature": symptom.signature,
        "start": symptom.start,
        "counter": symptom.counter,
        **({} if symptom.rank is None else {"rank": symptom.rank}),
        "observed": symptom.observed,
        "wanted": symptom.wanted,
        "logged": symptom.logged and symptom.logged._asdict(),
    }
