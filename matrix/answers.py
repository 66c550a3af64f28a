"""What the cheap rungs *resolves* and *links* answer of a cell, from the package's data."""

from __future__ import annotations

from matrix.cells import Cell
from matrix.ladder import Answer

__all__ = ["Answers", "load_answers"]


class Answers:
    """What was asked before; None of a cell that nobody asked."""

    def resolves(self, cell: Cell, platform: str) -> Answer | None:
        """Whether a resolver finds a full set of packages for the cell."""
        return None

    def links(self, cell: Cell) -> Answer | None:
        """Whether that torch exports what vLLM's extensions import."""
        return None


def load_answers() -> Answers:
    """Read the package's data."""
    return Answers()
