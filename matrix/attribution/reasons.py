"""Why an attribution is what it is, and what a missing run would answer: codes and operands.

Pure data. `matrix.report.attribution` makes the sentences. A reason describes the first symptom of
its attribution, in the attribution's own cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from matrix._util.enums import StrEnum
from matrix.record.model import Departure, Platform


class Along(StrEnum):
    """The package whose release changes along an axis; the other one stays."""

    TORCH = "torch"
    VLLM = "vLLM"


class Precision(StrEnum):
    """How exactly the runs locate a change.

    `MINOR`: at a minor release, for its first known one. `RELEASE`: at one release. `RANGE`: after
    one release and up to another, with untried releases between them.
    """

    MINOR = "minor"
    RELEASE = "release"
    RANGE = "range"


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The place of a change: it is not yet there at `low`, and it is there at `high`."""

    low: str
    high: str
    precision: Precision


@dataclass(frozen=True, kw_only=True)
class AxisChange:
    """An axis along which the symptom comes or goes.

    `clean` are the one or two clean releases around those in `shows`, which show the symptom. For a
    counter, `counted` is its value in the nearest clean one. `since` is where it comes and `until`
    where it goes, None if no run shows that.
    """

    along: Along
    clean: tuple[str, ...]
    shows: tuple[str, ...]
    counted: int | None
    since: Boundary | None
    until: Boundary | None


@dataclass(frozen=True, kw_only=True)
class ShownAlong:
    """The other releases along an axis that show the symptom too."""

    along: Along
    releases: tuple[str, ...]


class ConfounderKind(StrEnum):
    """A possible difference between two runs beyond their releases and Pythons."""

    TESTS = "tests"
    MACHINE = "machine"
    PACKAGES = "packages"


@dataclass(frozen=True, kw_only=True)
class EnvironmentChange:
    """A package or a property of the machine, `here` in the cell and `there` in the clean run.

    None stands for a package that is not installed.
    """

    name: str
    here: str | None
    there: str | None


