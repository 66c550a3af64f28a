"""Extensions of vLLM that link with the torch of the baseline and not with that of the candidate.

Pure. A vLLM is built for the torch that it pins. Where its core links with another torch and one of
its other extensions does not, what fails without that extension is not testable with the
existing wheels, and a counter that drifts there may do so for it. With its own pin each extension
should link, so there a failure stays a regression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from matrix.attribution.extensions import Features, names_extension
from matrix.catalog.cells import Cell
from matrix.qualify.caveats import ExtensionsLost
from matrix.qualify.model import Findings
from matrix.qualify.reasons import ExtensionNotTestable
from matrix.qualify.runs import CaseOutcome, CaseState, CellRun
from matrix.qualify.static_checks import PairProgress
from matrix.record.model import CellRef, Platform
from matrix.verdict.reasons import VerdictReason


@dataclass(frozen=True, kw_only=True)
class LostExtensions:
    """The `names` of such extensions; `pin` is what the metadata of the vLLM says of its torch."""

    names: tuple[str, ...]
    candidate: CellRef
    baseline: CellRef
    pin: VerdictReason | None

    @property
    def caveat(self) -> ExtensionsLost:
        """Return what the comparison of the two runs must say."""
        return ExtensionsLost(
            extensions=self.names,
            torch=self.candidate.torch,
            vllm=self.candidate.vllm,
            baseline_torch=self.baseline.torch,
            baseline_vllm=self.baseline.vllm,
        )

    def not_testable(self, old: CaseOutcome, new: CaseOutcome) -> ExtensionNotTestable | None:
        """Return why a case that fails cannot be asked, or None if it names no such extension."""
        if new.state is not CaseState.FAILED:
            return None
        if (old.state, old.rung, old.signature) == (new.state, new.rung, new.signature):
            return None
        named = tuple(name for name in self.names if names_extension(new.signature, name))
        if not named:
            return None
        return ExtensionNotTestable(
            extensions=named,
            torch=self.candidate.torch,
            vllm=self.candidate.vllm,
            baseline_torch=self.baseline.torch,
            baseline_vllm=self.baseline.vllm,
            pin=self.pin,
            detail=new.detail,
        )

    def mark(self, findings: Findings, first: int) -> None:
        """Mark the drifts that count, from the `first` on: these extensions may be why."""
        findings.drifts[first:] = [
            replace(drift, without=self.names) if drift.fails else drift
            for drift in findings.drifts[first:]
        ]


def lost_extensions(
    features: Features, baseline: CellRun, candidate: CellRun, progress: PairProgress | None
) -> LostExtensions | None:
    """Return the extensions that the candidate lost in a cell; None if there are none.

    None too on the CPU, where none is loaded, and at the vLLM's own pin.
    """
    if candidate.record.platform != Platform.CUDA:
        return None
    if progress is None or not progress.candidate.off_pin:
        return None
    before, after = (
        features(Cell(run.python, run.torch, run.vllm)) or {} for run in (baseline, candidate)
    )
    names = tuple(name for name, links in after.items() if not links and before.get(name))
    if not names:
        return None
    return LostExtensions(
        names=names,
        candidate=candidate.place,
        baseline=baseline.place,
        pin=progress.candidate.steps[0].reason,
    )
