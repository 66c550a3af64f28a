"""A candidate release against its baseline: what broke, what was repaired, drifts, or is unknown.

Pure. Each cell of the baseline is compared with the candidate's of the same Python, platform and
other release, case by case. A candidate qualifies by answers alone, never by their absence:

- a failure fails that the baseline did not have, or has with another signature or at another rung;
- so does a counter that changed, unless the candidate's own expectation has its count, and one that
  did not change where that expectation has another count. A counter that no expectation may name
  (not among COUNTERS: how often a pattern matched) is reported and not judged;
- a waiver takes a failure or a drift out of the verdict, and stays visible;
- where the static checks (`matrix.qualify.static_checks`) say that a cell of the candidate cannot
  work, and the baseline's could, that fails too, without a run. What is not testable with the
  existing wheels is neither a failure nor an answer; passing these checks never is an answer;
- what the candidate alone ran has no baseline: it fails where it drifts from its own expectation
  (if anything was compared at all), and where it fails nobody can say whether that is new;
- without a failure, there is too little evidence where one side of a cell has an answer (it passes
  or fails) and the other has none, where the candidate started a case that the baseline did not run
  and has no answer (it may hide a failure), where one side alone ran the newest patch of the other
  project, where a record is not complete or another run of the same did worse, and where nothing
  passes.

So to remove what both sides answer, or to add what is bad, never makes a candidate qualify. What
the baseline never ran need not be run, and neither do older patches: losing these is not seen.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matrix._util.versions import minor_of, neighbours, parse_version
from matrix.attribution.extensions import Features, nothing_known
from matrix.catalog.cells import Cell, CellError, build_of
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.errors import MatrixError
from matrix.qualify import caveats, reasons
from matrix.qualify.caveats import Caveat
from matrix.qualify.compare import compare, compare_explained, judge_alone
from matrix.qualify.extensions import lost_extensions
from matrix.qualify.load import UnidentifiedRecord, released, unidentified
from matrix.qualify.model import (
    NOT_WAIVED,
    Failure,
    FailureKind,
    Findings,
    Qualification,
    Unknown,
    Waived,
)
from matrix.qualify.query import (
    Context,
    PlatformReleases,
    Query,
    Skipped,
    find_release,
    oldest_first,
)
from matrix.qualify.runs import (
    CaseState,
    CellRun,
    ReleaseRuns,
    Variant,
    fault,
    newest_patch,
    outcome,
    patch,
    release_runs,
)
from matrix.qualify.static_checks import (
    PairProgress,
    RungChange,
    StaticAnswers,
    StaticChecks,
    compare_rungs,
    failing_step,
    short_reason,
    step_signature,
)
from matrix.record.model import WHOLE_RUN, CellRef, Record
from matrix.record.signature import signature
from matrix.rules.waivers import Finding
from matrix.verdict.ladder import LadderStep
from matrix.verdict.reasons import failure_key


class QualifyError(MatrixError):
    """A query that cannot be answered; the message names the option and the fix."""


def qualify(
    query: Query,
    records: Iterable[tuple[Path, Record]],
    context: Context,
    *,
    answers: StaticAnswers | None = None,
    skipped: Skipped | None = None,
    unread: int = 0,
) -> Qualification:
    """Return the candidate compared with its baseline, the same for any order of the records.

    Of several records of a cell on a platform the newest conclusive one decides, as in the table.
    `answers` are those of the static checks, which are unknown without them. `skipped` describes
    the records that were not read, `unread` counts the bad ones.

    Raises QualifyError for a release that is unknown, or that is both candidate and baseline.
    """
    skipped, every = skipped or Skipped(), list(records)
    known = released(every, context.releases)
    held = skipped.releases | {
        PlatformReleases(run.record.platform, run.torch, run.vllm) for run in known
    }
    _check(query, held, context.releases)
    chosen = [
        run
        for run in known
        if query.covers(
            run.record.cell, run.record.platform, query.other_release(run.torch, run.vllm)
        )
    ]
    before = release_runs(query, query.baseline, chosen, context)
    after = release_runs(query, query.candidate, chosen, context)
    sides = before, after
    found: list[Caveat] = [
        *caveats.query_caveats(query, sides, held),
        *caveats.record_caveats(known, sides, skipped, context),
    ]
    checks = None
    if answers is not None:
        checks = StaticChecks.of(query, sides, context.releases, answers)
    lost = unidentified(query, every, chosen, context)
    findings = Findings(query=query, waivers=context.waivers, today=context.today)
    pairing = _Pairing(
        query=query,
        findings=findings,
        checks=checks,
        releases=context.releases,
        features=nothing_known if answers is None else answers.features,
        unidentified={
            (record.record.cell, record.record.platform) for record in lost if record.blocks
        },
    )
    found += pairing.compare_sides(before, after)
    found += pairing.add_unidentified(lost)
    found += caveats.other_releases(_named(findings), context.releases)
    if not any(match.compared for match in findings.matches):
        found = [*caveats.other_patches(query, held), *found]
    pairing.add_lost_pins(sides)
    rungs = () if checks is None else compare_rungs(checks.every())
    return findings.qualification(context.releases, found, unread, rungs)


def _named(findings: Findings) -> Iterable[CellRef]:
    """Return the cells that a person may be asked to run, with the releases to run."""
    unknown = [item.place for item in findings.unknown if item.rung is None]
    matched = [match.candidate.place for match in findings.matches]
    return dict.fromkeys(place for place in (*unknown, *matched) if place is not None)


def _check(query: Query, held: Iterable[PlatformReleases], releases: Releases) -> None:
    name = query.project.label
    published = {release.version for release in getattr(releases, query.project)}
    if build_of(query.candidate) is not None:
        published |= set(releases.versions(query.project))
    known = oldest_first(published | {query.release(run.torch, run.vllm) for run in held})
    for option, wanted in ((query.project, query.candidate), ("baseline", query.baseline)):
        if find_release(wanted, known) is None:
            near = ", ".join(_nearest(wanted, known)) or "none"
            raise QualifyError(
                f"--{option} {wanted}: is not a known release of {name}, and no record has"
                f" it; the nearest: {near}"
            )
    if parse_version(query.candidate) == parse_version(query.baseline):
        earlier = [text for text in known if parse_version(text) < parse_version(query.candidate)]
        fix = f"such as {earlier[-1]}" if earlier else "an earlier one"
        raise QualifyError(
            f"--baseline {query.baseline}: is the candidate itself; name another release, {fix}"
        )


def _nearest(wanted: str, known: Sequence[str]) -> list[str]:
    """Return the known releases next to the wanted one, and the newest that it may begin."""
    longer = [text for text in known if text.startswith(f"{wanted}.")][-1:]
    return list(dict.fromkeys([*neighbours(wanted, known), *longer]))


@dataclass(frozen=True, kw_only=True)
class _Pairing:
    """Finds which run of the candidate is compared with which of the baseline.

    `unidentified` are the cells, by name and platform, of a record that does not name its releases.
    """

    query: Query
    findings: Findings
    checks: StaticChecks | None
    releases: Releases
    features: Features
    unidentified: Container[tuple[str, str]]

    def compare_sides(self, before: ReleaseRuns, after: ReleaseRuns) -> list[Caveat]:
        """Compare all cells; return the caveats of those that nothing was compared with."""
        for key, baseline in before.items():
            self._compare_cell(baseline, after.get(key, {}))
        found: list[Caveat] = []
        for key, cell in after.items():
            if key in before:
                continue
            wrong = [run for run in cell.values() if self._judge_alone(run)]
            if not wrong:
                record = newest_patch(self.query, cell).record
                found.append(caveats.NoBaseline(cell=record.cell, platform=record.platform))
        return found

    def add_unidentified(self, records: Iterable[UnidentifiedRecord]) -> list[Caveat]:
        """Add the records whose cases count for neither side; return caveats of the others."""
        found: list[Caveat] = []
        for run in records:
            if not run.blocks:
                found.append(
                    caveats.Unidentified(path=run.path, cause=run.cause, detail=run.detail)
                )
                continue
            reason = reasons.UnidentifiedRun(path=run.path, cause=run.cause, detail=run.detail)
            cell, platform = run.record.cell, run.record.platform
            self.findings.unknown.append(
                Unknown(cell=cell, platform=platform, case=WHOLE_RUN, reason=reason)
            )
        return found

    def add_lost_pins(self, sides: tuple[ReleaseRuns, ReleaseRuns]) -> None:
        """Add what the candidate lost with its own pin, where the baseline never ran.

        Off-pin nobody ever promised or saw it: the rungs show it, and it is not judged.
        """
        if self.checks is None:
            return
        known = {(key.platform, key.other) for side in sides for key in side}
        for (platform, other), climbs in self.checks.every().items():
            under = minor_of(other) if self.query.other is Project.VLLM else other
            lost = [
                (python, progress)
                for python, progress in climbs
                if not progress.candidate.off_pin and progress.change is RungChange.REGRESSION
            ]
            if lost and (platform, under) not in known:
                progress = lost[0][1]
                cell = progress.candidate.cell
                place = CellRef(cell=cell.name, platform=platform, torch=cell.torch, vllm=cell.vllm)
                self._add_lost(place, progress, None, [python for python, _ in lost])

    def _compare_cell(self, before: Mapping[str, CellRun], after: Mapping[str, CellRun]) -> None:
        """Compare a cell of the baseline with each patch of the other project that both ran.

        The newest patch that either side ran must have an answer on both. What fails or drifts
        under an older one counts too, but need not be run.
        """
        baseline = newest_patch(self.query, before)
        if not after:
            self._add_missing(baseline)
            return
        candidate = newest_patch(self.query, after)
        both = oldest_first(before.keys() & after.keys())
        pair = (before[both[-1]], after[both[-1]]) if both else (baseline, candidate)
        for run in (pair[1], *pair[1].variants):
            self._compare(pair[0], run)
        for older in both[:-1]:
            for run in (after[older], *after[older].variants):
                self._compare(before[older], self._with_older_patch(run, older))
        first, second = patch(self.query, baseline), patch(self.query, candidate)
        if first > second:
            self._add_missing(baseline, str(first))
        for release in oldest_first(after.keys() - before.keys()):
            if after[release] is not pair[1]:
                self._judge_alone(after[release], release)
        if second > first:
            place = self._place(candidate, self.query.baseline)
            reason = reasons.BaselineNotRun(project=self.query.other, release=str(second))
            self._add_cell(place, reason, blocks=True)

    def _with_older_patch(self, run: CellRun, release: str) -> CellRun:
        variant = run.variant or Variant()
        return replace(run, variant=variant._replace(project=self.query.other, release=release))

    def _judge_alone(self, run: CellRun, release: str | None = None) -> bool:
        """Judge a run without a baseline; return whether anything is wrong with it."""
        progress = self._progress(run)
        has_cases = any(other.record.cases for other in (run, *run.reruns, *run.variants))
        if not has_cases and progress is not None and progress.change is RungChange.NOT_TESTABLE:
            return False
        decides = self._place(run, self.query.baseline)
        return judge_alone(self.findings, run, release=release, decides=decides)

    def _add_missing(self, baseline: CellRun, release: str | None = None) -> None:
        """Add a cell of the baseline that the candidate never ran, with that other release."""
        place = self._place(baseline, self.query.candidate)
        progress = self._progress(baseline)
        change = None if progress is None else progress.change
        if progress is not None and change is RungChange.REGRESSION:
            self._add_lost(place, progress, baseline)
            return
        if progress is not None and change is RungChange.NOT_TESTABLE:
            self._add_not_testable(place, baseline, progress)
            return
        if (place.cell, place.platform) in self.unidentified:
            return  # it ran, and the record that names no release is already among the unknown
        reached = None
        if progress is not None and progress.candidate.fails is None:
            reached = progress.candidate.reached
        passed, failed = _answers(baseline)
        reason = reasons.NotRun(
            cell=baseline.record.cell,
            passed=passed,
            failed=failed,
            project=self.query.other,
            release=release,
            reached=reached,
            pair=self._unnamed(place, baseline.record.cell),
            baseline_pair=self._unnamed(baseline.place, place.cell),
        )
        self._add_cell(place, reason, blocks=passed + failed > 0)

    def _compare(self, baseline: CellRun, candidate: CellRun) -> None:
        progress = self._progress(candidate)
        broke = not candidate.record.cases and fault(candidate) is not None
        if progress is None or not broke or progress.change is not RungChange.NOT_TESTABLE:
            lost = lost_extensions(self.features, baseline, candidate, progress)
            compare(self.findings, baseline, candidate, lost)
            return
        # Such a run failed, as it had to.
        if candidate.variant is None:
            self._add_not_testable(candidate.place, baseline, progress)
        compare_explained(self.findings, baseline, candidate)

    def _place(self, run: CellRun, release: str) -> CellRef:
        """Return the same cell with that release of the project in question."""
        torch, vllm = run.torch, run.vllm
        if self.query.project is Project.TORCH:
            torch = release
        else:
            vllm = release
        try:
            cell = Cell(run.python, torch, vllm).name
        except CellError:
            cell = run.record.cell
        return CellRef(cell=cell, platform=run.record.platform, torch=torch, vllm=vllm)

    def _unnamed(self, place: CellRef, other: str) -> reasons.NamedPair | None:
        """Return the pair of a cell where its name does not show it; `other` is the other side's.

        The name installs another pair, or is that of both sides.
        """
        if place.cell != other and caveats.installed_apart(place, self.releases) is None:
            return None
        return reasons.NamedPair(place.torch, place.vllm)

    def _progress(self, run: CellRun) -> PairProgress | None:
        """Return how far both sides get with the other release of a run."""
        if self.checks is None:
            return None
        other = self.query.other_release(run.torch, run.vllm)
        return self.checks.progress(other, run.python, run.record.platform)

    def _add_lost(
        self,
        place: CellRef,
        progress: PairProgress,
        baseline: CellRun | None,
        pythons: Sequence[str] = (),
    ) -> None:
        """Add a regression that a static check shows. It is one failure, whatever the cases."""
        step = failing_step(progress.candidate)
        assert step is not None
        failed = None if baseline is None else fault(baseline)
        before = None if failed is None else signature(failure_key(failed.detail)) or failed.rung
        found = step_signature(step)
        self.findings.failures.append(
            Failure(
                kind=FailureKind.REGRESSION if failed is None else FailureKind.FAILS_OTHERWISE,
                place=place,
                case=WHOLE_RUN,
                rung=step.rung,
                signature=found,
                detail=step.reason,
                before=before,
                waived=self.findings.waived(Finding(place=place, case=WHOLE_RUN, signature=found)),
                ran=False,
                pythons=tuple(pythons) if len(pythons) > 1 else (),
            )
        )

    def _add_not_testable(self, place: CellRef, baseline: CellRun, pair: PairProgress) -> None:
        """Add a cell of the candidate that is not testable with the existing wheels."""
        progress = pair.candidate
        step = failing_step(progress)
        assert step is not None
        passed, failed = _answers(baseline)
        reason = reasons.NotTestable(
            cell=baseline.record.cell,
            passed=passed,
            failed=failed,
            rung=step.rung,
            detail=short_reason(step),
            torch=progress.cell.torch,
            vllm=progress.cell.vllm,
            pin=progress.steps[0].reason,
            baseline_pair=self._unnamed(baseline.place, place.cell),
        )
        waived = None
        if self.findings.waivers.every:
            found = Finding(place=place, case=WHOLE_RUN, signature=step_signature(step))
            waived = self.findings.waived(found)
        self._add_cell(place, reason, blocks=passed + failed > 0, waived=waived, step=step)

    def _add_cell(
        self,
        place: CellRef,
        reason: reasons.UnknownReason,
        *,
        blocks: bool,
        waived: Waived | None = None,
        step: LadderStep | None = None,
    ) -> None:
        """Add a whole cell without an answer."""
        self.findings.unknown.append(
            Unknown(
                cell=place.cell,
                platform=place.platform,
                case=WHOLE_RUN,
                reason=reason,
                blocks=blocks,
                waived=waived or NOT_WAIVED,
                step=step,
                place=place,
            )
        )


def _answers(run: CellRun) -> tuple[int, int]:
    """Return how many cases of a run passed and failed; one without cases counts as one."""
    names = [case.case for case in run.record.cases]
    states = [outcome(run, name).state for name in names or [WHOLE_RUN]]
    return states.count(CaseState.PASSED), states.count(CaseState.FAILED)
