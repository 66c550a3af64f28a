"""Two small models of our own, which start anywhere in about a minute."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("model", ["dense", "moe"])
def test_small_startup(model: str, startup: Callable[..., None]) -> None:
    startup(f"small-{model}")
