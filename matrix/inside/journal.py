"""The journal: what a startup test reports while it runs, one JSON line at a time.

A line is on the disk before the test continues, so a start that kills its process loses nothing
that came before. `fold` makes the record's case from the journal.

| event            | fields                                                      |
|------------------|-------------------------------------------------------------|
| `flags`          | `flags`: the effective flags of this case                   |
| `model`          | `model`: its name                                           |
| `starting`       | `start`: cold or warm                                       |
| `started`        | `start`, `seconds` (part -> seconds), `counters`, `events`, |
|                  | `jit`: the modules that it built, `metrics`, `caches`, as a |
|                  | record has them; `ranks`, of a start on several GPUs        |
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
from typing import Any, NamedTuple

from matrix.inside.ended import Ended, out_of_memory
from matrix.record.model import (
    OUTCOMES,
    STARTS,
    CacheFiles,
    CacheKind,
    Case,
    Event,
    EventKind,
    Outcome,
    Rank,
    Start,
    StartKind,
    clip_failure,
)
from matrix.record.signature import reason as reason_of
from matrix.record.signature import signature as signature_of

JOURNAL_VARIABLE = "MATRIX_JOURNAL"
"""The environment variable that holds the journal's path in the process of a case."""


class Journal:
    """Appends events to one file, which the first event makes.

    Processes may share it: each event is a single append.
    """

    def __init__(self, path: str | Path) -> None:
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

    def failed(self, start: StartKind, ended: Ended) -> None:
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
    """Return the events so far, without torn lines as a kill leaves them; none without a file."""
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
    """Return the record's case, from the journal and from how the process and its test ended.

    `ended` is how the process ended (None: it still runs), `failure` the traceback of a test that
    failed, `teardown` that of its teardown, `skipped` the reason of one that was skipped. A test
    that failed because its counts differ (the event `differs`) when both of its starts had ended is
    `passed` here, since a record holds nothing of what the counts should be.
    """
    found: dict[str, Mapping[str, Any]] = {}
    starts: dict[StartKind, Start] = {}
    for event in events:
        found[event["event"]] = event
        if event["event"] == "started" and event.get("start") in STARTS:
            start = StartKind(event["start"])
            starts[start] = _start(start, event)
    both = len(starts) == len(STARTS)
    if both and "differs" in found:
        failure = None
    if interrupted:
        end = _End(Outcome.INTERRUPTED, "interrupted by a signal or the keyboard")
    elif ended is None:
        end = _End(Outcome.RUNNING)
    elif ended.kind != "returned":
        evidence = signature_of(ended.evidence)
        end = _End(ended.outcome, _why(found, ended), evidence, ended.failure)
    else:
        end = _end_of_test(found, both=both, failure=failure or teardown, skipped=skipped)
    return Case(
        case=case,
        outcome=end.outcome,
        reason=end.reason or None,
        signature=end.signature or None,
        seconds=round(seconds if ended is None else ended.seconds, 3),
        model=found.get("model", {}).get("model"),
        flags=found.get("flags", {}).get("flags", {}),
        failure=clip_failure(end.failure) if end.failure else None,
        starts=tuple(starts.values()),
    )


class _End(NamedTuple):
    """How a case ended, as its record has it."""

    outcome: Outcome
    reason: str | None = None
    signature: str | None = None
    failure: str | None = None


def _end_of_test(
    found: Mapping[str, Mapping[str, Any]], *, both: bool, failure: str | None, skipped: str | None
) -> _End:
    """Return how a case ended whose process came to its end; `both`: both of its starts had."""
    if "failed" in found:
        return _journalled_failure(found["failed"])
    if "not_applicable" in found:
        return _End(Outcome.NOT_APPLICABLE, _text(found["not_applicable"], "reason"))
    if failure is not None:
        return _failed(failure)
    if both:
        return _End(Outcome.PASSED)
    if "untested" in found:
        return _End(Outcome.INTERRUPTED, _text(found["untested"], "reason"))
    if skipped is not None:
        return _End(Outcome.NOT_APPLICABLE, skipped)
    missing = "the test ended without a cold and a warm start"
    return _End(Outcome.FAILED, missing, signature_of(missing))


def _failed(failure: str) -> _End:
    outcome = Outcome.OUT_OF_MEMORY if out_of_memory(failure) else Outcome.FAILED
    return _End(outcome, reason_of(failure), signature_of(failure), failure)


def _why(found: Mapping[str, Mapping[str, Any]], ended: Ended) -> str:
    """Return one line: why the process of a case, or of one start, came to a bad end."""
    if ended.error:
        return reason_of(ended.error)
    start = found.get("starting", {}).get("start")
    under_way = start is not None and found.get("started", {}).get("start") != start
    why = f"{ended.reason} in the {start} start" if under_way else ended.reason
    return why if ended.evidence == ended.reason else f"{why}: {reason_of(ended.evidence)}"


def _journalled_failure(event: Mapping[str, Any]) -> _End:
    end = _failed(_text(event, "failure"))
    outcome = event.get("outcome")
    return _End(
        Outcome(outcome) if outcome in OUTCOMES else end.outcome,
        _text(event, "reason") or end.reason,
        _text(event, "signature") or end.signature,
        end.failure,
    )


def _start(start: StartKind, event: Mapping[str, Any]) -> Start:
    seconds = event.get("seconds") or {}
    if not isinstance(seconds, Mapping):
        seconds = {"total": seconds}
    return Start(
        start=start,
        seconds=seconds,
        counters=event.get("counters") or {},
        events=_events(event.get("events")),
        metrics=event.get("metrics"),
        caches=_caches(event.get("caches")),
        ranks=_ranks(event.get("ranks")),
    )


def _ranks(found: object) -> tuple[Rank, ...] | None:
    """Return what each rank observed; None if the journal does not say so in its form."""
    if not isinstance(found, list) or not found:
        return None
    try:
        return tuple(Rank(**{**rank, "events": _events(rank.get("events"))}) for rank in found)
    except (AttributeError, TypeError):
        return None


def _caches(found: object) -> dict[CacheKind, CacheFiles] | None:
    """Return what the caches hold; None if the journal does not say so in its form."""
    if not isinstance(found, Mapping):
        return None
    try:
        return {CacheKind(kind): CacheFiles(**files) for kind, files in found.items()}
    except (TypeError, ValueError):
        return None


def _events(found: object) -> tuple[Event, ...] | None:
    """Return what a start logged; None if the journal does not say so in its form."""
    if not isinstance(found, list):
        return None
    try:
        return tuple(map(_event, found))
    except (KeyError, TypeError, ValueError):
        return None


def _event(event: Mapping[str, Any]) -> Event:
    return Event(kind=EventKind(event["kind"]), text=str(event["text"]), count=int(event["count"]))


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event.get(key)
    return value if isinstance(value, str) else ""
