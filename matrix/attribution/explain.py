"""The evidence of an attribution, in words: who does what under which releases, and since when.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix._util.text import listed
from matrix._util.versions import minor_of, parse_version
from matrix.attribution.neighbours import MACHINE, TORCH, FlagChange, Line
from matrix.attribution.observations import RAN, Observation
from matrix.attribution.symptoms import DOES, FAILS, Symptom
from matrix.catalog.cells import Cell

__all__ = [
    "of_line",
    "on_pythons",
    "or_missing",
    "pair_of",
    "shown_by",
    "state_words",
    "subject",
    "through",
    "too",
    "when",
]


def of_line(own: Observation, symptom: Symptom, line: Line) -> str:
    """What a line shows, in words: where it is clean and where it is not."""
    by_torch = line.what == TORCH
    goods = [each.cell.torch if by_torch else each.cell.vllm for each in line.clean]
    bads = [each.cell.torch if by_torch else each.cell.vllm for each in line.shows]
    clean = line.nearest
    assert clean is not None
    under, other = ("under torch", "under") if by_torch else ("with vLLM", "with")
    who = f"vLLM {own.cell.vllm}" if by_torch else f"torch {own.cell.torch}"
    if symptom.kind == FAILS:
        does, fails = DOES[str(symptom.rung)]
        return f"{who} {does} {under} {listed(goods)} and {fails} {other} {listed(bads)}"
    value = clean.counters.get(symptom.key)
    return (
        f"{who} counts {symptom.start} {symptom.counter} {value} {under} {listed(goods)} and"
        f" {'nothing' if symptom.observed is None else symptom.observed} {other} {listed(bads)}"
    )


def shown_by(own: Observation, line: Line) -> str:
    """The neighbours of a line that show it too."""
    others = [each.cell for each in line.shows if each.cell != own.cell]
    if line.what == TORCH:
        return f"vLLM {own.cell.vllm} under torch {listed([each.torch for each in others])}"
    return f"torch {own.cell.torch} with vLLM {listed([each.vllm for each in others])}"


def on_pythons(own: Observation, symptom: Symptom, clean: Sequence[Observation]) -> str:
    """That the same pair is clean on these other Pythons."""
    pythons = listed([each.cell.python for each in clean])
    return f"{pair_of(own.cell)} {state_words(symptom, own, clean=True)} on Python {pythons}"


def state_words(symptom: Symptom, seen: Observation, *, clean: bool) -> str:
    """What an observation does that is clean of the symptom, or that shows it."""
    if symptom.kind == FAILS:
        return DOES[str(symptom.rung)][0 if clean else 1]
    value = symptom.wanted if clean else symptom.observed
    value = seen.counters.get(symptom.key, value) if clean and seen.ended == RAN else value
    if clean and value == symptom.observed:
        value = symptom.wanted
    return f"counts {symptom.start} {symptom.counter} {value}"


def subject(own: Observation, symptom: Symptom) -> str:
    """The symptom with its pair, as what a sentence speaks of."""
    if symptom.kind == FAILS:
        return f"the failure of {pair_of(own.cell)}"
    return f"{symptom.start} {symptom.counter} {symptom.observed} of {pair_of(own.cell)}"


def when(
    what: str,
    versions: Sequence[str],
    before: str | None,
    first: str,
    last: str,
    after: str | None,
) -> str:
    """When it came and went along a line, as exactly as the runs tell.

    A minor release stands for its first one known here to show it, where no other release lies
    between that and the last clean one.
    """
    said = []
    if before is not None:
        said.append(f"since {_boundary(versions, before, first)}")
    if after is not None:
        said.append(f"until {_boundary(versions, last, after)}, where it is gone")
    return " and ".join(said)


def _boundary(versions: Sequence[str], low: str, high: str) -> str:
    """Where something changed that was not there at `low` and was at `high`, or the reverse."""
    below, above = parse_version(low), parse_version(high)
    inner = [each for each in versions if below < parse_version(each) < above]
    if all(minor_of(each) == minor_of(high) for each in inner) and minor_of(low) != minor_of(high):
        return minor_of(high)
    return f"a release after {low} and up to {high}" if inner else high


def through(flags: Sequence[FlagChange], line: Line) -> str:
    """What to say of the flags that differ."""
    if not flags:
        return ""
    there = line.nearest
    assert there is not None
    name = f"{line.what} {there.cell.torch if line.what == TORCH else there.cell.vllm}"
    told = listed([f"{each.flag} ({each.there} at {name}, {each.here} here)" for each in flags])
    if flags[0].decides is None:
        return f", with another default of {told}"
    if flags[0].decides:
        return f", by the default of {told} alone: with the other value it is gone"
    return f", and not by the default of {told}: with the other value it stays"


def too(beside: Mapping[str, Sequence[str]]) -> str:
    """What differs too, in words."""
    if not beside:
        return ""
    told = [each for some in beside.values() for each in some]
    more = f" and {len(told) - 2} more" if len(told) > 2 else ""
    how = f": {'; '.join(told[:2])}{more}" if told else ""
    verb = "differs" if list(beside) == [MACHINE] else "differ"
    return f" ({listed(list(beside))} {verb} too, and may be it{how})"


def pair_of(cell: Cell) -> str:
    """Both releases of a cell."""
    return f"vLLM {cell.vllm} under torch {cell.torch}"


def or_missing(values: Iterable[str | None]) -> str:
    """Versions in a row; None is a package that is missing."""
    return listed(sorted("missing" if each is None else each for each in values))
