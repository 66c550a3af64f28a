"""The sentences of a qualification's codes: missing answers, caveats, variants, marks."""

from __future__ import annotations

from collections.abc import Iterable

from matrix._util.text import listed, plural
from matrix.qualify import caveats, reasons
from matrix.qualify.load import UnidentifiedCause
from matrix.qualify.model import Failure, Unknown
from matrix.qualify.runs import CaseState, MissingAnswer, MissingCode, Variant
from matrix.qualify.unlike import UnlikeCode
from matrix.record.model import Departure, Rung
from matrix.report.provisional import release_words
from matrix.report.reasons import reason_words
from matrix.report.stock import described
from matrix.report.timings import FAILED_STEP

_SAME = "run of the same releases, flags and tests"


def unknown_sentence(unknown: Unknown) -> str:
    """Return why something has no answer."""
    sentence = _reason_sentence(unknown.reason)
    if unknown.variant is None:
        return sentence
    return f"with {variant_phrase(unknown.variant)} it {sentence}"


def _reason_sentence(reason: reasons.UnknownReason) -> str:
    """Return a reason as a sentence whose subject is the case or the cell."""
    match reason:
        case reasons.NotRun() | reasons.NotTestable() | reasons.ExtensionNotTestable():
            text = _cell_sentence(reason)
        case (
            reasons.RerunFailed()
            | reasons.RerunDrifted()
            | reasons.BaselineRerunPassed()
            | reasons.RunFailed()
        ):
            text = _rerun_sentence(reason)
        case reasons.FailsWithoutBaseline(detail=detail):
            text = f"fails ({reason_words(detail)}), and {_no_record(reason)}"
        case reasons.FailsWithoutAnswer(detail=detail, baseline=baseline):
            text = (
                f"fails ({reason_words(detail)}), and at the baseline it {missing_phrase(baseline)}"
            )
        case reasons.PassesWithoutAnswer(baseline=baseline):
            text = f"passed, and at the baseline it {missing_phrase(baseline)}"
        case reasons.AnswerLost(baseline=state, candidate=missing):
            text = f"{state} at the baseline, and now {missing_phrase(missing)}"
        case reasons.NoAnswer(candidate=missing, baseline=baseline):
            text = f"{missing_phrase(missing)}, and at the baseline it {missing_phrase(baseline)}"
        case reasons.NotCounted(start=start, counter=counter, more=more):
            text = f"neither side has its expected count: {start} {counter}{_more(more)}"
        case (
            reasons.Incomplete()
            | reasons.CacheUnchecked()
            | reasons.PassedNotStock()
            | reasons.OneSideNotStock()
        ):
            text = _record_sentence(reason)
        case reasons.BaselineNotRun(project=project, release=release):
            name = f"{project.label} {release}"
            text = f"the baseline never ran with {name}, and the candidate did"
        case reasons.UnidentifiedRun(path=path, cause=cause, detail=detail):
            text = f"{path} {_unidentified_phrase(cause, detail)}"
    return text


def _no_record(reason: reasons.FailsWithoutBaseline) -> str:
    if reason.baseline_pair is not None:
        return f"{_pair(reason.baseline_pair)} has no record"
    release = reason.release
    of = "of this cell" if release is None else f"with {reason.project.label} {release}"
    return f"the baseline has no record {of}"


def _record_sentence(
    reason: reasons.Incomplete
    | reasons.CacheUnchecked
    | reasons.PassedNotStock
    | reasons.OneSideNotStock,
) -> str:
    match reason:
        case reasons.Incomplete(side=side, missing=missing):
            return f"the record of the {side} {missing_phrase(missing)}"
        case reasons.CacheUnchecked(counter=counter):
            return (
                f"{counter} is 0, and the record of the baseline has no cache check; run the"
                " baseline again"
            )
        case reasons.PassedNotStock(packages=packages):
            return f"passed in an environment that is not stock: {_packages(packages)}"
        case reasons.OneSideNotStock(side=side, packages=packages, state=state, detail=detail):
            ended = (
                f"fails ({reason_words(detail)}), and passed at the baseline"
                if state is CaseState.FAILED
                else f"passed, and failed at the baseline ({reason_words(detail)})"
            )
            return f"{ended}; the environment of the {side} is not stock: {_packages(packages)}"


