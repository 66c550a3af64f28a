"""Failure text in a form that compares across runs, and its first line of why for a person.

A signature is `Type: message @ package/module.py:function`: the innermost error that means
something, and, if the text has one, the innermost frame of a package that does more than pass a
call on.

Pure, and importable inside a cell. The patterns are compiled when the first text is read: most
commands read none.
"""

from __future__ import annotations

from matrix.record.model import Case, Outcome

SHORT_REASON_LIMIT = 200
"""The most characters of a reason."""
SIGNATURE_LIMIT = 300
"""The most characters of a signature."""
FAILURES = frozenset({Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY})
"""The outcomes of a case that failed, and so has a signature."""


def signature(failure_text: str) -> str:
    """Return what failed, alike for one failure of two runs; "" for an empty text.

    It is the type and the message of the innermost error that means something, and where it was
    raised, without addresses, folders, process numbers, ports, times, sizes of memory, hashes,
    generated names, versions of a driver and line numbers. A text that ends with how a process died
    has the signature of that, not of an error that was only logged.

    >>> signature("OSError: [Errno 98] port 4711 of pid 12 at /run/x.sock is in use")
    'OSError: [Errno 98] port <port> of pid <pid> at <path>/x.sock is in use'
    >>> signature('''Traceback (most recent call last):
    ...   File "/x/site-packages/vllm/config/model.py", line 497, in __post_init__
    ... ValueError: no such model''')
    'ValueError: no such model @ vllm/config/model.py:__post_init__'
    """
    from matrix.record.signature.text import signature_of_text

    return signature_of_text(failure_text, SIGNATURE_LIMIT)


def signature_of(case: Case) -> str | None:
    """Return the signature of a record's case, by today's rules; None if it did not fail.

    It is made from the failure's text, so that records of all ages compare. If there is no text, or
    the process that wrote it was ended from outside, it is the signature in the record.
    """
    if case.outcome not in FAILURES or not (case.failure or "").strip():
        return case.signature
    return _signature_of(case.outcome, case.failure or "") or case.signature


def _signature_of(outcome: Outcome, failure: str) -> str:
    """Return the signature of the text, or "" if its end does not say how the case ended."""
    from matrix.record.signature.text import ends_with_death

    if outcome in (Outcome.CRASHED, Outcome.TIMED_OUT) and not ends_with_death(failure):
        return ""
    return signature(failure)


def reason(failure_text: str) -> str:
    """Return the first line of why, for people: at most 200 characters; "" for an empty text.

    A path keeps only its last part, since a record is published and a path can name its user.

    >>> reason("ImportError: /home/joe/lib/vllm/_C.abi3.so: undefined symbol: _ZN3c10E")
    'ImportError: _C.abi3.so: undefined symbol: _ZN3c10E'
    """
    from matrix.record.signature.text import reason_of_text

    return reason_of_text(failure_text, SHORT_REASON_LIMIT)
