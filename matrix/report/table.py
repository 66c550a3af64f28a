"""Records and expectations -> the compatibility table, the same for any order of the records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from matrix.cells import Factors, factors
from matrix.expectations import Expectations
from matrix.records import PLATFORMS, Case, Record, to_json
from matrix.verdicts import BROKEN_PAIR, CaseVerdict, CellVerdict, judge, worst

__all__ = ["Entry", "Table", "tabulate"]


@dataclass(frozen=True)
class Entry:
    """One cell on one platform: its newest record, and the verdict on it."""

    record: Record
    verdict: CellVerdict
    file: str

    @property
    def factors(self) -> Factors:
        """The minor releases that the cell's name holds."""
        return factors(self.record.cell)

    @property
    def date(self) -> str:
        """The day, in UTC, on which the record was started."""
        return self.record.started[:10]

    @property
    def cases(self) -> tuple[tuple[Case, CaseVerdict], ...]:
        """Each case with its verdict, by name."""
        pairs = zip(self.record.cases, self.verdict.cases, strict=True)
        return tuple(sorted(pairs, key=lambda pair: pair[0].case))


@dataclass(frozen=True)
class Table:
    """The entries by platform (`cuda` first), vLLM, torch and Python."""

    entries: tuple[Entry, ...]

    @property
    def newest(self) -> str | None:
        """The date of the newest record, so that the same records give the same table."""
        return max((entry.date for entry in self.entries), default=None)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that have an entry."""
        return tuple(dict.fromkeys(entry.record.platform for entry in self.entries))

    def releases(self, platform: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The minor releases of torch and of vLLM with an entry on the platform, oldest first."""
        of = [entry.factors for entry in self.entries if entry.record.platform == platform]
        torch = sorted({each.torch for each in of}, key=Version)
        vllm = sorted({str(each.vllm) for each in of}, key=Version)
        return tuple(torch), tuple(vllm)

    def pair(self, platform: str, torch: str, vllm: str) -> tuple[Entry, ...]:
        """The entries of one pair of minor releases: one a Python."""
        return tuple(
            entry
            for entry in self.entries
            if entry.record.platform == platform
            and (entry.factors.torch, entry.factors.vllm) == (torch, vllm)
        )

    def worst(self, platform: str, torch: str, vllm: str) -> Entry | None:
        """The entry with the worst verdict among a pair's Pythons, or None without a record."""
        entries = self.pair(platform, torch, vllm)
        verdict = worst(entry.verdict.verdict for entry in entries)
        return next((entry for entry in entries if entry.verdict.verdict == verdict), None)


def tabulate(records: Iterable[tuple[Path, Record]], expectations: Expectations) -> Table:
    """Judge the newest record of each cell on each platform.

    A run that was cut short or refused (a full disk, Ctrl-C) does not hide an older one that was
    not. Of two that started in the same second, the choice falls on their content, so that it
    does not depend on the order in which a disk lists them.
    """
    newest: dict[tuple[str, str], tuple[tuple[bool, str, str, str], Record]] = {}
    for path, record in records:
        key = record.cell, record.platform
        age = _conclusive(record), record.started, to_json(record), path.name
        if key not in newest or newest[key][0] < age:
            newest[key] = age, record
    entries = (
        Entry(record, judge(record, expectations), age[3]) for age, record in newest.values()
    )
    return Table(tuple(sorted(entries, key=_order)))


def _conclusive(record: Record) -> bool:
    """Whether the run came to its end, or to a failure that is the pair's own."""
    return record.finished and (record.error is None or record.error.kind in BROKEN_PAIR)


def _order(entry: Entry) -> tuple[int, Version, Version, Version]:
    named = entry.factors
    return (
        PLATFORMS.index(entry.record.platform),
        Version(str(named.vllm)),
        Version(named.torch),
        Version(named.python),
    )
