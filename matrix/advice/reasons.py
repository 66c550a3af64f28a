"""Why a pair does not fit what a person asked for, as codes with operands. Pure.

`matrix.report.advice` makes the sentences.
"""

from __future__ import annotations

from typing import NamedTuple

from matrix._util.enums import StrEnum
from matrix.checks.facts import Fact
from matrix.record.model import Rung
from matrix.verdict.reasons import Checked, VerdictReason


class MisfitCode(StrEnum):
    """A reason against a pair."""

    WITHOUT_GPU = "is for CUDA, and needs a GPU"
    OTHER_PROCESSOR = "the GPU comes with another processor"
    DRIVER_BEFORE_GPU = "the driver is older than the GPU"
    DRIVER_AFTER_GPU = "the driver no longer knows the GPU"
    YANKED = "yanked"
    PINS_TORCH = "pins another torch"
    OTHER_CUDA = "built for another CUDA"
    OLD_DRIVER = "needs a newer driver"
    OLD_DRIVER_FOR_PTX = "needs a newer driver to compile PTX"
    NO_GPU_CODE = "has no code for the GPU"
    NO_WHEEL = "has no wheel for the processor"
    GLIBC_OF_WHEEL = "its wheel is for a newer glibc"
    GLIBC_OF_LIBRARY = "its libraries need a newer glibc"
    FAILS = "fails at a rung"
    NOT_LINKED = "is not known to link"
    MODEL_REFUSES_GPU = "refuses the model on the GPU"
    MODEL_FAILS = "the model fails"
    MODEL_FAILS_WITHOUT = "the model fails without a feature that does not link"
    PREDICTED_TO_FAIL = "is predicted to fail"
    LITTLE_EVIDENCE = "too little is known"


OF_MACHINE = (
    MisfitCode.WITHOUT_GPU,
    MisfitCode.OTHER_PROCESSOR,
    MisfitCode.DRIVER_BEFORE_GPU,
    MisfitCode.DRIVER_AFTER_GPU,
)
"""The reasons that are of the machine alone, whatever the pair."""
_OF_CUDA = (MisfitCode.OTHER_CUDA, MisfitCode.OLD_DRIVER)
"""The reasons whose words name the CUDA of the wheel."""


class Reason(NamedTuple):
    """A reason against a pair.

    `project` and `version` are the release that is the cause, `cuda` that of its wheel. `wanted` is
    what it needs, or what is known of it, and `given` what there is. `archs` are those of its code,
    or name the GPU. `features` are those that do not link. `rung` with `because` is where a check
    or a run fails, `cell` the cell of that.
    """

    code: MisfitCode
    project: str | None = None
    version: str | None = None
    cuda: str | None = None
    wanted: str | None = None
    given: str | None = None
    archs: tuple[str, ...] = ()
    rung: Rung | None = None
    because: VerdictReason | None = None
    cell: str | None = None
    features: tuple[str, ...] = ()

    @property
    def cause(self) -> tuple[object, ...]:
        """The common part of the reasons of releases that do not fit for the same cause.

        The release itself is not of it, nor what only this one names.
        """
        wants = self.wanted, self.given, self.archs, self.features
        cuda = self.cuda if self.code in _OF_CUDA else None
        same = self.code, self.project, cuda, *wants, self.rung
        if isinstance(self.because, Checked):
            return *same, tuple(
                fact._replace(version=None) for fact in self.because.facts if isinstance(fact, Fact)
            ) or self.because
        return *same, self.because
