"""Two runs of a cell held against each other, case by case, or one of the candidate's alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matrix._util.text import plural
from matrix.qualify.caveats import differs
from matrix.qualify.drifts import add_uncertain, compare_counters, differences, unexpected
from matrix.qualify.findings import Findings
from matrix.qualify.model import (
    FAILS_AS_BEFORE,
    FAILS_OTHERWISE,
    REGRESSION,
    REPAIR,
    Failure,
    Flag,
    Match,
    Time,
    Unknown,
)
from matrix.qualify.replies import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    UNKNOWN,
    Reply,
    broken,
    crash,
    cut_short,
    reply,
    said,
    whole_reply,
)
from matrix.qualify.sides import Ran, hardware
from matrix.record.model import STARTS, Record
from matrix.record.signatures import signature
from matrix.record.startup_tests import load_startup_tests
from matrix.rules.waivers import Finding
from matrix.store.summary import enough, shifted

__all__ = ["alone", "compare"]


def compare(findings: Findings, baseline: Ran, candidate: Ran, known: bool = False) -> None:
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


def alone(findings: Findings, ran: Ran, why: str, decides: str) -> bool:
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


def _whole(findings: Findings, baseline: Ran, candidate: Ran, names: Sequence[str]) -> None:
    """The run as a whole, where it failed at a rung and none of its cases says so."""
    old, new = whole_reply(baseline), whole_reply(candidate)
    ran = candidate if new.state == FAILED else baseline
    untold = {case.case for case in ran.record.cases}.issuperset(names)
    if untold and FAILED in (old.state, new.state):
        _failure(findings, candidate, "", old, new)


def _unanswered(
    findings: Findings, baseline: Ran, candidate: Ran, name: str, old: Reply, new: Reply
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


def _failure(findings: Findings, candidate: Ran, name: str, old: Reply, new: Reply) -> None:
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


def _flags(findings: Findings, candidate: Ran, name: str, old: Reply, new: Reply) -> None:
    findings.flags += [
        Flag(candidate.place, name, flag, old.flags.get(flag), new.flags.get(flag))
        for flag in sorted(old.flags.keys() | new.flags.keys())
        if old.flags.get(flag) != new.flags.get(flag)
    ]


def _times(findings: Findings, baseline: Ran, candidate: Ran, name: str) -> None:
    for start in STARTS:
        before, after = (_seconds(ran.runs, name, start) for ran in (baseline, candidate))
        if shifted(before, after):
            findings.times.append(Time(candidate.place, name, start, before, after))


def _again(findings: Findings, candidate: Ran, name: str, new: Reply, old: Reply | None) -> None:
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
    findings: Findings, baseline: Ran, candidate: Ran, name: str, new: Reply
) -> None:
    """What fails on both sides, though it passed in another run of the baseline."""
    for ran in baseline.again:
        if reply(ran, name).state == PASSED:
            reason = f"fails, and passed in another run of the baseline ({ran.path})"
            findings.add_unknown(candidate, name, reason, new.signature)
            return


def _others(findings: Findings, candidate: Ran, baseline: Ran | None, names: Iterable[str]) -> None:
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
            fault, told = Reply(FAILED, why, "", signature(why) or why), False
        if not told and (fault.rung, fault.signature) not in known:
            known.add((fault.rung, fault.signature))
            verb = "failed" if why is None else "died"
            reason = f"{where} {verb} ({ran.path}): {fault.reason}"
            findings.add_unknown(candidate, None, reason, fault.signature)


def _parts(findings: Findings, baseline: Ran, candidate: Ran) -> None:
    """A record that is not whole, where no case has told of it yet."""
    for name, ran in (("baseline", baseline), ("candidate", candidate)):
        record = ran.record
        if broken(ran) is not None and not ran.entry.part:
            continue
        why = f"holds {ran.entry.part}" if ran.entry.part else cut_short(record)
        if why:
            reason = f"the record of the {name} {why}"
            findings.unknown.append(Unknown(record.cell, record.platform, None, reason, True))


def _names(*runs: Ran) -> set[str]:
    return {case.case for ran in runs for case in ran.record.cases}


def _no_times(baseline: Ran, candidate: Ran) -> str | None:
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
