"""The findings since the previous build, as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping

from matrix._util.text import aligned, clean, clip, code, markdown, plural, tabular
from matrix.qualify.watch import (
    Delta,
    FindingChange,
    FindingKind,
    QualifiedBuild,
    Status,
    WatchHistory,
    counts,
)

WORDS = {
    Status.NEW: "new",
    Status.REOPENED: "reopened",
    Status.STILL_THERE: "still there",
    Status.SILENT_ONCE: "silent once",
    Status.CLOSED: "silent twice, closed",
}
NOT_ASKED = "not asked"


def lines(delta: Delta) -> str:
    """Return what changed, a finding a line, after a line that counts."""
    rows = [[f"  {status}", *row] for status, *row in _rows(delta)]
    return "\n".join([_heading(delta), *aligned(rows)] if rows else [_heading(delta)]) + "\n"


def section(delta: Delta) -> str:
    """Return what changed as a section of Markdown."""
    rows = [
        [status, code(cell), markdown(case), markdown(what), markdown(since)]
        for status, cell, case, what, since in _rows(delta)
    ]
    table = tabular(["", "cell", "case", "what", "since"], rows) if rows else ""
    return f"### {markdown(_heading(delta))}\n\n{table}"


def content(delta: Delta) -> dict[str, object]:
    """Return what changed as JSON has it."""
    return {
        "before": None if delta.before is None else delta.before.identity,
        "counts": dict(counts(delta.changes)),
        "findings": [
            {
                **change.now.key.place._asdict(),
                "kind": change.now.key.kind,
                "what": change.now.key.what,
                "before": change.before,
                "status": change.now.status,
                "asked": change.asked,
                "first": change.now.first,
                "last": change.now.last,
            }
            for change in delta.changes
        ],
    }


def nothing_new(build: QualifiedBuild, history: WatchHistory) -> str:
    """Return that the channel has no build that was not qualified yet."""
    return (
        f"{history.candidate}: nothing new; {clean(build.version)} (build {build.identity}) was"
        f" {build.verdict} on {build.day}; {plural(_not_closed(history), 'finding')} not closed\n"
    )


def nothing_new_content(build: QualifiedBuild, history: WatchHistory) -> dict[str, object]:
    """Return the same as JSON has it."""
    return {
        "candidate": history.candidate,
        "version": build.version,
        "build": build.identity,
        "day": build.day,
        "verdict": build.verdict,
        "exit_status": build.verdict.exit_status,
        "not_closed": _not_closed(history),
    }


def _not_closed(history: WatchHistory) -> int:
    return sum(finding.status.is_open for finding in history.findings)


def _heading(delta: Delta) -> str:
    if delta.before is None:
        since = "Findings of the first build that was watched"
    else:
        since = f"Since {clean(delta.before.version)} of {delta.before.day}"
    found = counts(delta.changes)
    counted = [f"{count} {WORDS[status]}" for status, count in found.items() if count]
    unasked = sum(not change.asked for change in delta.changes)
    counted += [f"{unasked} {NOT_ASKED}"] if unasked else []
    return f"{since}: {', '.join(counted) or 'nothing'}"


def _rows(delta: Delta) -> list[list[str]]:
    versions = {build.identity: build.version for build in delta.history.builds}
    order = list(WORDS)
    found = sorted(
        delta.changes,
        key=lambda change: (not change.asked, order.index(change.now.status), change.now.key),
    )
    return [_row(change, versions) for change in found]


def _row(change: FindingChange, versions: Mapping[str, str]) -> list[str]:
    key = change.now.key
    word = WORDS[change.now.status]
    if not change.asked:
        word = f"{NOT_ASKED} (was {word})"
    kind = "" if key.kind is FindingKind.FAILURE else "drift of "
    first = versions.get(change.now.first, change.now.first)
    return [
        word,
        f"{key.place.cell} on {key.place.platform}",
        clip(clean(key.place.case), 80) or "the whole run",
        clip(clean(f"{kind}{key.what}"), 160),
        f"since {clean(first)}",
    ]
