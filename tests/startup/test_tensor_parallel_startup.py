"""The two small models of our own on two GPUs, each with half of every layer."""

from collections.abc import Callable

import pytest


@pytest.mark.gpus(2)
@pytest.mark.parametrize("model", ["dense", "moe"])
def test_tensor_parallel_startup(model: str, startup: Callable[..., None]) -> None:
    startup(f"small-{model}", ranks=2, allreduce_fusion=False)