def _rerun_sentence(
    reason: reasons.RerunFailed
    | reasons.RerunDrifted
    | reasons.BaselineRerunPassed
    | reasons.RunFailed,
) -> str:
    match reason:
        case reasons.RerunFailed(state=state, path=path, detail=detail):
            why = reason_words(detail)
            return f"{_state_phrase(state)}, and failed in another {_SAME} ({path}): {why}"
        case reasons.RerunDrifted(state=state, path=path, start=start, counter=counter):
            count = "" if reason.count is None else f" {reason.count}"
            return (
                f"{_state_phrase(state)}, and drifts in another {_SAME} ({path}):"
                f" {start} {counter}{count}{_more(reason.more)}"
            )
        case reasons.BaselineRerunPassed(path=path):
            return f"fails, and passed in another run of the baseline ({path})"
        case reasons.RunFailed(path=path, newer=newer, died=died, detail=detail):
            which, verb = "a newer" if newer else "another", "died" if died else "failed"
            apart = f"; it is not stock: {_packages(reason.packages)}" if reason.packages else ""
            return f"{which} {_SAME} {verb} ({path}): {reason_words(detail)}{apart}"


def _cell_sentence(
    reason: reasons.NotRun | reasons.NotTestable | reasons.ExtensionNotTestable,
) -> str:
    if isinstance(reason, reasons.ExtensionNotTestable):
        pin = reason_words(reason.pin) or f"vLLM {reason.vllm} pins another torch"
        return (
            f"cannot be asked with these wheels: {pin}, was built for that, and {_lost(reason)};"
            f" it fails ({reason_words(reason.detail)})"
        )
    parts = [f"{reason.passed} passed"] if reason.passed else []
    parts += [f"{reason.failed} failed"] if reason.failed else []
    where = (
        f"at {reason.cell}"
        if reason.baseline_pair is None
        else f"with {_pair(reason.baseline_pair, ' and ')}"
    )
    of = f"of its cases {' and '.join(parts or ['none has an answer'])} {where}"
    return (
        f"{_not_run(reason) if isinstance(reason, reasons.NotRun) else _not_testable(reason)}; {of}"
    )


def _pair(pair: reasons.NamedPair, joined: str = " with ") -> str:
    return f"torch {pair.torch}{joined}vLLM {pair.vllm}"


def _not_run(reason: reasons.NotRun) -> str:
    sentence = "never ran"
    if reason.pair is not None:
        sentence = f"{_pair(reason.pair)} never ran"
    elif reason.release is not None:
        sentence += f" with {reason.project.label} {reason.release}"
    if reason.reached is not None:
        sentence += f" ({reason.reached} is as far as is known, and no answer)"
    return sentence


def _not_testable(reason: reasons.NotTestable) -> str:
    detail = reason_words(reason.detail) or "no reason given"
    if reason.rung != Rung.LINKS:
        return f"cannot be asked: {detail}"
    pin = reason_words(reason.pin) or f"vLLM {reason.vllm} pins another torch"
    return (
        f"cannot be asked with these wheels: {pin}, was built for that, and does not link with"
        f" {reason.torch} ({detail})"
    )


def _lost(lost: reasons.ExtensionNotTestable | caveats.ExtensionsLost) -> str:
    """Return which extensions link at the baseline and not at the candidate."""
    names, some = listed(lost.extensions), len(lost.extensions) > 1
    do = "do" if some else "does"
    there = f"{do} with {lost.baseline_torch}"
    if lost.vllm != lost.baseline_vllm:
        there = f"{'those' if some else 'that'} of {lost.baseline_vllm} {do}"
        if lost.torch != lost.baseline_torch:
            there += f" with {lost.baseline_torch}"
    return f"{names} of vLLM {lost.vllm} {do} not link with torch {lost.torch}, and {there}"


