"""Two runs of a cell compared case by case, or one run of the candidate alone.

Pure. What is found goes to the `Findings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from matrix.qualify import reasons
from matrix.qualify.cache_check import compare_cache_checks
from matrix.qualify.caveats import pair_caveats
from matrix.qualify.counters import add_unexpected, by_waiver, compare_counters, differences
from matrix.qualify.extensions import LostExtensions
from matrix.qualify.model import (
    Failure,
    FailureKind,
    Findings,
    Flag,
    Match,
    Time,
)
from matrix.qualify.runs import (
    CaseOutcome,
    CaseState,
    CellRun,
    crash,
    cut_short,
    fault,
    outcome,
    partial,
    run_outcome,
)
from matrix.qualify.times import case_seconds, no_times_of
from matrix.qualify.unjudged import unjudged
from matrix.qualify.warm_code import compare_warm_code
from matrix.record.model import STARTS, WHOLE_RUN, CellRef, Departure
from matrix.record.startup_tests import load_startup_tests
from matrix.rules.waivers import Finding
from matrix.store.stats import shifted
from matrix.verdict.stock import departure_signature


def compare(
    findings: Findings,
    baseline: CellRun,
    candidate: CellRun,
    lost: LostExtensions | None = None,
) -> None:
    """Compare two runs; a candidate with a `variant` answers no case, but may fail.

    `lost` are the extensions of vLLM that do not link with the candidate alone.
    """
    pair = _Pair(findings=findings, baseline=baseline, candidate=candidate, lost=lost)
    first = len(findings.drifts)
    if candidate.variant is None:
        pair.compare()
    else:
        pair.compare_variant()
    if lost is not None:
        lost.mark(findings, first)


def compare_explained(findings: Findings, baseline: CellRun, candidate: CellRun) -> None:
    """Note two runs whose candidate failed for a reason that is known without its run.

    Only its reruns may show more.
    """
    pair = _Pair(findings=findings, baseline=baseline, candidate=candidate)
    pair.compare_reruns([])
    if candidate.variant is None:
        pair.compare_whole_reruns([])
        pair.add_match()
    else:
        findings.matches.append(Match(baseline=baseline, candidate=candidate))


def judge_alone(
    findings: Findings, run: CellRun, *, release: str | None = None, decides: CellRef
) -> bool:
    """Add what is wrong with a run without a baseline; return whether anything is.

    Nobody can say whether a failure is a regression, and it must not pass unseen: a run of the cell
    that `decides` would show it. A drift from the candidate's own expectation is wrong by itself.
    `release` is the one of the other project that the baseline lacks; without it, the baseline has
    no run of the cell at all.
    """
    before = len(findings.unknown) + len(findings.drifts)
    same_name = decides.cell == run.record.cell
    missing = reasons.NamedPair(decides.torch, decides.vllm) if same_name else None

    def add_failure(variant: CellRun, case: str, failed: CaseOutcome) -> None:
        # What is not stock is first to run stock itself.
        cell = None if variant.not_stock else decides
        reason = reasons.FailsWithoutBaseline(
            detail=failed.detail,
            project=findings.query.other,
            release=release,
            baseline_pair=missing,
        )
        findings.add_unknown(variant, case, reason, signature=failed.signature, decides=cell)

    for variant in (run, *run.variants):
        names = _case_names(variant, *variant.reruns)
        for name in names:
            found = outcome(variant, name)
            if found.state is CaseState.PASSED:
                add_unexpected(findings, variant, name, found)
            elif found.state is CaseState.FAILED and found.case is not None:
                add_failure(variant, name, found)
            elif found.verdict is not None and found.verdict.fails_at is not None:
                add_failure(variant, name, replace(found, detail=found.verdict.reason))
            _add_reruns(findings, variant, name, found, None)
        whole = run_outcome(variant)
        if whole.state is CaseState.FAILED:
            add_failure(variant, WHOLE_RUN, whole)
        elif whole.missing is not None:
            add_failure(variant, WHOLE_RUN, replace(whole, detail=whole.missing.detail))
        if variant is run:
            _add_whole_reruns(findings, (run,), names)
    return len(findings.unknown) + len(findings.drifts) > before


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Two runs of a cell, and where what is found in them goes."""

    findings: Findings
    baseline: CellRun
    candidate: CellRun
    lost: LostExtensions | None = None

    def compare(self) -> None:
        """Compare the runs that decide."""
        names = _case_names(self.baseline, self.candidate)
        before = len(self.findings.unknown)
        no_times = no_times_of(self.baseline, self.candidate)
        compared = passed = 0
        for name in _or_whole_run(names):
            old, new = outcome(self.baseline, name), outcome(self.candidate, name)
            both = old.state.is_answer and new.state.is_answer and not self._untestable(old, new)
            compared += both
            passed += both and new.state is CaseState.PASSED
            self._compare_case(name, old, new, timed=no_times is None)
        compare_cache_checks(self.findings, self.baseline, self.candidate)
        compare_warm_code(self.findings, self.baseline, self.candidate)
        explained = len(self.findings.unknown) > before
        self.compare_reruns(names)
        if names:
            self._compare_whole(names)
        self.compare_whole_reruns(names)
        if not explained:
            self._add_incomplete()
        if passed and (packages := self.candidate.not_stock):
            # Nobody promised what another environment does; a team may accept it by a waiver.
            self.findings.add_unknown(
                self.candidate,
                WHOLE_RUN,
                reasons.PassedNotStock(packages=packages),
                signature=_not_stock_signature(packages),
            )
        self.add_match(compared, passed)

    def compare_variant(self) -> None:
        """Compare a run of the candidate that does not decide."""
        names = _case_names(self.baseline, self.candidate)
        for name in _or_whole_run(names):
            old, new = outcome(self.baseline, name), outcome(self.candidate, name)
            self._compare_case(name, old, new, timed=False)
        self.compare_reruns(names)
        if names:
            self._compare_whole(names)
        self.findings.matches.append(Match(baseline=self.baseline, candidate=self.candidate))

    def add_match(self, compared: int = 0, passed: int = 0) -> None:
        """Add the two runs that decide."""
        self.findings.matches.append(
            Match(
                baseline=self.baseline,
                candidate=self.candidate,
                compared=compared,
                passed=passed,
                no_times=no_times_of(self.baseline, self.candidate),
                caveats=(
                    *pair_caveats(self.baseline, self.candidate),
                    *(() if self.lost is None else (self.lost.caveat,)),
                ),
                unjudged=unjudged(self.baseline, self.candidate),
            )
        )

    def compare_reruns(self, names: Iterable[str]) -> None:
        """Add what reruns of the candidate show of cases besides `names`."""
        for name in sorted({*_case_names(*self.candidate.reruns)}.difference(names)):
            old, new = outcome(self.baseline, name), outcome(self.candidate, name)
            _add_reruns(self.findings, self.candidate, name, new, old)

    def compare_whole_reruns(self, names: Iterable[str]) -> None:
        """Add the reruns of the candidate that failed as a whole."""
        _add_whole_reruns(self.findings, (self.candidate, self.baseline), names)

    def _compare_case(self, name: str, old: CaseOutcome, new: CaseOutcome, *, timed: bool) -> None:
        if not (old.state.is_answer and new.state.is_answer):
            self._compare_unanswered(name, old, new)
        elif CaseState.FAILED in (old.state, new.state):
            self._compare_failure(name, old, new)
        elif name != WHOLE_RUN:
            if self.candidate.variant is None:
                self._compare_flags(name, old, new)
            sides = (("baseline", self.baseline), ("candidate", self.candidate))
            apart = tuple(side for side, run in sides if run.not_stock)
            compare_counters(self.findings, self.candidate, name, old, new, not_stock=apart)
            if timed:
                self._compare_times(name)
        _add_reruns(self.findings, self.candidate, name, new, old)
        if (old.state, new.state) == (CaseState.FAILED, CaseState.FAILED):
            self._add_baseline_rerun(name, new)

    def _compare_unanswered(self, name: str, old: CaseOutcome, new: CaseOutcome) -> None:
        add, run = self.findings.add_unknown, self.candidate
        reason: reasons.UnknownReason
        if new.state is CaseState.FAILED:
            # Nobody can say whether it is a regression, and it must not pass unseen.
            assert old.missing is not None
            reason = reasons.FailsWithoutAnswer(detail=new.detail, baseline=old.missing)
            decides = self.baseline.place if old.state is CaseState.UNKNOWN else None
            add(run, name, reason, signature=new.signature, decides=decides)
            return
        if new.state is CaseState.PASSED:
            assert name != WHOLE_RUN
            add_unexpected(self.findings, run, name, new)
            if run.variant is None and self._should_have_answered(name, old):
                assert old.missing is not None
                reason = reasons.PassesWithoutAnswer(baseline=old.missing)
                add(run, name, reason, decides=self.baseline.place)
            return
        assert new.missing is not None
        if run.variant is not None:
            return
        if old.missing is None:
            reason = reasons.AnswerLost(baseline=old.state, candidate=new.missing)
            waivable = new.state is CaseState.NOT_APPLICABLE
            add(run, name, reason, signature=new.signature if waivable else None)
        elif _may_hide_failure(old, new):
            add(run, name, reasons.NoAnswer(candidate=new.missing, baseline=old.missing))

    def _should_have_answered(self, name: str, old: CaseOutcome) -> bool:
        """Return whether the baseline's tests have the case too, without an answer."""
        if old.state is not CaseState.UNKNOWN:
            return False
        tests = load_startup_tests()
        return old.case is not None or not tests.differ(
            self.baseline.record, self.candidate.record, name
        )

    def _compare_failure(self, name: str, old: CaseOutcome, new: CaseOutcome) -> None:
        place, variant = self.candidate.place, self.candidate.variant
        if (untestable := self._untestable(old, new)) is not None:
            self.findings.add_unknown(self.candidate, name, untestable, signature=new.signature)
            return
        one_side = bool(self.baseline.not_stock) != bool(self.candidate.not_stock)
        if one_side and old.state is not new.state:
            self._add_one_side_not_stock(name, old, new)
        elif new.state is CaseState.PASSED:
            self.findings.failures.append(
                Failure(
                    kind=FailureKind.REPAIR,
                    place=place,
                    case=name,
                    rung=old.rung,
                    signature=old.signature,
                    detail=old.detail,
                    variant=variant,
                )
            )
            if new.verdict is not None and name != WHOLE_RUN:
                add_unexpected(self.findings, self.candidate, name, new)
        else:
            self._add_failure(name, old, new)

    def _untestable(
        self, old: CaseOutcome, new: CaseOutcome
    ) -> reasons.ExtensionNotTestable | None:
        """Return why a case cannot be asked with the existing wheels, or None if it can."""
        return None if self.lost is None else self.lost.not_testable(old, new)

    def _add_one_side_not_stock(self, name: str, old: CaseOutcome, new: CaseOutcome) -> None:
        """Add a case that passed on one side only, where only one environment is stock.

        The environment may be the cause as well as the release.
        """
        packages = self.baseline.not_stock or self.candidate.not_stock
        passed = new.state is CaseState.PASSED
        reason = reasons.OneSideNotStock(
            side="baseline" if self.baseline.not_stock else "candidate",
            packages=packages,
            state=new.state,
            detail=old.detail if passed else new.detail,
        )
        self.findings.add_unknown(
            self.candidate,
            name,
            reason,
            signature=_not_stock_signature(packages) if passed else new.signature,
            decides=self.baseline.place if self.baseline.not_stock else None,
        )

    def _add_failure(self, name: str, old: CaseOutcome, new: CaseOutcome) -> None:
        place, variant = self.candidate.place, self.candidate.variant
        kind, before = FailureKind.REGRESSION, None
        if old.state is CaseState.FAILED:
            same = (old.rung, old.signature) == (new.rung, new.signature)
            kind = FailureKind.FAILS_AS_BEFORE if same else FailureKind.FAILS_OTHERWISE
            before = old.signature
        self.findings.failures.append(
            Failure(
                kind=kind,
                place=place,
                case=name,
                rung=new.rung,
                signature=new.signature,
                detail=new.detail,
                before=before,
                waived=self.findings.waived(
                    Finding(place=place, case=name, signature=new.signature)
                ),
                variant=variant,
            )
        )

    def _compare_flags(self, name: str, old: CaseOutcome, new: CaseOutcome) -> None:
        for flag in sorted(old.flags.keys() | new.flags.keys()):
            before, after = old.flags.get(flag), new.flags.get(flag)
            if before != after:
                self.findings.flags.append(
                    Flag(
                        place=self.candidate.place,
                        case=name,
                        flag=flag,
                        before=before,
                        after=after,
                    )
                )

    def _compare_times(self, name: str) -> None:
        for start in STARTS:
            before = case_seconds(self.baseline.timed, name, start)
            after = case_seconds(self.candidate.timed, name, start)
            if shifted(before, after):
                self.findings.times.append(
                    Time(
                        place=self.candidate.place,
                        case=name,
                        start=start,
                        before=before,
                        after=after,
                    )
                )

    def _add_baseline_rerun(self, name: str, new: CaseOutcome) -> None:
        """Add what fails on both sides, though it passed in another run of the baseline."""
        for run in _counting_reruns(self.baseline):
            if outcome(run, name).state is CaseState.PASSED:
                reason = reasons.BaselineRerunPassed(path=run.path)
                self.findings.add_unknown(self.candidate, name, reason, signature=new.signature)
                return

    def _compare_whole(self, names: Iterable[str]) -> None:
        """Compare the runs as a whole where one failed at a rung and none of its cases says so."""
        old, new = run_outcome(self.baseline), run_outcome(self.candidate)
        failed = self.candidate if new.state is CaseState.FAILED else self.baseline
        holds_all = {case.case for case in failed.record.cases}.issuperset(names)
        answered = old.state.is_answer and new.state.is_answer
        if holds_all and answered and CaseState.FAILED in (old.state, new.state):
            self._compare_failure(WHOLE_RUN, old, new)

    def _add_incomplete(self) -> None:
        """Add the records that are not complete, where no case has shown it."""
        for side, run in (("baseline", self.baseline), ("candidate", self.candidate)):
            missing = partial(run.record)
            if missing is None and fault(run) is None:
                missing = run_outcome(run).missing or cut_short(run.record)
            if missing is not None:
                reason = reasons.Incomplete(side=side, missing=missing)
                self.findings.add_unknown(run, WHOLE_RUN, reason)


