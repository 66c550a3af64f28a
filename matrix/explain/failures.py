"""What failed in the run of a record. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matrix.record.model import EventKind, Record
from matrix.record.signature import FAILURES, signature, signature_of
from matrix.record.upstream import UpstreamOutcome


@dataclass(frozen=True, kw_only=True)
class RunFailure:
    """One failure: its case, "" for the run as a whole, its text and its signature.

    The text is empty if the record has only the signature.
    """

    case: str
    text: str
    signature: str


def failures_of(record: Record) -> Iterator[RunFailure]:
    """Yield each failure with a signature: of a case, of a test of upstream's, or of the run."""
    for case in (*record.cases, *(record.full_suite or ())):
        if case.outcome in FAILURES and (settled := signature_of(case)):
            yield RunFailure(case=case.case, text=case.failure or "", signature=settled)
    for test in record.upstream.of(UpstreamOutcome.FAILED) if record.upstream else ():
        if test.signature:
            yield RunFailure(case=test.case, text=test.failure or "", signature=test.signature)
    reasons = [result.reason for result in record.rungs if not result.ok]
    if record.error is not None:
        reasons.append(record.error.reason)
    for reason in filter(None, reasons):
        yield RunFailure(case="", text=reason, signature=signature(reason))


def text_of(record: Record) -> str:
    """Return the texts of all that failed in a run, after its releases; "" if nothing did.

    Of a run in which nothing failed they are those of what could not be loaded.
    """
    found = [failure.text or failure.signature for failure in failures_of(record)] or [
        event.text
        for case in record.cases
        for start in case.starts
        for event in start.events or ()
        if event.kind is EventKind.LOAD_FAILED
    ]
    releases = [
        f"{name}=={version}" for name in ("torch", "vllm") if (version := record.version(name))
    ]
    return "\n\n".join([*releases, *found]) if found else ""
