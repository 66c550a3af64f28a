"""Why something has no answer, as codes with operands.

Pure. `matrix.report.qualify` makes the sentences.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from matrix._util.enums import StrEnum
from matrix.catalog.projects import Project
from matrix.qualify.load import UnidentifiedCause
from matrix.qualify.runs import CaseState, MissingAnswer
from matrix.qualify.unlike import UnlikeCode
from matrix.record.model import Departure, Rung, StartKind
from matrix.verdict.reasons import VerdictReason


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
    EXTENSION_NOT_TESTABLE = "extension not testable"


class NamedPair(NamedTuple):
    """A torch and a vLLM, for a sentence about a pair that its cell's name does not install."""

    torch: str
    vllm: str


class FailsWithoutBaseline(NamedTuple):
    """The candidate fails, and the baseline has no record of the cell.

    Where `release` is not None, it has none with that release of the other `project`.
    `baseline_pair` is what has no record, where it has the name of the candidate's cell.
    """

    detail: VerdictReason | None
    project: Project
    release: str | None
    baseline_pair: NamedPair | None = None
    code: Literal[UnknownCode.FAILS_WITHOUT_BASELINE] = UnknownCode.FAILS_WITHOUT_BASELINE


class FailsWithoutAnswer(NamedTuple):
    """The candidate fails, and the baseline has no answer."""

    detail: VerdictReason | None
    baseline: MissingAnswer
    code: Literal[UnknownCode.FAILS_WITHOUT_ANSWER] = UnknownCode.FAILS_WITHOUT_ANSWER


class CacheUnchecked(NamedTuple):
    """A compile cache of torch has no hit at the candidate, and the baseline made no cache check.

    `counter` is that of its hits.
    """

    counter: str
    code: Literal[UnknownCode.FAILS_WITHOUT_ANSWER] = UnknownCode.FAILS_WITHOUT_ANSWER


class PassesWithoutAnswer(NamedTuple):
    """The candidate passes, and the baseline has no answer."""

    baseline: MissingAnswer
    code: Literal[UnknownCode.PASSES_WITHOUT_ANSWER] = UnknownCode.PASSES_WITHOUT_ANSWER


class AnswerLost(NamedTuple):
    """The baseline has an answer, and the candidate has none."""

    baseline: CaseState
    candidate: MissingAnswer
    code: Literal[UnknownCode.ANSWER_LOST] = UnknownCode.ANSWER_LOST


class NoAnswer(NamedTuple):
    """The candidate started a case without an answer that the baseline did not run."""

    candidate: MissingAnswer
    baseline: MissingAnswer
    code: Literal[UnknownCode.NO_ANSWER] = UnknownCode.NO_ANSWER


class RerunFailed(NamedTuple):
    """Another run of the same releases, flags and tests failed where this one did not."""

    state: CaseState
    path: Path
    detail: VerdictReason | None
    code: Literal[UnknownCode.RERUN_FAILED] = UnknownCode.RERUN_FAILED


class RerunDrifted(NamedTuple):
    """Another run of the same releases, flags and tests drifts, in `more` counters besides this."""

    state: CaseState
    path: Path
    start: StartKind
    counter: str
    count: int | None  # type: ignore[assignment]  # hides that of a tuple, which nobody calls
    more: int
    code: Literal[UnknownCode.RERUN_DRIFTED] = UnknownCode.RERUN_DRIFTED


class NotCounted(NamedTuple):
    """Neither side counts what is expected of a counter, and of `more` besides."""

    start: StartKind
    counter: str
    more: int
    code: Literal[UnknownCode.NOT_COUNTED] = UnknownCode.NOT_COUNTED


class BaselineRerunPassed(NamedTuple):
    """Both sides fail, and another run of the baseline passed."""

    path: Path
    code: Literal[UnknownCode.BASELINE_RERUN_PASSED] = UnknownCode.BASELINE_RERUN_PASSED


class RunFailed(NamedTuple):
    """Another, maybe `newer`, run of the same failed or `died` as a whole.

    `packages` are those by which it is not stock, None if it is; else no run of the cell is.
    """

    path: Path
    newer: bool
    died: bool
    detail: VerdictReason | None
    packages: tuple[Departure, ...] | None = None
    code: Literal[UnknownCode.RUN_FAILED] = UnknownCode.RUN_FAILED