@dataclass(frozen=True, kw_only=True)
class Confounder:
    """Another difference from the clean run, which could also be the cause.

    `changes` is empty for the tests, of which only the version differs.
    """

    kind: ConfounderKind
    changes: tuple[EnvironmentChange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RepeatDifference:
    """A difference between repeats: its value in those with the symptom, and in clean ones.

    None stands for a package that is not installed.
    """

    name: str
    shows: str | None
    clean: tuple[str | None, ...]


class AttributionCode(StrEnum):
    """The kinds of reason; each names one of the dataclasses below."""

    REPEATS_DISAGREE = "repeats_disagree"
    NEWER_RUN_CLEAN = "newer_run_clean"
    AXIS_CHANGES = "axis_changes"
    BOTH_AXES_CHANGE = "both_axes_change"
    OTHER_PYTHON_CLEAN = "other_python_clean"
    OTHER_PLATFORM_CLEAN = "other_platform_clean"
    EXTENSION_DIFFERS = "extension_differs"
    INTERMITTENT = "intermittent"
    PYTHON_AND_ANOTHER_DIFFER = "python_and_another_differ"
    STOCK_AND_ANOTHER_DIFFER = "stock_and_another_differ"
    NO_CLEAN_NEIGHBOUR = "no_clean_neighbour"


@dataclass(frozen=True, kw_only=True)
class RepeatsDisagree:
    """Of `runs` repeats of the same cell, `shows` have the symptom, and the others are clean.

    Without `differences` the cell is flaky; with some the environment may be the cause.
    """

    code: ClassVar[AttributionCode] = AttributionCode.REPEATS_DISAGREE
    shows: int
    runs: int
    differences: tuple[RepeatDifference, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NewerRunClean:
    """A newer run of the same cell is clean, but ran other startup tests."""

    code: ClassVar[AttributionCode] = AttributionCode.NEWER_RUN_CLEAN


@dataclass(frozen=True, kw_only=True)
class AxisChanges:
    """One axis changes. `clean_pythons` are other Pythons on which the same pair is clean.

    `also_shown` are the neighbours along the other axis that show the symptom too.
    """

    code: ClassVar[AttributionCode] = AttributionCode.AXIS_CHANGES
    change: AxisChange
    also_shown: ShownAlong | None = None
    clean_pythons: tuple[str, ...] = ()
    confounders: tuple[Confounder, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BothAxesChange:
    """Both axes change, so that it takes this torch with this vLLM; otherwise as `AxisChanges`."""

    code: ClassVar[AttributionCode] = AttributionCode.BOTH_AXES_CHANGE
    torch: AxisChange
    vllm: AxisChange
    clean_pythons: tuple[str, ...] = ()
    confounders: tuple[Confounder, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OtherPythonClean:
    """The same pair is clean on these other Pythons, and no axis changes."""

    code: ClassVar[AttributionCode] = AttributionCode.OTHER_PYTHON_CLEAN
    clean_pythons: tuple[str, ...]
    confounders: tuple[Confounder, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OtherPlatformClean:
    """The same cell is clean on the other platform, where a counter has the value `counted`."""

    code: ClassVar[AttributionCode] = AttributionCode.OTHER_PLATFORM_CLEAN
    platform: Platform
    counted: int | None
    confounders: tuple[Confounder, ...] = ()


class ExtensionEvidence(StrEnum):
    """What shows that an extension that does not link is the cause of a symptom.

    `NAMED`: the failure names it. `ALIKE`: it links in each clean run along the axis, and in none
    that shows the symptom, of which there are others than the cell's own.
    """

    NAMED = "named"
    ALIKE = "alike"


@dataclass(frozen=True, kw_only=True)
class ExtensionDiffers:
    """Along an axis `extensions` of vLLM do not link in the cell, and do in its clean neighbour.

    Along the axis of `change` they do not link in the releases `lacks`, which show the symptom, and
    do in `links`, which are clean. With `shown_by` that is the cause, so that it takes this torch
    with this vLLM; without it the release that changes may be the cause as well. Where the symptom
    comes and goes, `change` has no boundary, and all releases that show it.
    """

    code: ClassVar[AttributionCode] = AttributionCode.EXTENSION_DIFFERS
    extensions: tuple[str, ...]
    change: AxisChange
    lacks: tuple[str, ...]
    links: tuple[str, ...]
    shown_by: ExtensionEvidence | None = None
    confounders: tuple[Confounder, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Intermittent:
    """The symptom comes and goes along an axis, so nothing follows from the axis."""

    code: ClassVar[AttributionCode] = AttributionCode.INTERMITTENT
    along: Along


class RunDifference(StrEnum):
    """In what a clean run differs, beyond its Python or its packages."""

    PLATFORM = "platform"
    TORCH = "torch"
    VLLM = "vLLM"
    PYTHON = "Python"


@dataclass(frozen=True, kw_only=True)
class PythonAndAnotherDiffer:
    """The nearest clean run differs in its Python and in something else, so either may be it.

    The other operands are the cell of that run, and the value of a counter in it.
    """

    code: ClassVar[AttributionCode] = AttributionCode.PYTHON_AND_ANOTHER_DIFFER
    differs: RunDifference
    platform: Platform
    python: str
    torch: str
    vllm: str
    counted: int | None


@dataclass(frozen=True, kw_only=True)
class StockAndAnotherDiffer:
    """The nearest clean run would decide, but of it and the cell's run only one is stock.

    So the packages may be the cause. `not_stock` is how those of the run that is not stock differ,
    and `own` is set where that is the cell's. `differs` is what else differs, None if nothing
    does; the other operands are the cell of the clean run, and the value of a counter in it.
    """

    code: ClassVar[AttributionCode] = AttributionCode.STOCK_AND_ANOTHER_DIFFER
    differs: RunDifference | None
    own: bool
    not_stock: tuple[Departure, ...]
    platform: Platform
    python: str
    torch: str
    vllm: str
    counted: int | None


@dataclass(frozen=True, kw_only=True)
class NoCleanNeighbour:
    """No neighbour is clean; those in `also_shown` show the symptom too."""

    code: ClassVar[AttributionCode] = AttributionCode.NO_CLEAN_NEIGHBOUR
    also_shown: tuple[ShownAlong, ...] = ()


AttributionReason = (
    RepeatsDisagree
    | NewerRunClean
    | AxisChanges
    | BothAxesChange
    | OtherPythonClean
    | OtherPlatformClean
    | ExtensionDiffers
    | Intermittent
    | PythonAndAnotherDiffer
    | StockAndAnotherDiffer
    | NoCleanNeighbour
)


class QuestionCode(StrEnum):
    """The question that a missing run would answer.

    `CAUSE`: whether one of the subjects is the cause: `torch`, `vLLM`, `platform`, `tests`,
    `machine`, `packages`, or a Python such as `3.11`. `FIRST_RELEASE`: since which release of the
    subject. `ONE_PLATFORM`: whether only the subject, a platform, is affected. `EXTENSION`: whether
    one of the subjects, which are extensions of vLLM, is the cause.
    """

    FLAKY = "flaky"
    FLAG = "flag"
    FLAG_OR_TESTS = "flag_or_tests"
    CAUSE = "cause"
    FIRST_RELEASE = "first_release"
    ONE_PLATFORM = "one_platform"
    EXTENSION = "extension"


@dataclass(frozen=True, kw_only=True)
class Question:
    """The question that a missing run would answer."""

    code: QuestionCode
    subjects: tuple[str, ...] = ()
