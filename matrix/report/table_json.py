"""The compatibility table as JSON, for programs; `data/table.schema.json` describes it."""

from __future__ import annotations

from matrix.record.model import STARTS, Case
from matrix.report import (
    agreement,
    grid,
    marks,
    notes,
    provisional,
    stock,
    upstream,
    upstream_suite,
)
from matrix.report.attribution import values as attribution
from matrix.report.coded import because, operand
from matrix.report.json_lines import LineShape, in_lines
from matrix.report.model import Report
from matrix.report.origin import vllm_made
from matrix.report.reasons import reason_words
from matrix.report.timings import import_seconds, warm_over_cold
from matrix.verdict.judge import CaseVerdict
from matrix.verdict.recompiles import WrittenCode
from matrix.verdict.table import Entry

_TABLE_SCHEMA = 3

_LINES: LineShape = {
    "agreement": {"counters": {}, "one_sided": [], "pairs": [{"cases": []}]},
    "attributions": [],
    "cells": [{"cases": []}],
    "grid": {"squares": [], "torch": [], "vllm": []},
    "upstream": [],
}


def render(report: Report) -> str:
    """Return the table as JSON: every entry with all its cases and differences. Always ASCII.

    A case and a square of the grid is one line: a person can read what changed.
    """
    content = {
        "schema": _TABLE_SCHEMA,
        "newest": report.table.newest,
        "cells": [entry_values(entry) for entry in report.table.entries],
        "attributions": attribution.entries(report.attributions),
        "notes": notes.content(report.notes),
        "agreement": agreement.content(report.agreement),
        "grid": None if report.grid is None else grid.values(report.grid, report.predictions),
        "upstream": upstream.content(report.upstream),
    }
    return in_lines(content, _LINES)


def entry_values(entry: Entry) -> dict[str, object]:
    """Return a record and its verdict as JSON values."""
    named, verdict, suite = entry.factors, entry.verdict, entry.record.upstream
    versions = {name: entry.record.provenance.get(name) for name in ("python", "torch", "vllm")}
    return {
        "cell": entry.record.cell,
        "platform": entry.record.platform,
        "python": named.python,
        "torch": named.torch,
        "vllm": named.vllm,
        "versions": versions,
        **({"vllm_made": made} if (made := vllm_made(entry.record)) else {}),
        "verdict": verdict.verdict,
        "rung": verdict.rung,
        "reason": verdict.reason and reason_words(verdict.reason),
        "because": because(verdict.reason),
        "fails_at": verdict.fails_at,
        "provisional": provisional.values(verdict.provisional),
        "not_stock": None
        if verdict.departures is None
        else [stock.values(departure) for departure in verdict.not_stock],
        "record": entry.file,
        "started": entry.record.started,
        "deselected": entry.record.deselected,
        "part": marks.part(entry.part) or None,
        "partial": operand(entry.part),
        "recompiles": list(verdict.recompiling),
        "import_seconds": import_seconds(entry.record),
        "cases": [_case(case, judged) for case, judged in entry.cases],
        **({"upstream_tests": upstream_suite.values(suite)} if suite is not None else {}),
    }


def _code(code: WrittenCode | None) -> dict[str, object]:
    """Return the compiled code that a warm start wrote; nothing if it wrote none."""
    return {} if code is None else {"code": {"files": code.files, "bytes": code.bytes}}


def _case(case: Case, verdict: CaseVerdict) -> dict[str, object]:
    starts = {start: case.started(start) for start in STARTS}
    ratio = warm_over_cold(case)
    return {
        "case": case.case,
        "outcome": case.outcome,
        "verdict": verdict.verdict,
        "rung": verdict.rung,
        "fails_at": verdict.fails_at,
        "reason": verdict.reason and reason_words(verdict.reason),
        "because": because(verdict.reason),
        "signature": verdict.signature,
        "seconds": {
            start: seen.seconds.get("total") if seen else None for start, seen in starts.items()
        },
        "warm_over_cold": None if ratio is None else round(ratio, 3),
        "parts": {start: dict(seen.seconds) if seen else None for start, seen in starts.items()},
        "events": None
        if verdict.events is None
        else [
            {"start": event.start, "kind": event.kind, "text": event.text, "count": event.count}
            for event in verdict.events
        ],
        "no_rule": list(verdict.no_rule),
        "provisional": provisional.values(verdict.provisional),
        "recompiles": None
        if verdict.recompiles is None
        else {
            "counters": dict(verdict.recompiles.counters),
            "links": list(verdict.recompiles.links),
            **_code(verdict.recompiles.code),
        },
        "differences": [provisional.difference(difference) for difference in verdict.differences],
    }
