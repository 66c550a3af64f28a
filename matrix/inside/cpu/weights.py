"""Fills dummy weights quickly: vLLM draws each value, which takes half a minute for a large model.

The compiler sees no value, and no result is read here.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LOADER = "vllm.model_executor.model_loader"
_MODULES = (f"{_LOADER}.weight_utils", f"{_LOADER}.dummy_loader")
_FILL = "initialize_single_dummy_weight"
_DRAWN = 1 << 16  # random values of a weight at most; the rest repeats them
_LOOKED_AT = 1 << 13  # so many bytes of a weight: each may be in a page that is not there yet


@contextmanager
def quick_dummy_weights() -> Iterator[None]:
    """Let vLLM draw few values of a weight and repeat them, and none where all are zero already.

    Memory that is new from the operating system reads as zeros, and takes no page until somebody
    writes to it: so the weights of experts, with which this platform computes nothing, take none.
    """
    homes = [vars(importlib.import_module(name)) for name in _MODULES]
    usual = [(home, home[_FILL]) for home in homes if _FILL in home]
    for home, draw in usual:
        home[_FILL] = _repeating(draw)
    try:
        yield
    finally:
        for home, draw in usual:
            home[_FILL] = draw


def _repeating(draw: Callable[..., None]) -> Callable[..., None]:
    def fill(weight: torch.Tensor, *options: Any, **named: Any) -> None:
        count = weight.numel()
        if count <= _DRAWN or not weight.is_contiguous():
            draw(weight, *options, **named)
            return
        values = weight.view(-1)
        bytes_ = values.view(torch.uint8)
        if not bytes_[:: bytes_.numel() // _LOOKED_AT | 1].any():  # odd: each byte of a value
            return
        draw(values[:_DRAWN], *options, **named)
        filled = _DRAWN
        while filled < count:
            more = min(filled, count - filled)
            values[filled : filled + more].copy_(values[:more])
            filled += more

    without_gradients: Callable[..., None] = torch.no_grad()(fill)
    return without_gradients
