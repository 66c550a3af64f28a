"""Speculative decoding: a small model, and itself as its draft."""

from collections.abc import Callable

import pytest

from matrix.inside.models import MODELS


@pytest.mark.full
def test_speculative_startup(startup: Callable[..., None]) -> None:
    draft = {
        "method": "draft_model",
        "model": str(MODELS["small-dense"].folder),
        "num_speculative_tokens": 2,
    }
    startup("small-dense", arguments={"speculative_config": draft})
