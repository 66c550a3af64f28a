"""The whole grid as Markdown, JSON and text: how far each pair gets, and why no further."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from matrix._util.text import aligned, clean, listed, markdown, spans, tabular
from matrix.record.model import RUNGS
from matrix.verdict.grid import Grid, Square
from matrix.verdict.ladder import Progress
from matrix.verdict.states import Verdict

_INTRO = """\
Every published torch from {torch} with every vLLM from {vllm}, on Python {pythons}: {pairs} \
pairs, {cells} cells on each platform. The first rungs need no GPU and no environment: *declared* \
and *resolves* are what the releases' metadata and a resolver say, *links* what the symbols of \
the compiled files say. From *imports* on it is a record that says so. A pair that nothing speaks \
against is *not* known to work until it ran.
"""
_COUNTED = """\
Each pair counts once on each platform: at the highest rung that it reached, or at the one where \
it fails.
"""
_LEGEND = """\
In the grids: the torch that a vLLM pins is **bold**, every other pair is off-pin (an override \
installs it); ❌ fails at this rung, the number says why; a rung alone is the highest that passed, \
nothing was run; *?* after it: a rung below was not asked; · off-pin, and nobody asked further. \
Shown are the newest patch of each minor release and of each torch that it pins, and what ran; \
compatibility.json has every release.
"""
_SIGNS = "* is the torch that a vLLM pins; ?: a rung below was not asked; .: off-pin, not asked"
_PYTHONS = """\
A square shows the Python about which most was asked, and of these the one that gets highest; \
where the pair ran, the worst.
"""


@dataclass(frozen=True)
class _Cause:
    """One reason for which pairs fail, and the pairs, as places of the shown rows and columns."""

    rung: str
    reason: str
    python: str
    places: tuple[tuple[int, int], ...]


def section(grid: Grid | None) -> str:
    """The grid as a section of Markdown; nothing where there is none."""
    if grid is None or not grid.squares:
        return ""
    pairs = len(grid.torch) * len(grid.vllm)
    intro = _INTRO.format(
        torch=grid.torch[0].version,
        vllm=grid.vllm[0].version,
        pythons=listed(grid.pythons),
        pairs=pairs,
        cells=pairs * len(grid.pythons),
    )
    parts = ["## Every torch with every vLLM\n", intro, _COUNTED, _counted(grid), _LEGEND, _PYTHONS]
    for platform in grid.platforms:
        parts += [f"### {platform}\n", *_platform(grid, platform)]
    said = [_yanked(grid), _contradictions(grid)]
    return "\n".join([*parts, *(part for part in said if part)])


def lines(grid: Grid, platforms: Sequence[str]) -> str:
    """The grid of these platforms as aligned text, with the causes below it."""
    told: list[str] = []
    for platform in platforms:
        causes, numbers = _causes(grid, platform)
        head = ["vLLM", "pins", *(release.version for release in grid.columns)]
        rows = [
            [
                release.version,
                release.torch,
                *(
                    _word(square, numbers.get((at, place), ()))
                    for place, square in _row(grid, platform, at)
                ),
            ]
            for at, release in enumerate(grid.rows)
        ]
        told += [f"{platform}: vLLM below, torch to the right", *aligned([head, *rows])]
        told.append(_SIGNS)
        for number, cause in enumerate(causes, 1):
            told.append(f"  [{number}] {_told(grid, cause, clean)}")
        told.append("")
    return "\n".join(told)


def content(grid: Grid) -> dict[str, object]:
    """The grid for programs but for its `squares`: the releases, and the counts of each rung."""
    return {
        "torch": [{"version": each.version, "yanked": each.yanked} for each in grid.torch],
        "vllm": [
            {"version": each.version, "pins": each.torch, "yanked": each.yanked}
            for each in grid.vllm
        ],
        "pythons": list(grid.pythons),
        "counts": {
            platform: {
                "pairs": _count(grid.counts(platform)),
                "cells": _count(grid.cell_counts(platform)),
            }
            for platform in grid.platforms
        },
    }


def squares(grid: Grid) -> list[dict[str, object]]:
    """Every pair of every release on each platform, with its Pythons."""
    return [_square(square) for square in grid.squares.values()]


def _square(square: Square) -> dict[str, object]:
    return {
        "platform": square.platform,
        "torch": square.torch,
        "vllm": square.vllm,
        "off_pin": square.off_pin,
        "results": [
            {
                "pythons": [each.cell.python for each in group],
                "verdict": group[0].verdict,
                "reached": group[0].reached,
                "fails": group[0].fails,
                "reason": group[0].reason,
                "without": group[0].without,
                # What a run alone can show is unknown wherever none ran.
                "unknown": list(group[0].unanswered),
                "ran": group[0].ran.day if group[0].ran else None,
                "contradictions": list(group[0].contradictions),
            }
            for group in square.groups
        ],
    }


def _count(counts: dict[tuple[str, str | None], int]) -> dict[str, dict[str, int]]:
    return {
        "reached": {rung: counts.get(("reached", rung), 0) for rung in RUNGS}
        | {"nothing": counts.get(("reached", None), 0)},
        "fails": {rung: counts.get(("fails", rung), 0) for rung in RUNGS},
    }


def _counted(grid: Grid) -> str:
    """The pairs that reached or fail at each rung, the highest first, platforms side by side."""
    counts = {platform: grid.counts(platform) for platform in grid.platforms}
    named = [(rung, rung) for rung in reversed(RUNGS)] + [("off-pin, not asked", None)]
    rows = [
        [
            name,
            *(
                str(counts[platform][kind, rung] or "") if kind == "reached" or rung else ""
                for platform in grid.platforms
                for kind in ("reached", "fails")
            ),
        ]
        for name, rung in named
    ]
    head = ["rung", *(f"{each}: {k}" for each in grid.platforms for k in ("reached", "fails here"))]
    return tabular(head, rows, right=range(1, len(head)))


def _platform(grid: Grid, platform: str) -> list[str]:
    causes, numbers = _causes(grid, platform)
    rows = [
        [
            f"**{release.version}**" + ("\\*" if release.yanked is not None else ""),
            *(
                _shown(square, numbers.get((at, place), ()))
                for place, square in _row(grid, platform, at)
            ),
        ]
        for at, release in enumerate(grid.rows)
    ]
    columns = [each.version + ("\\*" if each.yanked is not None else "") for each in grid.columns]
    notes = [f"{at}. {_told(grid, cause, markdown)}" for at, cause in enumerate(causes, 1)]
    table = tabular(["vLLM ↓ torch →", *columns], rows)
    return [table, "\n".join(notes) + "\n" if notes else ""]


def _row(grid: Grid, platform: str, at: int) -> Iterable[tuple[int, Square]]:
    vllm = grid.rows[at].version
    for place, torch in enumerate(grid.columns):
        yield place, grid.squares[platform, torch.version, vllm]


def _shown(square: Square, notes: Sequence[int]) -> str:
    found = square.shown
    if found.verdict == Verdict.COMPATIBLE:
        word = "✅ as expected"
    elif found.verdict == Verdict.DRIFT:
        word = "⚠️ counts differ"
    elif found.fails is not None:
        word = f"❌ {found.fails}"
    else:
        word = ("❔ " if found.ran is not None else "") + _reached(found, "·")
    word = f"{word} \\[{', '.join(map(str, notes))}\\]" if notes else word
    return word if square.off_pin or word == "·" else f"**{word}**"


def _word(square: Square, notes: Sequence[int]) -> str:
    found = square.shown
    word = f"no {found.fails}" if found.fails is not None else _reached(found, ".")
    if found.verdict == Verdict.DRIFT:
        word = "drift"
    word = f"{word} [{','.join(map(str, notes))}]" if notes else word
    return word if square.off_pin else f"{word} *"


def _reached(found: Progress, nothing: str) -> str:
    return f"{found.reached or nothing}{' ?' if found.skipped else ''}"


def _causes(grid: Grid, platform: str) -> tuple[list[_Cause], dict[tuple[int, int], list[int]]]:
    """The reasons of the platform, each once, and for a place in the grid their numbers."""
    places: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for at in range(len(grid.rows)):
        for place, square in _row(grid, platform, at):
            for key in _reasons(square):
                places.setdefault(key, []).append((at, place))
    causes = [_Cause(*key, tuple(found)) for key, found in places.items()]
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, cause in enumerate(causes, 1):
        for where in cause.places:
            numbers.setdefault(where, []).append(number)
    return causes, numbers


def _reasons(square: Square) -> Iterable[tuple[str, str, str]]:
    """Why the pair fails, and why it fails on some Pythons only: rung, reason, those Pythons."""
    shown = square.shown
    if shown.ran is not None and shown.fails is None and shown.verdict == Verdict.UNTESTED:
        yield "untested", shown.ran.reason or "", ""
    if shown.fails is not None:
        yield shown.fails, shown.cause or "", ""
    elif shown.without is not None:
        yield "links", shown.without_cause or shown.without, ""
    for group in square.groups:
        first = group[0]
        # A Python that a release was never made for says nothing of the pair.
        if first.fails in (None, "declared"):
            continue
        if (first.fails, first.cause) == (shown.fails, shown.cause):
            continue
        yield str(first.fails), first.cause or "", listed([each.cell.python for each in group])


def _told(grid: Grid, cause: _Cause, escape: Callable[[str], str]) -> str:
    on = f" on Python {cause.python}" if cause.python else ""
    return f"{_where(grid, cause.places)}{on}: {cause.rung}: {escape(cause.reason)}"


def _where(grid: Grid, places: Iterable[tuple[int, int]]) -> str:
    """Places of the grid in words: rows with the same columns are told together."""
    by_row: dict[int, list[int]] = {}
    for row, column in places:
        by_row.setdefault(row, []).append(column)
    by_columns: dict[tuple[int, ...], list[int]] = {}
    for row, columns in by_row.items():
        by_columns.setdefault(tuple(columns), []).append(row)
    return "; ".join(
        f"vLLM {spans([each.version for each in grid.rows], rows)} under torch "
        f"{spans([each.version for each in grid.columns], columns)}"
        for columns, rows in by_columns.items()
    )


def _yanked(grid: Grid) -> str:
    """The shown releases that were withdrawn, with the index's reason."""
    named = [("torch", each) for each in grid.columns] + [("vLLM", each) for each in grid.rows]
    told = [
        f"{what} {each.version}{f' ({markdown(each.yanked)})' if each.yanked else ''}"
        for what, each in named
        if each.yanked is not None
    ]
    return f"\\* Yanked from the index: {'; '.join(told)}.\n" if told else ""


def _contradictions(grid: Grid) -> str:
    """Where a run showed something else than the cheap rungs say."""
    told = [
        f"- `{each.cell.name}` on {each.platform}: {markdown(said)}"
        for square in grid.squares.values()
        for each in square.cells
        for said in each.contradictions
    ]
    head = "A run showed something else than the cheap rungs say; the run decides:\n"
    return "\n".join([head, *told]) + "\n" if told else ""
