"""Keys by which runs are equal, so that one record can be read in place of many.

Pure. Two runs of a cell on a platform have one **outcome key** if judging, qualifying and
attributing them finds the same in both: releases, tests, flags, how far they came, how each case
ended, with its signature, its counters and whether its warm start wrote machine code, and what the
cache check counted. Their **environment key** is of the machine and of the
packages outside torch's family, by which an attribution separates repeats. Seconds and the start
are in neither.
"""

from __future__ import annotations

from matrix.record.content import content_hash
from matrix.record.environment import environment_of
from matrix.record.model import Case, Record, Start
from matrix.record.signature import signature, signature_of
from matrix.record.startup_tests import identity_of_tests
from matrix.record.stock import not_stock
from matrix.verdict.judge import blames_pair
from matrix.verdict.recompiles import machine_code
from matrix.verdict.stock import blamed, departures_of, hindrance


def outcome_key(record: Record) -> str:
    """Return the digest of a run, without its environment, its seconds and its start."""
    return content_hash(
        [
            verdict_key(record),
            identity_of_tests(record),
            record.deselected,
            record.error and record.error.reason,
            [(rung.rung, rung.ok, None if rung.ok else rung.reason) for rung in record.rungs],
            [_signed(case) for case in record.cases],
            [bool(machine_code(case)) for case in record.cases],
            record.cache_check,
        ]
    )


def environment_key(record: Record) -> str:
    """Return the digest of the machine and of the packages outside torch's family."""
    return content_hash(environment_of(record))


def verdict_key(record: Record) -> str:
    """Return the digest of all that decides the verdict of `matrix.verdict.judge.judge`."""
    return content_hash(
        [
            record.platform,
            record.version("torch"),
            record.version("vllm"),
            record.finished,
            record.error and (record.error.kind, blames_pair(record.error)),
            record.flags,
            all(rung.ok for rung in record.rungs),
            _departures(record),
            [
                [
                    case.case,
                    case.outcome,
                    case.flags,
                    [_counted(start) for start in case.starts],
                ]
                for case in record.cases
            ],
        ]
    )


def _counted(start: Start) -> list[object]:
    """Return what a start counted, and each rank of it where there are several."""
    ranks = [[rank.rank, rank.counters] for rank in start.ranks or ()]
    return [start.start, start.counters, *([ranks] if ranks else [])]


def _signed(case: Case) -> str | None:
    """Return a failure's signature by today's rules, or else that of its reason."""
    return signature_of(case) or signature(case.reason or "") or None


def _departures(record: Record) -> object:
    """Return which packages were not as required, and which of them made something fail."""
    found = departures_of(record)
    if not found:
        return found
    named = [(departure.name, departure.why, departure.installed) for departure in not_stock(found)]
    failed = [
        departure.name if (departure := blamed(found, case.reason, case.signature)) else None
        for case in record.cases
    ]
    return named, hindrance(record), failed