def _not_stock_signature(packages: Iterable[Departure]) -> str:
    """Return the signature by which a waiver accepts an environment that is not stock."""
    return f"not stock: {', '.join(map(departure_signature, packages))}"


def _may_hide_failure(old: CaseOutcome, new: CaseOutcome) -> bool:
    """Return whether the candidate started a case without an answer that the baseline did not run.

    Had it failed, it would block; so does an unknown end. A case that both sides started and that
    neither answers is equal on both sides.
    """
    started = new.state is CaseState.UNKNOWN and new.case is not None
    return started and (old.case is None or old.state is CaseState.NOT_APPLICABLE)


def _add_reruns(
    findings: Findings, run: CellRun, name: str, new: CaseOutcome, old: CaseOutcome | None
) -> None:
    """Add what other runs of the same releases, flags and tests did worse in a case."""
    reruns = _counting_reruns(run)
    if not reruns:
        return
    sides = [side for side in (new, old) if side is not None]
    known = {(side.rung, side.signature) for side in sides if side.signature}
    counts = {count for side in sides for count in differences(side)}
    for rerun in reruns:
        found = outcome(rerun, name)
        if found.state is CaseState.FAILED and (found.rung, found.signature) not in known:
            known.add((found.rung, found.signature))
            reason = reasons.RerunFailed(state=new.state, path=rerun.path, detail=found.detail)
            findings.add_unknown(run, name, reason, signature=found.signature)
        drifts = [count for count in differences(found) if count not in counts]
        counts.update(drifts)
        for group, waived in by_waiver(findings, run, name, drifts):
            drift = reasons.RerunDrifted(
                state=new.state,
                path=rerun.path,
                start=group[0].start,
                counter=group[0].counter,
                count=group[0].value,
                more=len(group) - 1,
            )
            findings.add_unknown(run, name, drift, waived=waived)


