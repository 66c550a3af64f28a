"""A qualification as Markdown for an umbrella issue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matrix._util.grouped import group
from matrix._util.text import code, markdown, plural, seconds, tabular
from matrix.qualify.model import Drift, Failure, Match, Qualification, QualificationVerdict
from matrix.qualify.runs import CellRun
from matrix.record.model import CellRef
from matrix.report import marks
from matrix.report.provisional import rank_words
from matrix.report.qualify import sections, unjudged
from matrix.report.qualify.sentences import failure_reason
from matrix.store.stats import median

_MARKS = {
    QualificationVerdict.QUALIFIED: "✅",
    QualificationVerdict.NOT_QUALIFIED: "❌",
    QualificationVerdict.NOT_ENOUGH: "❔",
}
_MOST_DEFAULTS = 400
_VERSIONS = {
    "torch": "torch",
    "vllm": "vLLM",
    "triton": "triton",
    "cuda": "CUDA",
    "python": "Python",
}


def page(qualification: Qualification, given: Sequence[str] = ()) -> str:
    """Return the Markdown. Whatever a record says is shown as text, never as markup.

    `given` are the command's arguments that are not of the query: files and folders.
    """
    verdict = qualification.verdict
    parts = [
        f"## {_MARKS[verdict]} {sections.title(qualification)}: {verdict}\n",
        f"{sections.counts(qualification)}.\n",
    ]
    obstacles = sections.obstacles(qualification)
    if obstacles:
        parts.append(_bullets(markdown(line) for line in obstacles))
    alerts = unjudged.alerts(qualification)
    if alerts:
        parts.append(_bullets(f"⚠️ **{markdown(line)}**" for line in alerts))
    warm = unjudged.warm_code_lines(qualification)
    if warm:
        parts += [f"### {unjudged.WARM_CODE}\n", _bullets(markdown(line, 600) for line in warm)]
    for heading, failures in sections.failure_sections(qualification):
        parts += [f"### {heading}\n", *_failure_parts(failures)]
    flags = sections.flag_lines(qualification)
    if flags:
        parts += [f"### {sections.FLAGS}\n", _bullets(markdown(line) for line in flags)]
    for heading, drifts in sections.drift_sections(qualification):
        parts += [f"### {heading}\n", *_drift_parts(drifts)]
    parts += _unjudged_parts(qualification)
    for heading, unknown in sections.unknown_sections(qualification):
        parts += [f"### {heading}\n", _bullets(markdown(line, 600) for line in unknown)]
    parts += _rung_parts(qualification)
    parts += _time_parts(qualification)
    parts += _waiver_parts(qualification)
    notes = sections.notes(qualification)
    if notes:
        parts += ["### Notes\n", _bullets(markdown(line) for line in notes)]
    parts += _record_parts(qualification)
    commands = "\n".join(sections.commands(qualification, given))
    parts += ["### Commands\n", f"```console\n{commands}\n```\n"]
    return "\n".join(parts)


def _unjudged_parts(qualification: Qualification) -> list[str]:
    """Return the defaults, which may be many and are folded, and Inductor's numbers."""
    parts = []
    defaults = unjudged.default_lines(qualification, _MOST_DEFAULTS)
    if defaults:
        listed = _bullets(markdown(line, 600) for line in defaults)
        title = f"<summary>{plural(len(defaults), 'line')}</summary>"
        parts += [f"### {unjudged.DEFAULTS}\n", f"<details>{title}\n\n{listed}\n</details>\n"]
    rows = [
        [start, code(metric), change.replace("->", " → "), markdown(cases)]
        for start, metric, change, cases in unjudged.metric_rows(qualification)
    ]
    if rows:
        parts += [
            f"### {unjudged.METRICS}\n",
            tabular(["start", "number", "change", "cases"], rows),
        ]
    return parts


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items) + "\n"


def _failure_parts(failures: Sequence[Failure]) -> list[str]:
    parts = []
    head = ["cell", "platform", "torch, vLLM", "case", "rung", "reason", ""]
    for signature, alike in group(failures, lambda item: item.signature).items():
        parts.append(f"**{markdown(signature)}**\n")
        before = sections.signatures_before(signature, alike)
        parts += [f"At the baseline: {markdown(text)}\n" for text in before]
        rows = [
            [
                code(failure.place.cell),
                failure.place.platform,
                f"{failure.place.torch}, {failure.place.vllm}",
                code(sections.failure_name(failure)),
                markdown(failure.rung or "-"),
                markdown(failure_reason(failure) or ""),
                markdown(sections.mark(failure)),
            ]
            for failure in alike
        ]
        parts.append(tabular(head, rows))
    return parts


def _drift_parts(drifts: Sequence[Drift]) -> list[str]:
    """Return the counters that an expectation names, and the others folded below them."""
    judged = [drift for drift in drifts if drift.judged]
    others = [drift for drift in drifts if not drift.judged]
    parts = [_drift_table(judged)] if judged else []
    if others:
        more = "Counters without an expectation on either side"
        parts.append(
            f"<details><summary>{more}: {plural(len(others), 'change')}</summary>\n\n"
            f"{_drift_table(others)}\n</details>\n"
        )
    return parts


