"""An attribution: the cause, its reason, and the runs that would decide."""

from __future__ import annotations

from dataclasses import dataclass

from matrix._util.enums import StrEnum
from matrix.attribution.reasons import AttributionReason, ExtensionDiffers, Question
from matrix.attribution.symptoms import Symptom
from matrix.catalog.cells import Cell
from matrix.record.defaults import DefaultChange
from matrix.record.model import Platform


class Cause(StrEnum):
    """The cause: a release, both releases together, the environment, flaky, or unknown."""

    TORCH = "torch"
    VLLM = "vLLM"
    PAIR = "the pair"
    ENVIRONMENT = "the environment"
    FLAKY = "flaky"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class FlagDifference:
    """A flag whose value is `here` in the cell and `there` in its clean neighbour.

    `decides` is True if runs show that the flag alone makes the difference, False if they
    show that it does not, None if no run shows either.
    """

    flag: str
    here: object
    there: object
    decides: bool | None = None


@dataclass(frozen=True, kw_only=True)
class MissingRun:
    """A run that would decide more: the environment's name, its platform, and what it would answer.

    `flags` are the environment variables to run it with, where its defaults would not do. `stock`
    is set where its environment must be stock, for what ran there was not.
    """

    name: str
    platform: Platform
    question: Question
    flags: tuple[tuple[str, str], ...] = ()
    stock: bool = False


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Who changed, for the symptoms of one case that share the answer.

    `reason` describes the first symptom. `since` is the first release known to show it and `after`
    the last clean one before that; `until` is the first clean one after it. `defaults` are those of
    torch's configs that changed where the symptom came, along torch: each may be the cause, and
    nothing shows that it is. `rests_on` names the environments along the axis that decided.
    `missing` are the runs that would decide or, with an answer, could still change it.
    """

    cell: Cell
    platform: Platform
    case: str
    symptoms: tuple[Symptom, ...]
    answer: Cause
    reason: AttributionReason
    after: str | None = None
    since: str | None = None
    until: str | None = None
    flags: tuple[FlagDifference, ...] = ()
    defaults: tuple[DefaultChange, ...] = ()
    rests_on: tuple[str, ...] = ()
    missing: tuple[MissingRun, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the cell's environment."""
        return self.cell.name

    @property
    def extensions(self) -> tuple[str, ...]:
        """Return the extensions of vLLM that are the cause or may be it."""
        return self.reason.extensions if isinstance(self.reason, ExtensionDiffers) else ()