class Incomplete(NamedTuple):
    """The record of one `side`, baseline or candidate, is not complete."""

    side: str
    missing: MissingAnswer
    code: Literal[UnknownCode.INCOMPLETE] = UnknownCode.INCOMPLETE


class PassedNotStock(NamedTuple):
    """The candidate passed with `packages` that are not as its vLLM requires."""

    packages: tuple[Departure, ...]
    code: Literal[UnknownCode.NOT_STOCK] = UnknownCode.NOT_STOCK


class OneSideNotStock(NamedTuple):
    """One side passed and the other failed, and only one `side` is not stock, by its `packages`.

    The side is "baseline" or "candidate". `state` is how the candidate ended, and `detail` is of
    the failure.
    """

    side: str
    packages: tuple[Departure, ...]
    state: CaseState
    detail: VerdictReason | None
    code: Literal[UnknownCode.NOT_STOCK] = UnknownCode.NOT_STOCK


class BaselineNotRun(NamedTuple):
    """The candidate ran with a release of the other project, and the baseline never did."""

    project: Project
    release: str
    code: Literal[UnknownCode.BASELINE_NOT_RUN] = UnknownCode.BASELINE_NOT_RUN


class UnidentifiedRun(NamedTuple):
    """A record belongs to no release, and may decide."""

    path: Path
    cause: UnidentifiedCause
    detail: str | None
    code: Literal[UnknownCode.UNIDENTIFIED] = UnknownCode.UNIDENTIFIED


class NotRun(NamedTuple):
    """The candidate never ran a cell of the baseline, of whose cases some passed or failed.

    Where `release` is not None, it never ran with that release of the other `project`. `reached`
    is the highest rung that the cell is known to pass without a run. `pair` is what never ran
    and `baseline_pair` what ran in the `cell`, where its name installs another pair, or both have
    one name.
    """

    cell: str
    passed: int
    failed: int
    project: Project
    release: str | None
    reached: Rung | None
    pair: NamedPair | None = None
    baseline_pair: NamedPair | None = None
    code: Literal[UnknownCode.NOT_RUN] = UnknownCode.NOT_RUN


class NotTestable(NamedTuple):
    """The candidate's cell is not testable with the existing wheels, as `detail` of a rung says.

    `pin` is what the metadata of `vllm` says of its torch, None if that is not known.
    `baseline_pair` is as for `NotRun`.
    """

    cell: str
    passed: int
    failed: int
    rung: Rung
    detail: VerdictReason | None
    torch: str
    vllm: str
    pin: VerdictReason | None
    baseline_pair: NamedPair | None = None
    code: Literal[UnknownCode.NOT_TESTABLE] = UnknownCode.NOT_TESTABLE


class ExtensionNotTestable(NamedTuple):
    """The candidate fails without extensions of `vllm` that do not link with its `torch`.

    They link at the baseline. `pin` is what the metadata of `vllm` says of its torch.
    """

    extensions: tuple[str, ...]
    torch: str
    vllm: str
    baseline_torch: str
    baseline_vllm: str
    pin: VerdictReason | None
    detail: VerdictReason | None
    code: Literal[UnknownCode.EXTENSION_NOT_TESTABLE] = UnknownCode.EXTENSION_NOT_TESTABLE


UnknownReason = (
    FailsWithoutBaseline
    | FailsWithoutAnswer
    | CacheUnchecked
    | PassesWithoutAnswer
    | AnswerLost
    | NoAnswer
    | RerunFailed
    | RerunDrifted
    | NotCounted
    | BaselineRerunPassed
    | RunFailed
    | Incomplete
    | PassedNotStock
    | OneSideNotStock
    | BaselineNotRun
    | UnidentifiedRun
    | NotRun
    | NotTestable
    | ExtensionNotTestable
)
"""Why something has no answer."""


class TimesCode(StrEnum):
    """Why the seconds of two runs are not comparable, though the runs are alike."""

    TOO_FEW_RUNS = "too few runs"


class NoTimes(NamedTuple):
    """Why seconds are not comparable.

    Each side has so few runs, or as many of its cases ran side by side as it says.
    """

    code: TimesCode | UnlikeCode
    baseline: int | None = None
    candidate: int | None = None
