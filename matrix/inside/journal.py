"""The journal: what a startup test says of itself while it runs, one JSON line at a time.

A line is on the disk before the test goes on, so a start that kills its process loses nothing
that came before. `fold` makes the record's case of the journal.

| event            | fields                                                      |
|------------------|-------------------------------------------------------------|
| `flags`          | `flags`: the effective flags of this case                   |
| `model`          | `model`: its name                                           |
| `starting`       | `start`: cold or warm                                       |
| `started`        | `start`, `seconds` (part -> seconds), `counters`            |
| `failed`         | `start`, `failure`; may add `outcome`, `reason`, `signature`|
| `differs`        | `differences`: lines; a failure that follows is of counts   |
| `not_applicable` | `reason`                                                    |
| `untested`       | `reason`                                                    |
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matrix.inside.ended import Ended, out_of_memory
from matrix.record.model import OUTCOMES, STARTS, Case, Outcome, Start, clip_failure
from matrix.record.signatures import reason as reason_of
from matrix.record.signatures import signature as signature_of

__all__ = ["VARIABLE", "Journal", "fold", "read"]

VARIABLE = "MATRIX_JOURNAL"
"""The environment variable that holds the journal's path in the process of a case."""


class Journal:
    """Appends events to one file. Processes may share it: each event is a single append."""

    def __init__(self, path: str | Path) -> None:
        """The file is made with the first event."""
        self.path = Path(path)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event and wait until it is on the disk.

        Raises OSError, TypeError for what is not JSON and ValueError for NaN and infinities.
        """
        line = json.dumps({"event": event, **fields}, allow_nan=False) + "\n"
        descriptor = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def failed(self, start: str, ended: Ended) -> None:
        """Append `failed` for a start whose own forked child ended badly."""
        self.write(
            "failed",
            start=start,
            failure=ended.failure,
            outcome=ended.outcome,
            reason=_why({"starting": {"start": start}}, ended),
            signature=signature_of(ended.evidence),
        )


def read(path: str | Path) -> tuple[dict[str, Any], ...]:
    """The events so far: none if there is no file; a torn line, as a kill leaves it, is not one."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return ()
    events = []
    for line in data.split(b"\n")[:-1]:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
    return tuple(events)


def fold(
    case: str,
    events: Iterable[Mapping[str, Any]],
    *,
    seconds: float = 0.0,
    ended: Ended | None = None,
    failure: str | None = None,
    teardown: str | None = None,
    skipped: str | None = None,
    interrupted: bool = False,
) -> Case:
    """The record's case: what the journal says, and what became of the process and its test.

    `ended` is how the process ended (None: it still runs), `failure` the traceback of a test that
    failed, `teardown` that of its teardown, `skipped` the reason of one that was skipped. A test
    that failed because its counts differ (the event `differs` says so) when both of its starts had
    ended is `passed` here, since a record says nothing of what the counts should be.
    """
    found: dict[str, Mapping[str, Any]] = {}
    starts: dict[str, Start] = {}
    for event in events:
        found[event["event"]] = event
        if event["event"] == "started" and event.get("start") in STARTS:
            starts[event["start"]] = _start(event)
    both = len(starts) == len(STARTS)
    if both and "differs" in found:
        failure = None
    outcome, reason, signature, text = _outcome(
        found, both, ended, failure or teardown, skipped, interrupted
    )
    return Case(
        case=case,
        outcome=Outcome(outcome),
        reason=reason or None,
        signature=signature or None,
        seconds=round(seconds if ended is None else ended.seconds, 3),
        model=found.get("model", {}).get("model"),
        flags=found.get("flags", {}).get("flags", {}),
        failure=clip_failure(text) if text else None,
        starts=tuple(starts.values()),
    )


_End = tuple[str, str | None, str | None, str | None]
"""Outcome, reason, signature and failure."""


def _outcome(
    found: Mapping[str, Mapping[str, Any]],
    both: bool,
    ended: Ended | None,
    failure: str | None,
    skipped: str | None,
    interrupted: bool,
) -> _End:
    if interrupted:
        return "interrupted", "interrupted by a signal or the keyboard", None, None
    if ended is None:
        return "running", None, None, None
    if ended.kind != "returned":
        return ended.outcome, _why(found, ended), signature_of(ended.evidence), ended.failure
    if "failed" in found:
        return _journalled_failure(found["failed"])
    if "not_applicable" in found:
        return "not_applicable", _text(found["not_applicable"], "reason"), None, None
    if failure is not None:
        outcome = "out_of_memory" if out_of_memory(failure) else "failed"
        return outcome, reason_of(failure), signature_of(failure), failure
    if both:
        return "passed", None, None, None
    if "untested" in found:
        return "interrupted", _text(found["untested"], "reason"), None, None
    if skipped is not None:
        return "not_applicable", skipped, None, None
    missing = "the test ended without a cold and a warm start"
    return "failed", missing, signature_of(missing), None


def _why(found: Mapping[str, Mapping[str, Any]], ended: Ended) -> str:
    """Why the process of a case, or of one start, came to a bad end: one line."""
    if ended.error:
        return reason_of(ended.error)
    start = found.get("starting", {}).get("start")
    under_way = start is not None and found.get("started", {}).get("start") != start
    why = f"{ended.reason} in the {start} start" if under_way else ended.reason
    return why if ended.evidence == ended.reason else f"{why}: {reason_of(ended.evidence)}"


def _journalled_failure(event: Mapping[str, Any]) -> _End:
    failure = _text(event, "failure")
    outcome = event.get("outcome")
    if outcome not in OUTCOMES:
        outcome = "out_of_memory" if out_of_memory(failure) else "failed"
    return (
        outcome,
        _text(event, "reason") or reason_of(failure),
        _text(event, "signature") or signature_of(failure),
        failure,
    )


def _start(event: Mapping[str, Any]) -> Start:
    seconds = event.get("seconds") or {}
    if not isinstance(seconds, Mapping):
        seconds = {"total": seconds}
    return Start(start=event["start"], seconds=seconds, counters=event.get("counters") or {})


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event.get(key)
    return value if isinstance(value, str) else ""
