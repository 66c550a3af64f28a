"""The environment variables by which libraries find the kernels that they build just in time."""

from collections.abc import Mapping
from pathlib import Path

JIT_FOLDERS: Mapping[str, str] = {
    # flashinfer/jit/env.py: below it .cache/flashinfer/VERSION/ARCHITECTURES.
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    # vllm/utils/deep_gemm.py would put it into vLLM's cache, which is fresh for each case.
    "DG_JIT_CACHE_DIR": "deep_gemm",
    "DG_CACHE_DIR": "deep_gemm",
    # flashinfer/data/csrc/nv_internal/tensorrt_llm/deep_gemm/compiler.cuh
    "TRTLLM_DG_CACHE_DIR": "trtllm_deep_gemm",
    # tvm_ffi/cpp/extension.py, _optional_torch_c_dlpack.py
    "TVM_FFI_CACHE_DIR": "tvm_ffi",
    "TILELANG_CACHE_DIR": "tilelang",
    "CUTE_DSL_CACHE_DIR": "cute_dsl",
    # vllm/vllm_flash_attn/cute/cache_utils.py, vllm/third_party/fmha_sm100/jit.py
    "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": "flash_attention",
    "MINFER_FMHA_CACHE_DIR": "minfer",
    # quack/cache_utils.py, humming/utils/jit.py
    "QUACK_CACHE_DIR": "quack",
    "HUMMING_CACHE_DIR": "humming",
    # CUDA's driver: what it compiles from PTX.
    "CUDA_CACHE_PATH": "cuda",
}
"""The folder of each library's kernels, below that of all, by its environment variable."""


def jit_environment(folder: Path) -> dict[str, str]:
    """Return the variables that have the libraries keep their kernels below this folder."""
    return {name: str(folder / below) for name, below in JIT_FOLDERS.items()}
