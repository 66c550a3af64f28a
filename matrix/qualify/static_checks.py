"""Two releases compared on the rungs that need no run.

Pure. A release that passes these rungs is not known to start, so nothing here ever qualifies one.
Where the candidate fails at a rung and the baseline does not, the rung says who made a promise:

- *resolves* depends on the requirements of both releases: a failure is a regression;
- *links* depends on how a wheel was built. A vLLM is built for the torch that it pins, and its C++
  extensions load with no other. Where the baseline is the pin and the candidate is not, the
  question is **not testable** with the existing wheels, and nobody broke anything. A regression is
  only what torch's stable ABI promises to keep, what linked off-pin before, and what does not link
  with its own pin;
- *declared* excludes a Python: nothing can be tested on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from matrix._util.enums import StrEnum
from matrix._util.versions import parse_version
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.checks.lookup import Answer
from matrix.qualify.query import Query, find_release
from matrix.qualify.runs import ReleaseRuns
from matrix.record.model import RUNGS, Platform, Rung
from matrix.record.signature import signature
from matrix.verdict.grid import Grid, RunsSeen, Square, shown_torch, shown_vllm, survey
from matrix.verdict.ladder import CHEAP, LadderStep, Progress, evidence_of
from matrix.verdict.reasons import Checked, VerdictReason, failure_key
from matrix.verdict.states import StepState


class RungChange(StrEnum):
    """How the candidate stands on these rungs, where it does not pass as the baseline does."""

    REGRESSION = "regression"
    NOT_TESTABLE = "cannot be asked"
    FAILS_TOO = "fails as before"
    REPAIR = "repair"
    NO_CANDIDATE = "the candidate was not asked"
    NO_BASELINE = "the baseline was not asked"


class StaticAnswers(Protocol):
    """The answers of the rungs *resolves* and *links*; None for a cell that was not checked.

    `features` says which extensions besides the core link.
    """

    def resolves(self, cell: Cell, platform: Platform) -> Answer | None:
        """Return whether a resolver finds a full set of packages."""

    def links(self, cell: Cell) -> Answer | None:
        """Return whether that torch exports what vLLM's core imports."""

    def features(self, cell: Cell) -> Mapping[str, bool] | None:
        """Return the features that the cell's vLLM brings, and whether each links."""


class Standing(NamedTuple):
    """The rung at which one side `fails`, or else the highest that it passed."""

    passed: str | None = None
    fails: Rung | None = None


class RungComparison(NamedTuple):
    """These rungs of both sides, with the releases of the other project that fare alike.

    `change` is None if neither side fails. `pythons` are those for which it holds, and empty
    where it holds for all.
    """

    platform: Platform
    baseline: Standing
    candidate: Standing
    change: RungChange | None
    reason: VerdictReason | None
    others: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()


class PairProgress(NamedTuple):
    """How far both sides get with one release of the other project, Python and platform."""

    baseline: Progress
    candidate: Progress

    @property
    def change(self) -> RungChange | None:
        """Return how the candidate stands, or None if neither fails at one of these rungs."""
        before, after = failing_step(self.baseline), failing_step(self.candidate)
        if after is None and before is not None:
            # What stood in the way is repaired only where it is known to have gone.
            passed = self.candidate.steps[RUNGS.index(before.rung)].state != StepState.UNKNOWN
            return RungChange.REPAIR if passed else RungChange.NO_CANDIDATE
        if after is None:
            return None
        if before is not None:
            return RungChange.FAILS_TOO
        if after.rung == Rung.DECLARED:
            return RungChange.NOT_TESTABLE
        if self.baseline.steps[RUNGS.index(after.rung)].state == StepState.UNKNOWN:
            return RungChange.NO_BASELINE
        built_for_baseline = self.candidate.off_pin and not self.baseline.off_pin
        if after.rung == Rung.LINKS and built_for_baseline and not after.promised:
            return RungChange.NOT_TESTABLE
        return RungChange.REGRESSION


