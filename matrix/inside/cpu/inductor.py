"""What torch chooses for a GPU in the graphs that it compiles, chosen on the CPU platform too.

Both choices are those of torch 2.9 to 2.14, and neither is one of kernels.
"""

import importlib
from typing import Any

_A = -0.75  # torch's constant of the cubic kernel


def choose_as_for_a_gpu() -> None:
    """Let Inductor and torch's decompositions choose what they choose for a GPU.

    Only for a GPU Inductor takes a bias out of a matrix product that pointwise operators follow.
    For a CPU torch stacks the coefficients of a bicubic interpolation.
    """
    post_grad: Any = importlib.import_module("torch._inductor.fx_passes.post_grad")
    post_grad.is_gpu = lambda _: True
    decompositions: Any = importlib.import_module("torch._decomp.decompositions")
    near = getattr(decompositions, "_upsample_cubic_convolution1", None)
    far = getattr(decompositions, "_upsample_cubic_convolution2", None)
    if near is None or far is None:
        return

    def coefficients(t: Any) -> tuple[Any, ...]:
        return far(t + 1.0, _A), near(t, _A), near(1.0 - t, _A), far(2.0 - t, _A)

    decompositions._upsample_get_cubic_coefficients = coefficients
