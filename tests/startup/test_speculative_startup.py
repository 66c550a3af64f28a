"""Speculative decoding: a small model, and itself as its draft."""

from collections.abc import Callable

import pytest

from matrix.inside.laws import loads_or_compiles
from matrix.inside.models import MODELS

_SEQUENCES = 64  # fewer than tokens in a batch: vLLM 0.33 keeps one of each sequence for the draft


@pytest.mark.full
def test_speculative_startup(startup: Callable[..., None]) -> None:
    draft = {
        "method": "draft_model",
        "model": str(MODELS["small-dense"].folder),
        "num_speculative_tokens": 2,
    }
    startup(
        "small-dense",
        arguments={"speculative_config": draft, "max_num_seqs": _SEQUENCES},
        law=loads_or_compiles,
    )
