"""What checks say of pairs without a run, as far as an attribution asks.

Pure: the edge makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from matrix.attribution.extensions import Features, nothing_known
from matrix.verdict.grid import Grid


@dataclass(frozen=True, kw_only=True)
class KnownPairs:
    """The `grid`, which shows what cannot work, and which `features` of a vLLM link.

    None as the grid, and the default of the features, stand for nothing that is known.
    """

    grid: Grid | None = None
    features: Features = nothing_known
