"""Attention backends for multi-head latent attention (MLA) that only describe themselves.

A start reads their description of the KV cache. None of their kernels is ever called: the profile
run, which compiles the model, comes before there is a KV cache, and nothing runs after it.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from vllm.v1.attention import backend
from vllm.v1.attention.backend import AttentionBackend, AttentionMetadataBuilder, MLAAttentionImpl

_library: torch.library.Library | None = None


class MLABackend(AttentionBackend):
    """MLA: one vector a token, the same for all heads."""

    accept_output_buffer = True

    @staticmethod
    def get_name() -> str:
        """Name it in vLLM's logs."""
        return "CPU_MLA"

    @staticmethod
    def get_impl_cls() -> Any:
        """Return the class of each layer's kernels."""
        return _Kernels

    @staticmethod
    def get_builder_cls() -> Any:
        """Return the class that builds the metadata of a group of layers."""
        return _Builder

    @staticmethod
    def get_kv_cache_shape(
        num_blocks: int, block_size: int, num_kv_heads: int, head_size: int, *_: Any, **__: Any
    ) -> tuple[int, ...]:
        """Return the shape of one layer's KV cache, as vLLM's MLA backends have it."""
        return num_blocks, block_size, head_size

    @classmethod
    def is_mla(cls) -> bool:
        """Return True."""
        return True


class SparseMLABackend(MLABackend):
    """MLA on the tokens that an indexer chose."""

    @staticmethod
    def get_name() -> str:
        """Name it in vLLM's logs."""
        return "CPU_MLA_SPARSE"

    @staticmethod
    def get_impl_cls() -> Any:
        """Return the class of each layer's kernels."""
        return _SparseKernels

    @classmethod
    def is_sparse(cls) -> bool:
        """Return True."""
        return True


