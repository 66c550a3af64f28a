"""The first release of a line that does otherwise: a bisection over what cells observed.

Pure. A line is one vLLM under several torch, or one torch with several vLLM, as environments. What
the newest of them shows and the oldest does not is what is searched for; where only the oldest
fails, the search is for the first release that is mended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.version import InvalidVersion, Version

from matrix._util.versions import minor_of
from matrix.attribution.bisection import BAD, GOOD, SKIP, Bisection, BisectionError, bisect
from matrix.attribution.observations import (
    FAILED,
    NOTHING,
    RAN,
    WHOLE_RUN,
    Observation,
    newest_first,
    own_runs,
)
from matrix.attribution.symptoms import CLEAN, FAILS, SHOWS, Symptom, state_of
from matrix.attribution.symptoms import symptoms_between as between
from matrix.catalog.cells import Cell

__all__ = ["UNCLEAR", "Search", "line_of", "parse_range", "search", "standing"]

UNCLEAR = "unclear"
"""An environment that ran with several sets of flags, of which nobody knows which is its own."""


@dataclass(frozen=True)
class Search:
    """How far a search along a line is.

    `outcomes` are by environment, oldest first: None for what nobody ran, `ran` for what cannot be
    judged before both ends ran, `unclear` for what ran with several sets of flags. `symptoms` is
    what is searched for, none while the ends are not known; `mended` that the newer releases are
    the clean ones.
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

    An environment stands for a minor release, so a range has those of both its ends, whatever the
    patches: 2.10.0..2.14.0 ends with the environment of 2.14.

    Raises BisectionError where not one of the two is a range, or fewer than two environments are on
    the line.
    """
    if isinstance(torch, str) == isinstance(vllm, str):
        raise BisectionError(
            "bisect: of --torch and --vllm one is a release and the other a range, such as"
            " --vllm 0.20.2 --torch 2.11.0..2.15.0"
        )
    moving = "vllm" if isinstance(torch, str) else "torch"
    wanted = {"torch": torch, "vllm": vllm}
    found = {
        name: cell
        for name, cell in environments.items()
        if cell.python == python
        and all(_within(getattr(cell, key), each) for key, each in wanted.items())
    }
    if len(found) < 2:
        some = ", ".join(found) or "none"
        raise BisectionError(
            f"bisect: the line has fewer than two environments on Python {python} ({some}); a name"
            " stands for the newest patch of a minor release, so give such releases"
        )
    order = sorted(found, key=lambda name: Version(getattr(found[name], moving)))
    return moving, {name: found[name] for name in order}


def standing(
    line: Mapping[str, Cell], case: str, platform: str, observations: Iterable[Observation]
) -> tuple[dict[str, Observation], set[str]]:
    """What speaks for each environment of a line, and those of which nothing does for their flags.

    It is the newest run of the case with the release's own flags, on this Python. Where the case is
    not for the cell, or the newest run came to no case since it did not resolve or import, nothing
    can be told, and that is what is seen. What did not come to its end is as if it never ran.
    """
    at: dict[Cell, list[Observation]] = {}
    for each in observations:
        if each.platform == platform and each.case in (case, WHOLE_RUN):
            at.setdefault(each.cell, []).append(each)
    seen, unclear = {}, set()
    for name, cell in line.items():
        every = at.get(cell, ())
        ran = own_runs((each for each in every if each.case != WHOLE_RUN), cell.python)
        cannot = [
            each
            for each in every
            if (each.case == WHOLE_RUN and each.ended == FAILED) or not each.applies
        ]
        last = next(iter(newest_first(cannot)), None)
        if last is not None and all(last.age > some[0].age for some in ran):
            seen[name] = replace(last, case=case, ended=NOTHING)
        elif len(ran) == 1:
            seen[name] = ran[0][0]
        elif ran:
            unclear.add(name)
    return seen, unclear


def search(
    moving: str,
    line: Mapping[str, Cell],
    seen: Mapping[str, Observation],
    hopeless: Collection[str] = (),
    unclear: Collection[str] = (),
) -> Search:
    """The next environment of the line to run, or the first that does otherwise.

    `seen` is what speaks for each environment that ran the case; the `hopeless` are skipped, the
    `unclear` asked as if they never ran. Raises BisectionError where there is nothing to find.
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
    known |= {name: UNCLEAR for name in names if name in unclear and known[name] is None}
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


def _within(version: str, asked: tuple[str, str] | str) -> bool:
    if isinstance(asked, str):
        return version == asked
    low, here, high = (Version(minor_of(each)) for each in (asked[0], version, asked[1]))
    return low <= here <= high
