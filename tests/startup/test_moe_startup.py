"""Thirty-two equal mixture-of-experts layers, of which the compiler should compile three graphs."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("mega_aot", ["0", "1"], ids=lambda value: f"mega_aot={value}")
def test_moe_startup(
    mega_aot: str, monkeypatch: pytest.MonkeyPatch, startup: Callable[..., None]
) -> None:
    monkeypatch.setenv("VLLM_USE_MEGA_AOT_ARTIFACT", mega_aot)
    startup("phi-tiny-moe")
