"""A candidate judged by the records of the cells that decide, and what is to run once more. Pure.

A failure or a drift of one run may be of its environment. So it is run once more in a **fresh
environment**: what happens again there counts, and what does not is not known. One run in an
environment that was there before is no second sample.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from matrix.qualify.candidate_plan import CandidatePlan, PlannedCell, Side, relevant
from matrix.qualify.engine import qualify
from matrix.qualify.model import Drift, Failure, FailureKind, Findings, Qualification, Unknown
from matrix.qualify.query import Context
from matrix.qualify.reasons import RerunDrifted
from matrix.qualify.runs import CaseState
from matrix.qualify.static_checks import StaticAnswers
from matrix.record.model import Record

_Told = tuple[Path, Record]


def qualify_candidate(
    plan: CandidatePlan,
    records: Iterable[_Told],
    context: Context,
    *,
    answers: StaticAnswers | None = None,
    unread: int = 0,
) -> Qualification:
    """Return the candidate compared with its baseline, by the cells of the plan alone.

    A count that differs from the baseline's in one run of a cell, and not in the run that decides,
    is not known. Raises QualifyError where the plan has no cell.
    """
    chosen = relevant(plan, records)
    found = qualify(plan.query, chosen, context, answers=answers, unread=unread)
    more = list(_drifting_once(plan, chosen, context, found))
    return replace(found, unknown=(*found.unknown, *more)) if more else found


def _drifting_once(
    plan: CandidatePlan, chosen: Sequence[_Told], context: Context, found: Qualification
) -> Iterable[Unknown]:
    """Yield what drifts from the baseline in another run of the candidate's cells alone.

    A failure, and a drift from an expectation, is already among what the engine does not know.
    """
    own = {planned.cell.name for planned in plan.cells if planned.side is Side.CANDIDATE}
    seen = {_key(finding) for finding in found.failing if isinstance(finding, Drift)}
    seen |= {
        (unknown.cell, unknown.case, unknown.reason.start, unknown.reason.counter)
        for unknown in found.unknown
        if isinstance(unknown.reason, RerunDrifted)
    }
    findings = Findings(query=found.query, waivers=context.waivers, today=context.today)
    baseline = [told for told in chosen if told[1].cell not in own]
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


def _key(drift: Drift) -> tuple[str, str | None, str, str]:
    return drift.place.cell, drift.case, drift.start, drift.counter


def _by_case(drifts: Iterable[Drift]) -> Mapping[str, list[Drift]]:
    found: dict[str, list[Drift]] = {}
    for drift in drifts:
        found.setdefault(drift.case, []).append(drift)
    return found


def to_confirm(
    plan: CandidatePlan, found: Qualification, confirmed: Collection[str]
) -> tuple[PlannedCell, ...]:
    """Return the cells to run once more in a fresh environment, the baseline's first.

    These are the candidate's cells with a failure or a drift that counts and, where both sides fail
    and not alike, the baseline's. Where both fail alike two environments say the same already.
    `confirmed` are the names of cells that ran in a fresh environment since.
    """
    again: set[str] = set()
    baselines = {pair.candidate.cell.name: pair.baseline.cell.name for pair in plan.pairs}
    for finding in found.failing:
        if isinstance(finding, Failure) and not finding.ran:
            continue
        again.add(finding.place.cell)
        if isinstance(finding, Failure) and finding.kind is FailureKind.FAILS_OTHERWISE:
            again.add(baselines.get(finding.place.cell, finding.place.cell))
    return tuple(
        planned
        for planned in plan.cells
        if planned.cell.name in again and planned.cell.name not in confirmed
    )
