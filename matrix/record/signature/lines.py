"""The text of a failure as lines, without what a terminal, pytest or a log adds to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matrix.record.signature.heads import without_heads
from matrix.record.signature.logrus import without_logrus
from matrix.record.signature.patterns import (
    BAR,
    CONTROL,
    ESCAPE,
    LINE_LIMIT,
    MEMBER,
    MEMBERS_END,
    RAISED,
    TRACEBACK,
)
from matrix.record.signature.prefixes import without_prefixes

_MOST_PREFIXES = 3


def lines_of(text: str) -> list[str]:
    """Return the lines that say something, without escapes, marks of pytest and heads of a log."""
    # Logrus colours its lines, and quotes messages that have colours of their own.
    text = _without_escapes(without_logrus(_without_escapes(text)))
    lines: Sequence[str] = text.splitlines()
    # The hosts of pdsh, as an example, stand before other heads, or behind them.
    for _ in range(_MOST_PREFIXES):
        headless = _without_heads(lines)
        lines = without_prefixes(headless)
        if lines == headless:
            break
    if "Exception Group Traceback" in "\n".join(lines):
        lines = _first_members(lines)
    # What is below the heads of a log can be moved to the right as a whole, too.
    margin = _margin(lines)
    return _outdented(line[margin:] for line in lines if line.strip())


def _without_escapes(text: str) -> str:
    return ESCAPE.sub("", text) if "\x1b" in text else text


def _without_heads(raws: Sequence[str]) -> list[str]:
    lines: list[str] = []
    margin = _margin(raws)
    for raw in raws:
        line = raw[margin : margin + LINE_LIMIT]
        if not line.isprintable():
            line = CONTROL.sub(" ", line)
        below_error = line[:2] == "E " and bool(lines and RAISED.fullmatch(lines[-1]))
        lines.append(without_heads(line, below_error=below_error).rstrip())
    return lines


def _margin(lines: Sequence[str]) -> int:
    """Return the number of spaces before every line that is not blank, if there are several."""
    least, count = LINE_LIMIT, 0
    for line in lines:
        bare = line.lstrip(" ")
        if bare.strip():
            count += 1
            least = min(least, len(line) - len(bare))
            if not least:
                break
    return least if count > 1 else 0


def _outdented(lines: Iterable[str]) -> list[str]:
    """Move a traceback that is indented as a whole, as build tools print it, to the left."""
    kept: list[str] = []
    indent = 0
    for line in lines:
        bare = line.lstrip(" ")
        if bare.startswith(TRACEBACK):
            indent = len(line) - len(bare)
        elif len(line) - len(bare) < indent:
            indent = 0
        kept.append(line[indent:])
    return kept


def _first_members(lines: Iterable[str]) -> list[str]:
    """Remove the bars of groups of exceptions, and all but the first member of each group.

    The others depend on what else went on at that time.
    """
    kept: list[str] = []
    left_out: int | None = None
    for line in lines:
        if found := MEMBER.fullmatch(line):
            if left_out is None and found["number"] != "1":
                left_out = len(found["indent"])
        elif found := MEMBERS_END.fullmatch(line):
            if left_out is not None and len(found["indent"]) <= left_out:
                left_out = None
        elif left_out is None:
            kept.append(BAR.sub("", line))
    return kept


def one_line(text: str) -> str:
    """Return the text with single spaces for all white space, and a limit to its length."""
    return " ".join(text[:LINE_LIMIT].split())
