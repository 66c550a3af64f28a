"""The table for a CI service: a summary in Markdown, GitHub's annotations, JUnit XML.

Pure. Failures are grouped by signature, since one defect fails many cells. What a record holds
is text: nothing of it becomes markup, a link, a mention or a command.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matrix._util.text import clean, clean_lines, clip, code, plural, tabular
from matrix._util.text import markdown as escape
from matrix.record.model import Case, ErrorKind, Outcome, Rung
from matrix.record.signature import signature
from matrix.report import markdown
from matrix.report.marks import others
from matrix.report.provisional import of_rank
from matrix.report.reasons import reason_words, recompiles_words
from matrix.report.stock import NOT_STOCK, mark, standing
from matrix.verdict.judge import CaseVerdict, worst
from matrix.verdict.states import VERDICTS, Verdict
from matrix.verdict.table import Entry, Table

SUMMARY_LIMIT = 1024 * 1024
"""The most bytes of a summary: GitHub's of a step's, and Buildkite's of an annotation's."""
_ANNOTATIONS = 10
"""The most annotations of one level that GitHub shows of one step."""

_LEVELS = {Verdict.INCOMPATIBLE: "error", Verdict.DRIFT: "warning", Verdict.UNTESTED: "notice"}
_STYLES = {
    Verdict.INCOMPATIBLE: "error",
    Verdict.DRIFT: "warning",
    Verdict.UNTESTED: "info",
    Verdict.COMPATIBLE: "success",
}
_SYMBOLS = {Verdict.INCOMPATIBLE: "❌", Verdict.DRIFT: "⚠️", Verdict.UNTESTED: "❔"}
_MOST_CELLS = 50
_MOST_LINES = 40
_LINE = 500
_MESSAGE = 4000
_CUT = "\n*The rest was left out: a summary has at most {} bytes.*\n"
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True, kw_only=True)
class CaseFault:
    """One case that is not compatible; the run as a whole where `case` is None."""

    entry: Entry
    case: Case | None
    verdict: Verdict
    rung: Rung | None
    reason: str
    signature: str

    @property
    def name(self) -> str:
        """Return the case's name; of a run as a whole, the rung that it fails at."""
        return self.case.case if self.case else self.rung or "run"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The faults of one verdict that have one signature, in the table's order."""

    verdict: Verdict
    signature: str
    faults: tuple[CaseFault, ...]

    @property
    def cells(self) -> tuple[tuple[Entry, tuple[CaseFault, ...]], ...]:
        """Return each cell on its platform, with its faults."""
        found: dict[tuple[str, str], list[CaseFault]] = {}
        for fault in self.faults:
            record = fault.entry.record
            found.setdefault((record.cell, record.platform), []).append(fault)
        return tuple((faults[0].entry, tuple(faults)) for faults in found.values())

    @property
    def title(self) -> str:
        """Return a title such as `incompatible at starts cold: 9 cases of 1 cell`."""
        rungs = dict.fromkeys(fault.rung for fault in self.faults if fault.rung)
        rung = (
            f" at {' and '.join(rungs)}" if self.verdict == Verdict.INCOMPATIBLE and rungs else ""
        )
        cases = sum(fault.case is not None for fault in self.faults)
        count = f"{plural(cases, 'case')} of " if cases else ""
        cells = len({fault.entry.record.cell for fault in self.faults})
        return f"{self.verdict}{rung}: {count}{plural(cells, 'cell')}"


def groups(table: Table) -> tuple[Group, ...]:
    """Return what is not compatible, by signature: worst verdict first, then most cells."""
    found: dict[tuple[Verdict, str], list[CaseFault]] = {}
    for entry in table.entries:
        for fault in _faults(entry):
            found.setdefault((fault.verdict, fault.signature), []).append(fault)
    unordered = [
        Group(verdict=verdict, signature=text, faults=tuple(faults))
        for (verdict, text), faults in found.items()
    ]
    return tuple(
        sorted(
            unordered,
            key=lambda group: (VERDICTS.index(group.verdict), -len(group.cells), group.title),
        )
    )


def style(table: Table) -> str:
    """Return the style of Buildkite's annotation for the worst verdict, such as `error`."""
    return _STYLES[worst(entry.verdict.verdict for entry in table.entries)]


def summary(table: Table, limit: int = SUMMARY_LIMIT) -> str:
    """Return the table as Markdown of at most `limit` bytes: counts, failures, grids, cells."""
    # A cell that ran on both platforms has an entry for each.
    cells = {entry.record.cell for entry in table.entries}
    failing = {
        entry.record.cell
        for entry in table.entries
        if entry.verdict.verdict in (Verdict.INCOMPATIBLE, Verdict.DRIFT)
    }
    of_cells = plural(len(cells), "cell")
    head = f"# torch × vLLM: {len(failing)} of {of_cells} not as expected\n\n"
    counts = "; ".join(markdown.counts(table, platform) for platform in table.platforms)
    parts = [f"{head}{counts}. Newest record: {table.newest}.\n"]
    parts += [_group(group) for group in groups(table)]
    for platform in table.platforms:
        parts += [f"\n## {platform}\n\n", "\n".join(markdown.results(table, platform))]
    parts.append("\n## Cells\n\n" + tabular(["cell", "platform", "verdict", "why", "record"], []))
    parts += [_row(entry) for entry in table.entries]
    return _fit(parts, limit)


