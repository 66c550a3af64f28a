"""A line of neighbours around a cell, along torch or along vLLM, and what else differs on it.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrix.attribution.observations import Observation
from matrix.attribution.symptoms import CLEAN, SHOWS

__all__ = [
    "MACHINE",
    "PACKAGES",
    "TESTS",
    "TORCH",
    "VLLM",
    "FlagChange",
    "Line",
    "besides",
    "walk",
]

TORCH = "torch"
VLLM = "vLLM"
"""Along what a line goes, and whose fault it then is."""

TESTS, MACHINE, PACKAGES = "the tests", "the machine", "other packages"
"""What can differ beside a release."""


@dataclass(frozen=True)
class FlagChange:
    """A flag that is `here` in the cell and `there` in its clean neighbour.

    `decides`: True where runs show that the flag alone makes the difference, False where they show
    that it does not, None where no run tells.
    """

    flag: str
    here: object
    there: object
    decides: bool | None = None


@dataclass(frozen=True)
class Line:
    """One line of neighbours, along torch or vLLM, around a cell.

    `shows` are the neighbours around the cell that show the symptom with nothing clean between;
    `before` and `after` the clean ones that bound them. `again` is set where it shows beyond those.
    """

    what: str
    before: Observation | None
    shows: tuple[Observation, ...]
    after: Observation | None
    again: bool

    @property
    def changes(self) -> bool:
        """Whether it has a clean neighbour, and does not come and go."""
        return (self.before is not None or self.after is not None) and not self.again

    @property
    def clean(self) -> tuple[Observation, ...]:
        """The one or two clean neighbours that bound what shows it."""
        return tuple(each for each in (self.before, self.after) if each is not None)

    @property
    def nearest(self) -> Observation | None:
        """The clean neighbour to hold the cell against: the older one where there is one."""
        return self.before if self.before is not None else self.after


def walk(
    points: Iterable[tuple[str, Observation]],
) -> tuple[list[Observation], Observation | None, bool]:
    """From the cell outwards: what shows it, the first clean one, and whether it shows beyond."""
    shows: list[Observation] = []
    clean: Observation | None = None
    for state, seen in points:
        if state == CLEAN and clean is None:
            clean = seen
        elif state == SHOWS and clean is not None:
            return shows, clean, True
        elif state == SHOWS:
            shows.append(seen)
    return shows, clean, False


def besides(
    own: Observation,
    there: Observation,
    shows: Sequence[Observation],
    clean: Sequence[Observation],
    *,
    packages: bool,
    machine: bool = True,
) -> Mapping[str, Sequence[str]]:
    """What differs too between a cell and its clean neighbour, and so could be the cause as well.

    What is the same in one of `shows` and one of `clean`, which are all runs that do, is no cause.
    By the tests, the machine and the packages, each with how they differ. `packages` and `machine`
    are whether these count: another vLLM or Python brings other packages, as a matter of course.
    """
    found: dict[str, list[str]] = {}
    seen = {each.tests for each in shows}, {each.tests for each in clean}
    if own.tests != there.tests and None not in (own.tests, there.tests) and not seen[0] & seen[1]:
        found[TESTS] = []
    differ = (key for key, value in own.setting.items() if there.setting.get(key, value) != value)
    for key in sorted(differ, key=_machine_first):
        of_machine = key.startswith("the ")
        if not (machine if of_machine else packages):
            continue
        here, beyond = ({each.setting.get(key) for each in some} for some in (shows, clean))
        if not here & beyond:
            said = f"{key} {there.setting[key]} there, {own.setting[key]} here"
            found.setdefault(MACHINE if of_machine else PACKAGES, []).append(said)
    return found


def _machine_first(key: str) -> tuple[bool, str]:
    return not key.startswith("the "), key
