"""The compatibility table as Markdown: legend, a grid a platform, notes, cases, seconds."""

from __future__ import annotations

from collections.abc import Sequence

from matrix._util.text import code, listed, markdown, plural, ratio, seconds, tabular
from matrix.record.model import STARTS, Case, Platform, StartKind
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
from matrix.report.attribution.markdown import section as attribution_section
from matrix.report.model import Report
from matrix.report.origin import vllm_made
from matrix.report.reasons import NO_ISSUE, event_words, reason_words, recompiles_counted
from matrix.report.timings import (
    PARTS,
    artifacts,
    import_seconds,
    is_split,
    other_steps,
    unnamed,
    warm_over_cold,
)
from matrix.verdict.events import telling
from matrix.verdict.judge import CaseVerdict, CellVerdict
from matrix.verdict.states import Verdict
from matrix.verdict.table import Entry, Table

_SYMBOLS = {
    Verdict.COMPATIBLE: "✅",
    Verdict.DRIFT: "⚠️",
    Verdict.INCOMPATIBLE: "❌",
    Verdict.UNTESTED: "❔",
    Verdict.NOT_APPLICABLE: "–",
}
_LEGEND = """\
| | |
|---|---|
| ✅ as expected | compatible: starts cold and warm, and every counter that has an expectation is \
as expected |
| ☑️ as expected, not stock | the same, in an environment without, or with another version of, a \
package that this vLLM requires: the note names it |
| ☑️ as expected, 2 cases recompile warm | these cases are as expected, but compile again on their \
warm start, which is known for this pair; the note names the issue, or says that no public issue \
is known |
| ☑️ as expected, 1 of 9 cases | a run of only some cases |
| ⚠️ counts differ | drift: starts cold and warm, but a counter is not as expected |
| ❌ *rung* | incompatible: does not get past this rung of declared, builds (a vLLM from its \
sources), resolves, links, imports, starts cold, starts warm |
| ❔ provisional | starts cold and warm, and is beyond the releases whose counters are known: \
the note says how it compares with the nearest of them |
| ❔ untested | was tried, but shows nothing about the pair: the note gives the reason |
| – not applicable | this case does not apply to this cell; it does not count |
| · | no record: this cell was never run |
"""
_PLATFORMS = {
    "cuda": "On a GPU. This platform decides.",
    "cpu": "Without a GPU: the compiler stack is the same, the kernels are not.",
}
_MOST_DIFFERENCES = 4
_MOST_PACKAGES = 12
_SECONDS = """\
How each start spent its time, as torch and vLLM report it, or as the run timed their steps. A \
dash means that this release, platform or record has no value. A run imports torch and vLLM once, \
before all starts; *import* is the time of further imports in a start. In *inspect*, vLLM asks the \
model's class for its features, and a new interpreter imports torch and vLLM again for that. A run \
does this once for all its models, before its cases; `small_startup[dense]` does it again, and so \
did the starts of older records. In *jit*, a start builds kernels that no release brings built, or \
waits for them. *other steps* are configuration, tokenizer, device, profile run, KV cache, warm-up \
and the rest of the engine. *unnamed* is the time without a step. No time is judged.
"""


def render(report: Report) -> str:
    """Return the table as Markdown; text from records is escaped, so that it is never markup."""
    table = report.table
    parts = [_head(table), _LEGEND]
    for platform in table.platforms:
        parts += [f"## {platform}\n", f"{_PLATFORMS[platform]}\n", *results(table, platform)]
    parts += [
        notes.section(report.notes),
        grid.section(report.grid, report.predictions),
        attribution_section(report.attributions, table.parts),
        agreement.section(report.agreement),
        upstream.section(report.upstream),
    ]
    parts += ["## Cases\n", _cases(table), "## Seconds\n", _SECONDS]
    parts += [part for entry in table.entries for part in _seconds(entry)]
    parts += ["## Records\n", _records(table)]
    return "\n".join(part for part in parts if part)


def _head(table: Table) -> str:
    found = "; ".join(counts(table, platform) for platform in table.platforms)
    return (
        "# torch × vLLM: what starts, cold and warm\n\n"
        "Each cell starts vLLM once with empty compile caches (cold) and once more with the caches "
        "that the first start left (warm), and compares the counts of the compiler with those that "
        "this pair of releases should have.\n\n"
        f"{found or '0 cells'}. Newest record: {table.newest}.\n"
    )


