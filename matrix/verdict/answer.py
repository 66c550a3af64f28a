"""The first answer for each vLLM: with which torch to install it, and what was seen of that pair.

Pure. Reports word it: the head of the page, and the small file of each release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from matrix.catalog.cells import Cell, CellError
from matrix.catalog.release import Vllm
from matrix.catalog.releases import Releases
from matrix.record.model import Platform
from matrix.verdict.grid import Grid, Square, cell_finder
from matrix.verdict.ladder import Progress, badness
from matrix.verdict.prediction import Prediction
from matrix.verdict.predictions import NO_PREDICTIONS, Predictions
from matrix.verdict.states import Verdict
from matrix.verdict.table import Entry


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The installation of a pair: the requirements, and the overrides of vLLM's own.

    There are overrides only where the pair is off-pin.
    """

    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VllmAnswer:
    """The answer for one vLLM: the pair that represents it, and its facts.

    `progress` is of the authoritative platform, `entry` its record there (None: it did not run),
    and `elsewhere` the record of the pair on another platform. `prediction` is there where nothing
    was measured. `others` are the torch releases with which it ran as expected too, `marked` those
    with which it did so in a run that was partial or not stock, `failing` those with which it did
    not, newest first.
    """

    vllm: Vllm
    torch: str
    progress: Progress
    entry: Entry | None = None
    elsewhere: Entry | None = None
    prediction: Prediction | None = None
    others: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()

    @property
    def off_pin(self) -> bool:
        """Whether this vLLM pins another torch."""
        return self.torch != self.vllm.torch


def answers(
    grid: Grid,
    entries: Iterable[Entry],
    releases: Releases,
    predictions: Predictions = NO_PREDICTIONS,
) -> tuple[VllmAnswer, ...]:
    """Return the answer for each vLLM of the grid, newest first.

    Of a vLLM that is the pair with the pinned torch, unless another torch has a better run on the
    authoritative platform: then with the newest of these. A run as expected is better than any
    other or none, one of all cases than a partial one, and then one that is stock.
    """
    if not grid.platforms:
        return ()
    found = _by_cell(entries, releases)
    return tuple(
        _answer(grid, vllm, found, predictions)
        for vllm in reversed(grid.vllm)
        if any((Platform.CUDA, torch.version, vllm.version) in grid.squares for torch in grid.torch)
    )


_Ran = Mapping[tuple[Cell, Platform], Entry]


def _by_cell(entries: Iterable[Entry], releases: Releases) -> _Ran:
    cell_of_record = cell_finder(releases)
    cells = ((cell_of_record(entry.record), entry) for entry in entries)
    return {(cell, entry.record.platform): entry for cell, entry in cells if cell is not None}


def _answer(grid: Grid, vllm: Vllm, ran: _Ran, predictions: Predictions) -> VllmAnswer:
    squares = [
        grid.squares[Platform.CUDA, torch.version, vllm.version] for torch in reversed(grid.torch)
    ]
    good = [square for square in squares if _is_good(square)]
    pinned = [square for square in squares if not square.off_pin]
    chosen = next(iter([*sorted(good, key=_preference), *pinned, *squares]))
    elsewhere = _elsewhere(chosen, ran)
    progress = _progress(chosen, elsewhere)
    others = [square for square in good if square is not chosen]
    bad = (square for square in squares if _is_bad(square))
    return VllmAnswer(
        vllm=vllm,
        torch=chosen.torch,
        progress=progress,
        entry=ran.get((progress.cell, Platform.CUDA)),
        elsewhere=elsewhere,
        prediction=predictions.at(chosen),
        others=tuple(square.torch for square in others if not _is_marked(square)),
        marked=tuple(square.torch for square in others if _is_marked(square)),
        failing=tuple(square.torch for square in bad if square is not chosen),
    )


def _is_good(square: Square) -> bool:
    """Tell whether a pair ran as expected on this platform."""
    shown = square.shown
    return shown.ran is not None and shown.verdict == Verdict.COMPATIBLE


def _preference(square: Square) -> tuple[bool, bool, bool]:
    """Return what sorts the good pairs of a vLLM: the first one stands for it."""
    ran = square.shown.ran
    return ran is None or ran.part is not None, bool(square.shown.not_stock), square.off_pin


def _is_marked(square: Square) -> bool:
    """Tell whether the run of a good pair was partial or not stock."""
    return any(_preference(square)[:2])


def _is_bad(square: Square) -> bool:
    """Tell whether a pair ran on this platform and failed or drifted."""
    shown = square.shown
    return shown.ran is not None and shown.verdict in (Verdict.INCOMPATIBLE, Verdict.DRIFT)


def _progress(square: Square, elsewhere: Entry | None) -> Progress:
    """Return the progress that stands for the pair; without a run on the Python of another's."""
    shown = square.shown
    if shown.ran is not None or elsewhere is None:
        return shown
    there = square.on_python(elsewhere.factors.python)
    return there if there is not None and there.fails == shown.fails else shown


def _elsewhere(square: Square, ran: _Ran) -> Entry | None:
    """Return the worst run of the pair on another platform, the same Python before others."""
    own = square.shown.cell
    found = [
        (cell != own, badness(entry.verdict.verdict, entry.verdict.rung, entry.ran), entry)
        for platform in Platform
        if platform != square.platform
        for cell in (progress.cell for progress in square.cells)
        if (entry := ran.get((cell, platform))) is not None
    ]
    return min(found, key=lambda run: run[:2])[2] if found else None


def installation(cell: Cell, releases: Releases) -> Installation:
    """Return what installs the pair of a cell, with what the data asks for beyond its pins."""
    own = (f"vllm=={cell.vllm}", *releases.constraints(cell.vllm))
    try:
        return Installation(requirements=own, overrides=releases.overrides(cell))
    except CellError:  # no companions are known
        return Installation(requirements=own, overrides=(f"torch=={cell.torch}",))
