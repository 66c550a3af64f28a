"""The extensions of a vLLM that do not link with a torch, and the cases that failed for them. Pure.

A pair links without them, and starts; what needs one of them fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from matrix._util.text import is_named
from matrix.advice.evidence import PairRuns, failing_case
from matrix.catalog.cells import Cell
from matrix.record.model import Platform
from matrix.verdict.states import Verdict

FeaturesOf = Callable[[Cell], Mapping[str, bool] | None]
"""Tells which features the vLLM of a cell brings, and whether each links; None for unknown."""


@dataclass(frozen=True, kw_only=True)
class FailedWithout:
    """A case that failed without a feature, in a cell of the same vLLM with another torch."""

    feature: str
    case: str
    cell: str


def lacking(cell: Cell, features: FeaturesOf) -> tuple[str, ...]:
    """Return the features of a cell that do not link with its torch; none where nobody knows."""
    return tuple(name for name, links in (features(cell) or {}).items() if not links)


def failed_without(
    cell: Cell, lacks: Sequence[str], runs: PairRuns, features: FeaturesOf
) -> tuple[FailedWithout, ...]:
    """Return the cases that failed because of what a cell lacks too, one entry for each.

    A failure counts where the same feature does not link and the failure names it. It does not
    count for a case that has an answer in a run of the pair itself.
    """
    if not lacks:
        return ()
    own = set(_cases(cell.torch, cell.vllm, runs))
    found: dict[tuple[str, str], FailedWithout] = {}
    for torch in runs.torches(cell.vllm):
        if torch != cell.torch:
            for failure in _failures(torch, cell.vllm, runs, features):
                if failure.feature in lacks and failure.case not in own:
                    found.setdefault((failure.feature, failure.case), failure)
    return tuple(found.values())


def _cases(torch: str, vllm: str, runs: PairRuns) -> Iterable[str]:
    """Yield the cases that have an answer in a run of a pair on a GPU."""
    for _, entry in runs.on(Platform.CUDA, torch, vllm):
        for case in entry.verdict.cases:
            if case.verdict is not Verdict.UNTESTED:
                yield case.case


def _failures(
    torch: str, vllm: str, runs: PairRuns, features: FeaturesOf
) -> Iterator[FailedWithout]:
    """Yield each case of a pair whose failure names a feature that does not link there."""
    entries = runs.on(Platform.CUDA, torch, vllm)
    for place, entry in entries:
        for case in entry.verdict.cases:
            if case.verdict is Verdict.INCOMPATIBLE and failing_case(entries, case.case):
                for feature in lacking(place, features):
                    if is_named(feature, case.signature or ""):
                        yield FailedWithout(feature=feature, case=case.case, cell=entry.record.cell)
