"""Flags whose default changes with the releases: whether they alone make the difference.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from matrix.attribution.model import FlagDifference
from matrix.attribution.neighbours import Neighbourhood
from matrix.attribution.observations import Observation, have_same_flags
from matrix.attribution.symptoms import State, Symptom, state_of


def flag_changes(
    around: Neighbourhood, symptom: Symptom, clean: Observation
) -> tuple[FlagDifference, ...]:
    """Return the flags in which a cell and its clean neighbour differ, and if they decide."""
    own = around.own
    both = sorted(set(own.flags) & set(clean.flags))
    differ = [flag for flag in both if own.flags[flag] != clean.flags[flag]]
    if not differ:
        return ()
    decides = _flags_decide(around, symptom, clean, differ)
    return tuple(
        FlagDifference(flag=flag, here=own.flags[flag], there=clean.flags[flag], decides=decides)
        for flag in differ
    )


def _flags_decide(
    around: Neighbourhood, symptom: Symptom, clean: Observation, flags: Sequence[str]
) -> bool | None:
    """Return whether the flags alone make it, by runs of either pair with the other's flags.

    A clean run of the cell does not decide if no run with the same tests shows the symptom.
    """
    own = around.own
    tests = {
        run.tests
        for run in around.same
        if run.cell == own.cell
        and have_same_flags(run.flags, own.flags)
        and state_of(symptom, run) is State.SHOWS
    }
    for run in around.runs_with_flags(own, clean, flags):
        state = state_of(symptom, run)
        confounded = state is State.CLEAN and run.tests not in tests
        if state is not State.SILENT and not confounded:
            return state is State.CLEAN
    for run in around.runs_with_flags(clean, own, flags):
        state = state_of(symptom, run)
        if state is not State.SILENT:
            return state is State.SHOWS
    return None
