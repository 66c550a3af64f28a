"""The CPU platform lets torch choose as for a GPU, where torch has the choice."""

import sys
import types
from typing import Any

import pytest

from matrix.inside.cpu.inductor import choose_as_for_a_gpu


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the two modules of torch that choose, with what they ask and use."""
    made: dict[str, Any] = {}
    for name in (
        "torch",
        "torch._inductor",
        "torch._inductor.fx_passes",
        "torch._inductor.fx_passes.post_grad",
        "torch._decomp",
        "torch._decomp.decompositions",
    ):
        made[name] = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, made[name])
    post_grad, decompositions = made["torch._inductor.fx_passes.post_grad"], made[name]
    post_grad.is_gpu = lambda device: device == "cuda"
    decompositions._upsample_cubic_convolution1 = lambda x, _: ("near", x)
    decompositions._upsample_cubic_convolution2 = lambda x, _: ("far", x)
    return types.SimpleNamespace(post_grad=post_grad, decompositions=decompositions)


def test_a_cpu_is_taken_for_a_gpu_where_only_a_gpu_has_its_bias_taken_out(torch: Any) -> None:
    choose_as_for_a_gpu()
    assert torch.post_grad.is_gpu("cpu") and torch.post_grad.is_gpu("cuda")


def test_the_coefficients_of_an_interpolation_are_not_stacked(torch: Any) -> None:
    choose_as_for_a_gpu()
    found = torch.decompositions._upsample_get_cubic_coefficients(0.25)
    assert found == (("far", 1.25), ("near", 0.25), ("near", 0.75), ("far", 1.75))


def test_a_torch_without_these_kernels_keeps_its_own(torch: Any) -> None:
    del torch.decompositions._upsample_cubic_convolution1
    choose_as_for_a_gpu()
    assert not hasattr(torch.decompositions, "_upsample_get_cubic_coefficients")
