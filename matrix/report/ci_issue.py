"""The states of the table's findings, as an issue: title, body, comment.

Pure. What a record holds is text: nothing of it becomes markup, a link or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrix._util.text import clean, clip, code, listed, markdown, plural
from matrix.qualify.table_watch import TableDelta, TablePlace
from matrix.qualify.watch import FindingChange, FindingKind, Status
from matrix.record.model import WHOLE_RUN
from matrix.report.qualify.watch import NOT_ASKED, WORDS
from matrix.verdict.table import Entry, Table

BODY_LIMIT = 60_000
"""The most characters of a body or a comment; GitHub takes 65,536."""
WATCH_MARK = "<!-- torch-vllm-matrix: watch -->"

_MOST_PLACES = 30
_MOST_COMMANDS = 10
_RUN = re.compile(r"https://[A-Za-z0-9.:-]+/[A-Za-z0-9._/-]+/actions/runs/[0-9]+", re.ASCII)
_NAME = re.compile(r"[a-z0-9-]+", re.ASCII)
_CUT = "\n*The rest was left out: GitHub accepts no longer text.*\n"
_FROM_BEFORE = "older than the watch"


@dataclass(frozen=True, kw_only=True)
class Issue:
    """The texts of an issue. `comment` is "" if nothing regressed and nothing was closed."""

    title: str
    body: str
    comment: str


def issue(delta: TableDelta, table: Table, run: str | None = None) -> Issue:
    """Return the texts. `run` is the address of the CI run, which they name if it is one."""
    entries = {
        TablePlace(entry.record.cell, entry.record.platform): entry for entry in table.entries
    }
    regressed = len(delta.regressed)
    new = f", {regressed} of them new" if regressed else ""
    title = f"Compatibility matrix: {plural(len(delta.open), 'finding')} not closed{new}"
    link = f"The run: {run}\n" if run and _RUN.fullmatch(run) else ""
    head = f"{WATCH_MARK}\n{_heading(delta)}\n\n{link}"
    sections = _sections(delta)
    body = [head, *(_section(*section, entries) for section in sections), _commands(delta)]
    news = [
        _section(word, changes, entries)
        for word, changes in sections
        if word in (WORDS[Status.NEW], WORDS[Status.REOPENED], WORDS[Status.CLOSED])
    ]
    return Issue(
        title=title,
        body=_fit(body),
        comment=_fit([f"{_heading(delta)}\n\n{link}", *news]) if news else "",
    )


def line(delta: TableDelta) -> str:
    """Return what changed in one line."""
    return f"{_heading(delta)}\n"


def outputs(delta: TableDelta) -> str:
    """Return the lines that a step appends to `GITHUB_OUTPUT`."""
    regressed = "true" if delta.regressed else "false"
    return f"regressed={regressed}\nopen={len(delta.open)}\nasked={len(delta.asked)}\n"


def _heading(delta: TableDelta) -> str:
    since = f"Since the records of {delta.before[:10]}" if delta.before else "The watch began"
    found = [f"{len(changes)} {word}" for word, changes in _sections(delta)]
    ran = f"{plural(len(delta.asked), 'cell')} with a new record"
    return f"{since}: {ran}; {', '.join(found) or 'no findings'}."


def _sections(delta: TableDelta) -> list[tuple[str, list[FindingChange]]]:
    """Return the findings by what became of them, without empty parts."""
    parts: dict[str, list[FindingChange]] = {word: [] for word in (*WORDS.values(), NOT_ASKED)}
    parts[_FROM_BEFORE] = []
    for change in delta.changes:
        if delta.is_from_before(change.now) and change.now.status is not Status.CLOSED:
            parts[_FROM_BEFORE].append(change)
        else:
            parts[WORDS[change.now.status] if change.asked else NOT_ASKED].append(change)
    return [(word, changes) for word, changes in parts.items() if changes]


def _section(
    word: str, changes: Sequence[FindingChange], entries: Mapping[TablePlace, Entry]
) -> str:
    """Return a part of the text: what was found, and below each the cells that show it."""
    groups: dict[tuple[FindingKind, str], list[FindingChange]] = {}
    for change in changes:
        groups.setdefault((change.now.key.kind, change.now.key.what), []).append(change)
    lines = []
    for (kind, what), found in sorted(groups.items(), key=lambda group: -len(group[1])):
        drift = "" if kind is FindingKind.FAILURE else "drift of "
        lines.append(f"- **{drift}{markdown(what, 400)}**")
        lines += [f"  - {place}" for place in _places(found, entries)]
    text = "\n".join(lines)
    title = f"{word[:1].upper()}{word[1:]}: {len(changes)}"
    if word in (_FROM_BEFORE, NOT_ASKED):
        return f"\n<details><summary>{title}</summary>\n\n{text}\n\n</details>\n"
    return f"\n## {title}\n\n{text}\n"


def _places(changes: Iterable[FindingChange], entries: Mapping[TablePlace, Entry]) -> list[str]:
    """Return a line for each cell on a platform, with its cases and since when they show it."""
    cells: dict[TablePlace, list[FindingChange]] = {}
    for change in changes:
        cell, platform, _ = change.now.key.place
        cells.setdefault(TablePlace(cell, platform), []).append(change)
    lines = []
    for place, found in list(cells.items())[:_MOST_PLACES]:
        cases = [code(clip(clean(change.now.key.place.case), 80)) for change in found]
        whole = all(change.now.key.place.case == WHOLE_RUN for change in found)
        since = min(change.now.first for change in found)[:10]
        what = "the whole run" if whole else listed(cases)
        lines.append(
            f"{code(place.cell)} on {markdown(place.platform)}{_ran(entries.get(place))}: {what},"
            f" since {markdown(since)}"
        )
    more = len(cells) - _MOST_PLACES
    return [*lines, f"and {plural(more, 'more cell')}"] if more > 0 else lines


def _ran(entry: Entry | None) -> str:
    """Return the releases that a cell ran, and whether it is off-pin."""
    if entry is None:
        return ""
    named = [
        f"{name} {markdown(clip(clean(version), 40))}"
        for name, version in (
            ("torch", entry.record.version("torch")),
            ("vLLM", entry.record.version("vllm")),
        )
        if version is not None
    ]
    words = [*named, *(["off-pin"] if entry.off_pin else [])]
    return f" ({', '.join(words)})" if words else ""


def _commands(delta: TableDelta) -> str:
    """Return how to repeat what regressed, then what else is open.

    A person pastes it into a shell, so what cannot be the name of a cell is left out.
    """
    places = dict.fromkeys(
        (change.now.key.place.cell, change.now.key.place.platform)
        for change in (*delta.regressed, *delta.open)
        if _NAME.fullmatch(change.now.key.place.cell)
    )
    if not places:
        return ""
    lines = [f"tox -e {cell} -- --platform {platform}" for cell, platform in places]
    more = len(lines) - _MOST_COMMANDS
    shown = [*lines[:_MOST_COMMANDS], *([f"# and {plural(more, 'more cell')}"] if more > 0 else [])]
    return "\n## Commands\n\n```console\n" + "\n".join(shown) + "\n```\n"


def _fit(parts: Sequence[str]) -> str:
    """Return as many of the parts, from the first, as GitHub takes, and a note."""
    kept: list[str] = []
    left = BODY_LIMIT - len(_CUT)
    for part in parts:
        if len(part) > left:
            return "".join([*kept, part[:left].rpartition("\n")[0], "\n", _CUT])
        kept.append(part)
        left -= len(part)
    return "".join(kept)
