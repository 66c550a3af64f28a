"""The newest pair that fits a machine, on what evidence, and why none newer does. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from matrix.advice.evidence import (
    Evidence,
    PairRuns,
    evidence_for,
    failed_everywhere,
    failing_case,
)
from matrix.advice.fits import (
    MachineTables,
    WheelNeeds,
    branches_of,
    fits_but_for_cuda,
    misfit,
    needs_of,
    refused,
)
from matrix.advice.install import Install, install_of, preferred
from matrix.advice.kinds import EvidenceKind, is_enough
from matrix.advice.lacking import FailedWithout, failed_without, lacking
from matrix.advice.pairs import Pair, pairs
from matrix.advice.reasons import MisfitCode, Reason
from matrix.advice.wish import Wish
from matrix.catalog.cells import Cell
from matrix.catalog.hardware import NO_BRANCHES, DriverBranches, ModelNeed
from matrix.catalog.platform_tags import MACHINES
from matrix.catalog.releases import Releases
from matrix.checks.declared import Declarations
from matrix.checks.lookup import Answer
from matrix.checks.resolution.cache import Resolution
from matrix.record.model import RUNGS, Platform, Rung
from matrix.verdict.ladder import Progress, assess
from matrix.verdict.ladder import evidence_of as ran_of
from matrix.verdict.states import StepState, Verdict

_MEASURED = EvidenceKind.ELSEWHERE


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A pair that fits, with the Python to take, what its wheels need, and what is known of it.

    `failed_without` are the cases that failed with another torch because of a feature that does
    not link here either.
    """

    pair: Pair
    python: str
    evidence: Evidence
    needs: tuple[WheelNeeds, ...]
    install: Install
    failed_without: tuple[FailedWithout, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """A pair that does not fit, and the first reason for it."""

    pair: Pair
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Wheels of a release for another CUDA that would fit, of an index that nobody read."""

    version: str
    cuda: str
    index: str
    driver: str | None


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer to a wish.

    `choice` is the newest pair that fits; None if none does. `newer` are the pairs that are
    newer and do not fit, newest first: all that were asked about, where none fits. `measured` is
    the newest pair that fits and ran on a GPU, where `choice` did not. `elsewhere` are wheels of
    newer releases on other indexes, which nobody read. `branches` are those of the driver that know
    the GPU. `is_gpu_known`: a GPU or a CUDA that is known here has its compute capability.
    `refused` is why some releases refuse the model on the GPU: of `choice` it is not known.
    """

    wish: Wish
    choice: Choice | None
    newer: tuple[Excluded, ...] = ()
    measured: Choice | None = None
    elsewhere: tuple[Elsewhere, ...] = ()
    branches: DriverBranches = NO_BRANCHES
    is_gpu_known: bool = True
    refused: ModelNeed | None = None


class CheckAnswers(Protocol):
    """The answers of the static checks, such as `matrix.checks.lookup.Answers`."""

    def resolves(self, cell: Cell, platform: Platform) -> Answer | None:
        """Tell whether a resolver finds the packages of a cell."""

    def links(self, cell: Cell) -> Answer | None:
        """Tell whether a cell links."""

    def features(self, cell: Cell) -> Mapping[str, bool] | None:
        """Tell which features the vLLM of a cell brings, and whether each links with its torch."""

    def packages(self, cell: Cell, *, off_pin: bool) -> Resolution | None:
        """Return the packages that a resolver found for a cell."""


@dataclass(frozen=True, kw_only=True)
class AdviceFacts:
    """All that an advice is made of: the catalogue, the answers of checks, the runs.

    `declared` is what the metadata says of every cell, by processor (`declarations`).
    """

    releases: Releases
    declared: Mapping[str, Declarations]
    tables: MachineTables
    answers: CheckAnswers
    runs: PairRuns


def declarations(releases: Releases) -> Mapping[str, Declarations]:
    """Return what the metadata says of every cell, by processor."""
    return {machine: Declarations(releases, machine) for machine in MACHINES}


def recommend(wish: Wish, known: AdviceFacts) -> Recommendation:
    """Return the newest pair that fits.

    The wheels are asked first, which takes no time; checks and runs speak only of the pairs that
    pass, and the search ends with the first vLLM that has one. Of its pairs one whose features all
    link goes before a newer one of which some do not.
    """
    newer: list[Excluded] = []
    choice: Choice | None = None
    every = list(pairs(known.releases, wish))
    for place, pair in enumerate(every):
        if choice is not None and pair.vllm is not choice.pair.vllm:
            break
        found = tried(pair, wish, known)
        if isinstance(found, Reason):
            newer.append(Excluded(pair=pair, reason=found))
        elif choice is None or not found.evidence.without:
            choice, after = found, place + 1
            if not found.evidence.without:
                break
    measured = None
    if choice is not None and not is_enough(choice.evidence.kind, _MEASURED):
        measured = _newest_measured(every[after:], wish, known)
    return Recommendation(
        wish=wish,
        choice=choice,
        newer=tuple(_one_a_release(newer, choice)),
        measured=measured,
        elsewhere=tuple(_elsewhere(newer, wish, known)),
        branches=branches_of(wish, known.tables.hardware),
        refused=refused(wish, known.tables.hardware),
        is_gpu_known=wish.gpu is None or known.tables.hardware.exists(wish.gpu.capability),
    )


def _newest_measured(every: Iterable[Pair], wish: Wish, known: AdviceFacts) -> Choice | None:
    for pair in every:
        if known.runs.has_measured(pair.torch.version, pair.vllm.version):
            found = tried(pair, wish, known)
            if isinstance(found, Choice) and is_enough(found.evidence.kind, _MEASURED):
                return found
    return None


def _one_a_release(newer: Iterable[Excluded], choice: Choice | None) -> Iterator[Excluded]:
    """Yield one pair of each vLLM, its pin, but not of the one that was chosen with another torch.

    Where a torch was asked for and a vLLM links with none, the pair of it that got furthest counts.
    """
    by_release: dict[str, list[Excluded]] = {}
    for excluded in newer:
        by_release.setdefault(excluded.pair.vllm.version, []).append(excluded)
    for version, found in by_release.items():
        if choice is None or choice.pair.vllm.version != version:
            yield next(
                (
                    excluded
                    for excluded in found
                    if excluded.reason.code is not MisfitCode.PINS_TORCH
                ),
                found[0],
            )


def tried(pair: Pair, wish: Wish, known: AdviceFacts) -> Choice | Reason:
    """Return the pair that a person asked for with the Python to take, or why it does not fit."""
    if (reason := misfit(pair, wish, known.tables)) is not None:
        return reason
    torch, vllm = pair.torch.version, pair.vllm.version
    entries = known.runs.on(Platform.CUDA, torch, vllm)
    if (failed := failed_everywhere(entries)) is not None:
        verdict = failed.verdict
        return Reason(
            code=MisfitCode.FAILS,
            rung=verdict.rung,
            because=verdict.reason,
            cell=failed.record.cell,
        )
    if wish.model is not None and (failed := failing_case(entries, wish.model)) is not None:
        return Reason(code=MisfitCode.MODEL_FAILS, wanted=wish.model, cell=failed.record.cell)
    first: Reason | None = None
    for python in _pythons(pair, wish, known):
        found = _on_python(pair, python, wish, known)
        if isinstance(found, Choice):
            return found
        first = first or found
    assert first is not None  # there is always a Python to ask about
    return first


def _on_python(pair: Pair, python: str, wish: Wish, known: AdviceFacts) -> Choice | Reason:
    progress = progress_of(Cell(python, pair.torch.version, pair.vllm.version), wish, known)
    if progress.verdict is Verdict.INCOMPATIBLE:
        return Reason(
            code=MisfitCode.FAILS,
            rung=progress.fails,
            because=progress.reason,
            cell=progress.cell.name if progress.ran is not None else None,
            given=python,
        )
    links = progress.steps[RUNGS.index(Rung.LINKS)].state
    if pair.off_pin and links is not StepState.PASSED:
        return Reason(code=MisfitCode.NOT_LINKED, project="torch", version=pair.torch.version)
    evidence = evidence_for(progress, wish, known.runs, known.tables.hardware)
    failures: tuple[FailedWithout, ...] = ()
    if wish.machine == MACHINES[0]:  # symbols were read in wheels for it
        lacks = lacking(progress.cell, known.answers.features)
        evidence = replace(evidence, without=lacks)
        failures = failed_without(progress.cell, lacks, known.runs, known.answers.features)
    if (failure := next((case for case in failures if case.case == wish.model), None)) is not None:
        return Reason(
            code=MisfitCode.MODEL_FAILS_WITHOUT,
            wanted=wish.model,
            given=failure.feature,
            cell=failure.cell,
            features=evidence.without,
        )
    if (predicted := evidence.predicted) is not None and (
        predicted.verdict is Verdict.INCOMPATIBLE
    ):
        return Reason(code=MisfitCode.PREDICTED_TO_FAIL, rung=predicted.fails, cell=predicted.cpu)
    if not is_enough(evidence.kind, wish.evidence):
        return Reason(code=MisfitCode.LITTLE_EVIDENCE, wanted=wish.evidence, given=evidence.kind)
    capability = None if wish.gpu is None else wish.gpu.capability
    vllm, torch = (
        needs_of(release, known.tables, wish.machine, capability)
        for release in (pair.vllm, pair.torch)
    )
    return Choice(
        pair=pair,
        python=python,
        evidence=evidence,
        needs=(vllm, torch),
        install=install_of(pair, python, known.releases, torch, known.tables.hardware),
        failed_without=failures,
    )


def progress_of(cell: Cell, wish: Wish, known: AdviceFacts) -> Progress:
    """Return how far a cell gets on CUDA, on the processor that was asked for.

    A resolver was asked for x86_64, and symbols were read in wheels for it: of other processors
    these two are unknown.
    """
    declared = known.declared[wish.machine].of(cell)
    is_asked = wish.machine == MACHINES[0] and declared.fits
    ran = known.runs.on(Platform.CUDA, cell.torch, cell.vllm)
    entry = next((entry for place, entry in ran if place == cell), None)
    return assess(
        cell,
        Platform.CUDA,
        declared,
        resolves=known.answers.resolves(cell, Platform.CUDA) if is_asked else None,
        links=known.answers.links(cell) if is_asked else None,
        ran=None if entry is None else ran_of(entry.record, entry.verdict),
    )


def _pythons(pair: Pair, wish: Wish, known: AdviceFacts) -> list[str]:
    """Return the Pythons to try: those on which the pair ran on a GPU, then those near 3.12."""
    if wish.python is not None:
        return [wish.python]
    ran = known.runs.pythons(pair.torch.version, pair.vllm.version)
    return sorted(preferred(known.releases.pythons), key=lambda python: python not in ran)


def _elsewhere(newer: Iterable[Excluded], wish: Wish, known: AdviceFacts) -> Iterator[Elsewhere]:
    """Yield wheels on other indexes of releases that fail only for the CUDA of their wheel.

    These releases are tried once more, by their checks and runs too, as if nothing was asked of it.
    """
    hardware = known.tables.hardware
    free = replace(wish, cuda=None, driver=None)
    for excluded in newer:
        pair, version = excluded.pair, excluded.pair.vllm.version
        others = hardware.others("vllm", version)
        if not others or not fits_but_for_cuda(pair, wish, known.tables):
            continue
        if not isinstance(tried(pair, free, known), Choice):
            continue
        for cuda, flavour in others:
            needs = hardware.needs(cuda)
            too_old = wish.driver is not None and needs and wish.driver.is_older(needs.least)
            if not too_old and (wish.cuda is None or wish.cuda.contains(cuda)):
                yield Elsewhere(
                    version=version,
                    cuda=cuda,
                    index=flavour.address(version, cuda),
                    driver=needs.least if needs is not None else None,
                )
