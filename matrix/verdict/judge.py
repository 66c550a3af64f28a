"""Records, judged by expectations and the ladder of evidence.

Pure. A record says what happened and an expectation what should have; only here do they meet, so
that an old record can be judged anew when expectations change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.record.model import RUNGS, STARTS, Case, Record
from matrix.record.signatures import signature_of
from matrix.rules.expectations import Difference, Expected, Situation, compare

__all__ = [
    "BROKEN_PAIR",
    "COMPATIBLE",
    "DRIFT",
    "INCOMPATIBLE",
    "NOT_APPLICABLE",
    "UNTESTED",
    "VERDICTS",
    "CaseVerdict",
    "CellVerdict",
    "Expects",
    "Remembered",
    "exit_status",
    "judge",
    "worst",
]

BROKEN_PAIR = frozenset({"imports", "resolves"})
"""The kinds of error that are the pair's own fault and not the machine's."""

INCOMPATIBLE = "incompatible"
DRIFT = "drift"
UNTESTED = "untested"
COMPATIBLE = "compatible"
NOT_APPLICABLE = "not applicable"
VERDICTS = (INCOMPATIBLE, DRIFT, UNTESTED, COMPATIBLE)
"""The verdicts of a cell, worst first."""

_EXIT_STATUS = {COMPATIBLE: 0, DRIFT: 1, INCOMPATIBLE: 1, UNTESTED: 5}
_CUT_SHORT = {"crashed", "timed_out", "interrupted"}
_UNFINISHED = {
    "interrupted": "was interrupted",
    "running": "was still running when the run died",
    "out_of_memory": "ran out of memory",
}
_Pair = tuple[str, str] | None
_FAILED = {"failed": "failed", "crashed": "crashed", "timed_out": "timed out"}


@dataclass(frozen=True)
class CaseVerdict:
    """What one case of a record shows.

    `rung` is the rung reached where the case is compatible or untested, the one that it could not
    reach where it is incompatible or drifts, and None where that is not known. `expected` has an
    entry for each start that ran and of which something is expected, also where the case failed,
    which is not judged by it; of the starts in `no_rule` of a judged case nothing was expected.
    `signature` is today's of what failed (`matrix.record.signatures.signature_of`).
    """

    case: str
    verdict: str
    rung: str | None
    reason: str | None
    differences: tuple[Difference, ...] = ()
    expected: Mapping[str, Mapping[str, Expected]] = field(default_factory=dict)
    no_rule: tuple[str, ...] = ()
    signature: str | None = None


@dataclass(frozen=True)
class CellVerdict:
    """What a record shows of its cell: the worst of its cases, with that one's rung and reason."""

    verdict: str
    rung: str | None
    reason: str | None
    cases: tuple[CaseVerdict, ...]


class Expects(Protocol):
    """What answers what a start should count: `Expectations`, or a memory of what they said."""

    def expect(self, situation: Situation, start: str) -> Mapping[str, Expected]:
        """As `Expectations.expect`."""
        ...


class Remembered:
    """Expectations that look a situation up once: the runs of a pair on its Pythons are alike."""

    def __init__(self, expectations: Expects) -> None:
        """Remember what these say."""
        self._expectations = expectations
        self._said: dict[object, Mapping[str, Expected]] = {}
        self._asked: tuple[Situation | None, object] = None, None

    def expect(self, situation: Situation, start: str) -> Mapping[str, Expected]:
        """As `Expectations.expect`; the same mapping for the same situation."""
        if situation is not self._asked[0]:  # it is asked for each start
            flags = frozenset(situation.flags.items())
            place = situation.case, situation.platform, situation.torch, situation.vllm, flags
            self._asked = situation, place
        key = self._asked[1], start
        if key not in self._said:
            self._said[key] = self._expectations.expect(situation, start)
        return self._said[key]


def judge(record: Record, expectations: Expects) -> CellVerdict:
    """Judge what the record observed by what the expectations say of its situation."""
    ran = _ran(record)
    cases = tuple(
        _signed(case, _judge_case(record, ran, case, expectations)) for case in record.cases
    )
    # A fault of the whole run stands among the cases, so that what never ran cannot pass for good.
    whole = _judge_run(record)
    found = [each for each in (whole, *cases) if each and each.verdict != NOT_APPLICABLE]
    if not found:
        nothing = "no case applies to this cell" if cases else "no case was run"
        return CellVerdict(UNTESTED, None, nothing, cases)
    decisive = min(found, key=_badness)
    of = f"{decisive.case}: " if decisive.case else ""
    reason = f"{of}{decisive.reason}" if decisive.reason else None
    return CellVerdict(decisive.verdict, decisive.rung, reason, cases)


def worst(verdicts: Iterable[str]) -> str:
    """The worst of a cell's verdicts; `untested` where there is none.

    >>> worst(["compatible", "drift", "untested"])
    'drift'
    """
    return min(verdicts, key=VERDICTS.index, default=UNTESTED)


def exit_status(verdict: CellVerdict) -> int:
    """The exit status of a run: 0 compatible, 1 drift or incompatible, 5 untested."""
    return _EXIT_STATUS[verdict.verdict]


