"""The whole grid as Markdown and JSON: how far each pair gets, and why no further."""

from __future__ import annotations

from collections.abc import Sequence

from matrix._util.text import listed, markdown, tabular
from matrix.record.model import RUNGS, Platform, Rung
from matrix.report import marks, prediction, provisional
from matrix.report.coded import coded, operand
from matrix.report.grid_causes import cause_line, causes_of, predicted_lines, row_of
from matrix.report.json_lines import in_lines
from matrix.report.reasons import contradiction_words, reason_words
from matrix.report.stock import described
from matrix.verdict.grid import Grid, Square
from matrix.verdict.ladder import Progress, RunEvidence
from matrix.verdict.prediction import Prediction
from matrix.verdict.predictions import NO_PREDICTIONS, Predictions
from matrix.verdict.states import Verdict

_GRID_SCHEMA = 1
_INTRO = """\
Every published torch from {torch} with every vLLM from {vllm}, on Python {pythons}: {pairs} \
pairs, {cells} cells on each platform. The first rungs need no GPU and no environment. *declared* \
comes from the releases' metadata, *resolves* from a resolver, and *links* from the symbols of the \
compiled files, in the wheels of the default index for Linux on x86_64 with glibc 2.35, each torch \
for the CUDA of that wheel. The rungs from *imports* on come from a record. A pair without a known \
obstacle is *not* known to work until it ran.
"""
_COUNTED = """\
Each pair counts once on each platform: at the highest rung that it reached, or at the one where \
it fails.
"""
_LEGEND = """\
In the grids: the torch that a vLLM pins is **bold**, every other pair is off-pin (an override \
installs it); ❌ fails at this rung, and the number names the reason; a rung alone is the highest \
that passed, and nothing ran; *?* after it: a rung below was not asked; ·: off-pin, and nothing \
else was asked. The grids show the newest patch of each minor release and of each torch that it \
pins, and all pairs that ran; compatibility.json has every release.
"""
_PYTHONS = """\
A square shows the Python with the most answers, and of several the one that gets highest. If the \
pair ran, it shows the worst run.
"""


def section(grid: Grid | None, predictions: Predictions = NO_PREDICTIONS) -> str:
    """Return the grid as a section of Markdown; "" without a grid."""
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
        parts += [f"### {platform}\n", *_platform(grid, platform, predictions)]
    notes = [_yanked(grid), _contradictions(grid)]
    return "\n".join([*parts, *(part for part in notes if part)])


def content(grid: Grid, predictions: Predictions = NO_PREDICTIONS) -> dict[str, object]:
    """Return the grid as JSON values without its `squares`: releases, counts of each rung.

    Also how often predictions were right.
    """
    return {
        "torch": [{"version": torch.version, "yanked": torch.yanked} for torch in grid.torch],
        "vllm": [
            {"version": vllm.version, "pins": vllm.torch, "yanked": vllm.yanked}
            for vllm in grid.vllm
        ],
        "pythons": list(grid.pythons),
        "counts": {
            platform: {
                "pairs": _count(grid.counts(platform)),
                "cells": _count(grid.cell_counts(platform)),
            }
            for platform in grid.platforms
        },
        "predictions": prediction.accuracy_values(predictions.accuracy),
    }


def values(grid: Grid, predictions: Predictions = NO_PREDICTIONS) -> dict[str, object]:
    """Return the whole grid as JSON values: what `content` has, and its squares."""
    return {**content(grid, predictions), "squares": squares(grid, predictions)}


def to_json(grid: Grid, predictions: Predictions = NO_PREDICTIONS) -> str:
    """Return the grid as JSON, one line a square; `data/grid.schema.json` describes it."""
    found = {"schema": _GRID_SCHEMA, "grid": values(grid, predictions)}
    return in_lines(found, {"grid": {"squares": [], "torch": [], "vllm": []}})


def squares(grid: Grid, predictions: Predictions = NO_PREDICTIONS) -> list[dict[str, object]]:
    """Return every pair of every release on each platform, with its Pythons and predictions."""
    return [
        {**_square(square), **prediction.of_square(predictions, square)}
        for square in grid.squares.values()
    ]


def _square(square: Square) -> dict[str, object]:
    return {
        "platform": square.platform,
        "torch": square.torch,
        "vllm": square.vllm,
        "off_pin": square.off_pin,
        "results": [
            {
                "pythons": [progress.cell.python for progress in group],
                "verdict": group[0].verdict,
                "reached": group[0].reached,
                "fails": group[0].fails,
                "reason": group[0].reason and reason_words(group[0].reason),
                "without": group[0].without and reason_words(group[0].without),
                # What a run alone can show is unknown wherever none ran.
                "unknown": list(group[0].unanswered),
                "ran": group[0].ran.day if group[0].ran else None,
                # Of thousands of squares few are provisional.
                **(
                    {"provisional": provisional.values(group[0].provisional)}
                    if group[0].provisional
                    else {}
                ),
                "not_stock": [described(departure) for departure in group[0].not_stock],
                **_marked(group[0].ran),
                "contradictions": list(map(contradiction_words, group[0].contradictions)),
                **_coded(group[0]),
            }
            for group in square.groups
        ],
    }


