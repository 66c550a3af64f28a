"""The runs of a release, cell by cell, and what each of them shows about its cases.

Pure. Of several records of a cell with the same releases the newest conclusive one decides, as in
the table. Its `CellRun` keeps what that would hide:

- the newest run with each other set of *flags* (`variants`), newer or older;
- another run of the same releases, flags and tests that *ended otherwise* (`reruns`);
- the run of another cell name with the same releases (`namesakes`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

from matrix._util.enums import StrEnum
from matrix._util.versions import minor_of, parse_version
from matrix.catalog.projects import Project
from matrix.qualify.load import ReleasedRecord
from matrix.qualify.query import MOST_RUNS, Context, Query, oldest_first, same_release
from matrix.record.model import (
    PLATFORMS,
    STARTS,
    WHOLE_RUN,
    Case,
    CellRef,
    Departure,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    Rung,
)
from matrix.record.signature import signature, signature_of
from matrix.record.start_seconds import unlike
from matrix.record.startup_tests import applies_by_gpus, load_startup_tests
from matrix.record.writer import to_json
from matrix.rules.counters import COUNTERS
from matrix.verdict.judge import CaseVerdict, blames_pair
from matrix.verdict.precedence import RunOrder, pick_record, run_order
from matrix.verdict.reasons import (
    EndedWithoutText,
    VerdictReason,
    error_reason,
    failure_key,
    rung_reason,
)
from matrix.verdict.recompiles import machine_code
from matrix.verdict.states import Verdict
from matrix.verdict.stock import blamed
from matrix.verdict.table import Entry


class CellKey(NamedTuple):
    """A cell without the project in question: platform, other project's release, Python."""

    platform: Platform
    other: str
    python: str

    @property
    def order(self) -> tuple[int, Version, str, Version]:
        """Return the sort key: platform, the other project's release, Python."""
        return (
            PLATFORMS.index(self.platform),
            parse_version(self.other),
            self.other,
            parse_version(self.python),
        )


class FlagValue(NamedTuple):
    """An effective flag and its value as JSON."""

    flag: str
    value: str


