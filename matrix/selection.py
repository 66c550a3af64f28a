"""Which of many records a qualification has to read, by their summaries alone.

Pure. What is left out changes nothing that `matrix.qualify` says: of a cell on a platform with two
releases those that decide are the newest whole record and, after it, the newest of each kind that
has one verdict; the newest runs beside them tell its seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matrix.cells import factors
from matrix.qualify import MOST_RUNS, Aside, Asked, is_asked, same_release, versions_of
from matrix.releases import Releases

__all__ = ["Run", "select"]


@dataclass(frozen=True)
class Run:
    """A record as far as its summary tells (`matrix.history.Summary`), and its path."""

    path: str
    cell: str
    platform: str
    started: str
    torch: str
    vllm: str
    whole: bool
    error: str | None
    jobs: int
    judged: str


_Place = tuple[str, str, str, str]
"""Cell, platform, torch, vLLM."""


def select(asked: Asked, runs: Iterable[Run], releases: Releases) -> tuple[list[str], Aside]:
    """The paths to read, in their order, and what the others are."""
    told: dict[_Place, list[Run]] = {}
    places: dict[tuple[str, str, str, str, str | None], _Place | None] = {}
    for run in runs:
        key = run.cell, run.platform, run.torch, run.vllm, run.error
        if key not in places:
            places[key] = _place(run, releases)
        place = places[key]
        if place is not None:
            told.setdefault(place, []).append(run)
    paths: list[str] = []
    counts: dict[_Place, int] = {}
    for place, of in told.items():
        if _is_wanted(asked, place):
            some = _deciding(of)
            paths += some
            counts[place] = len(of) - len(some)
    held = frozenset((platform, torch, vllm) for _, platform, torch, vllm in told)
    return sorted(paths), Aside(held, counts)


def _place(run: Run, releases: Releases) -> _Place | None:
    # A summary says the name's minor release where the record does not know what ran.
    named = factors(run.cell)
    torch = None if run.torch == named.torch else run.torch
    vllm = None if run.vllm == named.vllm else run.vllm
    versions = versions_of(run.cell, torch, vllm, run.error, releases)
    return None if versions is None else (run.cell, run.platform, *versions)


def _is_wanted(asked: Asked, place: _Place) -> bool:
    cell, platform, torch, vllm = place
    release, other = (torch, vllm) if asked.project == "torch" else (vllm, torch)
    return is_asked(asked, cell, platform, other) and any(
        same_release(release, each) for each in (asked.candidate, asked.baseline)
    )


def _deciding(runs: Sequence[Run]) -> set[str]:
    """The paths of what decides, and of the runs that tell the seconds."""
    last = max((each.started for each in runs if each.whole), default="")
    newest: dict[str, str] = {}
    for each in runs:
        newest[each.judged] = max(each.started, newest.get(each.judged, ""))
    alone = sorted({each.started for each in runs if each.jobs == 1})[-MOST_RUNS:]
    seconds = set(alone)
    return {
        each.path
        for each in runs
        if (each.started >= last and each.started == newest[each.judged])
        or (each.jobs == 1 and each.started in seconds)
    }
