"""Two runs of a cell held against each other, case by case, or one of the candidate's alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix._util.text import plural
from matrix.qualify.caveats import differs
from matrix.qualify.model import (
    AS_BEFORE,
    EXPECTED,
    EXPECTED_AGAIN,
    FAILING,
    FAILS_AS_BEFORE,
    FAILS_OTHERWISE,
    NEW,
    NO_RULE,
    NOT_JUDGED,
    REGRESSION,
    REPAIR,
    UNEXPECTED,
    Drift,
    Failure,
    Findings,
    Flag,
    Match,
    Time,
    Unknown,
    Waived,
)
from matrix.qualify.runs import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    UNKNOWN,
    CaseOutcome,
    CellRun,
    broken,
    crash,
    cut_short,
    hardware,
    reply,
    said,
    whole_reply,
)
from matrix.record.model import STARTS, Record
from matrix.record.signatures import signature
from matrix.record.startup_tests import load_startup_tests
from matrix.rules.expectations import COUNTERS
from matrix.rules.waivers import Finding
from matrix.store.summary import enough, shifted


def compare(findings: Findings, baseline: CellRun, candidate: CellRun, known: bool = False) -> None:
    """Two runs, case by case; one beside the run that decides answers none, but may fail.

    Where it is `known` without its run why the candidate's failed, the run says no more than that.
    """
    names = [] if known else sorted(_names(baseline, candidate))
    no_times = _no_times(baseline, candidate)
    compared = passed = 0
    beside = candidate.apart is not None
    before = len(findings.unknown)
    for name in [] if known else names or [""]:
        old, new = reply(baseline, name), reply(candidate, name)
        answered = {old.state, new.state} <= {PASSED, FAILED}
        compared += answered
        passed += answered and new.state == PASSED
        if not answered:
            _unanswered(findings, baseline, candidate, name, old, new)
        elif FAILED in (old.state, new.state):
            _failure(findings, candidate, name, old, new)
        else:
            if not beside:
                _flags(findings, candidate, name, old, new)
            compare_counters(findings, candidate, name, old, new)
            if no_times is None and not beside:
                _times(findings, baseline, candidate, name)
        _again(findings, candidate, name, new, old)
        if (old.state, new.state) == (FAILED, FAILED):
            _passed_before(findings, baseline, candidate, name, new)
    told = known or len(findings.unknown) > before
    for name in sorted(_names(*candidate.again).difference(names)):
        _again(findings, candidate, name, reply(candidate, name), reply(baseline, name))
    if names:
        _whole(findings, baseline, candidate, names)
    if not beside:
        _others(findings, candidate, baseline, names)
        if not told:
            _parts(findings, baseline, candidate)
    notes = tuple(differs(baseline, candidate))
    if beside:
        compared = passed = 0
        no_times, notes = None, ()
    findings.matches.append(Match(baseline, candidate, compared, passed, no_times, notes))


def alone(findings: Findings, ran: CellRun, why: str, decides: str) -> bool:
    """What is wrong with a run that has no baseline, as `why` says; whether there is anything.

    Nobody can say whether it is a regression, and it must not go by unseen: the cell that `decides`
    would tell. What drifts from the candidate's own expectation is wrong by itself.
    """
    known = len(findings.unknown) + len(findings.drifts)
    for each in (ran, *ran.beside):
        for name in sorted(_names(each, *each.again)):
            answer = reply(each, name)
            if answer.state == PASSED:
                unexpected(findings, each, name, answer)
            elif answer.state == FAILED and answer.case is not None:
                reason = f"fails ({answer.reason}), and {why}"
                findings.add_unknown(each, name, reason, answer.signature, decides)
            _again(findings, each, name, answer, None)
        fault = whole_reply(each)
        if fault.state == FAILED:
            reason = f"fails ({fault.reason}), and {why}"
            findings.add_unknown(each, None, reason, fault.signature, decides)
        if each is ran:
            _others(findings, each, None, _names(each, *each.again))
    return len(findings.unknown) + len(findings.drifts) > known


def _whole(findings: Findings, baseline: CellRun, candidate: CellRun, names: Sequence[str]) -> None:
    """The run as a whole, where it failed at a rung and none of its cases says so."""
    old, new = whole_reply(baseline), whole_reply(candidate)
    ran = candidate if new.state == FAILED else baseline
    untold = {case.case for case in ran.record.cases}.issuperset(names)
    if untold and FAILED in (old.state, new.state):
        _failure(findings, candidate, "", old, new)


def _unanswered(
    findings: Findings,
    baseline: CellRun,
    candidate: CellRun,
    name: str,
    old: CaseOutcome,
    new: CaseOutcome,
) -> None:
    beside = candidate.apart is not None
    if new.state == FAILED:
        # Nobody can say whether it is a regression, and it must not go by unseen.
        reason = f"fails ({new.reason}), and at the baseline it {said(old)}"
        there = baseline.record.cell if old.state == UNKNOWN else None
        findings.add_unknown(candidate, name, reason, new.signature, there)
    elif new.state == PASSED:
        unexpected(findings, candidate, name, new)
        same = not load_startup_tests().differ(baseline.record, candidate.record, name)
        if old.state == UNKNOWN and not beside and (same or old.case is not None):
            reason = f"passed, and at the baseline it {said(old)}"
            findings.add_unknown(candidate, name, reason, None, baseline.record.cell)
    elif beside:
        return
    elif new.state == NOT_APPLICABLE and old.state in (PASSED, FAILED):
        reason = f"{old.state} at the baseline, and now does not apply: {new.reason}"
        findings.add_unknown(candidate, name, reason, new.signature)
    elif new.state == UNKNOWN and old.state in (PASSED, FAILED):
        reason = f"{old.state} at the baseline, and now {said(new)}"
        findings.add_unknown(candidate, name, reason)


def _failure(
    findings: Findings, candidate: CellRun, name: str, old: CaseOutcome, new: CaseOutcome
) -> None:
    if new.state == PASSED:
        findings.failures.append(
            Failure(
                REPAIR,
                candidate.place,
                name,
                old.rung,
                old.signature,
                old.reason,
                apart=candidate.apart,
            )
        )
        if new.verdict is not None:
            unexpected(findings, candidate, name, new)
        return
    kind, before = REGRESSION, None
    if old.state == FAILED:
        same = (old.rung, old.signature) == (new.rung, new.signature)
        kind, before = FAILS_AS_BEFORE if same else FAILS_OTHERWISE, old.signature
    waiver, expired = findings.waived(Finding(candidate.place, name, signature=new.signature))
    findings.failures.append(
        Failure(
            kind,
            candidate.place,
            name,
            new.rung,
            new.signature,
            new.reason,
            before,
            waiver,
            expired,
            apart=candidate.apart,
        )
    )


def _flags(
    findings: Findings, candidate: CellRun, name: str, old: CaseOutcome, new: CaseOutcome
) -> None:
    findings.flags += [
        Flag(candidate.place, name, flag, old.flags.get(flag), new.flags.get(flag))
        for flag in sorted(old.flags.keys() | new.flags.keys())
        if old.flags.get(flag) != new.flags.get(flag)
    ]


def _times(findings: Findings, baseline: CellRun, candidate: CellRun, name: str) -> None:
    for start in STARTS:
        before, after = (_seconds(ran.runs, name, start) for ran in (baseline, candidate))
        if shifted(before, after):
            findings.times.append(Time(candidate.place, name, start, before, after))


def _again(
    findings: Findings, candidate: CellRun, name: str, new: CaseOutcome, old: CaseOutcome | None
) -> None:
    """Other runs of the same releases, flags and tests that did worse than this one."""
    state = "has no answer" if new.state == UNKNOWN else new.state
    known = {(each.rung, each.signature) for each in (new, old) if each and each.signature}
    counts = {each for reply in (new, old) if reply for each in differences(reply)}
    for ran in candidate.again:
        where = f"another run of the same releases, flags and tests ({ran.path})"
        other = reply(ran, name)
        if other.state == FAILED and (other.rung, other.signature) not in known:
            known.add((other.rung, other.signature))
            reason = f"{state}, and failed in {where}: {other.reason}"
            findings.add_unknown(candidate, name, reason, other.signature)
        drifts = [each for each in differences(other) if each not in counts]
        counts.update(drifts)
        add_uncertain(findings, candidate, name, drifts, f"{state}, and drifts in {where}")


def _passed_before(
    findings: Findings, baseline: CellRun, candidate: CellRun, name: str, new: CaseOutcome
) -> None:
    """What fails on both sides, though it passed in another run of the baseline."""
    for ran in baseline.again:
        if reply(ran, name).state == PASSED:
            reason = f"fails, and passed in another run of the baseline ({ran.path})"
            findings.add_unknown(candidate, name, reason, new.signature)
            return


def _others(
    findings: Findings, candidate: CellRun, baseline: CellRun | None, names: Iterable[str]
) -> None:
    """Other runs of the very same that died or failed as a whole, where no case tells of it."""
    sides = [each for each in (candidate, baseline) if each is not None]
    known = {(each.rung, each.signature) for each in map(whole_reply, sides)}
    asked = set(names)
    for ran in candidate.again:
        newer = ran.record.started >= candidate.record.started
        where = f"{'a newer' if newer else 'another'} run of the same releases, flags and tests"
        fault, why = whole_reply(ran), crash(ran.record)
        told = fault.state != FAILED or not asked <= {each.case for each in ran.record.cases}
        if why is not None:
            fault, told = CaseOutcome(FAILED, why, "", signature(why) or why), False
        if not told and (fault.rung, fault.signature) not in known:
            known.add((fault.rung, fault.signature))
            verb = "failed" if why is None else "died"
            reason = f"{where} {verb} ({ran.path}): {fault.reason}"
            findings.add_unknown(candidate, None, reason, fault.signature)


def _parts(findings: Findings, baseline: CellRun, candidate: CellRun) -> None:
    """A record that is not whole, where no case has told of it yet."""
    for name, ran in (("baseline", baseline), ("candidate", candidate)):
        record = ran.record
        if broken(ran) is not None and not ran.entry.part:
            continue
        why = f"holds {ran.entry.part}" if ran.entry.part else cut_short(record)
        if why:
            reason = f"the record of the {name} {why}"
            findings.unknown.append(Unknown(record.cell, record.platform, None, reason, True))


def _names(*runs: CellRun) -> set[str]:
    return {case.case for ran in runs for case in ran.record.cases}


def _no_times(baseline: CellRun, candidate: CellRun) -> str | None:
    """Why the seconds of two cells cannot be compared, or None."""
    most = max(baseline.record.jobs, candidate.record.jobs)
    if most > 1:
        return f"not comparable: up to {most} cases ran side by side"
    if hardware(baseline.record) != hardware(candidate.record):
        return "not comparable: other machine"
    before, after = len(baseline.runs), len(candidate.runs)
    if not enough([0.0] * before, [0.0] * after):
        return (
            f"not comparable: {plural(before, 'run')} of the baseline and {after} of the candidate"
            " tell no noise; three of each do"
        )
    return None


def _seconds(runs: Iterable[Record], name: str, start: str) -> tuple[float, ...]:
    """The total seconds of a start of a case in those of the runs in which it passed."""
    return tuple(
        seen.seconds["total"]
        for record in runs
        for case in record.cases
        if case.case == name and case.outcome == "passed"
        for seen in [case.started(start)]
        if seen is not None and "total" in seen.seconds
    )


Count = tuple[str, str, "int | None"]
"""A counter of a start and its count: start, counter, count; None is not counted."""


def compare_counters(
    findings: Findings, candidate: CellRun, name: str, old: CaseOutcome, new: CaseOutcome
) -> None:
    """The counters of a case that passed on both sides."""
    assert old.case and new.case and old.verdict and new.verdict
    uncounted: list[Count] = []
    for start in STARTS:
        first, second = old.case.started(start), new.case.started(start)
        assert first and second
        rules = [dict(each.expected.get(start, {})) for each in (old.verdict, new.verdict)]
        off = [
            {each.counter for each in verdict.differences if each.start == start}
            for verdict in (old.verdict, new.verdict)
        ]
        for counter in sorted(first.counters.keys() | second.counters.keys() | rules[1].keys()):
            before, after = _count(first.counters, counter), _count(second.counters, counter)
            wanted = [of[counter].value if counter in of else None for of in rules]
            if wanted[1] is not None and before is None and after is None:
                uncounted.append((start, counter, None))
                continue
            kind = _kind(before, after, wanted, [counter in of for of in off])
            if kind == NO_RULE and counter not in COUNTERS:
                kind = NOT_JUDGED
            if kind is None:
                continue
            waiver = expired = None
            if kind in FAILING or kind == AS_BEFORE:
                waiver, expired = findings.waived(
                    Finding(candidate.place, name, None, start, counter, after)
                )
            findings.drifts.append(
                Drift(
                    kind,
                    candidate.place,
                    name,
                    start,
                    counter,
                    before,
                    after,
                    wanted[1],
                    any(each is not None for each in wanted),
                    waiver,
                    expired,
                    apart=candidate.apart,
                )
            )
    why = "neither side counts what is expected of it"
    add_uncertain(findings, candidate, name, uncounted, why)


def unexpected(findings: Findings, ran: CellRun, name: str, answer: CaseOutcome) -> None:
    """The counters that the candidate's own expectation does not want, without a baseline."""
    assert answer.verdict is not None
    for each in answer.verdict.differences:
        waiver, expired = findings.waived(
            Finding(ran.place, name, None, each.start, each.counter, each.observed)
        )
        findings.drifts.append(
            Drift(
                UNEXPECTED,
                ran.place,
                name,
                each.start,
                each.counter,
                None,
                each.observed,
                each.expected,
                True,
                waiver,
                expired,
                True,
                ran.apart,
            )
        )


