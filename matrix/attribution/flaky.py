"""Repeats: where runs of the very same cell disagree, and which of them to attribute.

Pure. Repeats are runs of one cell with the same flags and startup tests. A cell whose repeats
disagree is flaky, unless other packages or another machine separate those that fail from the
others. One run on either side always differs in something, so then it stays unknown. Where those
on one side are stock and those on the other are not, they are not repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matrix.attribution.model import Cause
from matrix.attribution.observations import Observation, Runs, have_same_flags
from matrix.attribution.reasons import NewerRunClean, RepeatDifference, RepeatsDisagree
from matrix.attribution.symptoms import State, Symptom, state_of
from matrix.verdict.precedence import pick

_MIN_RUNS_PER_SIDE = 2
"""Fewer runs on one side differ from the other side by chance in whatever it is."""
_MAX_DIFFERENCES = 3


class RepeatFinding(NamedTuple):
    """The result of the repeats of a cell for a symptom."""

    cause: Cause
    reason: RepeatsDisagree | NewerRunClean


def compare_repeats(own: Observation, symptom: Symptom, same: Runs) -> RepeatFinding | None:
    """Return what the other runs of a cell say of a symptom; None if they agree with it.

    `same` are all runs of the case of the cell's pair.
    """
    alike = [run for run in same if run.cell == own.cell and have_same_flags(run.flags, own.flags)]
    return _disagreement(own, symptom, alike) or _newer_clean_run(own, symptom, alike)


def _disagreement(
    own: Observation, symptom: Symptom, alike: Sequence[Observation]
) -> RepeatFinding | None:
    """Return the disagreement among the runs with the same tests: flaky, or the environment."""
    repeats = [run for run in alike if run.tests == own.tests]
    shows = [run for run in repeats if state_of(symptom, run) is State.SHOWS]
    clean = [run for run in repeats if state_of(symptom, run) is State.CLEAN]
    if not shows or not clean:
        return None
    counts = [sum(run.runs for run in side) for side in (shows, clean)]
    differences = _differences(shows, clean)
    if not differences and not {run.is_stock for run in shows} & {run.is_stock for run in clean}:
        return None
    if not differences:
        cause = Cause.FLAKY
    elif min(counts) < _MIN_RUNS_PER_SIDE:
        cause = Cause.UNKNOWN
    else:
        cause = Cause.ENVIRONMENT
    reason = RepeatsDisagree(
        shows=counts[0], runs=sum(counts), differences=differences[:_MAX_DIFFERENCES]
    )
    return RepeatFinding(cause, reason)


def _differences(
    shows: Sequence[Observation], clean: Sequence[Observation]
) -> tuple[RepeatDifference, ...]:
    """Return what has one value in all runs that show the symptom and others in the clean ones."""
    found = []
    for name in sorted({name for run in (*shows, *clean) for name in run.environment}):
        here, there = ({run.environment.get(name) for run in side} for side in (shows, clean))
        if len(here) == 1 and not here & there:
            (value,) = here
            found.append(
                RepeatDifference(name=name, shows=value, clean=tuple(sorted(there, key=str)))
            )
    return tuple(found)


def _newer_clean_run(
    own: Observation, symptom: Symptom, alike: Sequence[Observation]
) -> RepeatFinding | None:
    """Return that newer runs with other tests are clean: flaky, or the tests."""
    states = {
        state_of(symptom, run)
        for run in alike
        if run.tests != own.tests and run.age > own.age and run.is_stock == own.is_stock
    }
    if State.CLEAN not in states or State.SHOWS in states:
        return None
    return RepeatFinding(Cause.UNKNOWN, NewerRunClean())


def representative(runs: Sequence[Observation]) -> Observation:
    """Return the run to attribute, of the runs of one cell with the same flags, newest first.

    It is the one that counts (`matrix.verdict.precedence`). If that one passed but an older run
    under the same conditions failed, it is the older one: the cell is flaky.
    """
    counts = pick(runs)
    if counts.faulty:
        return counts
    conditions = counts.tests, counts.environment
    same = (run for run in runs if run.faulty and (run.tests, run.environment) == conditions)
    return next(same, counts)