def counts(table: Table, platform: Platform) -> str:
    """Return how many cells ran on the platform, their verdicts, and how many of them have marks.

    The marks are *not stock* and only some cases. Platforms do not add up.
    """
    entries = [entry for entry in table.entries if entry.record.platform == platform]
    verdicts = [entry.verdict.verdict for entry in entries]
    found = ", ".join(
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in (Verdict.COMPATIBLE, Verdict.DRIFT, Verdict.INCOMPATIBLE, Verdict.UNTESTED)
        if verdict in verdicts
    )
    apart = sum(bool(entry.verdict.not_stock) for entry in entries)
    partial = sum(entry.part is not None for entry in entries)
    marked = [
        f"{apart} {'is' if apart == 1 else 'are'} {stock.NOT_STOCK}" if apart else "",
        f"{partial} {'has' if partial == 1 else 'have'} only some cases" if partial else "",
    ]
    few = ", ".join(filter(None, marked))
    return f"{platform}: {plural(len(entries), 'cell')} ({found}{f'; {few}' if few else ''})"


def results(table: Table, platform: Platform) -> list[str]:
    """Return the verdicts of the pairs that ran on the platform as a grid, and notes on them."""
    torches, vllms = table.releases(platform)
    notes: list[str] = []
    rows = []
    for vllm in vllms:
        row = [f"**{vllm}**"]
        for torch in torches:
            entry = table.worst(platform, torch, vllm)
            if entry is None:
                row.append("·")
                continue
            shown = _cell_verdict(entry)
            note = _note(table.pair(platform, torch, vllm))
            if note:
                notes.append(f"{len(notes) + 1}. **torch {torch}, vLLM {vllm}**: {note}")
                shown += f" \\[{len(notes)}\\]"
            row.append(shown)
        rows.append(row)
    grid = tabular(["vLLM ↓ torch →", *torches], rows)
    return [grid, "\n".join(notes) + "\n" if notes else ""]


def _note(entries: Sequence[Entry]) -> str:
    """Return why a pair is not compatible: one reason if its Pythons agree, else one each."""
    groups: dict[tuple[str, str | None, str, str, str], list[str]] = {}
    for entry in entries:
        verdict = entry.verdict
        part = f" ({marks.part(entry.part)})" if entry.part else ""
        apart = markdown(stock.mark(verdict.not_stock, most=_MOST_PACKAGES))
        again = marks.recompile_for(verdict.issues, _linked)
        failed_there = upstream_suite.failures(entry.record.upstream, code)
        apart = ", ".join(filter(None, (apart, again, failed_there)))
        key = verdict.verdict, verdict.rung, part, markdown(reason_words(verdict.reason)), apart
        groups.setdefault(key, []).append(entry.factors.python)
    if all(
        word == Verdict.COMPATIBLE and not part and not apart for word, _, part, _, apart in groups
    ):
        return ""
    reasons = []
    for (word, rung, part, why, apart), pythons in groups.items():
        failed = f" at *{rung}*" if word == Verdict.INCOMPATIBLE and rung else ""
        reasons.append(
            f"{word}{failed} on Python {listed(pythons)}{part}{', ' + apart if apart else ''}"
            f"{': ' + why if why else ''}"
        )
    return "; ".join(reasons)


def _linked(issue: str) -> str:
    return f"[{markdown(marks.issue_name(issue))}]({issue})"


def _cases(table: Table) -> str:
    rows = [
        [
            _part_of_cell(entry),
            entry.record.platform,
            code(case.case),
            _verdict(verdict),
            _started(case, StartKind.COLD),
            _started(case, StartKind.WARM),
            ratio(warm_over_cold(case)),
            _why(verdict),
            entry.date,
        ]
        for entry in table.entries
        for case, verdict in entry.cases
    ]
    if not rows:
        return "No case was run.\n"
    head = ["cell", "platform", "case", "verdict", "cold, s", "warm, s", "warm/cold"]
    return tabular([*head, "what differs", "date"], rows, right=(4, 5, 6))


