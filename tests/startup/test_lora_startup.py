"""Adapters turned on (LoRA): every linear layer has room for one, in as many graphs."""

from collections.abc import Callable

import pytest


@pytest.mark.full
def test_lora_startup(startup: Callable[..., None]) -> None:
    startup(
        "small-dense",
        arguments={"enable_lora": True, "max_loras": 1, "max_lora_rank": 8},
        counts_as="small_startup[dense]",
    )