class _Kernels(MLAAttentionImpl[Any]):
    def __init__(self, *_: Any, **__: Any) -> None:
        """Keep nothing: there is no kernel to set up."""

    def forward(self, *_: Any, output: Any = None, **__: Any) -> Any:
        """Return the output as it is: vLLM 0.15 and older also call this without a KV cache."""
        return output

    def forward_mha(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("attention is not computed on the CPU platform")

    def forward_mqa(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("attention is not computed on the CPU platform")


# Newer releases know such kernels by `is_sparse` and have no class for them here.
_Sparse: Any = getattr(backend, "SparseMLAAttentionImpl", MLAAttentionImpl)


class _SparseKernels(_Sparse):
    is_sparse = True

    def __init__(self, *_: Any, **__: Any) -> None:
        """Keep nothing: there is no kernel to set up."""

    def forward(self, *_: Any, output: Any = None, **__: Any) -> Any:
        """Return the output as it is: vLLM 0.15 and older also call this without a KV cache."""
        return output

    def forward_mqa(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("attention is not computed on the CPU platform")


class _Builder(AttentionMetadataBuilder[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def build(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("attention is not computed on the CPU platform")


class _Prefill:
    """The kernels of a prompt's own tokens, which vLLM 0.26 and newer choose by the GPU."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Keep nothing: there is no kernel to set up."""

    @staticmethod
    def get_name() -> str:
        """Name it in vLLM's logs."""
        return "CPU_MLA_PREFILL"

    def supports_quant_output(self, *_: Any) -> bool:
        """Return False: nothing is written here."""
        return False


def install_prefill() -> None:
    """Let MLA's layers make the kernels for prompts out of nothing, where they make any.

    vLLM has FlashAttention for those, which asks a GPU while it is imported; 0.14 chooses none.
    Calling it again does nothing.
    """
    layer = _layers("attention.mla_attention")
    if hasattr(layer, "get_mla_prefill_backend"):
        layer.get_mla_prefill_backend = lambda *_: _Prefill


def install_indexer() -> None:
    """Let DeepSeek's indexer, which chooses tokens for sparse attention, look as it does on CUDA.

    Its own operator is opaque and takes vLLM's CUDA path here; the quantisation to fp8 in front
    of it is one mutating operator there, and here one of ours. In vLLM 0.14 the operator is the
    model's: it takes one path everywhere, through memory that only CUDA's worker has. Calling it
    again does nothing.
    """
    global _library  # noqa: PLW0603 - the library lives as long as the process
    if _library is not None:
        return
    _library = torch.library.Library("matrix", "FRAGMENT")
    _library.define("group_quant_fp8(Tensor x, Tensor! quantized, Tensor! scales) -> ()")
    _library.impl("group_quant_fp8", _leave, "CPU")
    _library.impl("group_quant_fp8", _leave, "Meta")
    layer = _layers("sparse_attn_indexer")
    if layer is not None:
        layer.SparseAttnIndexer.forward_native = layer.SparseAttnIndexer.forward_cuda
    else:
        workspace: Any = importlib.import_module("vllm.v1.worker.workspace")
        workspace.init_workspace_manager(torch.device("cpu"))
    model: Any = importlib.import_module("vllm.model_executor.models.deepseek_v2")
    model.per_token_group_quant_fp8 = _group_quant_fp8
    model.DeepseekV32IndexerCache.get_attn_backend = lambda _: MLABackend
    if hasattr(model, "fused_indexer_q_rope_quant"):
        _library.define(
            "fused_indexer_q(Tensor positions, Tensor q, Tensor cos_sin_cache, Tensor weights,"
            " Tensor! quantized, Tensor! scaled, float softmax_scale, float head_scale) -> ()"
        )
        _library.impl("fused_indexer_q", _leave_all, "CPU")
        _library.impl("fused_indexer_q", _leave_all, "Meta")
        model.fused_indexer_q_rope_quant = _fused_indexer_q
        model.Indexer.__init__ = _with_fused_queries(model.Indexer.__init__)


def _layers(name: str) -> Any:
    """Return a module of vLLM's layers, or None if this release has none of that name."""
    full = f"vllm.model_executor.layers.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        return None


def _with_fused_queries(initialize: Callable[..., None]) -> Callable[..., None]:
    """Return what makes an indexer of vLLM 0.25 to 0.28 that prepares its queries as on CUDA.

    There a Triton kernel does it where the indexer is traced. Dynamo numbers the launches of such
    kernels, so no two subgraphs with one are equal. Here each indexer has a scale of its own.
    """
    models: Any = importlib.import_module("vllm.model_executor.models.utils")

    @functools.wraps(initialize)
    def make(self: Any, *arguments: Any, **named: Any) -> None:
        initialize(self, *arguments, **named)
        self.use_fused_indexer_q = (
            self.quant_block_size == self.head_dim == 128
            and self.rope_dim == 64
            and self.scale_fmt is not None
        )
        self.softmax_scale *= 1 + models.extract_layer_index(self.prefix) * 2**-40

    return make


def _fused_indexer_q(
    positions: torch.Tensor,
    q: torch.Tensor,
    cos_sin_cache: torch.Tensor,
    weights: torch.Tensor,
    *scales: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    softmax_scale, head_scale = scales[:2]
    quantized = torch.empty_like(q, dtype=torch.float8_e4m3fn)
    scaled = torch.empty_like(weights, dtype=torch.float32)
    torch.ops.matrix.fused_indexer_q(
        *(positions, q, cos_sin_cache, weights, quantized, scaled),
        *(softmax_scale, head_scale),
    )
    return quantized, scaled


def _leave_all(*_: Any) -> None:
    """Write nothing: a startup test reads no result."""


def _leave(x: torch.Tensor, quantized: torch.Tensor, scales: torch.Tensor) -> None:
    """Write nothing: a startup test reads no result."""


def _group_quant_fp8(
    x: torch.Tensor, group_size: int, *_: Any, **__: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    quantized = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scales = torch.empty(
        (*x.shape[:-1], x.shape[-1] // group_size), device=x.device, dtype=torch.float32
    )
    torch.ops.matrix.group_quant_fp8(x, quantized, scales)
    return quantized, scales
