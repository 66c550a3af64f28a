"""What one run says of each case: it passed, failed, does not apply, or nobody knows.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from matrix.qualify.sides import Ran
from matrix.record.model import STARTS, Case, Record
from matrix.record.signatures import signature
from matrix.verdict.judge import BROKEN_PAIR, INCOMPATIBLE, UNTESTED, CaseVerdict

__all__ = [
    "FAILED",
    "NOT_APPLICABLE",
    "PASSED",
    "UNKNOWN",
    "Reply",
    "broken",
    "crash",
    "cut_short",
    "reply",
    "said",
    "whole_reply",
]

PASSED, FAILED, NOT_APPLICABLE, UNKNOWN = "passed", "failed", "not applicable", "unknown"


@dataclass(frozen=True)
class Reply:
    """What one side says of a case."""

    state: str
    reason: str | None = None
    rung: str | None = None
    signature: str = ""
    case: Case | None = None
    verdict: CaseVerdict | None = None
    flags: Mapping[str, object] = field(default_factory=dict)


def reply(ran: Ran, name: str) -> Reply:
    """What the record says of a case."""
    record = ran.record
    for case, verdict in zip(record.cases, ran.entry.verdict.cases, strict=True):
        if case.case == name:
            return replace(_of_case(case, verdict), flags={**record.flags, **case.flags})
    whole = whole_reply(ran)
    if whole.state == FAILED:
        return whole
    if record.deselected:
        return Reply(UNKNOWN, f"was not asked for: the record holds {ran.entry.part}")
    return Reply(UNKNOWN, cut_short(record) or "is no case of the record")


def _of_case(case: Case, verdict: CaseVerdict) -> Reply:
    why = verdict.reason or case.outcome.replace("_", " ")
    if case.outcome == "not_applicable":
        return Reply(NOT_APPLICABLE, why, None, signature(why), case, verdict)
    if verdict.verdict == INCOMPATIBLE:
        found = verdict.signature or signature(why)
        return Reply(FAILED, why, verdict.rung, found, case, verdict)
    started = all(case.started(start) for start in STARTS)
    if (
        case.outcome != "passed"
        or not started
        or (verdict.verdict == UNTESTED and not verdict.rung)
    ):
        return Reply(UNKNOWN, why, None, "", case, verdict)
    return Reply(PASSED, None, None, "", case, verdict)


def broken(ran: Ran) -> tuple[str, str] | None:
    """The rung and the reason for which the whole run failed, by the pair's own fault."""
    error = ran.record.error
    if error is not None:
        return (error.kind, error.reason or error.kind) if error.kind in BROKEN_PAIR else None
    for rung in ran.record.rungs:
        if not rung.ok:
            return rung.rung, rung.reason or f"failed at {rung.rung}"
    return None


def cut_short(record: Record) -> str | None:
    """How the run ended before its time, or None."""
    if record.error is not None:
        return f"ended early: {record.error.reason or record.error.kind.replace('_', ' ')}"
    if not record.finished:
        return "did not finish"
    return None if record.cases else "holds no case"


def said(answer: Reply) -> str:
    """Why there is no answer, to stand after the name of the side."""
    if answer.state == NOT_APPLICABLE:
        return f"does not apply: {answer.reason}"
    if answer.case is not None:
        return f"has no answer: {answer.reason}"
    return str(answer.reason)


def whole_reply(ran: Ran) -> Reply:
    """What the record says of the run as a whole, beside its cases."""
    fault = broken(ran)
    if fault is None:
        return Reply(PASSED)
    rung, why = fault
    return Reply(FAILED, why, rung, signature(why) or rung)


def crash(record: Record) -> str | None:
    """The reason for which the run died as a whole, which nobody may have wanted; else None."""
    if record.error is None or record.error.kind not in ("crashed", "timed_out"):
        return None
    return record.error.reason or record.error.kind.replace("_", " ")
