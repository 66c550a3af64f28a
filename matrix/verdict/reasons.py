"""Why a case, a run or a rung has its verdict, as codes with operands.

Pure. `matrix.report.reasons` makes the sentences. A reason and its operands are NamedTuples, here
and in the other rooms: Python makes the class of one in a fifth of the time of a dataclass, and to
make 90 dataclasses takes a tenth of the CPU seconds of `matrix qualify`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from matrix._util.enums import StrEnum
from matrix.checks.facts import AnyFact, facts_key
from matrix.record.model import Departure, ErrorKind, Outcome, RunError, Rung, RungResult, StartKind
from matrix.rules.expectations import Difference
from matrix.rules.provisional import DiffersFrom, SameAs
from matrix.verdict.events import StartEvent
from matrix.verdict.states import Verdict


class ReasonCode(StrEnum):
    """Why a case, a run or a rung has its verdict."""

    RECORDED = "recorded"
    CHECKED = "checked"
    ERROR = "error"
    ENDED = "ended"
    NO_REASON = "without a reason"
    FAILED_AT = "failed at"
    NOT_FINISHED = "not finished"
    NOTHING_RAN = "no case was run"
    NOTHING_APPLIES = "no case applies"
    NO_START = "no start"
    NO_RELEASES = "no releases"
    DRIFTS = "drifts"
    NOT_JUDGED = "not judged"
    PACKAGE_FAILS = "package fails"
    NOT_STOCK = "not stock"
    GOES_ON = "run goes on"
    CASE_RUNS = "case runs"
    OF_CASE = "of case"


class Recorded(NamedTuple):
    """The record has the reason as `text`, which is never empty."""

    text: str
    code: Literal[ReasonCode.RECORDED] = ReasonCode.RECORDED


class Checked(NamedTuple):
    """A static check gave the answer, and the `facts` give the reason, or what is missing.

    `asked` is the day of the question, where the answer can change.
    """

    facts: tuple[AnyFact, ...]
    asked: str | None = None
    code: Literal[ReasonCode.CHECKED] = ReasonCode.CHECKED


class Error(NamedTuple):
    """The run ended early with an error of this kind, of which the record has no text."""

    kind: ErrorKind
    code: Literal[ReasonCode.ERROR] = ReasonCode.ERROR


class EndedWithoutText(NamedTuple):
    """The case ended so, and the record has no text of it."""

    outcome: Outcome
    code: Literal[ReasonCode.ENDED] = ReasonCode.ENDED


class NoReason(NamedTuple):
    """The case failed so, and the record does not say why."""

    outcome: Outcome
    code: Literal[ReasonCode.NO_REASON] = ReasonCode.NO_REASON


class FailedAt(NamedTuple):
    """The run failed at this rung, and the record does not say why."""

    rung: Rung
    code: Literal[ReasonCode.FAILED_AT] = ReasonCode.FAILED_AT


class NotFinished(NamedTuple):
    """The run did not finish."""

    code: Literal[ReasonCode.NOT_FINISHED] = ReasonCode.NOT_FINISHED


class NothingRan(NamedTuple):
    """The record has no case."""

    code: Literal[ReasonCode.NOTHING_RAN] = ReasonCode.NOTHING_RAN


class NothingApplies(NamedTuple):
    """The record holds cases, and none applies to the cell."""

    code: Literal[ReasonCode.NOTHING_APPLIES] = ReasonCode.NOTHING_APPLIES


class NoStart(NamedTuple):
    """The record of a case that passed does not hold this start."""

    start: StartKind
    code: Literal[ReasonCode.NO_START] = ReasonCode.NO_START


class NoReleases(NamedTuple):
    """The record does not say which torch and vLLM ran."""

    code: Literal[ReasonCode.NO_RELEASES] = ReasonCode.NO_RELEASES


class Drifts(NamedTuple):
    """This counter differs from its expectation, and `more` others do too.

    `event` is what a start logged that may explain it.
    """

    difference: Difference
    more: int
    event: StartEvent | None
    code: Literal[ReasonCode.DRIFTS] = ReasonCode.DRIFTS


class NotJudged(NamedTuple):
    """The case's own releases have no expectation for some counters of its starts.

    `no_rule` are the starts without any; `comparison` is that with the nearest expectations, None
    where there are none.
    """

    no_rule: tuple[StartKind, ...]
    comparison: SameAs | DiffersFrom | None
    code: Literal[ReasonCode.NOT_JUDGED] = ReasonCode.NOT_JUDGED


class PackageFails(NamedTuple):
    """The failure names a package that is not as the vLLM requires, and shows nothing of the pair.

    `reason` is that of the failure.
    """

    departure: Departure
    reason: VerdictReason | None
    code: Literal[ReasonCode.PACKAGE_FAILS] = ReasonCode.PACKAGE_FAILS


class NotStock(NamedTuple):
    """The environment is not stock by these packages, and what ran in it fails or drifts.

    `verdict` is that without regard to the packages; `reason` says why, or else `rung` where.
    """

    departures: tuple[Departure, ...]
    verdict: Verdict
    rung: Rung | None
    reason: VerdictReason | None
    code: Literal[ReasonCode.NOT_STOCK] = ReasonCode.NOT_STOCK


class GoesOn(NamedTuple):
    """The run is going on. A case so far has this `verdict`, None if it shows nothing yet.

    `reason` is that of the verdict.
    """

    verdict: Verdict | None = None
    reason: VerdictReason | None = None
    code: Literal[ReasonCode.GOES_ON] = ReasonCode.GOES_ON


class CaseRuns(NamedTuple):
    """The case is running."""

    code: Literal[ReasonCode.CASE_RUNS] = ReasonCode.CASE_RUNS


class OfCase(NamedTuple):
    """The reason is that of one case, which decides for the cell."""

    case: str
    reason: VerdictReason
    code: Literal[ReasonCode.OF_CASE] = ReasonCode.OF_CASE


VerdictReason = (
    Recorded
    | Checked
    | Error
    | EndedWithoutText
    | NoReason
    | FailedAt
    | NotFinished
    | NothingRan
    | NothingApplies
    | NoStart
    | NoReleases
    | Drifts
    | NotJudged
    | PackageFails
    | NotStock
    | GoesOn
    | CaseRuns
    | OfCase
)
"""Why a case, a run or a rung has its verdict."""


def recorded(text: str | None) -> Recorded | None:
    """Return what a record says as a reason; None if it says nothing."""
    return Recorded(text=text) if text else None


def error_reason(error: RunError) -> Recorded | Error:
    """Return why a run ended early: the text of its record, or else the kind."""
    return recorded(error.reason) or Error(kind=error.kind)


def rung_reason(rung: RungResult) -> Recorded | FailedAt:
    """Return why a run failed at a rung: the text of its record, or else the rung."""
    return recorded(rung.reason) or FailedAt(rung=rung.rung)


def failure_key(reason: VerdictReason | None) -> str:
    """Return what stands for a reason where failures are compared, "" for none.

    Waivers hold signatures that are made from it, so it stays as it is when a sentence changes.

    >>> failure_key(FailedAt(rung=Rung.IMPORTS))
    'failed at imports'
    """
    match reason:
        case None:
            text: str | None = None
        case Recorded():
            text = reason.text
        case Checked(facts=facts, asked=asked):
            text = " ".join(filter(None, (facts_key(facts), asked and f"(asked on {asked})")))
        case Error(kind=kind):
            text = kind.replace("_", " ")
        case EndedWithoutText(outcome=outcome):
            text = outcome.replace("_", " ")
        case NoReason(outcome=outcome):
            text = f"{outcome.replace('_', ' ')} {reason.code}"
        case FailedAt(rung=rung):
            text = f"{reason.code} {rung}"
        case PackageFails() | NotStock() | GoesOn() | OfCase() if reason.reason is not None:
            text = failure_key(reason.reason)
        case _:
            text = reason.code
    return text or ""


def first_line(reason: VerdictReason | None) -> VerdictReason | None:
    r"""Return a reason with the first line alone of its text; None if there is none.

    The facts of a check have one line in words.

    >>> first_line(Recorded(text="a\nb")).text
    'a'
    """
    match reason:
        case Recorded(text=text):
            return recorded(_first_line(text))
        case PackageFails() | NotStock() | GoesOn() | OfCase():
            inner = first_line(reason.reason)
            return reason if inner == reason.reason else reason._replace(reason=inner)  # type: ignore[arg-type]
    return reason


def _first_line(text: str | None) -> str | None:
    return text.strip().partition("\n")[0] if text and text.strip() else None
