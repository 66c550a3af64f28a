"""What the cheap rungs *resolves* and *links* answer of a cell, from the package's data."""

from __future__ import annotations

from matrix.cells import Cell
from matrix.ladder import Answer
from matrix.releases import Releases
from matrix.resolutions import Resolutions, load_resolutions

__all__ = ["Answers", "load_answers"]


class Answers:
    """What was asked before; None of a cell that nobody asked."""

    def __init__(self, releases: Releases, resolutions: Resolutions) -> None:
        """Answer from these."""
        self._pins = {release.version: release.torch for release in releases.vllm}
        self._resolutions = resolutions

    def resolves(self, cell: Cell, platform: str) -> Answer | None:
        """Whether a resolver finds a full set of packages for the cell.

        Both platforms install the same wheels. Of an off-pin cell only an answer with its torch
        forced counts, which is how its environment is made.
        """
        found = self._resolutions.resolved(cell)
        off_pin = self._pins.get(cell.vllm) != cell.torch
        if found is None or (off_pin and found.override is None):
            return None
        return Answer(found.ok, found.reason, f"asked on {found.asked}")

    def links(self, cell: Cell) -> Answer | None:
        """Whether that torch exports what vLLM's extensions import."""
        return None


def load_answers(releases: Releases) -> Answers:
    """Read the package's data.

    Raises MatrixError, which names the file, where one is damaged.
    """
    return Answers(releases, load_resolutions())
