"""Other differences between a run with a symptom and a clean one, which may be the cause.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix._util.enums import StrEnum
from matrix.attribution.observations import MACHINE_KEY_PREFIX, Observation
from matrix.attribution.reasons import Confounder, ConfounderKind, EnvironmentChange


class _Unknown(StrEnum):
    """The value of what a run does not say."""

    UNKNOWN = "unknown"


def confounders(
    own: Observation,
    clean: Observation,
    *,
    all_shows: Sequence[Observation],
    all_clean: Sequence[Observation],
    ignore: ConfounderKind | None = None,
) -> tuple[Confounder, ...]:
    """Return what differs too between a cell and its clean neighbour.

    What is the same in one of `all_shows` and one of `all_clean`, which are all runs that do, is
    not a cause. `ignore` leaves out one kind, which is expected to differ: another vLLM or Python
    brings other packages, another platform is another machine.
    """
    found = []
    if _tests_differ(own, clean, all_shows, all_clean):
        found.append(Confounder(kind=ConfounderKind.TESTS))
    changes: dict[ConfounderKind, list[EnvironmentChange]] = {
        ConfounderKind.MACHINE: [],
        ConfounderKind.PACKAGES: [],
    }
    differing = own.environment.items() ^ clean.environment.items()
    here, there = _environments(all_shows), _environments(all_clean)
    two_alone = here == [own.environment] and there == [clean.environment]
    for name in sorted({name for name, _ in differing}):
        is_machine = name.startswith(MACHINE_KEY_PREFIX)
        kind = ConfounderKind.MACHINE if is_machine else ConfounderKind.PACKAGES
        if kind is ignore:
            continue
        value, other = _value(own.environment, name), _value(clean.environment, name)
        if isinstance(value, _Unknown) or isinstance(other, _Unknown) or other == value:
            continue
        if not two_alone:
            values, others = ({_value(seen, name) for seen in side} for side in (here, there))
            if (values & others) - {_Unknown.UNKNOWN}:
                continue
        changes[kind].append(EnvironmentChange(name=name, here=value, there=other))
    found += [
        Confounder(kind=kind, changes=tuple(changed))
        for kind, changed in changes.items()
        if changed
    ]
    return tuple(found)


def _environments(runs: Iterable[Observation]) -> list[Mapping[str, str]]:
    """Return each environment of some runs once: most runs of a cell share one."""
    found: list[Mapping[str, str]] = []
    for run in runs:
        if run.environment not in found:
            found.append(run.environment)
    return found


def _value(environment: Mapping[str, str], name: str) -> str | _Unknown | None:
    """Return a package's version or a property of the machine; None for what is not installed.

    What a run does not say of its machine is unknown, and so is each package of a run that lists
    none.
    """
    value = environment.get(name)
    if value is not None:
        return value
    lists_packages = any(not key.startswith(MACHINE_KEY_PREFIX) for key in environment)
    is_package = not name.startswith(MACHINE_KEY_PREFIX)
    return None if is_package and lists_packages else _Unknown.UNKNOWN


def _tests_differ(
    own: Observation,
    clean: Observation,
    all_shows: Sequence[Observation],
    all_clean: Sequence[Observation],
) -> bool:
    """Return whether the versions of the startup tests are known to differ, and in all runs."""
    if own.tests == clean.tests or own.tests is None or clean.tests is None:
        return False
    return not {run.tests for run in all_shows} & {run.tests for run in all_clean}
