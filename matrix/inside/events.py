"""Events that torch and vLLM only log: load failures, fallbacks, caches that are off.

A record is known by its template, whose arguments vary. The texts are those of vLLM 0.16 to 0.33
(`compilation/decorators.py`, `backends.py`, `caching.py`, `compiler_interface.py`) and of torch 2.9
to 2.11 (`_inductor/codecache.py`, `standalone_compile.py`, `output_code.py`,
`_functorch/_aot_autograd/autograd_cache.py`, `_dynamo/convert_frame.py`); the patterns also take
what later releases may say in like words.
"""

import logging
import re
from typing import Any

from matrix.record.model import EVENT_LIMIT, EVENTS_LIMIT, EventKind

_LOGGERS = re.compile(
    r"vllm\.(compilation|config\.(compilation|vllm))\b|torch\._(dynamo|functorch|inductor)\b"
)
_KINDS = {
    EventKind.LOAD_FAILED: re.compile(r"load failure|(unable to|cannot|failed to) load"),
    EventKind.SAVE_FAILED: re.compile(
        r"(unable to|cannot|failed to|could not) (save|serialize|write)"
    ),
    EventKind.CACHE_BYPASSED: re.compile(
        r"bypassing \S+( graph)? cache|failed to (pickle|generate \S+) cache key"
    ),
    EventKind.CACHE_DISABLED: re.compile(r"cache is disabled|disabling aot compile"),
    EventKind.FELL_BACK: re.compile(r"(fall(ing|s)?|fell) ?back"),
    EventKind.RECOMPILED: re.compile(r"\bhit config\.|\brecompiling "),
}
# vLLM logs these at every start, as INFO, and all is well.
_LEVELS = {
    EventKind.LOAD_FAILED: logging.INFO,
    EventKind.SAVE_FAILED: logging.INFO,
    EventKind.CACHE_BYPASSED: logging.INFO,
    EventKind.CACHE_DISABLED: logging.INFO,
    EventKind.FELL_BACK: logging.WARNING,
    EventKind.RECOMPILED: logging.WARNING,
}


def kind_of(record: logging.LogRecord) -> EventKind | None:
    """Return which kind of event a record of a log is; None for all others."""
    if not isinstance(record.msg, str) or not _LOGGERS.match(record.name):
        return None
    template = record.msg.lower()
    for kind, pattern in _KINDS.items():
        if pattern.search(template):
            return kind if record.levelno >= _LEVELS[kind] else None
    return None


class Events:
    """The events of one start: each kind and template once, in its first words, and how often."""

    def __init__(self) -> None:
        """Start without any."""
        self._found: dict[tuple[EventKind, str], dict[str, Any]] = {}

    def add(self, record: logging.LogRecord) -> None:
        """Take in one record of a log; one too many changes nothing."""
        kind = kind_of(record)
        if kind is None:
            return
        known = self._found.get((kind, record.msg))
        if known is not None:
            known["count"] += 1
        elif len(self._found) < EVENTS_LIMIT:
            event = {"kind": kind.value, "text": _text(record), "count": 1}
            self._found[kind, record.msg] = event

    def forget(self) -> None:
        """Forget the events so far."""
        self._found.clear()

    def found(self) -> list[dict[str, Any]]:
        """Return the events in the order of their first times, as JSON."""
        return list(self._found.values())


def _text(record: logging.LogRecord) -> str:
    """Return the record's message, and the error that it was logged with, on one line."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit the template
        text = str(record.msg)
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None:
        text = f"{text}: {type(error).__name__}: {error}"
    text = " ".join(text.split())
    return text if len(text) <= EVENT_LIMIT else f"{text[: EVENT_LIMIT - 1]}…"
