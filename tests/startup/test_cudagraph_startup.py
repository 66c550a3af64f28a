"""CUDA graphs, captured for one size in each mode; a start counts how many.

As upstream's `test_use_cudagraphs` counts them: one for each piece between the attentions of the
layers, one for the whole model.
"""

from collections.abc import Callable

import pytest

from matrix.inside.laws import counts

_PIECES = 5  # of the four layers of this model
_CAPTURED = {
    "NONE": 0,
    "FULL_DECODE_ONLY": 1,
    "PIECEWISE": _PIECES,
    "FULL_AND_PIECEWISE": _PIECES + 1,
}


@pytest.mark.full
@pytest.mark.parametrize("mode", _CAPTURED)
def test_cudagraph_startup(mode: str, startup: Callable[..., None]) -> None:
    law = counts("num_cudagraph_captured", _CAPTURED[mode])
    startup("small-dense", cudagraphs=mode, law=law)
