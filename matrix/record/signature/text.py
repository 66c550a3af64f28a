"""The whole of a failure's text: what went wrong, where, and how the process died."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matrix._util.text import clip
from matrix.record.signature.compilers import fault_of_ninja
from matrix.record.signature.error import (
    Reading,
    introduced,
    last_words,
    why,
    why_and_where,
)
from matrix.record.signature.lines import lines_of
from matrix.record.signature.patterns import (
    ABSTRACT,
    ADVICE,
    CRASHED,
    ENDED,
    FRAME,
    LIBRARY_FAULT,
    LIBRARY_FOLDERS,
    PATH,
    REWORDED,
    SIGNED,
    THREAD,
    WRAPPED,
)
from matrix.record.signature.traceback import frames_of, innermost
from matrix.record.signature.varying import last_part, settle


def signature_of_text(text: str, limit: int) -> str:
    """Return the signature of a text, in at most that many characters."""
    settled = ""
    # What is left can match again (a cut ends a word), and a signature must be its own signature.
    for _ in range(8):
        message, where = _message_and_place(lines_of(text))
        suffix = f" @ {where}" if where else ""
        settled = clip(settle(message), limit - len(suffix)) + suffix
        if settled == text:
            break
        text = settled
    return settled


def reason_of_text(text: str, limit: int) -> str:
    """Return the first line of why, in at most that many characters."""
    return clip(PATH.sub(last_part, LIBRARY_FOLDERS.sub("", why(lines_of(text)))), limit)


def ends_with_death(text: str) -> bool:
    """Tell whether a text ends with how its process died."""
    lines = lines_of(text)
    return bool(lines and ENDED.fullmatch(lines[-1]))


def _message_and_place(lines: Sequence[str]) -> tuple[str, str]:
    """Return what went wrong and where, before what varies is taken out."""
    if len(lines) == 1 and (signed := SIGNED.fullmatch(lines[0])):
        return _unwrapped(why([signed["message"]])), signed["where"]
    ended = ENDED.fullmatch(lines[-1]) if lines else None
    if ended:
        return _died(lines, ended["how"])
    reading = Reading(lines)
    message, at = why_and_where(reading)
    places = {place for place, _ in reading.errors}
    where = "" if at is None else innermost(frames_of(lines, at, places))
    if not where:
        message = introduced(reading, message, at)
    message = _unwrapped(message)
    if fault := fault_of_ninja(message):
        return fault, ""
    # Which module is the first to load a library depends on what else is installed.
    return message, "" if LIBRARY_FAULT.fullmatch(message) else where


def _unwrapped(message: str) -> str:
    message = ADVICE.sub("", message)
    for worded, newest in REWORDED:
        message = worded.sub(newest, message)
    message = ABSTRACT.sub(_quoted, message)
    rest = WRAPPED.sub("", message, count=1) if WRAPPED.match(message) else message
    return message if rest == message else _unwrapped(why([rest]))


def _quoted(found: re.Match[str]) -> str:
    return ", ".join(f"'{name}'" for name in found[0].split(", "))


def _died(lines: Sequence[str], how: str) -> tuple[str, str]:
    """Return how a process died, in C++'s last words if there are some, and where Python was."""
    if not how.startswith("killed by"):
        return how, ""
    text = "\n".join(lines[:-1])
    _, words, rest = text.rpartition("terminate called after")
    thrown = last_words((words + rest).partition(CRASHED)[0].splitlines()) if words else ""
    crash = max(
        (index for index, line in enumerate(lines) if line.startswith(CRASHED)), default=None
    )
    stack: list[tuple[str, str]] = []
    if crash is not None:
        threads = [index for index in range(crash, len(lines)) if THREAD.fullmatch(lines[index])]
        for line in lines[threads[0] + 1 :] if threads else ():
            found = FRAME.fullmatch(line)
            if found is None:
                break
            stack.append((found["file"], found["function"] or ""))
    return _unwrapped(thrown or how), innermost(stack)
