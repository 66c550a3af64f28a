"""Records and expectations -> the compatibility table, the same for any order of the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.version import Version

from matrix.catalog.cells import Factors, factors
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, Case, Record, to_json, whole
from matrix.rules.expectations import Expectations
from matrix.verdict.judge import CaseVerdict, CellVerdict, Remembered, judge, worst
from matrix.verdict.states import VERDICTS, Verdict

__all__ = ["Entry", "Table", "tabulate"]


@dataclass(frozen=True)
class Entry:
    """One cell on one platform: its newest record, and the verdict on it.

    `off_pin`: its vLLM pins another torch.
    """

    record: Record
    verdict: CellVerdict
    file: str
    off_pin: bool = False

    @cached_property
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

    @property
    def part(self) -> str | None:
        """How many of the cases a partial record holds, as `3 of 9 cases`; None for a whole one."""
        held, whole = len(self.record.cases), len(self.record.cases) + self.record.deselected
        return f"{held} of {whole} cases" if self.record.deselected else None


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
        return tuple(self._pairs.get((platform, torch, vllm), ()))

    @cached_property
    def _pairs(self) -> Mapping[tuple[str, str, str], list[Entry]]:
        found: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in self.entries:
            key = entry.record.platform, entry.factors.torch, str(entry.factors.vllm)
            found.setdefault(key, []).append(entry)
        return found

    def worst(self, platform: str, torch: str, vllm: str) -> Entry | None:
        """The entry with the worst verdict among a pair's Pythons, or None without a record."""
        entries = self.pair(platform, torch, vllm)
        verdict = worst(entry.verdict.verdict for entry in entries)
        return next((entry for entry in entries if entry.verdict.verdict == verdict), None)


def tabulate(
    records: Iterable[tuple[Path, Record]],
    expectations: Expectations,
    *,
    releases: Releases | None = None,
    late: str | None = None,
) -> Table:
    """Judge the records, and keep for each cell on each platform the newest that decides.

    The releases tell which cells are off-pin; without them none is marked so.

    A run that was cut short or refused (a full disk, Ctrl-C), or that was asked for some of the
    cases only, hides no older one unless what it found is as bad. Of two that started in the same
    second, the choice falls on their content, so that it does not depend on the order in which a
    disk lists them. What started after `late` comes from the future
    (`matrix.store.summary.late_from`) and counts as older than the rest.
    """
    told: dict[tuple[str, str], list[tuple[Path, Record]]] = {}
    for path, record in records:
        told.setdefault((record.cell, record.platform), []).append((path, record))
    newest: dict[tuple[str, str], Entry] = {}
    remembered = Remembered(expectations)
    for key, runs in told.items():
        off_pin = releases is not None and releases.overridden_pin(key[0]) is not None
        for path, record in _oldest_first(runs, late):
            entry = Entry(record, judge(record, remembered), path.name, off_pin)
            if key not in newest or _replaces(entry, newest[key]):
                newest[key] = entry
    return Table(tuple(sorted(newest.values(), key=_order)))


def _oldest_first(
    records: Iterable[tuple[Path, Record]], late: str | None
) -> list[tuple[Path, Record]]:
    told = list(records)
    at = Counter((record.cell, record.platform, record.started) for _, record in told)

    def age(one: tuple[Path, Record]) -> tuple[bool, str, str, str, str]:
        path, record = one
        today = late is None or record.started <= late
        # A record's text is dear, and asked only where the second decides nothing.
        tied = at[record.cell, record.platform, record.started] > 1
        return today, record.started, to_json(record) if tied else "", path.name, str(path)

    return sorted(told, key=age)


def _replaces(newer: Entry, older: Entry) -> bool:
    """Whether the newer of two records of one cell is the one to show."""
    if whole(newer.record):
        return True
    if _red(newer):
        at = VERDICTS.index(newer.verdict.verdict), VERDICTS.index(older.verdict.verdict)
        return at[0] <= at[1]
    return not whole(older.record) and not _red(older)


def _red(entry: Entry) -> bool:
    """Whether the record shows a fault of the pair, which no more cases could take back."""
    return entry.verdict.verdict in (Verdict.INCOMPATIBLE, Verdict.DRIFT)


def _order(entry: Entry) -> tuple[int, Version, Version, Version]:
    named = entry.factors
    return (
        PLATFORMS.index(entry.record.platform),
        Version(str(named.vllm)),
        Version(named.torch),
        Version(named.python),
    )
