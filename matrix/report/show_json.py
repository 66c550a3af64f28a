"""One record and its verdict as JSON: `matrix show --json`.

`data/show.schema.json` describes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePath

from matrix.record.content import plain
from matrix.record.model import STARTS, Record, StartKind
from matrix.report.table_json import entry_values
from matrix.rules.expectations import Expected, Nearest
from matrix.verdict.judge import CaseVerdict, CellVerdict
from matrix.verdict.table import Entry

_SCHEMA = 1


def to_json(record: Record, verdict: CellVerdict, path: str, *, pin: str | None = None) -> str:
    """Return the record, its verdict, and what each start should count. Always ASCII.

    `pin` is the torch that the vLLM of an off-pin cell pins, else None.
    """
    entry = Entry(record=record, verdict=verdict, file=PurePath(path).name, off_pin=pin is not None)
    content = {
        "schema": _SCHEMA,
        "record": path,
        "pins": pin,
        "judged": entry_values(entry),
        "expected": [row for judged in verdict.cases for row in _expected(judged)],
        "observed": record,
    }
    return json.dumps(content, indent=1, sort_keys=True, default=plain) + "\n"


def _expected(judged: CaseVerdict) -> Iterator[dict[str, object]]:
    """Yield what the starts of a case should count, by its own rules or the nearest ones."""
    nearest = {} if judged.provisional is None else judged.provisional.nearest
    for start in STARTS:
        known = {**nearest.get(start, {}), **judged.expected.get(start, {})}
        for counter, expected in sorted(known.items()):
            yield _count(judged.case, start, counter, expected)


def _count(case: str, start: StartKind, counter: str, expected: Expected) -> dict[str, object]:
    return {
        "case": case,
        "start": start,
        "counter": counter,
        "value": expected.value,
        "rule": expected.rule,
        "nearest": {"torch": expected.torch, "vllm": expected.vllm}
        if isinstance(expected, Nearest)
        else None,
    }
