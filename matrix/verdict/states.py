"""The closed sets of words of this room, apart: the command line needs them before all else."""

from __future__ import annotations

from matrix._util.enums import StrEnum


class Verdict(StrEnum):
    """The verdict of a record on its cell or on a case; only a case is not applicable."""

    COMPATIBLE = "compatible"
    DRIFT = "drift"
    INCOMPATIBLE = "incompatible"
    UNTESTED = "untested"
    NOT_APPLICABLE = "not applicable"


VERDICTS = (Verdict.INCOMPATIBLE, Verdict.DRIFT, Verdict.UNTESTED, Verdict.COMPATIBLE)
"""The verdicts of a cell, worst first."""


class StepState(StrEnum):
    """The state of one rung of a cell.

    `NOT_NEEDED` is the state of *links* where vLLM's extensions are not loaded: the reason is
    shown and decides nothing.
    """

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_NEEDED = "not needed"
