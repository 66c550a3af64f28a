"""Whether the records that rules name as evidence are there, and count as the rules say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from matrix._util.enums import StrEnum
from matrix._util.paths import CHECKOUT, PUBLISHED
from matrix.record.model import Record, RecordError
from matrix.record.reader import read
from matrix.record.startup_tests import version_of_tests
from matrix.rules.expectations import Expectations, Rule, Situation, compare

_RESULTS = "results/"


class NoEvidence(StrEnum):
    """Why a record is not the evidence of a rule that names it."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    OTHERWISE = "counts otherwise"


@dataclass(frozen=True, kw_only=True)
class Unfounded:
    """A rule whose evidence does not support it: the record, and what the reader says of it.

    `detail` is None where the record can be read, or is not there.
    """

    rule: str
    record: str
    why: NoEvidence
    detail: str | None = None


def find_record(name: str, folder: Path | None = None) -> Path | None:
    """Return the file of a record that evidence names; None where it is not there.

    The rules of the package name records of the checkout, which a wheel brings as the published
    ones. Those of another file, which lies in `folder`, may name records of there or of here.
    """
    places = [CHECKOUT / name]
    if name.startswith(_RESULTS):
        places.insert(0, PUBLISHED / name.removeprefix(_RESULTS))
    if folder is not None:
        places[:0] = [folder / name, Path(name)]
    return next((place for place in places if place.is_file()), None)


def unfounded(
    expectations: Expectations, find: Callable[[str], Path | None]
) -> Iterator[Unfounded]:
    """Yield each rule and each record that it names where that is not evidence of it.

    `find` is `find_record`. A link is not read.
    """
    load = lru_cache(maxsize=None)(read)
    for rule in expectations.rules:
        for name in rule.records:
            path = find(name)
            if path is None:
                yield Unfounded(rule=rule.id, record=name, why=NoEvidence.MISSING)
                continue
            try:
                record = load(path)
            except RecordError as error:
                why = NoEvidence.UNREADABLE
                yield Unfounded(rule=rule.id, record=name, why=why, detail=str(error))
                continue
            if not _bears(record, rule):
                yield Unfounded(rule=rule.id, record=name, why=NoEvidence.OTHERWISE)


def _bears(record: Record, rule: Rule) -> bool:
    """Tell whether a start of the record is one that the rule is about, and counts as it says."""
    alone = Expectations(rules=(rule,))
    for case in record.cases:
        where = Situation(
            case=case.case,
            platform=record.platform,
            torch=str(record.provenance["torch"]),
            vllm=str(record.provenance["vllm"]),
            flags={**record.flags, **case.flags},
            tests=version_of_tests(record),
        )
        for start in case.starts:
            expected = alone.expect(where, start.start)
            if expected and not compare(expected, start.counters, start.start):
                return True
    return False
