"""Which error of a text says why: the innermost that means something."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from matrix.record.signature.lines import one_line
from matrix.record.signature.patterns import (
    BARE,
    BECAUSE,
    COMPILER,
    DIED,
    ENDS_TRACEBACK,
    INPUT,
    INVALID,
    MOST_BELOW,
    NOT_COMPILED,
    NOT_TELLING,
    RAISED,
    TRACEBACK,
    WRAPPERS,
)


def why(lines: Sequence[str]) -> str:
    """Return the line that says why: an error's type and message, how it died, or the last one."""
    return why_and_where(lines, errors_of(lines))[0]


def why_and_where(
    lines: Sequence[str], errors: Sequence[tuple[int, re.Match[str]]]
) -> tuple[str, int | None]:
    """Return the line that says why, and the place of its error in the text, if it is one."""
    for last in range(len(errors) - 1, -1, -1):
        at, found = errors[last]
        said = (found["message"] or "").strip()
        if last and (WRAPPERS.search(said) or _is_caused(lines, errors[last - 1][0], at)):
            continue
        name = found["type"]
        if name in BARE:
            name = ".".join([*found["module"].rstrip(".").split(".")[-1:], name]).lstrip(".")
        below = _below(said, lines[at + 1 : at + 1 + MOST_BELOW])
        return one_line(": ".join(part for part in (name, said, below) if part)), at
    return last_words(lines) or (one_line(lines[-1]) if lines else ""), None


def errors_of(lines: Sequence[str]) -> list[tuple[int, re.Match[str]]]:
    """Return the lines that name an error and its message, with their places.

    A line right below the error of a traceback is more of its message, or a note that was added
    to it (Python 3.11 and newer), unless that error only introduces it: `backend=... raised:`.
    """
    errors: list[tuple[int, re.Match[str]]] = []
    in_traceback = False
    told = -2  # the place of the last line that belongs to the error of a traceback
    for at, line in enumerate(lines):
        found = None if line[:1] == " " else RAISED.fullmatch(line)
        if in_traceback and not line.startswith(" "):
            found = found or ENDS_TRACEBACK.fullmatch(line)
            if found and found["type"].isupper():  # a line of a log: WARNING: ...
                found = None
            in_traceback = found is None
            told = at if found and not line.endswith(":") else told
        elif found and told == at - 1:
            told, found = at, None
        if found:
            errors.append((at, found))
        in_traceback = in_traceback or TRACEBACK in line
    return errors


def last_words(lines: Iterable[str]) -> str:
    """Return what C++ or the interpreter printed when the process died; "" if neither did."""
    died = [found for line in lines if (found := DIED.fullmatch(line))]
    if not died:
        return ""
    words = [found["thrown"] or found["what"] or "" for found in died]
    thrown = ": ".join(word for word in words if word)
    last = died[-1]
    return one_line(
        next((found["fatal"] for found in died if found["fatal"]), "")
        or thrown
        or (last["fault"] or "")
    )


def _below(said: str, lines: Sequence[str]) -> str:
    """Return what the lines below a message add, if the message says only that there is more."""
    if INVALID.fullmatch(said):
        return _first_fault(lines)
    if NOT_COMPILED.fullmatch(said):
        told = next((found for line in lines if (found := COMPILER.fullmatch(line))), None)
        if told:
            return told["said"]
        outputs = [at for at, line in enumerate(lines[:-1]) if line.strip() == "Output:"]
        return lines[outputs[0] + 1].strip() if outputs else ""
    return ""


def _first_fault(lines: Sequence[str]) -> str:
    """Return the first fault of a list by pydantic: its field, if it names one, and what it is."""
    parts: list[str] = []
    for line in lines[:2]:
        if NOT_TELLING.match(line) or RAISED.fullmatch(line):
            break
        parts.append(INPUT.sub("", line.strip()))
        if " " in parts[-1]:
            break
    return ": ".join(parts)


def _is_caused(lines: Sequence[str], earlier: int, later: int) -> bool:
    return any(BECAUSE in line for line in lines[earlier + 1 : later])