def _seconds(entry: Entry) -> list[str]:
    """Return the seconds of one record: its import, and a table of the starts with parts."""
    rows = [
        [
            code(case.case),
            start,
            *(seconds(seen.seconds.get(part)) for part in ("total", *PARTS)),
            seconds(other_steps(seen)),
            seconds(unnamed(seen)),
            artifacts(seen),
        ]
        for case, _ in entry.cases
        for start in STARTS
        if (seen := case.started(start)) is not None and is_split(seen)
    ]
    took = import_seconds(entry.record)
    if took is None and not rows:
        return []
    known = "" if took is None else f": import {seconds(took)} s"
    part = f", {marks.part(entry.part)}" if entry.part else ""
    line = f"{_cell(entry)} on {entry.record.platform}{part}{known}\n"
    head = ["case", "start", "total", *PARTS, "other steps", "unnamed", "save or load"]
    return [line, tabular(head, rows, right=range(2, 5 + len(PARTS)))] if rows else [line]


def _records(table: Table) -> str:
    rows = []
    for entry in table.entries:
        found = entry.record.provenance
        device = found.get("gpu") or found.get("cpu")
        name = (device.get("name") or device.get("model")) if isinstance(device, dict) else None
        vllm = ", ".join(map(str, filter(None, (found.get("vllm"), vllm_made(entry.record)))))
        known = (found.get("torch"), vllm, found.get("python"), name)
        cases = marks.part(entry.part) or plural(len(entry.record.cases), "case")
        rows.append(
            [
                _cell(entry),
                entry.record.platform,
                *(markdown(str(value)) if value else "-" for value in known),
                markdown(stock.standing(entry.verdict)),
                cases if entry.record.jobs == 1 else f"{cases}, {entry.record.jobs} side by side",
                entry.record.started,
            ]
        )
    head = ["cell", "platform", "torch", "vLLM", "Python", "device"]
    head += ["packages", "cases", "started"]
    return tabular(head, rows)


def _cell(entry: Entry) -> str:
    return f"{code(entry.record.cell)}{' (off-pin)' if entry.off_pin else ''}"


def _part_of_cell(entry: Entry) -> str:
    """Return the cell, with how many of the cases a partial run has."""
    return f"{_cell(entry)}{f', {marks.part(entry.part)}' if entry.part else ''}"


def _cell_verdict(entry: Entry) -> str:
    """Return the verdict on a cell; what is as expected is not a plain one where it has marks."""
    if entry.verdict.verdict == Verdict.COMPATIBLE and (apart := marks.short(entry.ran)):
        return f"☑️ as expected, {apart}"
    return f"{_verdict(entry.verdict)}{', ' + marks.part(entry.part) if entry.part else ''}"


def _verdict(verdict: CellVerdict | CaseVerdict) -> str:
    if verdict.provisional is not None:
        return f"{_SYMBOLS[verdict.verdict]} {provisional.PROVISIONAL}"
    words = {
        Verdict.COMPATIBLE: "as expected",
        Verdict.DRIFT: "counts differ",
        Verdict.INCOMPATIBLE: verdict.rung or Verdict.INCOMPATIBLE,
    }
    return f"{_SYMBOLS[verdict.verdict]} {words.get(verdict.verdict, verdict.verdict)}"


def _started(case: Case, start: StartKind) -> str:
    seen = case.started(start)
    return seconds(seen.seconds.get("total") if seen else None)


def _why(verdict: CaseVerdict) -> str:
    logged = [markdown(event_words(event)) for event in telling(verdict.events)]
    if verdict.recompiles is not None:
        again = verdict.recompiles
        issues = " ".join(map(_linked, again.links)) or markdown(NO_ISSUE)
        logged.insert(0, f"{markdown(recompiles_counted(again))}: {issues}")
    if not verdict.differences:
        return "; ".join(
            [*([markdown(reason_words(verdict.reason))] if verdict.reason else []), *logged]
        )
    shown = [
        f"{difference.start} {code(difference.counter)}{provisional.of_rank(difference)}:"
        f" expected {difference.expected}, observed "
        f"{'nothing' if difference.observed is None else difference.observed}"
        for difference in verdict.differences[:_MOST_DIFFERENCES]
    ]
    if len(verdict.differences) > _MOST_DIFFERENCES:
        shown.append(f"{len(verdict.differences) - _MOST_DIFFERENCES} more in compatibility.json")
    return "; ".join([*shown, *logged])
