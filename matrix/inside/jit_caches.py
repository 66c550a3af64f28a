"""Where libraries keep the kernels that they build just in time: one folder for each run.

It is fresh unless the user names one, and the cases of a run share it on purpose. What Inductor and
vLLM compile, and Triton's kernels with it, are apart from that: those caches are fresh for each
case (`fresh_vllm_cache`), since counters and warm starts speak of them.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDERS = {
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
_FLASHINFER = "flashinfer"
_HASH = re.compile(r"[._-]?(?:[0-9a-f]{16,}|\b[0-9a-f]{1,2}\b).*")


@contextmanager
def caches(kept: Path | None = None) -> Iterator[Path]:
    """Give the libraries caches of their own meanwhile, by their environment variables.

    They are empty and are removed at the end, or lie in the folder `kept`, with what it has, and
    stay. Libraries read most of these variables when they are imported, so it must be before that.
    Raises OSError where no folder can be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="matrix-jit-")) if kept is None else kept.absolute()
    before = {name: os.environ.get(name) for name in _FOLDERS}
    try:
        for name, below in _FOLDERS.items():
            (folder / below).mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(folder / below)
        yield folder
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def built(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return by library what its cache below the folder holds now, in sorted order.

    Of FlashInfer the names of its modules that were built to their end, of others the names of
    their folders or files without hashes.
    """
    found = {}
    for below in sorted(set(_FOLDERS.values())):
        if below == _FLASHINFER:
            libraries = (folder / below).glob(".cache/flashinfer/*/*/cached_ops/*/*.so")
            names = {path.stem for path in libraries if path.stem == path.parent.name}
        else:
            paths = (path for path in (folder / below).rglob("*") if path.is_file())
            names = {_name(path.relative_to(folder / below)) for path in paths}
        if names:
            found[below] = tuple(sorted(names))
    return found


def _name(path: Path) -> str:
    """Return what a file of a cache is of: DeepGEMM has cache/kernel.NAME.HASH/kernel.cubin."""
    parts = path.parts
    named = parts[1] if len(parts) > 1 and parts[0] == "cache" else parts[0]
    return _HASH.sub("", named) or "unnamed"