def add_uncertain(
    findings: Findings, candidate: CellRun, name: str, counters: Iterable[Count], why: str
) -> None:
    """What counters leave unknown: once for those that are not waived, and for each waiver."""
    groups: dict[str | None, list[tuple[Count, Waived]]] = {}
    for start, counter, value in counters:
        waived = findings.waived(Finding(candidate.place, name, None, start, counter, value))
        groups.setdefault(waived[0].id if waived[0] else None, []).append(
            ((start, counter, value), waived)
        )
    for of in groups.values():
        (start, counter, value), waived = of[0]
        count = "" if value is None else f" {value}"
        more = f" and {len(of) - 1} more" if len(of) > 1 else ""
        reason = f"{why}: {start} {counter}{count}{more}"
        findings.add_unknown(candidate, name, reason, waived=waived)


def differences(answer: CaseOutcome) -> list[Count]:
    """What is not as its own expectation in a case that passed."""
    if answer.verdict is None or answer.state != PASSED:
        return []
    return [(each.start, each.counter, each.observed) for each in answer.verdict.differences]


def _kind(
    before: int | None, after: int | None, wanted: Sequence[int | None], off: Sequence[bool]
) -> str | None:
    """What a counter's two counts are, or None where nothing is to be told.

    `wanted` and `off`, of the baseline and the candidate: what an expectation says of it, and
    whether it is not as that says.
    """
    if off[1]:
        as_before = before == after and off[0] and wanted[0] == wanted[1]
        return AS_BEFORE if as_before else UNEXPECTED
    if before == after:
        return None
    if wanted[1] is not None:
        return EXPECTED_AGAIN if off[0] else EXPECTED
    if before is None:
        return NEW
    return NO_RULE


def _count(counters: Mapping[str, int], counter: str) -> int | None:
    """A count; torch, whose counters have a group before a dot, keeps none until it is raised."""
    return counters.get(counter, 0 if "." in counter else None)
