"""Two small models of our own, which start anywhere in about a minute."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("model", ["dense", "moe"])
def test_small_startup(model: str, startup: Callable[..., None]) -> None:
    # One case of a run asks its model's class as users' starts do, in another interpreter.
    startup(f"small-{model}", inspects=model == "dense")
