"""The engine in a process of its own, as where people serve, which is asked what it counted."""

from collections.abc import Callable

import pytest


@pytest.mark.full
def test_own_process_startup(monkeypatch: pytest.MonkeyPatch, startup: Callable[..., None]) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    startup("small-dense", own_process=True, counts_as="small_startup[dense]")