def _state_phrase(state: CaseState) -> str:
    return "has no answer" if state is CaseState.UNKNOWN else state


def _more(count: int) -> str:
    return f" and {count} more" if count else ""


_PLAIN_MISSING = {
    MissingCode.TOO_FEW_GPUS: "needs more GPUs than its run saw",
    MissingCode.NOT_IN_RECORD: "is not a case of the record",
    MissingCode.NOT_FINISHED: "did not finish",
    MissingCode.NO_CASES: "has no case",
}


def missing_phrase(missing: MissingAnswer) -> str:
    """Return why a run has no answer, to stand after the name of its side."""
    if (plain := _PLAIN_MISSING.get(missing.code)) is not None:
        return plain
    match missing.code:
        case MissingCode.NOT_APPLICABLE:
            return f"does not apply: {reason_words(missing.detail)}"
        case MissingCode.NO_ANSWER:
            return f"has no answer: {reason_words(missing.detail)}"
        case MissingCode.NOT_SELECTED:
            return f"was not requested: the record contains {_held(missing)}"
        case MissingCode.ENDED_EARLY:
            return f"ended early: {reason_words(missing.detail)}"
        case _:
            return f"holds {_held(missing)}"


def _packages(packages: Iterable[Departure]) -> str:
    return ", ".join(map(described, packages))


def _held(missing: MissingAnswer) -> str:
    return f"{missing.held} of {missing.total} cases"


def variant_phrase(variant: Variant) -> str:
    """Return how a run differs from the one that decides, to stand after `with`."""
    parts = [f"{flag}={value}" for flag, value in variant.flags]
    if variant.project is not None:
        parts.insert(0, f"{variant.project.label} {variant.release}")
    return ", ".join(parts)


def _unidentified_phrase(cause: UnidentifiedCause, detail: str | None) -> str:
    match cause:
        case UnidentifiedCause.WRONG_CELL:
            return f"ran in an environment that is not this cell ({detail})"
        case UnidentifiedCause.NO_RELEASE:
            return "does not name the torch and vLLM that ran its cases"


def failure_reason(failure: Failure) -> str | None:
    """Return why a case, a run or a static check fails, as far as that is known."""
    if failure.ran:
        return reason_words(failure.detail) or None
    reason = reason_words(failure.detail) or f"fails at {failure.rung}"
    more = f"; so on Python {', '.join(failure.pythons)}" if failure.pythons else ""
    return f"{reason}{more}"


def no_times_sentence(no_times: reasons.NoTimes) -> str:
    """Return why seconds are not comparable."""
    match no_times.code:
        case UnlikeCode.OTHER_JOBS:
            return (
                f"not comparable: the baseline ran {plural(no_times.baseline or 0, 'case')} at a"
                f" time, the candidate {no_times.candidate}"
            )
        case UnlikeCode.OTHER_TESTS:
            return "not comparable: the startup tests take another time since one of the two runs"
        case UnlikeCode.OTHER_MACHINE:
            return "not comparable: other machine"
        case UnlikeCode.OTHER_STEPS:
            return f"not comparable: {FAILED_STEP}"
        case reasons.TimesCode.TOO_FEW_RUNS:
            return (
                f"not comparable: {plural(no_times.baseline or 0, 'run')} of the baseline and"
                f" {no_times.candidate} of the candidate are too few to estimate noise; three of"
                " each are enough, and two of each, in turns, for geometric means"
            )


