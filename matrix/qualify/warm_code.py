"""Warm starts that compile again, though every counter is as before.

Pure. A start whose caches hold what the cold one compiled, and that writes machine code all the
same, is not warm: an unstable key of a kernel costs seconds to minutes on every replica. Generated
sources and cached graphs alone may be written again for other reasons and are not judged.
"""

from __future__ import annotations

from matrix.qualify.model import Drift, DriftKind, Findings
from matrix.qualify.runs import CaseState, CellRun, outcome
from matrix.record.model import CacheKind, Case, StartKind
from matrix.rules.waivers import Finding

COMPILED_AGAIN = f"caches.{CacheKind.COMPILED}.new_files"
"""What stands for the counter where these files are meant; a record has them under this path."""


def compiled_again(case: Case) -> int | None:
    """Return how many files of machine code the warm start of a case wrote; None: not known."""
    warm = case.started(StartKind.WARM)
    if warm is None or warm.caches is None:
        return None
    found = warm.caches.get(CacheKind.COMPILED)
    return found.new_files if found is not None else 0


def compare_warm_code(findings: Findings, baseline: CellRun, candidate: CellRun) -> None:
    """Add the warm starts that compile again, and do not at the baseline.

    A case that does not pass on both sides is judged otherwise.
    """
    for case in candidate.record.cases:
        old, new = outcome(baseline, case.case), outcome(candidate, case.case)
        if old.case is None or {old.state, new.state} != {CaseState.PASSED}:
            continue
        before, after = compiled_again(old.case), compiled_again(case)
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
                kind=DriftKind.UNEXPECTED,
                place=candidate.place,
                case=case.case,
                start=StartKind.WARM,
                counter=COMPILED_AGAIN,
                before=before,
                after=after,
                expected=0,
                judged=True,
                waived=findings.waived(finding),
            )
        )