@dataclass(frozen=True, kw_only=True)
class StaticChecks:
    """The ladder of both releases with each release of the other project that a grid shows."""

    query: Query
    grid: Grid
    baseline: str
    candidate: str

    @classmethod
    def of(
        cls,
        query: Query,
        sides: tuple[ReleaseRuns, ReleaseRuns],
        releases: Releases,
        answers: StaticAnswers,
    ) -> StaticChecks | None:
        """Return the ladders, or None if one of the two is not a published release."""
        published = releases.versions(query.project)
        baseline = find_release(query.baseline, published)
        candidate = find_release(query.candidate, published)
        if baseline is None or candidate is None:
            return None
        seen: RunsSeen = {
            (Cell(run.python, run.torch, run.vllm), run.record.platform): evidence_of(
                run.record, run.entry.verdict
            )
            for side in sides
            for cell in side.values()
            for run in cell.values()
        }
        ran = {getattr(cell, query.other) for cell, _ in seen}
        grid = survey(
            _asked(releases, query.project, {baseline, candidate}, ran),
            resolves=answers.resolves,
            links=answers.links,
            seen=seen,
        )
        return cls(query=query, grid=grid, baseline=baseline, candidate=candidate)

    def progress(self, other: str, python: str, platform: Platform) -> PairProgress | None:
        """Return how far both sides get with that release of the other project, if known."""
        found = self._on_pythons((python,), other, platform)
        return found[0][1] if found else None

    def every(self) -> Mapping[tuple[Platform, str], list[tuple[str, PairProgress]]]:
        """Return the progress of all that the query is about, with its Python.

        The keys are a platform and a release of the other project: those that a grid shows, which
        are the newest patches and what ran.
        """
        query = self.query
        shown = self.grid.rows if query.other is Project.VLLM else self.grid.columns
        others = [release.version for release in shown if query.accepts(release.version)]
        pythons = [
            python for python in self.grid.pythons if not query.pythons or python in query.pythons
        ]
        return {
            (platform, other): self._on_pythons(pythons, other, platform)
            for platform in query.platforms
            for other in others
        }

    def _on_pythons(
        self, pythons: Iterable[str], other: str, platform: Platform
    ) -> list[tuple[str, PairProgress]]:
        """Return the progress on those of these Pythons that both sides have, with the Python."""
        before, after = (
            self._square(release, other, platform) for release in (self.baseline, self.candidate)
        )
        if before is None or after is None:
            return []
        sides = ((python, before.on_python(python), after.on_python(python)) for python in pythons)
        return [
            (python, PairProgress(baseline, candidate))
            for python, baseline, candidate in sides
            if baseline is not None and candidate is not None
        ]

    def _square(self, release: str, other: str, platform: Platform) -> Square | None:
        """Return the square of a release of the project in question with one of the other."""
        torch, vllm = (release, other) if self.query.project is Project.TORCH else (other, release)
        return self.grid.squares.get((platform, torch, vllm))


def _asked(
    releases: Releases, project: Project, versions: Collection[str], ran: Collection[str]
) -> Releases:
    """Return these releases of a project, and of the other one those that a grid shows.

    These are the newest patches, what is pinned, and what `ran`.
    """
    sides = releases.only(project, set(map(parse_version, versions)))
    if project is Project.TORCH:
        other, shown = Project.VLLM, shown_vllm(releases.every_vllm)
    else:
        pinned = {release.torch for release in sides.every_vllm}
        other, shown = Project.TORCH, shown_torch(releases.every_torch) | pinned
    return sides.only(other, set(map(parse_version, {*shown, *ran})))


def failing_step(progress: Progress) -> LadderStep | None:
    """Return the first rung where the cell fails without a run to say so, or None."""
    if progress.fails is None or progress.fails not in CHEAP:
        return None
    return progress.steps[RUNGS.index(progress.fails)]


def short_reason(step: LadderStep) -> VerdictReason | None:
    """Return why a rung fails, without what differs from pair to pair, where that is known."""
    return Checked(facts=step.cause) if step.cause else step.reason


def step_signature(step: LadderStep) -> str:
    """Return the signature of a rung that fails, by which it can be waived."""
    return signature(failure_key(short_reason(step)) or step.rung) or step.rung


def compare_rungs(
    progress: Mapping[tuple[Platform, str], Iterable[tuple[str, PairProgress]]],
) -> tuple[RungComparison, ...]:
    """Return these rungs by platform, releases that fare alike together.

    `progress` is as `StaticChecks.every` returns it. What says nothing is left out: a Python of
    neither side, and a candidate of which nothing is known.
    """
    groups: dict[RungComparison, list[str]] = {}
    for (platform, other), pairs in progress.items():
        declared = [(python, pair) for python, pair in pairs if not _is_undeclared(pair)]
        found: dict[RungComparison, list[str]] = {}
        for python, pair in declared:
            candidate = _standing(pair.candidate)
            if candidate == Standing():
                continue
            step = failing_step(pair.candidate) or failing_step(pair.baseline)
            key = RungComparison(
                platform=platform,
                baseline=_standing(pair.baseline),
                candidate=candidate,
                change=pair.change,
                reason=None if step is None else short_reason(step),
            )
            found.setdefault(key, []).append(python)
        for key, pythons in found.items():
            some = tuple(pythons) if len(pythons) < len(declared) else ()
            groups.setdefault(key._replace(pythons=some), []).append(other)
    return tuple(key._replace(others=tuple(others)) for key, others in groups.items())


def _is_undeclared(progress: PairProgress) -> bool:
    """Return whether the other release supports this Python on neither side."""
    return progress.baseline.fails == progress.candidate.fails == Rung.DECLARED


def _standing(progress: Progress) -> Standing:
    step = failing_step(progress)
    if step is not None:
        return Standing(fails=step.rung)
    cheap = progress.steps[: len(CHEAP)]
    passed = (step.rung for step in reversed(cheap) if step.state == StepState.PASSED)
    return Standing(passed=next(passed, None))