def caveat_sentence(caveat: caveats.Caveat | caveats.PairCaveat) -> str:
    """Return a caveat as a sentence."""
    match caveat:
        case (
            caveats.FutureDated()
            | caveats.OlderRecords()
            | caveats.Copies()
            | caveats.OtherFlags()
            | caveats.OtherCellName()
        ):
            text = _record_caveat(caveat)
        case caveats.BaselineNewer(baseline=baseline, candidate=candidate):
            text = (
                f"the baseline {baseline} is newer than the candidate {candidate}: this asks what"
                " going back changes"
            )
        case caveats.NoRecords(
            project=project, releases=releases, platform=platform, others=others
        ):
            narrowed = " that was asked for" if caveat.narrowed else ""
            known = ", ".join(others)
            has = f"; it has records of {known}" if others else ", nor of any other release"
            lacking = " or ".join(releases)
            text = f"no record of {project.label} {lacking} on {platform}{narrowed}{has}"
        case caveats.NoBaseline(cell=cell, platform=platform):
            text = f"{cell} on {platform} has no baseline and was compared with nothing"
        case caveats.NotStockRun(path=path, cell=cell, platform=platform, packages=packages):
            text = f"{path}, which decides for {cell} on {platform}, is not stock:"
            text += f" {_packages(packages)}"
        case caveats.ProvisionalRun(
            path=path, cell=cell, platform=platform, releases=releases, cases=cases, differ=differ
        ):
            text = f"{path}, which decides for {cell} on {platform}, is beyond the expectations"
            text += f" of {plural(cases, 'case')}: provisional, compared with"
            nearest = listed(list(map(release_words, releases)))
            text += f" {nearest}, from which {differ} of {cases} differ"
        case caveats.Unidentified(path=path, cause=cause, detail=detail):
            text = f"{path} {_unidentified_phrase(cause, detail)}, and counts for nothing"
        case caveats.OtherPatch(project=project, release=release, with_release=against):
            text = (
                f"nothing of {project.label} {caveat.instead_of} was compared; {release} has"
                f" records of what {against} ran: --{caveat.option} {release}"
            )
        case caveats.InstallsAnother(
            cell=cell, project=project, release=release, candidate=candidate
        ):
            text = f"tox -e {cell} installs {project.label} {release}, and not {candidate}"
        case _:
            text = _pair_caveat(caveat)
    return text


def _pair_caveat(caveat: caveats.PairCaveat) -> str:
    match caveat:
        case caveats.NoCommonPatch(minor=minor, candidate=candidate, baseline=baseline):
            return (
                f"no patch of vLLM {minor} ran on both sides: vLLM {candidate} is compared with"
                f" {baseline}"
            )
        case caveats.ExtensionsLost():
            return f"{_lost(caveat)}: that may be why counters differ"
        case caveats.StartupTestsChanged():
            return "the startup tests changed between the two records"
        case caveats.ModelsChanged():
            return "the models' source changed between the two records"


def _record_caveat(
    caveat: caveats.FutureDated
    | caveats.OlderRecords
    | caveats.Copies
    | caveats.OtherFlags
    | caveats.OtherCellName,
) -> str:
    match caveat:
        case caveats.FutureDated(path=path, started=started, oldest=oldest):
            counts = "; it counts as the oldest of its cell" if oldest else ""
            return f"{path} has the start {started}, which is in the future{counts}"
        case caveats.Copies(path=path, copies=copies):
            return f"{path} exists more than once ({', '.join(map(str, copies))}) and counts once"
    decides = f"{caveat.path} decides for {caveat.cell} on {caveat.platform}, and"
    match caveat:
        case caveats.OlderRecords(count=count):
            does = "does" if count == 1 else "do"
            return f"{decides} {plural(count, 'other record')} of it {does} not"
        case caveats.OtherFlags(other=other, variant=variant):
            return f"{decides} {other} ran with other flags: {variant_phrase(variant)}"
        case caveats.OtherCellName(other=other, name=name, verdict=verdict):
            return (
                f"{decides} {other}, which ran the same releases as {name}, does not; its verdict"
                f" is {verdict}"
            )
