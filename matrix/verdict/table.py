"""Records and expectations -> the compatibility table, the same for any order of the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from packaging.version import Version

from matrix.catalog.cells import FactorOrder, Factors, factor_order, factors
from matrix.catalog.releases import Releases
from matrix.record.model import PLATFORMS, WHOLE_RUN, Case, Platform, Record
from matrix.rules.expectations import Expectations
from matrix.verdict.agreement import first_on_cuda
from matrix.verdict.judge import CaseVerdict, CellVerdict, judge_running
from matrix.verdict.ladder import Part, RunEvidence, badness, evidence_of, highest, part_of
from matrix.verdict.precedence import EvidenceLevel, pick_record, run_order
from matrix.verdict.reasons import OfCase


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell on one platform: its newest record, and the verdict on it.

    `off_pin`: its vLLM pins another torch.
    """

    record: Record
    verdict: CellVerdict
    file: str
    off_pin: bool = False

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

    @property
    def whole_run(self) -> CaseVerdict | None:
        """The verdict on the run as a whole where it decides the cell's, else None."""
        cell = self.verdict
        for case in cell.cases:
            reason = OfCase(case=case.case, reason=case.reason) if case.reason else None
            if (case.verdict, case.rung, reason) == (cell.verdict, cell.rung, cell.reason):
                return None
        return CaseVerdict(case=WHOLE_RUN, verdict=cell.verdict, rung=cell.rung, reason=cell.reason)

    @property
    def part(self) -> Part | None:
        """How many of the cases a partial record holds; None for a whole one."""
        return part_of(self.record)

    @property
    def ran(self) -> RunEvidence:
        """The rungs by the run, as the grid has them."""
        return evidence_of(self.record, self.verdict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The entries by platform (`cuda` first), vLLM, torch and Python.

    `running` has the record of each run that continues, by cell and platform, shown or not.
    `first_on_cuda` is when each vLLM release first ran on CUDA, by all records that were read.
    """

    entries: tuple[Entry, ...]
    running: Mapping[tuple[str, str], Record] = field(default_factory=dict)
    first_on_cuda: Mapping[str, str] = field(default_factory=dict)

    @property
    def newest(self) -> str | None:
        """The date of the newest record, so that the same records give the same table."""
        return max((entry.date for entry in self.entries), default=None)

    @property
    def verdicts(self) -> tuple[tuple[Record, CellVerdict], ...]:
        """The record of each entry, with its verdict."""
        return tuple((entry.record, entry.verdict) for entry in self.entries)

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms that have an entry."""
        return tuple(dict.fromkeys(entry.record.platform for entry in self.entries))

    @property
    def parts(self) -> Mapping[tuple[str, str], Part]:
        """How many of the cases each partial record holds, by the cell's name and platform."""
        return {
            (entry.record.cell, entry.record.platform): entry.part
            for entry in self.entries
            if entry.part is not None
        }

    def releases(self, platform: Platform) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the minor releases of torch and vLLM on the platform, oldest first."""
        named = [entry.factors for entry in self.entries if entry.record.platform == platform]
        torch = sorted({factors.torch for factors in named}, key=factor_order)
        vllm = sorted({str(factors.vllm) for factors in named}, key=factor_order)
        return tuple(torch), tuple(vllm)

    def pair(self, platform: Platform, torch: str, vllm: str) -> tuple[Entry, ...]:
        """Return the entries of one pair of minor releases: one for each Python."""
        return tuple(self._pairs.get((platform, torch, vllm), ()))

    @cached_property
    def _pairs(self) -> Mapping[tuple[Platform, str, str], list[Entry]]:
        found: dict[tuple[Platform, str, str], list[Entry]] = {}
        for entry in self.entries:
            key = entry.record.platform, entry.factors.torch, str(entry.factors.vllm)
            found.setdefault(key, []).append(entry)
        return found

    def worst(self, platform: Platform, torch: str, vllm: str) -> Entry | None:
        """Return the entry with the worst verdict among a pair's Pythons, or None.

        The rule is that of a square of the grid (`matrix.verdict.ladder.badness`): a run that shows
        nothing of the pair counts only where no other one does.
        """
        runs = [(entry, entry.ran) for entry in self.pair(platform, torch, vllm)]
        telling = [(entry, ran) for entry, ran in runs if ran.is_informative]
        ordered = sorted(
            telling or runs, key=lambda one: badness(one[1].verdict, highest(one[1].passed), one[1])
        )
        return ordered[0][0] if ordered else None


def tabulate(
    records: Iterable[tuple[Path, Record]],
    expectations: Expectations,
    *,
    releases: Releases | None = None,
    late: str | None = None,
    running: Iterable[tuple[Path, Record]] = (),
    first: Mapping[str, str] | None = None,
) -> Table:
    """Judge the records, and keep for each cell on each platform the one that counts.

    `matrix.verdict.precedence` says which; of a candidate it is one of the build that ran last. The
    releases show which cells are off-pin; without them none is marked so. What started after `late`
    comes from the future (`matrix.verdict.precedence.late_from`) and counts as older than the rest.

    `running` has the records of runs that continue (`matrix.record.running`). One is not an
    answer yet: it is shown, as untested, where its cell has no record with an answer.

    `first` is what `first_on_cuda` returned of all records; None: of these.
    """
    cells: dict[tuple[str, str], list[tuple[Path, Record]]] = {}
    for path, record in records:
        cells.setdefault((record.cell, record.platform), []).append((path, record))
    going_on = _newest_of_cells(running, late)
    places = dict.fromkeys((*cells, *going_on))
    off_pin = {
        cell: releases is not None and releases.overridden_pin(cell) is not None
        for cell in dict.fromkeys(cell for cell, _ in places)
    }
    entries = []
    for cell, platform in places:
        shown = None
        if runs := cells.get((cell, platform)):
            counts = pick_record(_of_newest_build(runs, late), expectations, late)
            if counts.evidence is not EvidenceLevel.NOTHING or (cell, platform) not in going_on:
                shown = Entry(
                    record=counts.record,
                    verdict=counts.verdict,
                    file=counts.file.name,
                    off_pin=off_pin[cell],
                )
        if shown is None:
            path, record = going_on[cell, platform]
            shown = Entry(
                record=record,
                verdict=judge_running(record, expectations),
                file=path.name,
                off_pin=off_pin[cell],
            )
        entries.append(shown)
    return Table(
        entries=tuple(sorted(entries, key=_order)),
        running={place: record for place, (_, record) in going_on.items()},
        first_on_cuda=first_on_cuda(record for runs in cells.values() for _, record in runs)
        if first is None
        else first,
    )


def _newest_of_cells(
    records: Iterable[tuple[Path, Record]], late: str | None
) -> dict[tuple[str, str], tuple[Path, Record]]:
    """Return the record of each cell on each platform that started last."""
    found: dict[tuple[str, str], tuple[Path, Record]] = {}
    for path, record in sorted(
        records, key=lambda one: (run_order(one[1].started, late), str(one[0]))
    ):
        found[record.cell, record.platform] = path, record
    return found


def _of_newest_build(
    runs: list[tuple[Path, Record]], late: str | None
) -> list[tuple[Path, Record]]:
    """Return the runs of the build that ran last: two builds of a candidate never compete."""
    if len({record.builds for _, record in runs}) == 1:
        return runs
    newest = max(runs, key=lambda run: (run_order(run[1].started, late), run[1].builds))[1]
    return [run for run in runs if run[1].builds == newest.builds]


def _order(entry: Entry) -> tuple[int, FactorOrder, FactorOrder, Version]:
    named = entry.factors
    return (
        PLATFORMS.index(entry.record.platform),
        factor_order(str(named.vllm)),
        factor_order(named.torch),
        Version(named.python),
    )