def commands(table: Table) -> str:
    """Return GitHub's commands that annotate a run, one line each: at most ten of a level.

    A defect is one annotation, however many cells show it; the last of a level says how many more
    there are.
    """
    lines, all_groups = [], groups(table)
    for verdict, level in _LEVELS.items():
        found = [group for group in all_groups if group.verdict == verdict]
        shown = found if len(found) <= _ANNOTATIONS else found[: _ANNOTATIONS - 1]
        lines += [_command(level, group.title, _message(group)) for group in shown]
        if len(found) > len(shown):
            more = f"{len(found) - len(shown)} more of this kind"
            lines.append(_command(level, f"{verdict}: {more}", f"{more}: see the job's summary"))
    return "".join(f"{line}\n" for line in lines)


def junit(table: Table) -> str:
    """Return the table as JUnit XML: a suite for each cell on its platform, a test for each case.

    Drift is a failure. What is untested or not applicable is skipped, with its reason, and what did
    not come to its end is an error. A run that failed as a whole is a test of its own, named for
    its rung.
    """
    root = ET.Element("testsuites", name="torch-vllm-matrix")
    for entry in table.entries:
        root.append(_suite(entry))
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _faults(entry: Entry) -> list[CaseFault]:
    faults = []
    run = entry.whole_run
    if run is not None and run.verdict in _LEVELS:
        why = reason_words(run.reason) or run.verdict
        faults.append(
            CaseFault(
                entry=entry,
                case=None,
                verdict=run.verdict,
                rung=run.rung,
                reason=why,
                signature=signature(why),
            )
        )
    for case, judged in entry.cases:
        if judged.verdict not in _LEVELS:
            continue
        reason = reason_words(judged.reason) or judged.verdict
        failed = judged.verdict == Verdict.INCOMPATIBLE or bool(
            judged.fails_at and judged.signature
        )
        faults.append(
            CaseFault(
                entry=entry,
                case=case,
                verdict=judged.verdict,
                rung=judged.rung,
                reason=reason,
                signature=(judged.signature or signature(reason)) if failed else reason,
            )
        )
    return faults


def _group(group: Group) -> str:
    lines = [
        f"\n### {_SYMBOLS[group.verdict]} {group.title}\n",
        f"**{escape(group.signature, 400)}**",
        "",
    ]
    for entry, faults in group.cells[:_MOST_CELLS]:
        names = ", ".join(code(fault.name) for fault in faults if fault.case)
        off_pin = " (off-pin)" if entry.off_pin else ""
        apart = f", {NOT_STOCK}" if entry.verdict.not_stock else ""
        where = f"{code(entry.record.cell)} on {entry.record.platform}{off_pin}{apart}"
        lines.append(f"- {where}{': ' + names if names else ''}")
    if len(group.cells) > _MOST_CELLS:
        lines.append(f"- and {len(group.cells) - _MOST_CELLS} more")
    failed = [fault for fault in group.faults if fault.case and fault.case.failure]
    apart_too = any(fault.entry.verdict.not_stock for fault in failed)
    if failed and (group.verdict == Verdict.INCOMPATIBLE or apart_too):
        first = html.escape(clean(f"{failed[0].name} of {failed[0].entry.record.cell}"))
        text = _pre(failed[0].case.failure or "" if failed[0].case else "")
        lines += ["", f"<details><summary>{first}</summary>", "", text, "</details>"]
    return "\n".join(lines) + "\n"


def _pre(text: str) -> str:
    """Return the end of a failure's text, line by line; nothing in it ends the block."""
    lines = [line for line in _ESCAPE.sub("", text).splitlines() if line.strip(" ~^")]
    kept = [
        " " * (len(line) - len(line.lstrip(" "))) + clean(line) for line in lines[-_MOST_LINES:]
    ]
    return f"<pre>{html.escape(chr(10).join(clip(line, _LINE) for line in kept))}</pre>\n"


def _row(entry: Entry) -> str:
    verdict = entry.verdict
    failed = verdict.verdict == Verdict.INCOMPATIBLE and verdict.rung
    rung = f" at {verdict.rung}" if failed else ""
    why = "" if verdict.verdict == Verdict.COMPATIBLE else escape(reason_words(verdict.reason))
    apart = escape(", ".join(filter(None, (mark(verdict.not_stock), *others(entry.ran)))))
    words = f"{verdict.verdict}{rung}{', ' if apart else ''}{apart}"
    cells = [code(entry.record.cell), entry.record.platform, words, why]
    return f"| {' | '.join([*cells, code(entry.file)])} |\n"


