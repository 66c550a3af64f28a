"""Why something has no answer, as codes with operands.

Pure. `matrix.report.qualify` makes the sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matrix._util.enums import StrEnum
from matrix.qualify.load import UnidentifiedCause
from matrix.qualify.query import Project
from matrix.qualify.runs import CaseState, Missing
from matrix.record.model import Departure
from matrix.verdict.reasons import Reason


class UnknownCode(StrEnum):
    """Why something has no answer."""

    FAILS_WITHOUT_BASELINE = "fails without baseline"
    FAILS_WITHOUT_ANSWER = "fails without baseline answer"
    PASSES_WITHOUT_ANSWER = "passes without baseline answer"
    ANSWER_LOST = "answer lost"
    NO_ANSWER = "no answer"
    RERUN_FAILED = "rerun failed"
    RERUN_DRIFTED = "rerun drifted"
    NOT_COUNTED = "not counted"
    BASELINE_RERUN_PASSED = "baseline rerun passed"
    RUN_FAILED = "run failed"
    INCOMPLETE = "incomplete record"
    NOT_STOCK = "not stock"
    BASELINE_NOT_RUN = "baseline not run"
    UNIDENTIFIED = "unidentified record"
    NOT_RUN = "not run"
    NOT_TESTABLE = "not testable"


@dataclass(frozen=True, kw_only=True)
class FailsWithoutBaseline:
    """The candidate fails, and the baseline has no record of the cell.

    Where `release` is not None, it has none with that release of the other `project`.
    """

    code: ClassVar[UnknownCode] = UnknownCode.FAILS_WITHOUT_BASELINE
    detail: Reason | None
    project: Project
    release: str | None


@dataclass(frozen=True, kw_only=True)
class FailsWithoutAnswer:
    """The candidate fails, and the baseline has no answer."""

    code: ClassVar[UnknownCode] = UnknownCode.FAILS_WITHOUT_ANSWER
    detail: Reason | None
    baseline: Missing


@dataclass(frozen=True, kw_only=True)
class PassesWithoutAnswer:
    """The candidate passes, and the baseline has no answer."""

    code: ClassVar[UnknownCode] = UnknownCode.PASSES_WITHOUT_ANSWER
    baseline: Missing


@dataclass(frozen=True, kw_only=True)
class AnswerLost:
    """The baseline has an answer, and the candidate has none."""

    code: ClassVar[UnknownCode] = UnknownCode.ANSWER_LOST
    baseline: CaseState
    candidate: Missing


@dataclass(frozen=True, kw_only=True)
class NoAnswer:
    """The candidate started a case without an answer that the baseline did not run."""

    code: ClassVar[UnknownCode] = UnknownCode.NO_ANSWER
    candidate: Missing
    baseline: Missing


@dataclass(frozen=True, kw_only=True)
class RerunFailed:
    """Another run of the same releases, flags and tests failed where this one did not."""

    code: ClassVar[UnknownCode] = UnknownCode.RERUN_FAILED
    state: CaseState
    path: Path
    detail: Reason | None


@dataclass(frozen=True, kw_only=True)
class RerunDrifted:
    """Another run of the same releases, flags and tests drifts, in `more` counters besides this."""

    code: ClassVar[UnknownCode] = UnknownCode.RERUN_DRIFTED
    state: CaseState
    path: Path
    start: str
    counter: str
    count: int | None
    more: int


@dataclass(frozen=True, kw_only=True)
class NotCounted:
    """Neither side counts what is expected of a counter, and of `more` besides."""

    code: ClassVar[UnknownCode] = UnknownCode.NOT_COUNTED
    start: str
    counter: str
    more: int


@dataclass(frozen=True, kw_only=True)
class BaselineRerunPassed:
    """Both sides fail, and another run of the baseline passed."""

    code: ClassVar[UnknownCode] = UnknownCode.BASELINE_RERUN_PASSED
    path: Path


@dataclass(frozen=True, kw_only=True)
class RunFailed:
    """Another, maybe `newer`, run of the same failed or `died` as a whole.

    `packages` are those by which it is not stock, None where it is; else no run of the cell is.
    """

    code: ClassVar[UnknownCode] = UnknownCode.RUN_FAILED
    path: Path
    newer: bool
    died: bool
    detail: Reason | None
    packages: tuple[Departure, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Incomplete:
    """The record of one `side`, baseline or candidate, is not complete."""

    code: ClassVar[UnknownCode] = UnknownCode.INCOMPLETE
    side: str
    missing: Missing


@dataclass(frozen=True, kw_only=True)
class NotStock:
    """What the candidate passed, it passed with `packages` that are not as its vLLM requires."""

    code: ClassVar[UnknownCode] = UnknownCode.NOT_STOCK
    packages: tuple[Departure, ...]


@dataclass(frozen=True, kw_only=True)
class OneSideNotStock:
    """One side passed and the other failed, and only one `side` is not stock, by its `packages`.

    The side is "baseline" or "candidate". `state` is how the candidate ended, and `detail` is of
    the failure.
    """

    code: ClassVar[UnknownCode] = UnknownCode.NOT_STOCK
    side: str
    packages: tuple[Departure, ...]
    state: CaseState
    detail: Reason | None


@dataclass(frozen=True, kw_only=True)
class BaselineNotRun:
    """The candidate ran with a release of the other project, and the baseline never did."""

    code: ClassVar[UnknownCode] = UnknownCode.BASELINE_NOT_RUN
    project: Project
    release: str


@dataclass(frozen=True, kw_only=True)
class UnidentifiedRun:
    """A record belongs to no release, and may decide."""

    code: ClassVar[UnknownCode] = UnknownCode.UNIDENTIFIED
    path: Path
    cause: UnidentifiedCause
    detail: str | None


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """The candidate never ran a cell of the baseline, of whose cases some passed or failed.

    Where `release` is not None, it never ran with that release of the other `project`. `reached`
    is the highest rung that the cell is known to pass without a run.
    """

    code: ClassVar[UnknownCode] = UnknownCode.NOT_RUN
    cell: str
    passed: int
    failed: int
    project: Project
    release: str | None
    reached: str | None


@dataclass(frozen=True, kw_only=True)
class NotTestable:
    """The candidate's cell is not testable with the existing wheels, as `detail` of a rung says.

    `pin` is what the metadata of `vllm` says of its torch, None where that is not known.
    """

    code: ClassVar[UnknownCode] = UnknownCode.NOT_TESTABLE
    cell: str
    passed: int
    failed: int
    rung: str
    detail: Reason | None
    torch: str
    vllm: str
    pin: Reason | None


UnknownReason = (
    FailsWithoutBaseline
    | FailsWithoutAnswer
    | PassesWithoutAnswer
    | AnswerLost
    | NoAnswer
    | RerunFailed
    | RerunDrifted
    | NotCounted
    | BaselineRerunPassed
    | RunFailed
    | Incomplete
    | NotStock
    | OneSideNotStock
    | BaselineNotRun
    | UnidentifiedRun
    | NotRun
    | NotTestable
)
"""Why something has no answer."""


class TimesCode(StrEnum):
    """Why the seconds of two runs are not comparable."""

    SIDE_BY_SIDE = "side by side"
    OTHER_MACHINE = "other machine"
    TOO_FEW_RUNS = "too few runs"


@dataclass(frozen=True, kw_only=True)
class NoTimes:
    """Why seconds are not comparable: `jobs` cases ran at once, or each side has so few runs."""

    code: TimesCode
    jobs: int | None = None
    baseline: int | None = None
    candidate: int | None = None