class Variant(NamedTuple):
    """How a run differs from the one that decides.

    It ran with an older `release` of the other `project`, with other `flags`, or both.
    """

    project: Project | None = None
    release: str | None = None
    flags: tuple[FlagValue, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """The run that decides for a cell: the newest conclusive record, its file and its releases.

    `timed` are the newest records of the cell whose seconds can be compared; `reruns` the other
    runs with the same flags and tests, the newest first; `variants` the deciding run of each set of
    other flags; `namesakes` the deciding runs of other cell names with these releases. `variant` is
    None for the run that decides, and else says how this one differs from it.
    """

    entry: Entry
    path: Path
    torch: str
    vllm: str
    timed: tuple[Record, ...] = ()
    reruns: tuple[CellRun, ...] = ()
    variants: tuple[CellRun, ...] = ()
    namesakes: tuple[CellRun, ...] = ()
    variant: Variant | None = None

    @property
    def record(self) -> Record:
        """Return the record of the run."""
        return self.entry.record

    @property
    def place(self) -> CellRef:
        """Return the cell, the platform and the releases."""
        return CellRef(
            cell=self.record.cell, platform=self.record.platform, torch=self.torch, vllm=self.vllm
        )

    @property
    def not_stock(self) -> tuple[Departure, ...]:
        """Return the packages that are not as the vLLM requires."""
        return self.entry.verdict.not_stock

    @property
    def python(self) -> str:
        """Return the minor release of Python."""
        return self.entry.factors.python


ReleaseRuns = Mapping[CellKey, Mapping[str, CellRun]]
"""The deciding runs of one release, by cell and by the other project's exact release.

The cells are in their order and the releases of a cell oldest first, whatever the order of the
records.
"""


def release_runs(
    query: Query, release: str, chosen: Iterable[ReleasedRecord], context: Context
) -> ReleaseRuns:
    """Return the deciding runs of one release.

    Where two cell names ran the same releases, the newer run decides and keeps the other one among
    its `namesakes`.
    """
    groups: dict[tuple[str, str, str, str], list[ReleasedRecord]] = {}
    for run in chosen:
        if same_release(query.release(run.torch, run.vllm), release):
            key = run.torch, run.vllm, run.record.cell, run.record.platform
            groups.setdefault(key, []).append(run)
    runs = [_cell_run(records, context) for _, records in sorted(groups.items())]
    found: dict[CellKey, dict[str, CellRun]] = {}
    for cell_run in sorted(runs, key=lambda run: run_order(run.record.started, context.late)):
        other = query.other_release(cell_run.torch, cell_run.vllm)
        # A cell's name means a minor release of vLLM; torch must be the very same.
        under = minor_of(other) if query.other is Project.VLLM else other
        cell = found.setdefault(CellKey(cell_run.record.platform, under, cell_run.python), {})
        older = cell.get(other)
        namesakes = () if older is None else (replace(older, namesakes=()), *older.namesakes)
        cell[other] = replace(cell_run, namesakes=namesakes)
    return {
        key: {other: found[key][other] for other in oldest_first(found[key])}
        for key in sorted(found, key=lambda key: key.order)
    }


def _cell_run(records: Sequence[ReleasedRecord], context: Context) -> CellRun:
    """Return the deciding run of records of one cell, platform and pair of releases."""
    first, tests = _deciding(records, context), load_startup_tests()
    flags, ended = _flags(first.record), _ended(first.record)
    others = [run for run in records if run.record is not first.record]
    groups: dict[tuple[FlagValue, ...], list[ReleasedRecord]] = {}
    reruns: list[ReleasedRecord] = []
    for run in others:
        differing = _differing(flags, _flags(run.record))
        if differing:
            groups.setdefault(differing, []).append(run)
        elif not tests.differ(run.record, first.record) and _ended(run.record) != ended:
            reruns.append(run)
    # Two copies of one run differ only in their path: the first path names them.
    reruns.sort(key=lambda run: run.path)
    reruns.sort(
        key=lambda run: (run_order(run.record.started, context.late), to_json(run.record)),
        reverse=True,
    )
    return replace(
        first,
        timed=_timed(first.record, flags, records, context.late),
        reruns=tuple(_deciding([run], context) for run in reruns),
        variants=tuple(
            replace(_deciding(group, context), variant=Variant(flags=differing))
            for differing, group in sorted(groups.items())
        ),
    )


def _deciding(records: Sequence[ReleasedRecord], context: Context) -> CellRun:
    runs = [(run.path, run.record) for run in records]
    counts = pick_record(runs, context.expectations, context.late)
    off_pin = context.releases.overridden_pin(counts.record.cell) is not None
    entry = Entry(
        record=counts.record, verdict=counts.verdict, file=counts.file.name, off_pin=off_pin
    )
    return CellRun(entry=entry, path=counts.file, torch=records[0].torch, vllm=records[0].vllm)


_as_json = json.JSONEncoder(default=str).encode


def _flags(record: Record) -> Mapping[tuple[str, str], str]:
    """Return the effective flags of the run and of each of its cases, as JSON."""
    found = {(WHOLE_RUN, flag): value for flag, value in record.flags.items()}
    for case in record.cases:
        found.update({(case.case, flag): value for flag, value in case.flags.items()})
    return {key: _as_json(value) for key, value in found.items()}


def _differing(
    own: Mapping[tuple[str, str], str], other: Mapping[tuple[str, str], str]
) -> tuple[FlagValue, ...]:
    """Return the flags that both runs know with different values, as the other one has them."""
    both = own.keys() & other.keys()
    return tuple(sorted({FlagValue(key[1], other[key]) for key in both if own[key] != other[key]}))


def _ended(record: Record) -> object:
    """Return how a run and its cases ended: runs that are equal in it fail and drift alike."""
    error = record.error and (record.error.kind, record.error.reason)
    broken = [(rung.rung, rung.reason) for rung in record.rungs if not rung.ok]
    cases = sorted(
        (
            case.case,
            case.outcome,
            signature_of(case) or "",
            _counts(case),
            bool(machine_code(case)),
        )
        for case in record.cases
    )
    check = {} if record.cache_check is None else record.cache_check
    return (
        error,
        broken,
        cases,
        sorted((name, sorted(counts.items())) for name, counts in check.items()),
    )


def _counts(case: Case) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """Return the counters of a case that an expectation may name, of each rank."""
    return [
        (start.start, rank or 0, sorted(item for item in counters.items() if item[0] in COUNTERS))
        for start in case.starts
        for rank, counters in start.counted.items()
    ]


def _timed(
    record: Record,
    flags: Mapping[tuple[str, str], str],
    records: Iterable[ReleasedRecord],
    late: str | None,
) -> tuple[Record, ...]:
    """Return the newest runs with these flags whose seconds compare with those of the record."""
    found: dict[RunOrder, list[Record]] = {}
    for run in records:
        if run.record.jobs == record.jobs:
            found.setdefault(run_order(run.record.started, late), []).append(run.record)
    newest = (run for key in sorted(found)[-MOST_RUNS:] for run in _without_copies(found[key]))
    return tuple(
        run
        for run in newest
        if run is record or (not unlike(run, record) and not _differing(flags, _flags(run)))
    )


def _without_copies(records: Sequence[Record]) -> Iterable[Record]:
    """Return the records of one second, each once, whatever the order in which a disk lists them.

    One record alone needs no text, which is costly to make.
    """
    if len(records) == 1:
        return records
    found = {to_json(record): record for record in records}
    return (found[text] for text in sorted(found))


def patch(query: Query, run: CellRun) -> Version:
    """Return the exact release of the other project."""
    return parse_version(query.other_release(run.torch, run.vllm))


def newest_patch(query: Query, runs: Mapping[str, CellRun]) -> CellRun:
    """Return the run of a cell with the newest patch of the other project."""
    return max(runs.values(), key=lambda run: patch(query, run))


class CaseState(StrEnum):
    """The result of a case in one run."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    UNKNOWN = "unknown"

    @property
    def is_answer(self) -> bool:
        """Return whether it passed or failed."""
        return self in (CaseState.PASSED, CaseState.FAILED)


class MissingCode(StrEnum):
    """Why a run has no answer of a case, or is incomplete."""

    NOT_APPLICABLE = "not applicable"
    TOO_FEW_GPUS = "too few GPUs"
    NO_ANSWER = "no answer"
    NOT_SELECTED = "not selected"
    NOT_IN_RECORD = "not in record"
    ENDED_EARLY = "ended early"
    NOT_FINISHED = "not finished"
    NO_CASES = "no cases"
    PARTIAL = "partial"


class MissingAnswer(NamedTuple):
    """Why a run has no answer: `detail` is the record's text, `held` of `total` cases ran."""

    code: MissingCode
    detail: VerdictReason | None = None
    held: int | None = None
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """The result of a case in one run: `detail` is why it failed, `missing` why it has no answer.

    `case` and `verdict` are None if the record does not hold the case.
    """

    state: CaseState
    detail: VerdictReason | None = None
    missing: MissingAnswer | None = None
    rung: Rung | None = None
    case: Case | None = None
    verdict: CaseVerdict | None = None
    flags: Mapping[str, object] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """Return what failed or does not apply in a form that compares, or "" for neither.

        It is made when it is asked for: to read a text takes longer than to judge a record.
        """
        if self.state is CaseState.NOT_APPLICABLE:
            return signature(failure_key(self.missing and self.missing.detail))
        if self.state is not CaseState.FAILED:
            return ""
        if self.verdict is not None and self.verdict.signature:
            return self.verdict.signature
        text = failure_key(self.detail)
        return signature(text) or self.rung or text


def outcome(run: CellRun, name: str) -> CaseOutcome:
    """Return what the run shows about a case, or about itself as a whole for `WHOLE_RUN`."""
    record = run.record
    for case, verdict in zip(record.cases, run.entry.verdict.cases, strict=True):
        if case.case == name:
            return replace(_case_outcome(case, verdict), flags={**record.flags, **case.flags})
    if name != WHOLE_RUN and not applies_by_gpus(record, name):
        too_few = MissingAnswer(code=MissingCode.TOO_FEW_GPUS)
        return CaseOutcome(state=CaseState.NOT_APPLICABLE, missing=too_few)
    whole_run = run_outcome(run)
    if whole_run.state is CaseState.FAILED:
        return whole_run
    missing = partial(record, MissingCode.NOT_SELECTED) or whole_run.missing or cut_short(record)
    return CaseOutcome(
        state=CaseState.UNKNOWN, missing=missing or MissingAnswer(code=MissingCode.NOT_IN_RECORD)
    )


def _case_outcome(case: Case, verdict: CaseVerdict) -> CaseOutcome:
    why = verdict.reason or EndedWithoutText(outcome=case.outcome)
    if case.outcome == Outcome.NOT_APPLICABLE:
        return CaseOutcome(
            state=CaseState.NOT_APPLICABLE,
            missing=MissingAnswer(code=MissingCode.NOT_APPLICABLE, detail=why),
            case=case,
            verdict=verdict,
        )
    if verdict.verdict == Verdict.INCOMPATIBLE:
        return CaseOutcome(
            state=CaseState.FAILED,
            detail=why,
            rung=verdict.rung,
            case=case,
            verdict=verdict,
        )
    untested = verdict.verdict == Verdict.UNTESTED and not verdict.rung
    untested = untested or verdict.fails_at is not None
    if case.outcome == Outcome.PASSED and all(map(case.started, STARTS)) and not untested:
        return CaseOutcome(state=CaseState.PASSED, case=case, verdict=verdict)
    return CaseOutcome(
        state=CaseState.UNKNOWN,
        missing=MissingAnswer(code=MissingCode.NO_ANSWER, detail=why),
        case=case,
        verdict=verdict,
    )


class RunFault(NamedTuple):
    """The rung at which a whole run failed, and why."""

    rung: Rung
    detail: VerdictReason


def fault(run: CellRun) -> RunFault | None:
    """Return why the whole run failed, where the pair of releases is the cause."""
    if run.not_stock:
        return None
    # A package that is not as vLLM requires is not the pair.
    departures = run.entry.verdict.departures
    every = _faults(run.record)
    return next(
        (failure for failure in every if not blamed(departures, failure_key(failure.detail))), None
    )


def _faults(record: Record) -> list[RunFault]:
    """Return why the whole run failed, whatever the cause in its environment."""
    error = record.error
    if error is not None and not blames_pair(error):
        return []
    failed = [] if error is None else [RunFault(Rung(error.kind), error_reason(error))]
    failed += [RunFault(rung.rung, rung_reason(rung)) for rung in record.rungs if not rung.ok]
    return failed


def run_outcome(run: CellRun) -> CaseOutcome:
    """Return what the record shows about the run as a whole, apart from its cases."""
    found = fault(run)
    if found is None and _faults(run.record):
        missing = MissingAnswer(code=MissingCode.NO_ANSWER, detail=run.entry.verdict.reason)
        return CaseOutcome(state=CaseState.UNKNOWN, missing=missing)
    if found is None:
        return CaseOutcome(state=CaseState.PASSED)
    return CaseOutcome(state=CaseState.FAILED, detail=found.detail, rung=found.rung)


def partial(record: Record, code: MissingCode = MissingCode.PARTIAL) -> MissingAnswer | None:
    """Return how many of the cases the record of a selection holds, or None for all of them."""
    if not record.deselected:
        return None
    held = len(record.cases)
    return MissingAnswer(code=code, held=held, total=record.total_cases)


def cut_short(record: Record) -> MissingAnswer | None:
    """Return how the run ended before its time, or None if it did not."""
    if record.error is not None:
        return MissingAnswer(code=MissingCode.ENDED_EARLY, detail=error_reason(record.error))
    if not record.finished:
        return MissingAnswer(code=MissingCode.NOT_FINISHED)
    return None if record.cases else MissingAnswer(code=MissingCode.NO_CASES)


def crash(record: Record) -> VerdictReason | None:
    """Return why the run crashed or timed out as a whole, or None if it did not."""
    if record.error is None or record.error.kind not in (ErrorKind.CRASHED, ErrorKind.TIMED_OUT):
        return None
    return error_reason(record.error)