def _fit(parts: Sequence[str], limit: int) -> str:
    """Return as many of the parts, from the first, as `limit` bytes hold, and a note."""
    sizes = [len(part.encode()) for part in parts]
    if sum(sizes) <= limit:
        return "".join(parts)
    note = _CUT.format(limit)
    left, kept = limit - len(note.encode()), []
    for part, size in zip(parts, sizes, strict=True):
        left -= size
        if left < 0:
            break
        kept.append(part)
    return "".join([*kept, note]) if kept else note[: max(limit, 0)]


def _message(group: Group) -> str:
    cells = [f"{entry.record.cell} on {entry.record.platform}" for entry, _ in group.cells]
    more = [f"and {len(cells) - _MOST_CELLS} more"] if len(cells) > _MOST_CELLS else []
    return clip("\n".join([clean(group.signature), *cells[:_MOST_CELLS], *more]), _MESSAGE)


def _command(level: str, title: str, message: str) -> str:
    r"""Return a workflow command of GitHub, escaped as its own toolkit does.

    >>> _command("error", "a: b, c", "100 %\n::warning::x")
    '::error title=a%3A b%2C c::100 %25%0A::warning::x'
    """
    named = _data(clean(title)).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={named}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _suite(entry: Entry) -> ET.Element:
    record = entry.record
    name = f"{record.cell} on {record.platform}"
    tests = [_test(entry, case, judged) for case, judged in entry.cases]
    run = entry.whole_run
    if run is not None:
        tests.insert(0, _test(entry, None, run))
    counts = {
        "tests": len(tests),
        "failures": sum(test.find("failure") is not None for test in tests),
        "errors": sum(test.find("error") is not None for test in tests),
        "skipped": sum(test.find("skipped") is not None for test in tests),
    }
    suite = ET.Element("testsuite", name=name, timestamp=record.started.removesuffix("Z"))
    for key, count in counts.items():
        suite.set(key, str(count))
    suite.set("time", f"{sum(float(test.get('time', '0')) for test in tests):.3f}")
    properties = ET.SubElement(suite, "properties")
    for key in ("python", "torch", "vllm"):
        version = record.provenance.get(key)
        if isinstance(version, str):
            ET.SubElement(properties, "property", name=key, value=clean_lines(version))
    packages = clean_lines(standing(entry.verdict))
    ET.SubElement(properties, "property", name="packages", value=packages)
    for word in others(entry.ran):
        ET.SubElement(properties, "property", name="mark", value=word)
    for verdict in entry.verdict.cases:
        if verdict.recompiles is not None:
            words = clean_lines(f"{verdict.case}: {recompiles_words(verdict.recompiles)}")
            ET.SubElement(properties, "property", name="recompiles warm", value=words)
    ET.SubElement(properties, "property", name="record", value=clean_lines(entry.file))
    suite.extend(tests)
    return suite


def _test(entry: Entry, case: Case | None, judged: CaseVerdict) -> ET.Element:
    record = entry.record
    test = ET.Element(
        "testcase",
        classname=f"{record.platform}.{record.cell}",
        name=clean_lines(case.case if case else judged.rung or "run"),
        time=f"{case.seconds if case else 0.0:.3f}",
    )
    reason = clean_lines(reason_words(judged.reason) or judged.verdict)
    if judged.verdict in (Verdict.INCOMPATIBLE, Verdict.DRIFT):
        failure = ET.SubElement(test, "failure", type=judged.verdict, message=reason)
        failure.text = clean_lines("\n".join(_failure_lines(case, judged)))
    elif judged.verdict == Verdict.UNTESTED and not _ended(entry, case):
        ET.SubElement(test, "error", type=judged.verdict, message=reason)
    elif judged.verdict in (Verdict.UNTESTED, Verdict.NOT_APPLICABLE):
        skipped = ET.SubElement(test, "skipped", message=f"{judged.verdict}: {reason}")
        if judged.fails_at is not None:
            skipped.text = clean_lines("\n".join(_failure_lines(case, judged)))
    return test


def _ended(entry: Entry, case: Case | None) -> bool:
    """Tell whether it came to its end: an interrupted one must not look like a pass."""
    error = entry.record.error
    if case is not None:
        return case.outcome not in (Outcome.INTERRUPTED, Outcome.RUNNING)
    return entry.record.finished and (error is None or error.kind != ErrorKind.INTERRUPTED)


def _failure_lines(case: Case | None, judged: CaseVerdict) -> Iterable[str]:
    for difference in judged.differences:
        yield (
            f"{difference.start} {difference.counter}{of_rank(difference)}:"
            f" expected {difference.expected},"
            f" observed {difference.observed} (rule {difference.rule})"
        )
    if case and case.failure and not judged.differences:
        yield case.failure
