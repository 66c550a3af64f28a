"""The answer of `matrix explain` as JSON: codes and facts, and the five lines as `text`.

`data/explain.schema.json` describes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from matrix._util.text import clean
from matrix.explain.model import FaultAnswer, KnownReleases, ShownBy, TextFaults
from matrix.report.explain import command, parts_of, whose_change
from matrix.report.notes import content


def to_json(answers: Sequence[FaultAnswer], texts: Sequence[TextFaults]) -> str:
    """Return the answers as JSON: the codes and facts, and the five lines as `text`."""
    rows = [_row(answer) for answer in answers]
    more = sum(text.more for text in texts)
    return json.dumps({"schema": 1, "answers": rows, "more": more}, indent=2) + "\n"


def _row(answer: FaultAnswer) -> dict[str, object]:
    fault = answer.fault
    return {
        "kind": fault.kind,
        "signature": clean(fault.signature),
        "meaning": answer.meaning,
        "known": answer.known,
        "facts": {
            key: clean(value)
            for key in ("subject", "file", "package", "has", "wants")
            if (value := getattr(fault, key))
        },
        "demands": [
            {"who": clean(demand.who), "name": demand.name, "range": clean(demand.range)}
            for demand in fault.demands
        ],
        "name": clean(answer.name) if answer.name else None,
        "torch": _known(answer.torch),
        "vllm": _known(answer.vllm),
        "files": list(answer.files),
        "pairs": [{"vllm": pair.vllm, "torch": pair.torch} for pair in answer.pairs],
        "operands": {key: clean(value) for key, value in answer.operands.items()},
        "code": [
            {
                "machine": code.machine,
                "torch": _known(code.torch),
                "vllm": _known(code.vllm),
                "unread_torch": _known(code.unread_torch),
                "unread_vllm": _known(code.unread_vllm),
            }
            for code in answer.code
        ],
        "third": [clean(name) for name in answer.third],
        "records": None if answer.records is None else [_record(row) for row in answer.records],
        "looked": answer.looked,
        "links": list(answer.links),
        "notes": content(answer.notes),
        "remedies": [
            {
                "code": remedy.code,
                "requirements": list(remedy.requirements),
                "command": command(remedy),
                "what": clean(remedy.what) if remedy.what else None,
            }
            for remedy in answer.remedies
        ],
        "nearest": clean(answer.nearest) if answer.nearest else None,
        "text": {name: clean(text) for name, text in parts_of(answer).items()},
    }


def _known(known: KnownReleases | None) -> dict[str, object] | None:
    return None if known is None else {"holds": list(known.holds), "asked": list(known.asked)}


def _record(shown: ShownBy) -> dict[str, object]:
    attribution = shown.attribution
    return {
        "record": clean(shown.path),
        "cell": clean(shown.cell),
        "platform": clean(shown.platform),
        "cases": [clean(case) for case in shown.cases],
        "attribution": None
        if attribution is None
        else {"answer": attribution.answer, "text": clean(whose_change(shown))},
        "issues": list(shown.issues),
    }
