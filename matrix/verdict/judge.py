"""Judge records by expectations and the ladder of evidence.

Pure. A record says what happened and an expectation what should have happened; they meet only here,
so that an old record can be judged again when expectations change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.record.machine_marks import machine_fault
from matrix.record.model import (
    RUNGS,
    STARTS,
    WHOLE_RUN,
    Case,
    Departure,
    ErrorKind,
    Outcome,
    Record,
    RunError,
    Rung,
    StartKind,
)
from matrix.record.signature import signature_of
from matrix.record.startup_tests import version_of_tests
from matrix.record.stock import not_stock
from matrix.record.upstream import UpstreamOutcome
from matrix.rules.expectations import (
    Difference,
    Expected,
    Nearest,
    Situation,
    compare_ranks,
    in_order,
)
from matrix.rules.provisional import Provisional, provisional_of
from matrix.verdict import reasons
from matrix.verdict.events import StartEvent, events_of, telling
from matrix.verdict.recompiles import Recompiles, recompiles
from matrix.verdict.states import VERDICTS, Verdict
from matrix.verdict.stock import BROKEN_PAIR, blamed, departures_of

_EXIT_STATUS = {
    Verdict.COMPATIBLE: 0,
    Verdict.DRIFT: 1,
    Verdict.INCOMPATIBLE: 1,
    Verdict.UNTESTED: 5,
}
_CUT_SHORT = {"crashed", "timed_out", "interrupted"}
_UNFINISHED = {Outcome.INTERRUPTED, Outcome.RUNNING, Outcome.OUT_OF_MEMORY}
_FAILED = {Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT}
_SO_FAR = {Verdict.INCOMPATIBLE, Verdict.DRIFT}
_Pair = tuple[str, str] | None
"""The torch and the vLLM that ran; None if the record does not name both."""


@dataclass(frozen=True, kw_only=True)
class CaseVerdict:
    """The verdict on one case of a record; `case` is empty for the run as a whole.

    `rung` is the rung reached where the case is compatible or untested, the one that it could not
    reach where it is incompatible or drifts, and None if that is not known. `expected` has an
    entry for each start that ran and has an expectation, also where the case failed, which is not
    judged by it; `no_rule` are the starts of a judged case without an expectation. `signature` is
    computed by today's rules (`matrix.record.signature.signature_of`). `observed` is the case as
    its record has it. `provisional` is set if a start has a counter without an expectation for its
    own releases, but with a nearest rule; the case is untested then. `recompiles` is
    there where a compatible case compiles again on its warm start. `fails_at` is the rung that the
    case could not reach where that shows nothing of the pair, for packages were not as the vLLM
    requires; the case is untested then, with its differences.
    """

    case: str
    verdict: Verdict
    rung: Rung | None = None
    reason: reasons.VerdictReason | None = None
    differences: tuple[Difference, ...] = ()
    expected: Mapping[StartKind, Mapping[str, Expected]] = field(default_factory=dict)
    no_rule: tuple[str, ...] = ()
    signature: str | None = None
    observed: Case | None = field(default=None, repr=False, compare=False)
    provisional: Provisional | None = None
    recompiles: Recompiles | None = None
    fails_at: Rung | None = None

    @property
    def events(self) -> tuple[StartEvent, ...] | None:
        """The logged events of its starts; None if unknown, as in records older than events.

        It is worked out when asked: most commands ask for none, and texts take patterns.
        """
        return None if self.observed is None else events_of(self.observed)


@dataclass(frozen=True, kw_only=True)
class CellVerdict:
    """The verdict of a record on its cell: the worst of its cases, with its rung and reason.

    `departures` are the packages that were not as the vLLM requires; None if nobody knows.
    `provisional` is that case's, where every case is compatible or provisional; `fails_at` is that
    case's.
    """

    verdict: Verdict
    rung: Rung | None = None
    reason: reasons.VerdictReason | None = None
    cases: tuple[CaseVerdict, ...] = ()
    departures: tuple[Departure, ...] | None = None
    provisional: Provisional | None = None
    fails_at: Rung | None = None

    @property
    def not_stock(self) -> tuple[Departure, ...]:
        """The departures that make the environment not stock: all but an off-pin cell's own."""
        return not_stock(self.departures)

    @property
    def recompiling(self) -> tuple[str, ...]:
        """The cases that are as expected and compile again on their warm start."""
        return tuple(case.case for case in self.cases if case.recompiles is not None)

    @property
    def issues(self) -> tuple[tuple[str, ...], ...]:
        """The links to the issues of each of these cases; none where no public issue is known."""
        return tuple(case.recompiles.issues for case in self.cases if case.recompiles is not None)