def _badness(verdict: CaseVerdict) -> tuple[int, int]:
    rung = RUNGS.index(verdict.rung) if verdict.rung in RUNGS else -1
    return VERDICTS.index(verdict.verdict), rung


def _signed(case: Case, verdict: CaseVerdict) -> CaseVerdict:
    signature = signature_of(case)
    return verdict if signature is None else replace(verdict, signature=signature)


def _judge_run(record: Record) -> CaseVerdict | None:
    """The verdict on the run as a whole, or None where only its cases speak."""
    error = record.error
    if error is not None and error.kind in BROKEN_PAIR:
        return CaseVerdict("", INCOMPATIBLE, error.kind, error.reason)
    if error is not None:
        return CaseVerdict("", UNTESTED, None, _error_reason(record))
    for rung in record.rungs:
        if not rung.ok:
            return CaseVerdict("", INCOMPATIBLE, rung.rung, rung.reason or f"failed at {rung.rung}")
    if not record.finished:
        return CaseVerdict("", UNTESTED, None, "the run did not finish")
    return None


def _error_reason(record: Record) -> str:
    assert record.error is not None
    return record.error.reason or record.error.kind.replace("_", " ")


def _judge_case(record: Record, ran: _Pair, case: Case, expectations: Expects) -> CaseVerdict:
    if case.outcome == "not_applicable":
        return CaseVerdict(case.case, NOT_APPLICABLE, None, case.reason)
    kind = record.error.kind if record.error else None
    if kind == "wrong_cell":
        return CaseVerdict(case.case, UNTESTED, None, _error_reason(record))
    if case.outcome in _UNFINISHED:
        reason = case.reason or _UNFINISHED[case.outcome]
        return CaseVerdict(case.case, UNTESTED, None, reason)
    if case.outcome in _FAILED:
        if kind is not None and kind not in BROKEN_PAIR | _CUT_SHORT:
            # A full disk or a missing compiler fails cases too, and says nothing of the pair.
            return CaseVerdict(case.case, UNTESTED, None, _error_reason(record))
        rung = "starts warm" if case.started("cold") else "starts cold"
        reason = case.reason or f"{_FAILED[case.outcome]} without a reason"
        expected = _wanted(_situation(record, ran, case), case, expectations)
        return CaseVerdict(case.case, INCOMPATIBLE, rung, reason, expected=expected)
    for start in STARTS:
        if not case.started(start):
            return CaseVerdict(case.case, UNTESTED, None, f"the record holds no {start} start")
    return _judge_counters(_situation(record, ran, case), case, expectations)


def _judge_counters(situation: Situation | None, case: Case, expectations: Expects) -> CaseVerdict:
    if situation is None:
        reason = "the record does not say which torch and vLLM ran"
        return CaseVerdict(case.case, UNTESTED, "starts warm", reason)
    expected = _wanted(situation, case, expectations)
    no_rule = tuple(start for start in STARTS if start not in expected)
    differences = _differences(case, expected)
    if differences:
        return CaseVerdict(
            case.case, DRIFT, "as expected", _drift(differences), differences, expected, no_rule
        )
    if no_rule:
        starts = "start" if len(no_rule) == 1 else "starts"
        reason = f"no expectation for its {' and '.join(no_rule)} {starts}"
        return CaseVerdict(case.case, UNTESTED, "starts warm", reason, (), expected, no_rule)
    return CaseVerdict(case.case, COMPATIBLE, "as expected", None, (), expected)


def _wanted(
    situation: Situation | None, case: Case, expectations: Expects
) -> dict[str, Mapping[str, Expected]]:
    """What is expected of each start that ran; nothing where there is no rule."""
    if situation is None:
        return {}
    found = {}
    for start in STARTS:
        if case.started(start) and (rules := expectations.expect(situation, start)):
            found[start] = rules
    return found


def _ran(record: Record) -> _Pair:
    """The torch and the vLLM that ran, or None where the record does not know both."""
    try:
        torch, vllm = (
            parse_version(str(record.provenance.get(name))) for name in ("torch", "vllm")
        )
    except InvalidVersion:
        return None
    return str(torch), str(vllm)


def _situation(record: Record, ran: _Pair, case: Case) -> Situation | None:
    if ran is None:
        return None
    flags = {**record.flags, **case.flags}
    return Situation(case.case, record.platform, *ran, flags)


def _differences(
    case: Case, expected: Mapping[str, Mapping[str, Expected]]
) -> tuple[Difference, ...]:
    found: list[Difference] = []
    for start, rules in expected.items():
        seen = case.started(start)
        assert seen is not None
        found += compare(rules, seen.counters, start)
    return tuple(sorted(found, key=lambda each: (STARTS.index(each.start), each.counter)))


def _drift(differences: tuple[Difference, ...]) -> str:
    first = differences[0]
    observed = "is not counted" if first.observed is None else f"is {first.observed}"
    more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
    return f"{first.start} {first.counter} {observed}, expected {first.expected}{more}"
