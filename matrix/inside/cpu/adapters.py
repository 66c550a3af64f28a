"""LoRA's part of a layer, as an opaque operator that does nothing; CUDA's are opaque too.

vLLM's own wrapper for CPUs is traced into the graph, which then is not the one that CUDA compiles.
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase

_library = torch.library.Library("matrix", "FRAGMENT")
_library.define("add_adapter(Tensor(a!) y, Tensor x, Tensor[] a, Tensor[] b) -> ()")
for _key in ("CPU", "Meta"):
    _library.impl("add_adapter", lambda *_: None, _key)


class OpaqueAdapters(PunicaWrapperBase):
    """Computes nothing, for a startup test reads no result."""

    def __init__(
        self, max_num_batched_tokens: int, max_batches: int, device: Any, **kwargs: Any
    ) -> None:
        """Keep what vLLM's layers ask any wrapper for."""
        PunicaWrapperBase.__init__(self, max_num_batched_tokens, max_batches, device)

    def add_shrink(self, y: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `add_lora_linear` has one operator for both steps."""

    def add_expand(self, y: torch.Tensor, x: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `add_lora_linear` has one operator for both steps."""

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, *args: Any, **_: Any
    ) -> None:
        """Add to an embedding."""
        torch.ops.matrix.add_adapter(y, x, [], [lora_b_stacked])

    def add_lora_linear(
        self, y: torch.Tensor, x: torch.Tensor, a: Any, b: Any, *args: Any, **_: Any
    ) -> None:
        """Add to a linear layer."""
        torch.ops.matrix.add_adapter(y, x, list(a), list(b))

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        *args: Any,
        **_: Any,
    ) -> None:
        """Add to the logits."""
        torch.ops.matrix.add_adapter(y, x, [a], [b])

    def apply_lora_full_linear(
        self, y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *_: Any
    ) -> None:
        """Take the place of a classifier's layer; vLLM 0.33 requires that wrappers have this."""
        torch.ops.matrix.add_adapter(y, x, [weight], [bias])
