"""What CUDA compiles while it loads weights that are quantised in blocks of fp8.

This platform loads such a model in bfloat16. The compiled function is vLLM's own, and is called as
vLLM calls it where DeepGEMM multiplies: it gives the blocks scales that are powers of two.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from vllm.platforms.interface import Platform, PlatformEnum

from matrix.inside.models import LEFT_OUT

_UTILITIES = "vllm.model_executor.layers.quantization.utils.fp8_utils"
_BLOCKS = 2  # in each direction: of one alone torch compiles a special case


class _Hopper(Platform):
    """A GPU for which DeepGEMM is made."""

    _enum = PlatformEnum.CUDA

    @classmethod
    def support_deep_gemm(cls) -> bool:
        """Return that it is supported: newer releases of vLLM ask this alone."""
        return True

    @classmethod
    def is_device_capability(cls, *_: Any, **__: Any) -> bool:
        """Return that the compute capability is the one that is asked for."""
        return True


def cast_blocks(config: Any) -> None:
    """Give blocks of fp8 other scales where CUDA does so with weights of this configuration.

    Nothing is done for a model without such weights, or where vLLM says that it has no DeepGEMM.
    """
    quantization = getattr(config, LEFT_OUT, {}).get("quantization_config")
    if not isinstance(quantization, Mapping) or quantization.get("quant_method") != "fp8":
        return
    block = quantization.get("weight_block_size")
    if not block or not _scales_are_powers_of_two():
        return
    shape = [size * _BLOCKS for size in block]
    weight = torch.zeros(shape, dtype=torch.float8_e4m3fn)
    scales = torch.ones([_BLOCKS] * len(block))
    utilities: Any = importlib.import_module(_UTILITIES)
    with torch.no_grad():
        utilities.requant_weight_ue8m0_inplace(weight, scales, block)


def _scales_are_powers_of_two() -> bool:
    """Return what vLLM would say on a GPU for which DeepGEMM is made, without loading DeepGEMM."""
    envs: Any = importlib.import_module("vllm.envs")
    if not getattr(envs, "VLLM_USE_DEEP_GEMM_E8M0", False):
        return False
    home = vars(importlib.import_module("vllm.utils.deep_gemm"))
    usual = home["current_platform"]
    home["current_platform"] = _Hopper()
    try:
        # Its answer would be kept, for those who ask of this platform as well.
        return bool(home["is_deep_gemm_supported"].__wrapped__())
    finally:
        home["current_platform"] = usual
