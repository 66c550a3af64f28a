"""Many records over time: the small part of each that questions need, and the times.

Pure. A summary is the small part of a record that is asked of a hundred thousand of them; the
record itself stays the only truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from matrix.catalog.cells import factors
from matrix.errors import MatrixError
from matrix.record.content import content_hash
from matrix.record.model import STARTS, Case, ErrorKind, Outcome, Platform, Record, StartKind
from matrix.record.signature import signature_of
from matrix.record.start_seconds import compared_seconds
from matrix.record.startup_tests import version_of_tests
from matrix.record.stock import not_stock
from matrix.rules.expectations import Expectations
from matrix.store.fingerprint import environment_key, outcome_key, verdict_key
from matrix.verdict.judge import judge
from matrix.verdict.precedence import EvidenceLevel, answers_all, evidence_of
from matrix.verdict.stock import departures_of

_LARGEST = 2**63 - 1  # that a column of an index holds; a record may have two such numbers
_NOTHING = Expectations(rules=())

SeriesKey = tuple[str, str, str, str]
"""Of a series of times: cell, platform, case and start, as a row may have them."""


class HistoryError(MatrixError):
    """Records that cannot be searched, packed or pruned: names the file and the fix."""


@dataclass(frozen=True, kw_only=True)
class SummaryCase:
    """One case of a record: how it ended, and the total seconds of the starts that ran.

    The signature is the one that today's rules make of the failure.
    """

    case: str
    outcome: Outcome
    signature: str | None
    cold: float | None
    warm: float | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The facts of a record that are known without reading it completely.

    `torch`, `vllm` and `python` are the provenance's, of a candidate its release key, or what the
    cell's name holds where that does not know them. `builds` tells apart the candidates of a name.
    `evidence` is that of `matrix.verdict.precedence`, by any expectations. `stock` is whether all
    packages were as the vLLM requires, None if nobody knows. `total_cases` is how many cases the
    startup tests have, as far as the record knows; `deselected` of them were left out. `content` is
    the SHA-256 of all that the record says, whatever the file's name and layout; the keys are those
    of `matrix.store.fingerprint`.
    """

    cell: str
    platform: Platform
    started: str
    finished: bool
    complete: bool
    evidence: int
    deselected: int
    total_cases: int
    error: ErrorKind | None
    torch: str
    vllm: str
    builds: str
    python: str
    tests_version: int | None
    jobs: int
    seconds: float | None
    stock: bool | None
    content: str
    verdict_key: str
    outcome_key: str
    environment_key: str
    cases: tuple[SummaryCase, ...]


@dataclass(frozen=True, kw_only=True)
class Times:
    """The total seconds of starts over time: for each series its (started, seconds), oldest first.

    Started is in UTC, as `2026-11-22T18:00:00Z`.
    """

    series: Mapping[SeriesKey, tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def times(
        self, cell: str, platform: Platform, case: str, start: StartKind
    ) -> tuple[tuple[str, float], ...]:
        """Return the series of one start of a case, oldest first; empty if it never ran."""
        return self.series.get((cell, platform, case, start), ())


def summarise(record: Record) -> Summary:
    """Return the summary of a record."""
    named, found = factors(record.cell), record.provenance
    departures = departures_of(record)
    took = found.get("seconds")
    return Summary(
        cell=record.cell,
        platform=record.platform,
        started=record.started,
        finished=record.finished,
        complete=record.is_complete,
        evidence=int(_evidence(record)),
        deselected=record.deselected,
        total_cases=min(record.total_cases, _LARGEST),
        error=record.error.kind if record.error else None,
        torch=record.version("torch") or named.torch,
        vllm=record.version("vllm") or str(named.vllm),
        builds=record.builds,
        python=str(found.get("python") or named.python),
        tests_version=version_of_tests(record),
        jobs=record.jobs,
        seconds=float(took) if isinstance(took, (int, float)) else None,
        stock=None if departures is None else not not_stock(departures),
        content=content_hash(record),
        verdict_key=verdict_key(record),
        outcome_key=outcome_key(record),
        environment_key=environment_key(record),
        cases=tuple(
            SummaryCase(
                case=case.case,
                outcome=case.outcome,
                signature=signature_of(case),
                cold=_total_seconds(case, StartKind.COLD),
                warm=_total_seconds(case, StartKind.WARM),
            )
            for case in record.cases
        ),
    )


def _total_seconds(case: Case, start: StartKind) -> float | None:
    """Return the seconds of a start that are compared; None if there are none."""
    seen = case.started(start)
    return compared_seconds(seen) if seen else None


def _evidence(record: Record) -> EvidenceLevel:
    """Return how much the record can say; a complete one need not be judged for it."""
    if answers_all(record):
        return EvidenceLevel.CONCLUSIVE
    return evidence_of(record, judge(record, _NOTHING))


def times(records: Iterable[Record], late: str | None = None) -> Times:
    """Return the series of all starts of the records, in any order; a copy counts once.

    Seconds compare only with as many cases side by side, so a series holds the runs with as many
    jobs as its newest. What started after `late` comes from the future
    (`matrix.verdict.precedence.late_from`) and is left out, unless all do.
    """
    found: dict[SeriesKey, set[tuple[str, str, int, float]]] = {}
    every = list(records)
    known = [record for record in every if late is None or record.started <= late] or every
    together: dict[tuple[str, str, str], list[Record]] = {}
    for record in known:
        together.setdefault((record.cell, record.platform, record.started), []).append(record)
    for (cell, platform, started), runs in together.items():
        for record in runs:
            content = content_hash(record) if len(runs) > 1 else ""  # only these may be copies
            for case in record.cases:
                for start in STARTS:
                    total = _total_seconds(case, start)
                    if total is not None:
                        key: SeriesKey = cell, platform, case.case, start
                        found.setdefault(key, set()).add((started, content, record.jobs, total))
    series: dict[SeriesKey, tuple[tuple[str, float], ...]] = {}
    for key in sorted(found):
        values = sorted(found[key])
        jobs = values[-1][2]
        series[key] = tuple((value[0], value[3]) for value in values if value[2] == jobs)
    return Times(series=series)