def _add_whole_reruns(findings: Findings, sides: tuple[CellRun, ...], names: Iterable[str]) -> None:
    """Add reruns of the first side that died or failed as a whole, where no case shows it."""
    run = sides[0]
    known = {(side.rung, side.signature) for side in map(run_outcome, sides)}
    wanted = set(names)
    for rerun in _counting_reruns(run):
        found, died = run_outcome(rerun), crash(rerun.record)
        if died is not None:
            found = CaseOutcome(state=CaseState.FAILED, detail=died)
        elif found.state is not CaseState.FAILED:
            continue
        elif not wanted <= {case.case for case in rerun.record.cases}:
            continue  # a case that it does not hold has shown it
        if (found.rung, found.signature) in known:
            continue
        known.add((found.rung, found.signature))
        reason = reasons.RunFailed(
            path=rerun.path,
            newer=rerun.record.started >= run.record.started,
            died=died is not None,
            detail=found.detail,
            packages=rerun.not_stock or None,
        )
        findings.add_unknown(run, WHOLE_RUN, reason, signature=found.signature)


def _counting_reruns(run: CellRun) -> Sequence[CellRun]:
    """Return the reruns that are evidence; of a stock run only the stock ones."""
    return [rerun for rerun in run.reruns if run.not_stock or not rerun.not_stock]


def _case_names(*runs: CellRun) -> list[str]:
    return sorted({case.case for run in runs for case in run.record.cases})


def _or_whole_run(names: list[str]) -> Sequence[str]:
    return names or (WHOLE_RUN,)
