"""The first release of a line that does otherwise: a bisection over what cells observed.

Pure. A line is one vLLM under several torch, or one torch with several vLLM, as environments. What
the newest of them shows and the oldest does not is what is searched for; where only the oldest
fails, the search is for the first release that is mended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix.attribution import CLEAN, FAILS, NOTHING, RAN, SHOWS, Observation, Symptom, state_of
from matrix.attribution import symptoms_between as between
from matrix.bisection import BAD, GOOD, SKIP, Bisection, BisectionError, bisect
from matrix.cells import Cell

__all__ = ["Search", "line_of", "parse_range", "search"]


@dataclass(frozen=True)
class Search:
    """How far a search along a line is.

    `outcomes` are by environment, oldest first: None for what nobody ran, `ran` for what cannot be
    judged before both ends ran. `symptoms` is what is
    searched for, none while the ends are not known; `mended` that the newer releases are the clean
    ones.
    """

    moving: str
    cells: Mapping[str, Cell]
    outcomes: Mapping[str, str | None]
    symptoms: tuple[Symptom, ...]
    mended: bool
    bisection: Bisection

    def release(self, name: str) -> str:
        """The release of an environment that moves along the line."""
        version: str = getattr(self.cells[name], self.moving)
        return version


def parse_range(text: str, option: str) -> tuple[str, str] | str:
    """Two ends of a line, or the one release that stays.

    >>> parse_range("2.11.0..2.15.0", "--torch"), parse_range("0.20.2", "--vllm")
    (('2.11.0', '2.15.0'), '0.20.2')

    Raises BisectionError, which names the option.
    """
    low, dots, high = text.partition("..")
    try:
        if not dots:
            return Version(text).public
        if Version(low) < Version(high):
            return Version(low).public, Version(high).public
    except InvalidVersion:
        pass
    raise BisectionError(
        f"{option} {text!r}: is neither a release nor a range from an older to a newer one; write"
        " it as 2.11.0 or 2.11.0..2.15.0"
    )


def line_of(
    environments: Mapping[str, Cell],
    python: str,
    torch: tuple[str, str] | str,
    vllm: tuple[str, str] | str,
) -> tuple[str, dict[str, Cell]]:
    """Which of the two moves, and the environments of the line, oldest first.

    Raises BisectionError where not one of the two is a range, or fewer than two environments are on
    the line.
    """
    if isinstance(torch, str) == isinstance(vllm, str):
        raise BisectionError(
            "bisect: of --torch and --vllm one is a release and the other a range, such as"
            " --vllm 0.20.2 --torch 2.11.0..2.15.0"
        )
    moving = "vllm" if isinstance(torch, str) else "torch"
    wanted = {"torch": _within(torch), "vllm": _within(vllm)}
    found = {
        name: cell
        for name, cell in environments.items()
        if cell.python == python
        and all(each.contains(getattr(cell, key), True) for key, each in wanted.items())
    }
    if len(found) < 2:
        some = ", ".join(found) or "none"
        raise BisectionError(
            f"bisect: the line has fewer than two environments on Python {python} ({some}); a name"
            " stands for the newest patch of a minor release, so give such releases"
        )
    order = sorted(found, key=lambda name: Version(getattr(found[name], moving)))
    return moving, {name: found[name] for name in order}


def search(
    moving: str,
    line: Mapping[str, Cell],
    seen: Mapping[str, Observation],
    hopeless: Collection[str] = (),
) -> Search:
    """The next environment of the line to run, or the first that does otherwise.

    `seen` is what speaks for each environment that ran the case; the `hopeless` are skipped.
    Raises BisectionError where there is nothing to find.
    """
    names = list(line)
    skipped = {
        name for name in names if name in hopeless or (name in seen and seen[name].ended == NOTHING)
    }
    asked = [name for name in names if name not in skipped]
    if len(asked) < 2:
        raise BisectionError(
            f"bisect: only {', '.join(asked) or 'nothing'} of {len(names)} environments can run"
            " this case; choose another platform, or widen the range"
        )
    first, last = asked[0], asked[-1]
    known: dict[str, str | None] = {name: SKIP if name in skipped else None for name in names}
    symptoms: tuple[Symptom, ...] = ()
    mended = False
    if first in seen and last in seen:
        symptoms, mended = _searched(first, last, seen)
        for name in asked:
            if name in seen:
                known[name] = _outcome(symptoms, seen[name], mended=mended)
    told = {name: outcome for name, outcome in known.items() if outcome is not None}
    if not symptoms:
        # Which end is the bad one is told when both ran; until then either will do.
        known |= {name: RAN for name in asked if name in seen}
        told |= {first: GOOD} if first in seen else {}
        told |= {last: BAD} if last in seen else {}
    return Search(moving, dict(line), known, symptoms, mended, bisect(names, told))


def _searched(
    first: str, last: str, seen: Mapping[str, Observation]
) -> tuple[tuple[Symptom, ...], bool]:
    old, new = seen[first], seen[last]
    found = between(new, old)
    if found and state_of(found[0], old) == CLEAN:
        return found, False
    found = between(old, new)
    if found and found[0].kind == FAILS and state_of(found[0], new) == CLEAN:
        return found, True
    raise BisectionError(
        f"bisect: {first} and {last} do the same, or fail each in its own way: no release between"
        " them makes the difference; `matrix results diff` shows two records side by side"
    )


def _outcome(symptoms: Sequence[Symptom], seen: Observation, *, mended: bool) -> str:
    states = {state_of(symptom, seen) for symptom in symptoms}
    if states == {SHOWS}:
        return GOOD if mended else BAD  # the search is for where it changes, whichever way
    if states == {CLEAN}:
        return BAD if mended else GOOD
    return SKIP


def _within(asked: tuple[str, str] | str) -> SpecifierSet:
    if isinstance(asked, str):
        return SpecifierSet(f"=={asked}")
    return SpecifierSet(f">={asked[0]},<={asked[1]}")
