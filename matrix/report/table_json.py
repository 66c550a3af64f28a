"""The compatibility table as JSON, for programs; `data/table.schema.json` is its law."""

from __future__ import annotations

import json

from matrix.records import STARTS, Case
from matrix.report import agreement, attribution, grid, notes, upstream
from matrix.report.split import import_seconds, warm_over_cold
from matrix.report.table import Entry, Table
from matrix.signatures import signature_of
from matrix.verdicts import CaseVerdict

__all__ = ["TABLE_SCHEMA", "render"]

TABLE_SCHEMA = 2


def render(table: Table) -> str:
    """The table as JSON: every entry with all its cases and differences. Always ASCII.

    A square of the grid is one line, so that a person can read what changed.
    """
    content = {
        "schema": TABLE_SCHEMA,
        "newest": table.newest,
        "cells": [_entry(entry) for entry in table.entries],
        "attributions": attribution.entries(table.attributions),
        "notes": notes.content(table.notes),
        "agreement": agreement.content(table.agreement),
        "grid": None if table.grid is None else {**grid.content(table.grid), "squares": []},
        "upstream": upstream.content(table.upstream),
    }
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    if table.grid is None:
        return text
    squares = (json.dumps(each, sort_keys=True) for each in grid.squares(table.grid))
    # In a string of the content the quotes would be escaped.
    return text.replace('"squares": []', '"squares": [\n   ' + ",\n   ".join(squares) + "\n  ]", 1)


def _entry(entry: Entry) -> dict[str, object]:
    named, verdict = entry.factors, entry.verdict
    versions = {name: entry.record.provenance.get(name) for name in ("python", "torch", "vllm")}
    return {
        "cell": entry.record.cell,
        "platform": entry.record.platform,
        "python": named.python,
        "torch": named.torch,
        "vllm": named.vllm,
        "versions": versions,
        "verdict": verdict.verdict,
        "rung": verdict.rung,
        "reason": verdict.reason,
        "record": entry.file,
        "started": entry.record.started,
        "deselected": entry.record.deselected,
        "import_seconds": import_seconds(entry.record),
        "cases": [_case(case, judged) for case, judged in entry.cases],
    }


def _case(case: Case, verdict: CaseVerdict) -> dict[str, object]:
    starts = {start: case.started(start) for start in STARTS}
    ratio = warm_over_cold(case)
    return {
        "case": case.case,
        "outcome": case.outcome,
        "verdict": verdict.verdict,
        "rung": verdict.rung,
        "reason": verdict.reason,
        "signature": signature_of(case),
        "seconds": {
            start: seen.seconds.get("total") if seen else None for start, seen in starts.items()
        },
        "warm_over_cold": None if ratio is None else round(ratio, 3),
        "parts": {start: dict(seen.seconds) if seen else None for start, seen in starts.items()},
        "no_rule": list(verdict.no_rule),
        "differences": [
            {
                "start": each.start,
                "counter": each.counter,
                "expected": each.expected,
                "observed": each.observed,
                "rule": each.rule,
            }
            for each in verdict.differences
        ],
    }
