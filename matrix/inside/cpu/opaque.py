"""Makes operators that need CUDA kernels opaque and empty, as the compiler sees CUDA's."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch

_HOMES = (
    "vllm.model_executor.layers.fused_moe.layer",
    "vllm.model_executor.layers.sparse_attn_indexer",
)
_INDEXERS = ("sparse_attn_indexer",)
_EXPERTS = ("moe_forward", "moe_forward_shared")

_library: torch.library.Library | None = None


def install_opaque_operators(*, experts: bool) -> None:
    """Give vLLM's operators a CPU kernel that returns what their own fake kernels return.

    The compiler sees an opaque operator either way; the operators themselves would need CUDA
    kernels, and a startup test reads no result. Those of experts are left alone unless `experts`.
    Calling it again does nothing.
    """
    global _library  # noqa: PLW0603 - the library lives as long as the process
    if _library is not None:
        return
    operators = _INDEXERS + (_EXPERTS if experts else ())
    fakes = {name: fake for name in operators if (fake := _fake_of(name)) is not None}
    _library = torch.library.Library("vllm", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, fake in fakes.items():
            _library.impl(name, fake, "CPU", allow_override=True)


def _fake_of(operator: str) -> Callable[..., Any] | None:
    """Return the shape function that vLLM registers for an operator; its home has moved."""
    for home in _HOMES:
        try:
            module = importlib.import_module(home)
        except ImportError:
            continue
        for name in (f"_{operator}_fake", f"{operator}_fake"):
            if hasattr(module, name):
                fake: Callable[..., Any] = getattr(module, name)
                return fake
    return None
