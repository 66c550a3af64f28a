"""Which runs tell the same: one notion of it, for all that reads a few records in place of many.

Pure. Two runs of a cell on a platform are of one **kind** if whatever judges, qualifies or
attributes them finds the same in both: releases, tests, flags, how far they came, and how each case
ended, with its signature and counters. Their **setting** is the machine and the packages beside
torch's family, by which an attribution tells repeats apart; nothing else asks for it. Seconds and
the start are of neither.
"""

from __future__ import annotations

from matrix.record.content import content_hash
from matrix.record.environment import environment_of
from matrix.record.model import Case, Record
from matrix.record.signature import signature, signature_of
from matrix.record.startup_tests import identity_of_tests


def outcome_key(record: Record) -> str:
    """The digest of all that a run tells, but for its setting, its seconds and its start."""
    return content_hash(
        [
            verdict_key(record),
            identity_of_tests(record),
            record.deselected,
            record.error and record.error.reason,
            [(each.rung, each.ok, None if each.ok else each.reason) for each in record.rungs],
            [_signed(each) for each in record.cases],
        ]
    )


def environment_key(record: Record) -> str:
    """The digest of the machine and of the packages beside torch's family."""
    return content_hash(environment_of(record))


def verdict_key(record: Record) -> str:
    """The digest of all that `matrix.verdict.judge.judge` looks at for the word of its verdict."""
    found = record.provenance
    return content_hash(
        [
            record.platform,
            found.get("torch"),
            found.get("vllm"),
            record.finished,
            record.error and record.error.kind,
            record.flags,
            all(rung.ok for rung in record.rungs),
            [
                [
                    each.case,
                    each.outcome,
                    each.flags,
                    [[one.start, one.counters] for one in each.starts],
                ]
                for each in record.cases
            ],
        ]
    )


def _signed(case: Case) -> str | None:
    """By what a case's failure compares: today's signature, or else that of its reason."""
    return signature_of(case) or signature(case.reason or "") or None
