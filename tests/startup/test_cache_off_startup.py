"""The compile cache turned off: no start saves anything, and none loads anything."""

from collections.abc import Callable

import pytest

from matrix.inside.laws import keeps_nothing


@pytest.mark.full
def test_cache_off_startup(monkeypatch: pytest.MonkeyPatch, startup: Callable[..., None]) -> None:
    monkeypatch.setenv("VLLM_DISABLE_COMPILE_CACHE", "1")
    startup("small-dense", law=keeps_nothing)
