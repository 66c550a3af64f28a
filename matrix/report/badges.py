"""SVG badges: one a pair of minor releases that ran.

A badge says what the grid shows of the pair (`matrix.verdict.grid.Square.shown`), as a word and a
colour: of several patch releases that ran, on either platform, the worst. It is of the first
platform (`cuda` before `cpu`) on which the grid has a verdict, by a run or by a check that fails;
where that is not `cuda`, which is authoritative, it names the platform: `compatible (cpu)`. Where
the packages of that run were not as the vLLM requires, it says so and is not green: `compatible,
not stock: without ray`. A release beyond the end of the expectations is `untested, provisional: as
vLLM 0.33`. Cases that compile again on their warm start, and a partial run, are named and not
green, too: `compatible, 2 cases recompile warm (vllm#38051)`, `compatible, 1 of 9 cases`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matrix.catalog.cells import axis_of, is_candidate
from matrix.record.model import PLATFORMS, Platform, Rung
from matrix.report.marks import marks
from matrix.report.page import template
from matrix.verdict.grid import Grid, Square, ran_cell
from matrix.verdict.ladder import Progress, RunEvidence, badness, highest
from matrix.verdict.states import Verdict
from matrix.verdict.table import Table

FOLDER = "badges"
_COLOURS: Mapping[str, str] = {
    Verdict.COMPATIBLE: "#1a7a37",
    Verdict.DRIFT: "#8f5f00",
    Verdict.INCOMPATIBLE: "#b3261e",
    Verdict.UNTESTED: "#59636f",
}
_NOT_STOCK = "#5d6b1f"
_OWN = re.compile(
    r'<svg xmlns="http://www\.w3\.org/2000/svg" width="\d+" height="20" role="img"'
    r' aria-label="torch (?P<torch>\d+\.\d+) \| vLLM (?P<vllm>\d+\.\d+): [a-z]+'
    r'(?:, (?:(?:not stock|provisional): |\d+ cases? recompiles? |\d+ of )[^"<>\n]*)?'
    r'(?: \([a-z]+\))?">\n'
)
_WIDTH, _MARGIN = 6.6, 12
"""Pixels of an average letter of the 11 px font, and those around a word."""


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """The content of a badge for a pair on one platform.

    `by` is the day of the run, or the rung whose check rules the pair out. `ran` is None if the
    grid shows a Python without a run.
    """

    platform: Platform
    python: str
    verdict: Verdict
    reached: Rung | None
    by: str
    ran: RunEvidence | None

    @property
    def is_informative(self) -> bool:
        """Whether it is about the pair, and not only about a machine."""
        ran = self.ran is not None and self.ran.is_informative
        return ran or self.verdict != Verdict.UNTESTED


def render(table: Table, grid: Grid | None = None) -> Mapping[str, str]:
    """Return each badge by its path in the folder of the table: badges/torch210-vllm019.svg.

    The grid has the table's entries as its records. An entry of releases that the grid does not
    have represents itself.
    """
    pairs = sorted({(entry.factors.torch, str(entry.factors.vllm)) for entry in table.entries})
    shown = _shown(grid)
    badges = {}
    for torch, vllm in pairs:
        found: list[_Standing] = []
        for place in ((platform, torch, vllm) for platform in PLATFORMS):
            squares = shown.get(place, ())
            found += _worst([*squares, *_apart(table, grid, place, squares)])
        decisive = [standing for standing in found if standing.verdict != Verdict.UNTESTED]
        for standing in (decisive or found)[:1]:
            label = " | ".join(
                factor if is_candidate(factor) else f"{project} {factor}"
                for project, factor in (("torch", torch), ("vLLM", vllm))
            )
            title = f"{standing.platform}, Python {standing.python}, {standing.by}"
            where = standing.platform if standing.platform != PLATFORMS[0] else None
            apart = ", ".join(marks(standing.ran, most=1))
            badges[f"{FOLDER}/{_name(torch, vllm)}"] = badge(
                label, standing.verdict, title, where, apart
            )
    return badges


def badge(
    label: str, verdict: Verdict, title: str = "", platform: Platform | None = None, apart: str = ""
) -> str:
    """Return one badge: a label (`torch 2.10 | vLLM 0.19`), its verdict and, if given, a platform.

    `title` is shown when a pointer is on it; `apart` are the marks of a run
    (`matrix.report.marks`).
    """
    words = f"{verdict}, {apart}" if apart else verdict
    words = f"{words} ({platform})" if platform else words
    colour = _COLOURS.get(verdict, _COLOURS[Verdict.UNTESTED])
    if apart and verdict == Verdict.COMPATIBLE:
        colour = _NOT_STOCK
    split, right = (round(len(text) * _WIDTH) + _MARGIN for text in (label, words))
    return str(
        template("badge.svg.j2").render(
            label=label,
            verdict=verdict,
            apart=apart,
            words=words,
            title=title,
            split=split,
            width=split + right,
            colour=colour,
        )
        + "\n"
    )


def is_own(name: str, text: str) -> bool:
    """Tell whether a file of this name is a badge made here, which names the pair of its file name.

    >>> is_own("torch210-vllm019.svg", "<svg>mine</svg>")
    False
    """
    found = _OWN.match(text)
    return found is not None and name == _name(found["torch"], found["vllm"])


def _name(torch: str, vllm: str) -> str:
    names = (
        factor if is_candidate(factor) else f"{project}{factor.replace('.', '')}"
        for project, factor in (("torch", torch), ("vllm", vllm))
    )
    return f"{'-'.join(names)}.svg"


def _shown(grid: Grid | None) -> Mapping[tuple[Platform, str, str], Sequence[_Standing]]:
    """Return what the grid shows of the releases that ran, by platform, minor torch and vLLM.

    Of releases that ran on the other platform only, it is the check that fails on this one.
    """
    squares = grid.squares.values() if grid is not None else ()
    ran = {(square.torch, square.vllm) for square in squares if _did_run(square)}
    found: dict[tuple[Platform, str, str], list[_Standing]] = {}
    for square in squares:
        if _did_run(square) or (
            (square.torch, square.vllm) in ran and square.shown.verdict != Verdict.UNTESTED
        ):
            at = square.platform, axis_of(square.torch), axis_of(square.vllm)
            found.setdefault(at, []).append(_standing(square.shown))
    return found


def _did_run(square: Square) -> bool:
    return any(progress.ran is not None for progress in square.cells)


def _standing(progress: Progress) -> _Standing:
    by = "no run" if progress.ran is None else progress.ran.day
    return _Standing(
        platform=progress.platform,
        python=progress.cell.python,
        verdict=progress.verdict,
        reached=progress.reached,
        by=f"check of {progress.fails}" if progress.ruled_out else by,
        ran=progress.ran,
    )


def _apart(
    table: Table, grid: Grid | None, at: tuple[Platform, str, str], squares: Sequence[_Standing]
) -> Iterable[_Standing]:
    """Yield the entries of a pair whose releases the grid does not have, or all without squares."""
    for entry in table.pair(*at):
        cell = ran_cell(entry.record)
        known = grid is None or cell is None or grid.progress(cell, at[0]) is not None
        if not squares or not known:
            yield _Standing(
                platform=entry.record.platform,
                python=entry.factors.python,
                verdict=entry.verdict.verdict,
                reached=highest(entry.ran.passed),
                by=entry.date,
                ran=entry.ran,
            )


def _worst(standings: Sequence[_Standing]) -> Sequence[_Standing]:
    """Return the one that represents a pair on a platform; none if there is none."""
    telling = [standing for standing in standings if standing.is_informative]
    ordered = sorted(
        telling or standings, key=lambda one: badness(one.verdict, one.reached, one.ran)
    )
    return ordered[:1]
