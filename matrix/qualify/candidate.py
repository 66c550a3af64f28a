"""A candidate judged by the records of the cells that decide, and what is to run once more. Pure.

A failure or a drift of one run may be of its environment. So it is run once more in a **fresh
environment**: what happens again there counts, and what does not is not known. One run in an
environment that was there before does not count as another sample.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matrix.qualify.cache_check import CACHE_CHECK
from matrix.qualify.candidate_plan import CandidatePlan, PlannedCell, relevant
from matrix.qualify.engine import qualify
from matrix.qualify.model import Drift, Failure, FailureKind, Findings, Qualification, Unknown
from matrix.qualify.query import Context, Side
from matrix.qualify.reasons import RerunDrifted
from matrix.qualify.runs import CaseState
from matrix.qualify.static_checks import StaticAnswers
from matrix.record.environment import hardware
from matrix.record.model import WHOLE_RUN, Case, Record
from matrix.record.startup_tests import load_startup_tests
from matrix.verdict.grid import ran_cell

_PlacedRecord = tuple[Path, Record]


def qualify_candidate(
    plan: CandidatePlan,
    records: Iterable[_PlacedRecord],
    context: Context,
    *,
    answers: StaticAnswers | None = None,
    unread: int = 0,
) -> Qualification:
    """Return the candidate compared with its baseline, by the cells of the plan alone.

    A count that differs from the baseline's in one run of a cell, and not in the run that decides,
    is not known. Raises QualifyError if the plan has no cell.
    """
    chosen = completed(relevant(plan, records))
    found = qualify(plan.query, chosen, context, answers=answers, unread=unread)
    more = list(_drifting_once(plan, chosen, context, found))
    return replace(found, unknown=(*found.unknown, *more)) if more else found


def _drifting_once(
    plan: CandidatePlan, chosen: Sequence[_PlacedRecord], context: Context, found: Qualification
) -> Iterable[Unknown]:
    """Yield what drifts from the baseline in another run of the candidate's cells alone.

    A failure, and a drift from an expectation, is already among what the engine does not know.
    """
    own = {planned.cell.name for planned in plan.cells if planned.side is Side.CANDIDATE}
    every = (*found.failing, *found.doubtful)
    seen = {_key(finding) for finding in every if isinstance(finding, Drift)}
    seen |= {
        (unknown.cell, unknown.case, unknown.reason.start, unknown.reason.counter)
        for unknown in found.unknown
        if isinstance(unknown.reason, RerunDrifted)
    }
    findings = Findings(query=found.query, waivers=context.waivers, today=context.today)
    baseline = [(path, record) for path, record in chosen if record.cell not in own]
    for match in found.matches:
        for rerun in match.candidate.reruns:
            if rerun.not_stock:
                continue
            alone = qualify(plan.query, [*baseline, (rerun.path, rerun.record)], context)
            drifts = [
                finding
                for finding in alone.failing
                if isinstance(finding, Drift) and _key(finding) not in seen
            ]
            seen.update(map(_key, drifts))
            for case, group in _by_case(drifts).items():
                reason = RerunDrifted(
                    state=CaseState.PASSED,
                    path=rerun.path,
                    start=group[0].start,
                    counter=group[0].counter,
                    count=group[0].after,
                    more=len(group) - 1,
                )
                findings.add_unknown(match.candidate, case, reason)
    return findings.unknown


def _key(drift: Drift) -> tuple[str, str, str, str]:
    return drift.place.cell, drift.case, drift.start, drift.counter


def _by_case(drifts: Iterable[Drift]) -> Mapping[str, list[Drift]]:
    found: dict[str, list[Drift]] = {}
    for drift in drifts:
        found.setdefault(drift.case, []).append(drift)
    return found


@dataclass(frozen=True, kw_only=True)
class Again:
    """A cell to run once more in a fresh environment, with these cases (empty: all)."""

    planned: PlannedCell
    cases: tuple[str, ...] = ()


def to_confirm(
    plan: CandidatePlan, found: Qualification, confirmed: Collection[str]
) -> tuple[Again, ...]:
    """Return what to run once more in a fresh environment, the cells of the baseline first.

    These are the cases of the candidate with a failure or a drift that counts and, where both sides
    fail and not alike, the baseline's. Where both fail alike two environments say the same already.
    `confirmed` are the names of cells that ran in a fresh environment since.
    """
    again: dict[str, set[str]] = {}
    baselines = {pair.candidate.cell.name: pair.baseline.cell.name for pair in plan.pairs}
    for finding in found.failing:
        if isinstance(finding, Failure) and not finding.ran:
            continue
        cell = finding.place.cell
        case = WHOLE_RUN if finding.case == CACHE_CHECK else finding.case
        again.setdefault(cell, set()).add(case)
        if isinstance(finding, Failure) and finding.kind is FailureKind.FAILS_OTHERWISE:
            again.setdefault(baselines.get(cell, cell), set()).add(finding.case)
    return tuple(
        Again(planned=planned, cases=_named(again[planned.cell.name]))
        for planned in plan.cells
        if planned.cell.name in again and planned.cell.name not in confirmed
    )


def _named(cases: Collection[str]) -> tuple[str, ...]:
    """Return the cases by name; none where the run as a whole is among them."""
    return () if WHOLE_RUN in cases else tuple(sorted(cases))


def completed(records: Iterable[_PlacedRecord]) -> list[_PlacedRecord]:
    """Return the records, with the cases that a later run of some cases lacks from the run before.

    So a second sample of what failed stands for its cell as a complete run does. The run before is
    the newest complete one of the same cell, platform, builds, tests, flags and machine; its
    seconds count once. A run that did not come to its end stays as it is.
    """
    every = sorted(records, key=lambda placed: (placed[1].started, str(placed[0])))
    whole: dict[object, Record] = {}
    found = []
    for path, record in every:
        key = (record.cell, record.platform, record.builds, ran_cell(record))
        before = whole.get(key)
        if record.is_complete:
            whole[key] = record
        elif before is not None and _is_part_of(record, before):
            held = {case.case: case for case in record.cases}
            cases = tuple(held.get(case.case) or _untimed(case) for case in before.cases)
            whole_run = replace(record, cases=cases, selected=len(cases), deselected=0)
            found.append((path, whole_run))
            continue
        found.append((path, record))
    return found


def _untimed(case: Case) -> Case:
    return replace(case, starts=tuple(replace(start, seconds={}) for start in case.starts))


def _is_part_of(record: Record, whole: Record) -> bool:
    """Return whether a run of some cases can be a second sample of a complete one."""
    ended = record.finished and record.error is None and bool(record.cases) and record.deselected
    names = {case.case for case in whole.cases}
    return (
        bool(ended)
        and {case.case for case in record.cases} <= names
        and record.total_cases == whole.total_cases
        and not load_startup_tests().differ(record, whole)
        and hardware(record) == hardware(whole)
        and record.flags == whole.flags
    )
