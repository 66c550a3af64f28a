"""Extensions of vLLM that do not link with a torch, and so can be the cause of a symptom.

Pure: the edge passes what the symbol tables say of a pair. No extension is loaded on the CPU.

An extension is **suspected** along an axis where it does not link in the cell and does in a clean
neighbour. It is not where a run shows that it does not matter: where a neighbour shows the symptom
with it, along either axis; where the same pair is clean without it on another Python; where a
neighbour along the axis is clean without it, unless the failure names it.

A suspected extension is the cause if the failure names it, or if it links in each clean neighbour
along the axis and in none that shows the symptom, and another one than the cell shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matrix._util.text import is_named
from matrix._util.versions import parse_version
from matrix.attribution.neighbours import Axis, Neighbourhood
from matrix.attribution.observations import Observation
from matrix.attribution.reasons import ExtensionEvidence
from matrix.attribution.symptoms import State, Symptom
from matrix.catalog.cells import Cell
from matrix.record.model import Platform

Features = Callable[[Cell], Mapping[str, bool] | None]
"""Tells which extensions the vLLM of a cell brings, and whether each links; None for unknown."""


def nothing_known(_cell: Cell) -> None:
    """Tell that nobody knows what links."""


@dataclass(frozen=True, kw_only=True)
class ExtensionDifference:
    """Extensions that do not link in the cell and do in a clean neighbour along an axis.

    `shows` are all runs along it that show the symptom, from old to new, and `lacks` those of them
    in which none of the extensions links. In `links`, which are clean, each does. `shown_by` says
    what shows that they are the cause, None where nothing does.
    """

    axis: Axis
    extensions: tuple[str, ...]
    shows: tuple[Observation, ...]
    lacks: tuple[Observation, ...]
    links: tuple[Observation, ...]
    shown_by: ExtensionEvidence | None


class _Runs(NamedTuple):
    """The runs along an axis, from old to new, by what they say of the symptom."""

    shows: tuple[Observation, ...]
    clean: tuple[Observation, ...]

    @classmethod
    def of(cls, axis: Axis, symptom: Symptom, around: Neighbourhood) -> _Runs:
        """Return those along an axis, the cell's own among them."""
        found: dict[State, list[Observation]] = {state: [] for state in State}
        for state, run in around.neighbours(symptom, axis.along):
            found[state].append(run)
        shows = sorted(
            [around.own, *found[State.SHOWS]], key=lambda run: parse_version(axis.release(run))
        )
        return cls(shows=tuple(shows), clean=tuple(found[State.CLEAN]))


def extension_differences(
    symptom: Symptom,
    around: Neighbourhood,
    axes: Sequence[Axis],
    clean_pythons: Sequence[Observation],
    features: Features,
) -> list[ExtensionDifference]:
    """Return the suspected extensions of each axis that has some, in the order of the axes.

    Where some are the cause, the others are left out.
    """
    own = around.own
    known = features(own.cell) if own.platform == Platform.CUDA else None
    lacking = [name for name, links in (known or {}).items() if not links]
    if not lacking:
        return []

    def links(run: Observation, name: str) -> bool | None:
        return (features(run.cell) or {}).get(name)

    runs = [_Runs.of(axis, symptom, around) for axis in axes]
    needless = {
        name
        for name in lacking
        if any(links(run, name) for found in runs for run in found.shows)
        or any(links(run, name) is False for run in clean_pythons)
    }
    differences = []
    for axis, found in zip(axes, runs, strict=True):
        suspected: dict[ExtensionEvidence | None, list[str]] = {}
        for name in lacking:
            if name in needless or not any(links(run, name) for run in axis.clean):
                continue
            clean = {links(run, name) for run in found.clean}
            shows = {links(run, name) for run in found.shows}
            if names_extension(symptom.signature, name):
                suspected.setdefault(ExtensionEvidence.NAMED, []).append(name)
            elif (clean, shows) == ({True}, {False}) and len(found.shows) > 1:
                suspected.setdefault(ExtensionEvidence.ALIKE, []).append(name)
            elif False not in clean:
                suspected.setdefault(None, []).append(name)
        shown_by = next((by for by in (*ExtensionEvidence, None) if by in suspected), None)
        if suspected:
            names = _together(suspected[shown_by], axis, links)
            differences.append(
                ExtensionDifference(
                    axis=axis,
                    extensions=names,
                    shows=found.shows,
                    lacks=_all(found.shows, names, links, wanted=False),
                    links=_all(found.clean, names, links, wanted=True),
                    shown_by=shown_by,
                )
            )
    return differences


_Links = Callable[[Observation, str], bool | None]


def _together(names: Sequence[str], axis: Axis, links: _Links) -> tuple[str, ...]:
    """Return those of some extensions that link in the clean neighbour in which the first does."""
    there = next(run for run in axis.clean if links(run, names[0]))
    return tuple(name for name in names if links(there, name))


def _all(
    runs: Iterable[Observation], names: Iterable[str], links: _Links, *, wanted: bool
) -> tuple[Observation, ...]:
    """Return the runs in which each of some extensions links, or in which none does."""
    return tuple(run for run in runs if all(links(run, name) is wanted for name in names))


def names_extension(signature: str | None, extension: str) -> bool:
    """Return whether a failure names an extension, case and punctuation aside."""
    return is_named(extension, signature or "")
