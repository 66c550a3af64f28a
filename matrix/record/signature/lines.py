"""The text of a failure as lines, without what a terminal, pytest or a log adds to them."""

from __future__ import annotations

from collections.abc import Iterable

from matrix.record.signature.patterns import (
    ASSERT,
    BAR,
    CONTROL,
    ESCAPE,
    LINE_LIMIT,
    MEMBER,
    MEMBERS_END,
    PREFIX,
    RAISED,
)


def lines_of(text: str) -> list[str]:
    """Return the lines that say something, without escapes, marks of pytest and heads of a log."""
    lines: list[str] = []
    text = ESCAPE.sub("", text) if "\x1b" in text else text
    for raw in text.splitlines():
        line = raw[:LINE_LIMIT]
        if not line.isprintable():
            line = CONTROL.sub(" ", line)
        # Most lines of a trace are indented, and nothing stands before those.
        if not line[:1].isspace():
            if not (lines and RAISED.fullmatch(lines[-1])):
                line = ASSERT.sub("AssertionError: assert ", line)
            while (bare := PREFIX.sub("", line, count=1)) != line:
                line = bare
        lines.append(line.rstrip())
    if "Exception Group Traceback" in "\n".join(lines):
        lines = _first_members(lines)
    return [line for line in lines if line.strip()]


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
