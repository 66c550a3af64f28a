"""The differences between two records on a terminal, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from matrix._util.text import aligned, clean, clip, plural
from matrix.record.model import Record
from matrix.record.start_seconds import Unlike
from matrix.report.coded import coded
from matrix.report.reasons import reason_words
from matrix.report.timings import FAILED_STEP
from matrix.store.diff import Aspect, Diff, ShownCase, ShownVerdict
from matrix.store.stats import LEAST
from matrix.verdict.judge import CellVerdict

_HASH = re.compile(r"\b([0-9a-f]{12})(?:[0-9a-f]{28}|[0-9a-f]{52})\b")
"""A revision or a SHA-256; JSON has all of it."""

_TITLES = {
    Aspect.VERDICT: "verdict",
    Aspect.CASE: "cases",
    Aspect.COUNTER: "counters",
    Aspect.METRIC: "numbers of Inductor",
    Aspect.SECONDS: "seconds",
    Aspect.PACKAGE: "packages",
    Aspect.FLAG: "flags",
    Aspect.DEFAULT: "defaults of torch",
    Aspect.PROVENANCE: "provenance",
}
_UNLIKE = {
    Unlike.JOBS: "the two ran another number of cases side by side",
    Unlike.TESTS: "the startup tests of the two take different times",
    Unlike.MACHINE: "the two ran on different machines",
    Unlike.STEPS: FAILED_STEP,
}


def diff_lines(diff: Diff, names: Sequence[str], *, history: int) -> str:
    """Return what differs, by aspect; of seconds those beyond noise, and the number of the rest.

    `history` is the number of records from which the noise is known.
    """
    lines = []
    if not diff.one_cell:
        cells = [f"{record.cell} on {record.platform}" for record in (diff.before, diff.after)]
        lines = [f"different cells: {' and '.join(cells)}"]
    rows = [
        [side, record.cell, record.platform, record.started, _judged(record, verdict), clean(name)]
        for side, record, verdict, name in zip(
            ("before", "after"), (diff.before, diff.after), diff.verdicts, names, strict=True
        )
    ]
    lines += aligned(rows)
    for aspect, title in _TITLES.items():
        changes = diff.of(aspect)
        shown = [change for change in changes if change.notable]
        if shown:
            lines += ["", title]
            lines += aligned(
                [
                    [
                        f"  {clip(clean(change.where), 70)}",
                        clip(clean(change.what), 60),
                        _side(change.before),
                        "->",
                        _side(change.after),
                    ]
                    for change in shown
                ]
            )
        if len(shown) < len(changes):
            count = plural(len(changes) - len(shown), "start")
            lines += ["", f"{count} took other seconds{_why_no_change(diff, history)}"]
    if not diff.changes:
        lines += ["", "nothing differs except the times of the runs"]
    return "\n".join(lines) + "\n"


def diff_json(diff: Diff, names: Sequence[str]) -> str:
    """Return the differences as JSON."""
    sides = zip(("before", "after"), (diff.before, diff.after), diff.verdicts, names, strict=True)
    content: dict[str, object] = {
        side: {
            "cell": record.cell,
            "platform": record.platform,
            "started": record.started,
            "verdict": verdict.verdict,
            "cases": len(record.cases),
            "total_cases": record.total_cases,
            "record": name,
        }
        for side, record, verdict, name in sides
    }
    content["seconds_differ_by"] = sorted(diff.unlike)
    content["changes"] = [
        {
            "aspect": change.aspect,
            "where": change.where,
            "what": change.what,
            "before": _side_words(change.before),
            "after": _side_words(change.after),
            "notable": change.notable,
            **{
                f"{side}_because": coded(value.reason)
                for side, value in (("before", change.before), ("after", change.after))
                if isinstance(value, ShownVerdict) and value.reason is not None
            },
        }
        for change in diff.changes
    ]
    return json.dumps(content, indent=1) + "\n"


def _why_no_change(diff: Diff, history: int) -> str:
    """Return why other seconds do not count as a change."""
    if not diff.one_cell:
        return ", which do not compare between cells"
    if diff.unlike:
        reasons = [words for why, words in _UNLIKE.items() if why in diff.unlike]
        return f", which do not compare: {'; '.join(reasons)}"
    known = plural(history, "record")
    if history < LEAST:
        return f"; {known} of the cell before it: too few to estimate noise ({LEAST} needed)"
    return f", none of them beyond the noise of {known} of the cell"


def _judged(record: Record, verdict: CellVerdict) -> str:
    """Return the verdict of a record, with how many cases a partial one has."""
    if not record.deselected:
        return str(verdict.verdict)
    return f"{verdict.verdict}, {len(record.cases)} of {record.total_cases} cases"


def _side(value: str | ShownVerdict | ShownCase | None) -> str:
    words = _side_words(value)
    return "none" if words is None else clip(_HASH.sub(r"\1", clean(words)), 100)


def _side_words(value: str | ShownVerdict | ShownCase | None) -> str | None:
    """Return one side of a change as text."""
    match value:
        case ShownVerdict(verdict=verdict, reason=reason):
            return f"{verdict}: {reason_words(reason)}" if reason else str(verdict)
        case ShownCase(verdict=verdict, outcome=outcome, why=why):
            ended = f"{verdict}, {outcome.replace('_', ' ')}"
            return f"{ended}: {why}" if why else ended
    return value