class Expects(Protocol):
    """Answers what a start should count, as `Expectations` does."""

    def expect(self, situation: Situation, start: StartKind) -> Mapping[str, Expected]:
        """Return what each counter should be, as `Expectations.expect`."""
        ...

    def nearest(
        self, situation: Situation, start: StartKind, expected: Mapping[str, Expected] | None = None
    ) -> Mapping[str, Nearest]:
        """Return what the nearest rule had of each other counter, as `Expectations.nearest`."""
        ...


def judge(record: Record, expectations: Expects) -> CellVerdict:
    """Return what the record shows, compared with the expectations for its situation."""
    pair, departures = _pair(record), departures_of(record)
    apart = not_stock(departures)
    cases = tuple(
        _set_aside(
            _judge_case(record, pair, case, expectations),
            apart,
            blamed(departures, case.reason, case.signature) if case.outcome in _FAILED else None,
        )
        for case in record.cases
    )
    # A failure of the whole run stands among the cases, so that what never ran cannot pass.
    run = _judge_run(record)
    if run is not None:
        run = _set_aside(run, apart, blamed(departures, reasons.failure_key(run.reason)))
    found = [
        verdict
        for verdict in (run, *cases)
        if verdict and verdict.verdict != Verdict.NOT_APPLICABLE
    ]
    if not found:
        nothing = reasons.NothingApplies() if cases else reasons.NothingRan()
        return CellVerdict(
            verdict=Verdict.UNTESTED,
            reason=nothing,
            cases=cases,
            departures=departures,
        )
    decisive = min(found, key=_badness)
    reason = decisive.reason
    if reason is not None and decisive.case:
        reason = reasons.OfCase(case=decisive.case, reason=reason)
    return CellVerdict(
        verdict=decisive.verdict,
        rung=decisive.rung,
        reason=reason,
        cases=cases,
        departures=departures,
        provisional=decisive.provisional,
        fails_at=decisive.fails_at,
    )


def judge_running(record: Record, expectations: Expects) -> CellVerdict:
    """Return what the record of an unfinished run shows: its cases, and no verdict of the cell.

    A case that failed or drifts is untested until the run ends, as the cell is; its reason says so.
    """
    judged = judge(record, expectations)
    cases = tuple(
        _untested(verdict.case, reasons.CaseRuns())
        if case.outcome == Outcome.RUNNING
        else _so_far(verdict)
        for case, verdict in zip(record.cases, judged.cases, strict=True)
    )
    return replace(
        judged,
        verdict=Verdict.UNTESTED,
        rung=None,
        reason=reasons.GoesOn(),
        cases=cases,
        provisional=None,
        fails_at=None,
    )


def _so_far(verdict: CaseVerdict) -> CaseVerdict:
    """Return what a case shows while the run of its record continues."""
    if verdict.fails_at is not None:
        reason = reasons.GoesOn(reason=verdict.reason)
        return replace(verdict, rung=None, reason=reason, differences=(), fails_at=None)
    if verdict.verdict not in _SO_FAR:
        return verdict
    reason = reasons.GoesOn(verdict=verdict.verdict, reason=verdict.reason)
    return replace(verdict, verdict=Verdict.UNTESTED, rung=None, reason=reason, differences=())


