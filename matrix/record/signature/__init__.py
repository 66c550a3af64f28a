"""Failure text in a form that compares across runs, and its first line of why for a person.

A signature is `Type: message @ package/module.py:function`: the innermost error that means
something, and, if the text has one, the innermost frame of a package that does more than pass a
call on.

Pure, and importable inside a cell.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from matrix._util.text import clip
from matrix.record.model import Case, Outcome
from matrix.record.signature.error import errors_of, last_words, why, why_and_where
from matrix.record.signature.lines import lines_of
from matrix.record.signature.patterns import (
    ABSTRACT,
    ADVICE,
    CRASHED,
    ENDED,
    FRAME,
    PATH,
    REWORDED,
    SIGNED,
    THREAD,
    WRAPPED,
)
from matrix.record.signature.traceback import frames_of, innermost
from matrix.record.signature.varying import last_part, settle

REASON_LIMIT = 200
"""The most characters of a reason."""
SIGNATURE_LIMIT = 300
"""The most characters of a signature."""

_FAILURES = (Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY)


def signature(failure_text: str) -> str:
    """Return what failed, alike for one failure of two runs; "" for an empty text.

    It is the type and the message of the innermost error that means something, and where it was
    raised, without addresses, folders, process numbers, ports, times, sizes of memory, hashes,
    generated names and line numbers. A text that ends with how a process died has the signature of
    that, not of an error that was only logged.

    >>> signature("OSError: [Errno 98] port 4711 of pid 12 at /run/x.sock is in use")
    'OSError: [Errno 98] port <port> of pid <pid> at <path>/x.sock is in use'
    >>> signature('''Traceback (most recent call last):
    ...   File "/x/site-packages/vllm/config/model.py", line 497, in __post_init__
    ... ValueError: no such model''')
    'ValueError: no such model @ vllm/config/model.py:__post_init__'
    """
    text, settled = failure_text, ""
    # What is left can match again (a cut ends a word), and a signature must be its own signature.
    for _ in range(8):
        said, where = _said_and_where(lines_of(text))
        suffix = f" @ {where}" if where else ""
        settled = clip(settle(said), SIGNATURE_LIMIT - len(suffix)) + suffix
        if settled == text:
            break
        text = settled
    return settled


def signature_of(case: Case) -> str | None:
    """Return the signature of a record's case, by today's rules; None if it did not fail.

    It is made from the failure's text, so that records of all ages compare. If there is no text, or
    the process that wrote it was ended from outside, it is the signature in the record.
    """
    if case.outcome not in _FAILURES or not (case.failure or "").strip():
        return case.signature
    return _signature_of(case.outcome, case.failure or "") or case.signature


@functools.lru_cache(maxsize=1024)
def _signature_of(outcome: str, failure: str) -> str:
    """Return the signature of the text, or "" if its end does not say how the case ended."""
    if outcome in ("crashed", "timed_out"):
        lines = lines_of(failure)
        if not (lines and ENDED.fullmatch(lines[-1])):
            return ""
    return signature(failure)


def reason(failure_text: str) -> str:
    """Return the first line of why, for people: at most 200 characters; "" for an empty text.

    A path keeps only its last part, since a record is published and a path can name its user.

    >>> reason("ImportError: /home/joe/lib/vllm/_C.abi3.so: undefined symbol: _ZN3c10E")
    'ImportError: _C.abi3.so: undefined symbol: _ZN3c10E'
    """
    return clip(PATH.sub(last_part, why(lines_of(failure_text))), REASON_LIMIT)


def _said_and_where(lines: Sequence[str]) -> tuple[str, str]:
    """Return what went wrong and where, before what varies is taken out."""
    if len(lines) == 1 and (signed := SIGNED.fullmatch(lines[0])):
        return _unwrapped(why([signed["said"]])), signed["where"]
    ended = ENDED.fullmatch(lines[-1]) if lines else None
    if ended:
        return _died(lines, ended["how"])
    errors = errors_of(lines)
    said, at = why_and_where(lines, errors)
    where = "" if at is None else innermost(frames_of(lines, at, {place for place, _ in errors}))
    return _unwrapped(said), where


def _unwrapped(said: str) -> str:
    said = ADVICE.sub("", said)
    for worded, newest in REWORDED:
        said = worded.sub(newest, said)
    said = ABSTRACT.sub(_quoted, said)
    rest = WRAPPED.sub("", said, count=1) if WRAPPED.match(said) else said
    return said if rest == said else why([rest])


def _quoted(found: re.Match[str]) -> str:
    return ", ".join(f"'{name}'" for name in found[0].split(", "))


def _died(lines: Sequence[str], how: str) -> tuple[str, str]:
    """Return how a process died, in C++'s last words if there are some, and where Python was."""
    if not how.startswith("killed by"):
        return how, ""
    text = "\n".join(lines[:-1])
    _, words, rest = text.rpartition("terminate called after")
    thrown = last_words((words + rest).partition(CRASHED)[0].splitlines()) if words else ""
    crash = max((at for at, line in enumerate(lines) if line.startswith(CRASHED)), default=None)
    stack: list[tuple[str, str]] = []
    if crash is not None:
        threads = [at for at in range(crash, len(lines)) if THREAD.fullmatch(lines[at])]
        for line in lines[threads[0] + 1 :] if threads else ():
            found = FRAME.fullmatch(line)
            if found is None:
                break
            stack.append((found["file"], found["function"] or ""))
    return thrown or how, innermost(stack)
