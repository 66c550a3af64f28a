"""Warm starts that compile again, though every counter is as before.

Pure. A start whose caches hold what the cold one compiled, and that writes machine code all the
same, is not warm: an unstable key of a kernel costs seconds to minutes on every replica. Generated
sources and cached graphs alone may be written again for other reasons and are not judged.
"""

from __future__ import annotations

from matrix.qualify.model import NOT_WAIVED, Drift, DriftKind, Findings
from matrix.qualify.runs import CaseOutcome, CaseState, CellRun, outcome
from matrix.record.model import CacheKind, StartKind
from matrix.rules.waivers import Finding
from matrix.verdict.recompiles import counted_again, machine_code

COMPILED_AGAIN = f"caches.{CacheKind.COMPILED}.new_files"
"""What stands for a counter where these files are meant; a record has them under this path."""


def compare_warm_code(findings: Findings, baseline: CellRun, candidate: CellRun) -> None:
    """Add the warm starts that compile again, and do so in no run of the baseline.

    A case that does not pass on both sides is judged otherwise, and so is one of which the
    candidate's own expectation says that it compiles again. Where an environment is not stock its
    packages may be why, and the drift is not judged.
    """
    sides = (("baseline", baseline), ("candidate", candidate))
    apart = tuple(side for side, run in sides if run.not_stock)
    for case in candidate.record.cases:
        old, new = outcome(baseline, case.case), outcome(candidate, case.case)
        if {old.state, new.state} != {CaseState.PASSED} or is_expected(new):
            continue
        before, after = _most_of(baseline, case.case), machine_code(case)
        if before != 0 or not after:
            continue
        finding = Finding(
            place=candidate.place,
            case=case.case,
            signature=None,
            start=StartKind.WARM,
            counter=COMPILED_AGAIN,
            value=after,
        )
        findings.drifts.append(
            Drift(
                kind=DriftKind.NOT_JUDGED if apart else DriftKind.UNEXPECTED,
                place=candidate.place,
                case=case.case,
                start=StartKind.WARM,
                counter=COMPILED_AGAIN,
                before=before,
                after=after,
                expected=0,
                judged=True,
                waived=NOT_WAIVED if apart else findings.waived(finding),
                not_stock=apart,
            )
        )


def _most_of(run: CellRun, name: str) -> int | None:
    """Return the most that the warm start of a case wrote in the run, and in those timed like it.

    None if the run that decides does not know.
    """
    found = [machine_code(case) for case in run.record.cases if case.case == name]
    if not found or found[0] is None:
        return None
    timed = (case for record in run.timed for case in record.cases if case.case == name)
    return max([found[0], *(machine_code(case) or 0 for case in timed)])


def is_expected(found: CaseOutcome) -> bool:
    """Tell whether a rule that a case meets says of its warm start that it compiles again."""
    if found.case is None or found.verdict is None:
        return False
    cold, warm = found.case.started(StartKind.COLD), found.case.started(StartKind.WARM)
    if cold is None or warm is None:
        return False
    rules = found.verdict.expected.get(StartKind.WARM, {})
    again = counted_again(cold.counters, warm.counters)
    return any(name in rules and rules[name].value == count for name, count in again.items())