def blames_pair(error: RunError) -> bool:
    """Tell whether the pair causes this error, and neither the machine nor the index.

    Records from before `not_published` have `resolves` for what an index only lacked.
    """
    if error.kind != ErrorKind.RESOLVES:
        return error.kind in BROKEN_PAIR
    from matrix.checks.resolution.uv_output import index_lacks  # its patterns take long to compile

    return not index_lacks(error.reason)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of a cell's verdicts; `untested` if there is none.

    >>> print(worst([Verdict.COMPATIBLE, Verdict.DRIFT, Verdict.UNTESTED]))
    drift
    """
    return min(verdicts, key=VERDICTS.index, default=Verdict.UNTESTED)


def exit_status(verdict: CellVerdict, record: Record | None = None) -> int:
    """Return the exit status of a run: 0 compatible, 1 drift or incompatible, 5 untested.

    It is 1 also where the record has a failed case of the full suite or of upstream's own tests:
    the run was asked for them. Where upstream's tests did not run to their end, as after an
    interrupt, it is 5 in place of 0.
    """
    status = _EXIT_STATUS[verdict.verdict]
    if record is None:
        return status
    if _asked_more_and_failed(record):
        return 1
    ended = record.upstream is None or record.upstream.has_ended
    return status if ended else status or _EXIT_STATUS[Verdict.UNTESTED]


def failed_of_full_suite(record: Record) -> tuple[Case, ...]:
    """Return the cases of the full suite that failed, and not for the machine's sake.

    The record of a run has no error for one, so the whole text of its failure counts.
    """
    if _hindered(record.error):
        return ()
    return tuple(
        case
        for case in record.full_suite or ()
        if case.outcome in _FAILED
        and not any(_is_of_the_machine(case, text or "") for text in (case.reason, case.failure))
    )


def _asked_more_and_failed(record: Record) -> bool:
    upstream = record.upstream
    return bool(failed_of_full_suite(record)) or (
        upstream is not None and bool(upstream.of(UpstreamOutcome.FAILED))
    )


def _hindered(error: RunError | None) -> bool:
    """Return whether a run had an error that fails cases too, and shows nothing of the pair."""
    return error is not None and not blames_pair(error) and error.kind not in _CUT_SHORT


def _badness(verdict: CaseVerdict) -> tuple[int, bool, int, int]:
    shown = verdict.fails_at or verdict.rung
    rung = RUNGS.index(shown) if shown in RUNGS else -1
    compared = verdict.provisional
    # What was compared says more than what could not be, and what differs more than what does not.
    same = 0 if compared is None else 1 if compared.differences else 2
    # Where nothing is known of the pair, what failed or differed says more than what did not run.
    return VERDICTS.index(verdict.verdict), verdict.fails_at is None, rung, same


def _judge_run(record: Record) -> CaseVerdict | None:
    """Return the verdict on the run as a whole, or None if only its cases show something."""
    error = record.error
    if error is not None and blames_pair(error):
        return CaseVerdict(
            case=WHOLE_RUN,
            verdict=Verdict.INCOMPATIBLE,
            rung=Rung(error.kind),
            reason=reasons.recorded(error.reason),
        )
    if error is not None:
        return _untested(WHOLE_RUN, reasons.error_reason(error))
    for rung in record.rungs:
        if not rung.ok:
            reason = reasons.rung_reason(rung)
            return CaseVerdict(
                case=WHOLE_RUN, verdict=Verdict.INCOMPATIBLE, rung=rung.rung, reason=reason
            )
    if not record.finished:
        return _untested(WHOLE_RUN, reasons.NotFinished())
    return None


def _set_aside(
    verdict: CaseVerdict, apart: tuple[Departure, ...], cause: Departure | None
) -> CaseVerdict:
    """Return the verdict; untested if it is about the environment and not about the pair.

    `apart` are the packages by which the environment is not stock, `cause` the package that is not
    as required and that the failure names.
    """
    fails = verdict.verdict == Verdict.INCOMPATIBLE
    reason: reasons.VerdictReason
    if fails and cause is not None:
        reason = reasons.PackageFails(departure=cause, reason=verdict.reason)
    elif apart and (fails or verdict.verdict == Verdict.DRIFT):
        reason = reasons.NotStock(
            departures=apart, verdict=verdict.verdict, rung=verdict.rung, reason=verdict.reason
        )
    else:
        return verdict
    return replace(
        verdict,
        verdict=Verdict.UNTESTED,
        rung=None if fails else Rung.STARTS_WARM,
        reason=reason,
        fails_at=verdict.rung,
    )


def _untested(case: str, reason: reasons.VerdictReason) -> CaseVerdict:
    return CaseVerdict(case=case, verdict=Verdict.UNTESTED, reason=reason)


def _of(case: Case) -> partial[CaseVerdict]:
    """Return what makes the verdicts of a case."""
    return partial(CaseVerdict, case=case.case, signature=signature_of(case), observed=case)


def _judge_case(record: Record, pair: _Pair, case: Case, expectations: Expects) -> CaseVerdict:
    known = reasons.recorded(case.reason)
    shows = _of(case)
    untested = partial(shows, verdict=Verdict.UNTESTED)
    if case.outcome == Outcome.NOT_APPLICABLE:
        return shows(verdict=Verdict.NOT_APPLICABLE, reason=known)
    error = record.error
    if error is not None and error.kind == ErrorKind.WRONG_CELL:
        return untested(reason=reasons.error_reason(error))
    if case.outcome in _UNFINISHED:
        return untested(reason=known or reasons.EndedWithoutText(outcome=case.outcome))
    if case.outcome in _FAILED:
        if error is not None and _hindered(error):  # such as a full disk or a missing compiler
            return untested(reason=reasons.error_reason(error))
        if known is not None and _is_of_the_machine(case, known.text):
            # A record has one error. Its other cases, and older records, have the failure alone.
            return untested(reason=known)
        return shows(
            verdict=Verdict.INCOMPATIBLE,
            rung=Rung.STARTS_WARM if case.started(StartKind.COLD) else Rung.STARTS_COLD,
            reason=known or reasons.NoReason(outcome=case.outcome),
            expected=_expected(_situation(record, pair, case), case, expectations),
        )
    for start in STARTS:
        if not case.started(start):
            return untested(reason=reasons.NoStart(start=start))
    return _judge_counters(_situation(record, pair, case), case, expectations)


def has_no_answer(case: Case) -> bool:
    """Tell whether a case of a whole run did not come to its end, or failed for the machine's sake.

    Where it runs again it can have an answer.
    """
    if case.outcome in _FAILED:
        known = reasons.recorded(case.reason)
        return known is not None and _is_of_the_machine(case, known.text)
    return case.outcome in _UNFINISHED


def _is_of_the_machine(case: Case, reason: str) -> bool:
    return case.outcome != Outcome.TIMED_OUT and machine_fault(reason) is not None


def _judge_counters(situation: Situation | None, case: Case, expectations: Expects) -> CaseVerdict:
    shows = _of(case)
    if situation is None:
        return shows(verdict=Verdict.UNTESTED, rung=Rung.STARTS_WARM, reason=reasons.NoReleases())
    expected = _expected(situation, case, expectations)
    differences = _differences(case, expected)
    provisional = None
    if not differences:
        provisional = provisional_of(
            {
                start.start: expectations.nearest(
                    situation, start.start, expected.get(start.start, {})
                )
                for start in case.starts
            },
            {start.start: start.counters for start in case.starts},
        )
    compared = () if provisional is None else provisional.nearest
    no_rule = tuple(start for start in STARTS if start not in expected and start not in compared)
    if differences:
        verdict, rung = Verdict.DRIFT, Rung.AS_EXPECTED
        why: reasons.VerdictReason | None = _drift(differences, telling(events_of(case)))
    elif no_rule or provisional is not None:
        verdict, rung = Verdict.UNTESTED, Rung.STARTS_WARM
        comparison = None if provisional is None else provisional.comparison
        why = reasons.NotJudged(no_rule=no_rule, comparison=comparison)
    else:
        verdict, rung, why = Verdict.COMPATIBLE, Rung.AS_EXPECTED, None
    return shows(
        verdict=verdict,
        rung=rung,
        reason=why,
        differences=differences,
        expected=expected,
        no_rule=no_rule,
        provisional=provisional,
        recompiles=recompiles(case, expected) if verdict is Verdict.COMPATIBLE else None,
    )


def _expected(
    situation: Situation | None, case: Case, expectations: Expects
) -> dict[StartKind, Mapping[str, Expected]]:
    """Return what is expected of each start that ran; a start without a rule has no entry."""
    if situation is None:
        return {}
    found: dict[StartKind, Mapping[str, Expected]] = {}
    for start in STARTS:
        if case.started(start) and (rules := expectations.expect(situation, start)):
            found[start] = rules
    return found


def _pair(record: Record) -> _Pair:
    try:
        torch, vllm = (
            parse_version(str(record.provenance.get(name))) for name in ("torch", "vllm")
        )
    except InvalidVersion:
        return None
    return str(torch), str(vllm)


def _situation(record: Record, pair: _Pair, case: Case) -> Situation | None:
    if pair is None:
        return None
    torch, vllm = pair
    return Situation(
        case=case.case,
        platform=record.platform,
        torch=torch,
        vllm=vllm,
        flags={**record.flags, **case.flags},
        tests=version_of_tests(record),
    )


def _differences(
    case: Case, expected: Mapping[StartKind, Mapping[str, Expected]]
) -> tuple[Difference, ...]:
    found: list[Difference] = []
    for seen in case.starts:
        found += compare_ranks(expected.get(seen.start, {}), seen.counted, seen.start)
    return in_order(found)


def _drift(differences: tuple[Difference, ...], events: tuple[StartEvent, ...]) -> reasons.Drifts:
    """Return the first difference, and what a start logged that may explain it."""
    event = events[0] if events else None
    return reasons.Drifts(difference=differences[0], more=len(differences) - 1, event=event)