def _drift_table(drifts: Sequence[Drift]) -> str:
    """Return one row a change, with its cases; the cells only where they are several."""
    groups = group(
        drifts,
        lambda drift: (
            drift.start,
            drift.counter,
            rank_words(drift.rank),
            sections.change(drift, " → "),
            sections.mark(drift),
        ),
    )
    several = len({drift.place for drift in drifts}) > 1
    rows = [
        [
            start,
            f"{code(counter)}{rank}",
            change,
            ", ".join(dict.fromkeys(code(sections.case_name(drift.case)) for drift in items)),
            *([_cells(drift.place for drift in items)] if several else []),
            markdown(mark),
        ]
        for (start, counter, rank, change, mark), items in groups.items()
    ]
    table = tabular(["start", "counter", "change", "cases", *(["cells"] * several), ""], rows)
    return table if several else f"In {_cells(drift.place for drift in drifts)}:\n\n{table}"


def _cells(places: Iterable[CellRef]) -> str:
    return ", ".join(dict.fromkeys(f"{code(place.cell)} on {place.platform}" for place in places))


def _rung_parts(qualification: Qualification) -> list[str]:
    project = qualification.query.other.label
    rows = [
        [platform, markdown(change.replace("->", "→")), markdown(what), markdown(why)]
        for platform, change, what, why in sections.rung_rows(qualification.rungs, project)
    ]
    head = ["platform", "baseline → candidate", f"with {project}", ""]
    return [f"### {sections.FIRST_RUNGS}\n", tabular(head, rows)] if rows else []


def _time_parts(qualification: Qualification) -> list[str]:
    rows = [
        [
            code(time.place.cell),
            time.place.platform,
            code(sections.case_name(time.case)),
            time.start,
            f"{seconds(median(time.before))} ({len(time.before)})",
            f"{seconds(median(time.after))} ({len(time.after)})",
        ]
        for time in qualification.times
    ]
    head = ["cell", "platform", "case", "start", "baseline, s (runs)", "candidate, s (runs)"]
    parts = [tabular(head, rows, right=(4, 5))] if rows else []
    more = [*sections.no_times_lines(qualification), *unjudged.speed_lines(qualification)]
    parts += [f"- {markdown(line)}\n" for line in more]
    return [f"### {sections.TIMES}\n", *parts] if parts else []


def _waiver_parts(qualification: Qualification) -> list[str]:
    states = [
        *((waiver, f"waives {count}") for waiver, count in qualification.waivers),
        *((waiver, f"expired; {count} count again") for waiver, count in qualification.expired),
        *(
            (waiver, f"matches nothing{sections.if_expired(qualification, waiver)}")
            for waiver in qualification.unused
        ),
        *(
            (waiver, f"matches no compared cell{sections.conditions(waiver)}")
            for waiver in qualification.unmatched
        ),
    ]
    rows = [
        [
            markdown(waiver.id),
            state,
            markdown(waiver.why),
            waiver.until.isoformat(),
            markdown(waiver.owner or "-"),
            f"<{waiver.link}>",
        ]
        for waiver, state in states
    ]
    head = ["waiver", "", "why", "until", "owner", "link"]
    return ["### Waivers\n", tabular(head, rows)] if rows else []


def _record_parts(qualification: Qualification) -> list[str]:
    rows = [
        [
            side,
            f"{code(run.record.cell)}{' (off-pin)' if run.entry.off_pin else ''}",
            run.record.platform,
            *(markdown(str(run.record.provenance.get(key) or "-")) for key in _VERSIONS),
            markdown(_device(run)),
            markdown(str(run.record.provenance.get("os") or "-")),
            markdown(marks.part(run.entry.part) or str(len(run.record.cases))),
            run.record.started,
            code(str(run.path)),
        ]
        for match in qualification.matches
        for side, run in (("baseline", match.baseline), ("candidate", match.candidate))
    ]
    if not rows:
        return []
    head = ["", "cell", "platform", *_VERSIONS.values(), "device", "system", "cases"]
    changes = [
        f"- {code(match.candidate.record.cell)} on {match.candidate.record.platform}, packages"
        f" that differ: {markdown(changed, 1000)}\n"
        for match in qualification.matches
        if (changed := _packages(match))
    ]
    table = tabular([*head, "started", "record"], rows)
    return ["### Environment and records\n", table, *changes]


def _device(run: CellRun) -> str:
    gpu, cpu = (run.record.provenance.get(key) for key in ("gpu", "cpu"))
    if isinstance(gpu, dict):
        return f"{gpu.get('name')}, driver {gpu.get('driver')}"
    return f"{cpu.get('model')}, {cpu.get('cores')} cores" if isinstance(cpu, dict) else "-"


def _packages(match: Match) -> str:
    first, second = match.baseline.record.packages, match.candidate.record.packages
    if not first or not second:
        return ""
    return ", ".join(
        f"{name} {first.get(name, 'none')} → {second.get(name, 'none')}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    )