def _coded(progress: Progress) -> dict[str, object]:
    """Return the codes of the reason, of the features that do not link, of contradictions."""
    found: dict[str, object] = {}
    if progress.reason is not None:
        found["because"] = coded(progress.reason)
    if progress.without is not None:
        found["without_because"] = coded(progress.without)
    if progress.contradictions:
        found["contradicted"] = list(map(coded, progress.contradictions))
    return found


def _marked(ran: RunEvidence | None) -> dict[str, object]:
    """Return what few of thousands of squares have: cases that recompile, and a part of them."""
    if ran is None:
        return {}
    found: dict[str, object] = {}
    if ran.recompiling:
        found["recompiles"] = list(ran.recompiling)
    if ran.part:
        found["part"] = marks.part(ran.part)
        found["partial"] = operand(ran.part)
    return found


def _count(counts: dict[tuple[str, str | None], int]) -> dict[str, dict[str, int]]:
    return {
        "reached": {rung: counts.get(("reached", rung), 0) for rung in RUNGS}
        | {"nothing": counts.get(("reached", None), 0)},
        "fails": {
            rung: counts.get(("fails", rung), 0)
            for rung in Rung
            if rung in RUNGS or ("fails", rung) in counts
        },
    }


def _counted(grid: Grid) -> str:
    """Return how many pairs reached or fail at each rung, the highest rung first."""
    counts = {platform: grid.counts(platform) for platform in grid.platforms}
    named: list[tuple[str, Rung | None]] = [
        (rung, rung)
        for rung in reversed(Rung)
        # Few matrices have a vLLM from sources.
        if rung in RUNGS or any(("fails", rung) in found for found in counts.values())
    ]
    named.append(("off-pin, not asked", None))
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
    words = ("reached", "fails here")
    head = ["rung", *(f"{platform}: {word}" for platform in grid.platforms for word in words)]
    return tabular(head, rows, right=range(1, len(head)))


def _platform(grid: Grid, platform: Platform, predictions: Predictions) -> list[str]:
    causes, numbers = causes_of(grid, platform)
    rows = [
        [
            f"**{release.version}**" + ("\\*" if release.yanked is not None else ""),
            *(
                _shown(square, numbers.get((row, column), ()), predictions.at(square))
                for column, square in row_of(grid, platform, row)
            ),
        ]
        for row, release in enumerate(grid.rows)
    ]
    columns = [
        torch.version + ("\\*" if torch.yanked is not None else "") for torch in grid.columns
    ]
    notes = [
        f"{number}. {cause_line(grid, cause, markdown)}" for number, cause in enumerate(causes, 1)
    ]
    table = tabular(["vLLM ↓ torch →", *columns], rows)
    parts = [table, "\n".join(notes) + "\n" if notes else ""]
    if predicted := predicted_lines(grid, platform, predictions):
        head = f"*Predicted*, never measured: {prediction.EXPLAINED}; "
        head += f"{prediction.accuracy_words(predictions.accuracy)}.\n"
        parts += [head, "\n".join(f"- {markdown(line)}" for line in predicted) + "\n"]
    return parts


def _shown(square: Square, notes: Sequence[int], predicted: Prediction | None) -> str:
    found = square.shown
    if found.verdict == Verdict.COMPATIBLE:
        apart = marks.short(found.ran)
        word = f"☑️ as expected, {apart}" if apart else "✅ as expected"
    elif found.verdict == Verdict.DRIFT:
        word = "⚠️ counts differ"
    elif found.fails is not None:
        word = f"❌ {found.fails}"
    elif found.provisional is not None:
        word = f"❔ {provisional.PROVISIONAL}"
    else:
        word = ("❔ " if found.ran is not None else "") + _reached(found, "·")
    if found.verdict != Verdict.COMPATIBLE and found.ran is not None and found.ran.part:
        word += f", {marks.part(found.ran.part)}"
    word += f", {prediction.short(predicted)}" if predicted else ""
    word = f"{word} \\[{', '.join(map(str, notes))}\\]" if notes else word
    return word if square.off_pin or word == "·" else f"**{word}**"


def _reached(found: Progress, nothing: str) -> str:
    return f"{found.reached or nothing}{' ?' if found.skipped else ''}"


def _yanked(grid: Grid) -> str:
    """Return the shown releases that were withdrawn, with the index's reason."""
    named = [("torch", torch) for torch in grid.columns] + [("vLLM", vllm) for vllm in grid.rows]
    yanked = [
        f"{name} {release.version}{f' ({markdown(release.yanked)})' if release.yanked else ''}"
        for name, release in named
        if release.yanked is not None
    ]
    return f"\\* Yanked from the index: {'; '.join(yanked)}.\n" if yanked else ""


def _contradictions(grid: Grid) -> str:
    """Return the runs that contradict the rungs that need no run."""
    found = [
        f"- `{progress.cell.name}` on {progress.platform}:"
        f" {markdown(contradiction_words(contradiction))}"
        for square in grid.squares.values()
        for progress in square.cells
        for contradiction in progress.contradictions
    ]
    head = "A run showed something else than the first rungs; the run decides:\n"
    return "\n".join([head, *found]) + "\n" if found else ""
