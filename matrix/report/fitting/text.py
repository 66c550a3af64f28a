"""A whole report in the columns of a terminal, whatever it is made of.

Two blanks stand between the columns of a table, and nowhere else: `clean` leaves none in a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from matrix.report.fitting.table import fitted_rows
from matrix.report.fitting.words import is_command, sentence

_ROW = re.compile(r"\S {2,}(?=\S)")
_PAINTED = re.compile(r"\x1b\[(\d+)m([^\x1b]*)\x1b\[0m")
_FIRST_INK = 0xF0000  # of the private use of Unicode, which no report has


def fitted(text: str, width: int, *, shell: bool = True) -> str:
    r"""Return a report in lines of at most `width` columns; only what cannot be broken is wider.

    That is one word, such as a path, code in backquotes or a symbol of C++. A command continues
    after a backslash; without `shell` it stays on one line.

    >>> print(fitted("ran  torch 2.11.0 and vLLM 0.26.0\nto do\n  matrix plan --platform cpu", 24))
    ran  torch 2.11.0 and
         vLLM 0.26.0
    to do
      matrix plan \
          --platform cpu
    """
    ink = _Ink()
    lines = ink.dry(text).split("\n")
    if all(len(line) <= width for line in lines):
        return text
    shown: list[str] = []
    for block in _blocks(lines):
        last = _last_column(block[0])
        are_rows = [_has_gap(line) or _indent(line) == last for line in block]
        rows = [line for line, is_row in zip(block, are_rows, strict=True) if is_row]
        fitting = iter(fitted_rows(rows, width, shell=shell) if rows else ())
        for line, is_row in zip(block, are_rows, strict=True):
            shown += next(fitting) if is_row else sentence(line, width, shell=shell)
    return ink.wet("\n".join(shown))


class _Ink:
    """The colours of a text: each letter with its colour becomes one sign, and a letter again.

    So the length of a text is the number of columns that it takes.
    """

    def __init__(self) -> None:
        self._signs: dict[tuple[str, str], str] = {}

    def dry(self, text: str) -> str:
        """Return a text without escapes."""
        return _PAINTED.sub(self._as_signs, text)

    def _as_signs(self, painted: re.Match[str]) -> str:
        return "".join(
            letter
            if letter.isspace()
            else self._signs.setdefault((painted[1], letter), chr(_FIRST_INK + len(self._signs)))
            for letter in painted[2]
        )

    def wet(self, text: str) -> str:
        """Return the text with its escapes again."""
        letters = {sign: letter for (_, letter), sign in self._signs.items()}
        for colour in dict.fromkeys(colour for colour, _ in self._signs):
            signs = "".join(sign for (of, _), sign in self._signs.items() if of == colour)
            words = re.compile(f"[{signs}]+(?: [{signs}]+)*")
            text = words.sub(partial(_as_letters, colour, letters), text)
        return text


def _as_letters(colour: str, letters: Mapping[str, str], signs: re.Match[str]) -> str:
    text = "".join(letters.get(sign, sign) for sign in signs[0])
    return f"\x1b[{colour}m{text}\x1b[0m"


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Return the lines in order, those of a table together.

    So are sentences further right in it, which speak of the row above them.
    """
    table: list[str] = []
    left = 0
    for line in lines:
        if _has_gap(line) or (table and _indent(line) > left):
            left = min(left, _indent(line)) if table else _indent(line)
            table.append(line)
            continue
        if table:
            yield table
        table = []
        yield [line]
    if table:
        yield table


def _last_column(row: str) -> int | None:
    """Return where the last cell of the first row begins; None without columns.

    A line of its table that begins there has only the last cell of a row.
    """
    gaps = list(_ROW.finditer(row))
    return gaps[-1].end() if gaps else None


def _has_gap(line: str) -> bool:
    """Return whether a line has columns; a command may have two blanks in quotes."""
    return _ROW.search(line) is not None and not is_command(line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
