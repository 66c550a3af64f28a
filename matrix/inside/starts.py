"""One start of vLLM, observed: what it counted and how long it took."""

import contextlib
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from matrix._util.nvidia import GPU_SHARE, START_MIB, dotted
from matrix._util.scratch import SHORT, Scratch
from matrix.inside import cache_files, gpus, vllm_compat
from matrix.inside.models import Model, overrides
from matrix.inside.observing import observing
from matrix.inside.rank_faults import explained
from matrix.inside.stub_image_processor import use_plain_image_processor
from matrix.record.model import EVENTS_LIMIT, Platform

_SOCKETS = "VLLM_RPC_BASE_PATH"
_SOCKET_FOLDER = 107 - 37
_KV_CACHE_BLOCKS = 64
_KV_CACHE_BYTES = 1 << 30
_LEAST_CAPABILITY = {
    "sparse_mla": ("sparse MLA needs", (9, 0)),
    "mxfp4": ("mxfp4 weights need", (8, 0)),
    "fp8": ("fp8 weights need", (7, 5)),
}
"""The compute capability below which vLLM refuses (0.16 to 0.20).

Sparse MLA: `supports_compute_capability` of its attention backends. The others:
`get_min_capability` of quantization's `mxfp4.py` and `fp8.py`, which `config/vllm.py` holds against
the GPU's. MLA itself has a backend (Triton's) for any, and so have int4 experts.
"""

Runner = Callable[["Startup"], AbstractContextManager[Any]]
"""A context manager that starts vLLM, yields its `LLM` and frees it."""


class StateError(RuntimeError):
    """This process compiled something before its start, so the start would not be cold, or warm."""


@dataclass(frozen=True, kw_only=True)
class Startup:
    """How a case starts vLLM: the model, where its files come from, further engine arguments.

    `ranks` is on how many GPUs, by tensor parallelism, with a process for each beyond one. With
    `own_process` the engine has a process of its own, as where people serve; the variable
    VLLM_ENABLE_V1_MULTIPROCESSING must say so too. `cudagraphs` is the mode in which CUDA graphs
    are captured for one size; None captures none. With `encoder` what looks at images is compiled.
    """

    model: Model
    platform: Platform
    source: str = "data"
    trust_remote_code: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    allreduce_fusion: bool = True
    ranks: int = 1
    own_process: bool = False
    cudagraphs: str | None = None
    encoder: bool = False

    @property
    def asks_ranks(self) -> bool:
        """Return whether the model is in other processes, which are asked what they observed."""
        return self.ranks > 1 or self.own_process


def prepare_environment(source: str) -> None:
    """Set what torch, vLLM and the hub's client read while they are imported.

    One process (counters and caches are looked at from inside), no usage report, and no hub
    unless the models come from there.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    # Otherwise torch.cuda.is_available, which imports call, spoils every fork after it.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    os.environ.setdefault("VLLM_DEEP_GEMM_WARMUP", "skip")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if source != "hub":
        os.environ["HF_HUB_OFFLINE"] = "1"


def cannot_start(startup: Startup) -> str | None:
    """Return why this release on this machine cannot make this start, or None."""
    if startup.own_process and not vllm_compat.ranks_can_be_asked():
        return "this vLLM has no worker_extension_cls, by which its engine's process is asked"
    if startup.cudagraphs is not None and startup.platform is not Platform.CUDA:
        return "CUDA graphs are captured on a GPU only"
    if startup.encoder and not vllm_compat.compiles_encoders():
        return "this vLLM does not compile encoders"
    if "speculative_config" in startup.arguments:
        if not vllm_compat.drafts_with_models():
            return "this vLLM has no draft models"
        if startup.platform is Platform.CPU and not vllm_compat.cpu_runner_drafts():
            return "this vLLM's model runner for CPUs takes no draft"
    return cannot_run(startup.model, startup.platform, startup.ranks)


def cannot_run(model: Model, platform: Platform, ranks: int = 1) -> str | None:
    """Return why this release on this machine cannot run the model on so many ranks, or None."""
    if (reason := gpus.too_few(ranks, platform)) is not None:
        return reason
    if ranks > 1 and not vllm_compat.ranks_can_be_asked():
        return "this vLLM has no worker_extension_cls, by which its ranks are asked"
    if model.architecture not in vllm_compat.architectures():
        return f"this vLLM has no {model.architecture}"
    for need in model.needs:
        reason = _unmet(need, platform)
        if reason is not None:
            return reason
    return None


def _unmet(need: str, platform: Platform) -> str | None:
    if platform is Platform.CUDA and need in _LEAST_CAPABILITY:
        what, least = _LEAST_CAPABILITY[need]
        capability = vllm_compat.compute_capability()
        if capability is not None and capability < least:
            return f"{what} compute capability {dotted(least)}, this GPU has {dotted(capability)}"
        if need == "sparse_mla" and vllm_compat.lacks_deep_gemm():
            return "sparse MLA needs DeepGEMM, which is not installed here for this Python"
    if platform is Platform.CPU and need == "sparse_mla" and not vllm_compat.compiles_sparse_mla():
        return "this release has a model of its own for sparse MLA on CUDA, which is not compiled"
    return None


@contextlib.contextmanager
def engine(startup: Startup) -> Iterator[Any]:
    """Start vLLM in this process, yield its `LLM`, free the engine and its memory afterwards."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    llm = None
    with _short_sockets() if startup.asks_ranks else contextlib.nullcontext():
        try:
            llm = LLM(**_arguments(startup))
            yield llm
        finally:
            if llm is not None and startup.asks_ranks:
                vllm_compat.shut_down(llm)
            llm = None
            gc.collect()
            cleanup_dist_env_and_memory()


@contextlib.contextmanager
def _short_sockets() -> Iterator[None]:
    """Let ranks have sockets in a folder whose path is short enough, whatever TMPDIR is.

    Linux takes a path of 107 bytes, and vLLM adds 37 to that of the folder.
    """
    if _SOCKETS in os.environ or len(os.fsencode(tempfile.gettempdir())) <= _SOCKET_FOLDER:
        yield
        return
    with Scratch("sockets", SHORT) as folder:
        os.environ[_SOCKETS] = str(folder)
        try:
            yield
        finally:
            del os.environ[_SOCKETS]


def _arguments(startup: Startup) -> dict[str, Any]:
    model = startup.model
    compilation = vllm_compat.compilation_config(startup.cudagraphs)
    if not startup.allreduce_fusion:
        vllm_compat.without_allreduce_fusion(compilation)
    if startup.encoder:
        compilation.compile_mm_encoder = True
    arguments: dict[str, Any] = {
        "load_format": "dummy",
        "max_model_len": 256,
        "max_num_batched_tokens": 1024,
        "num_gpu_blocks_override": _KV_CACHE_BLOCKS,
        "hf_overrides": overrides(model, startup.platform),
        "compilation_config": compilation,
        **startup.arguments,
    }
    if startup.platform is Platform.CUDA:
        # A fixed share and a fixed KV cache: starts side by side on one GPU do not measure each
        # other, and a GPU that somebody else half fills still serves. vLLM refuses to start where
        # less than the share is free, so on a large GPU it is no more than a start may take.
        share = START_MIB / vllm_compat.device_memory_mib()
        arguments["gpu_memory_utilization"] = min(GPU_SHARE, share)
        if "kv_cache_memory_bytes" in vllm_compat.engine_arguments():
            arguments["kv_cache_memory_bytes"] = _KV_CACHE_BYTES
    if startup.ranks > 1:
        arguments |= vllm_compat.on_ranks(startup.ranks)
    elif startup.own_process:
        arguments |= vllm_compat.asked_from_outside()
    if startup.source == "hub" and model.repository is not None:
        arguments["model"] = model.repository
        arguments["trust_remote_code"] = startup.trust_remote_code
    else:
        vllm_compat.learn_model_type(model.model_type)
        arguments["model"] = str(model.folder)
        if model.images is not None:
            use_plain_image_processor(model.images)
        elif not model.sees:
            arguments["skip_tokenizer_init"] = True
    return arguments


def observe(startup: Startup, runner: Runner = engine) -> dict[str, Any]:
    """Start vLLM once in this process by `runner`; return what was observed of it, as JSON.

    That is `seconds`, `counters`, `events`, `jit`, `metrics` and `caches`; with several ranks also
    `ranks`, what each observed, and `counters` and `metrics` are then those of the first.

    `seconds["total"]` is the whole start, from arguments to a ready engine; `compilation` is
    what vLLM itself sums up for Dynamo and Inductor, of the rank that took longest; `shutdown`,
    after the start, is the freeing of the engine; the others are `timings.Timings.parts` of this
    process, and `unnamed` is the rest of the total.
    `events` are those of `events.Events.found`, `jit` those of `flashinfer_jit.watching`, `metrics`
    those of `torch_internals.metrics`, `caches` what `cache_files.held` says once the engine is
    ready.
    Raises StateError if this process or a rank has compiled before, or if this process was forked
    from one that touched CUDA, and whatever vLLM raises.
    """
    dirty = vllm_compat.clean_state()
    if dirty is not None:
        raise StateError(f"this process has compiled before the start: {dirty}")
    if startup.platform is Platform.CUDA and vllm_compat.cuda_spoilt_by_fork():
        raise StateError("CUDA was touched before the fork, so this start cannot use it")
    folders = cache_files.caches()
    found_before = cache_files.look(folders)
    began = time.perf_counter()
    faults = explained() if startup.asks_ranks else contextlib.nullcontext()
    with faults, observing() as observed:
        with observed.following(), runner(startup) as llm:
            total = time.perf_counter() - began
            parts = observed.parts()
            if startup.asks_ranks:
                seen, compilation = _of_ranks(vllm_compat.ask_ranks(llm), observed.seen())
            else:
                seen = observed.seen()
                config = llm.llm_engine.vllm_config.compilation_config
                compilation = float(config.compilation_time)
            kept = cache_files.held(found_before, cache_files.look(folders))
            ending = time.perf_counter()
            del llm  # or the runner could not free the engine
        shutdown = time.perf_counter() - ending
    unnamed = max(0.0, total - sum(parts.values()))
    seconds = {
        "total": total,
        "compilation": compilation,
        **parts,
        "unnamed": unnamed,
        "shutdown": shutdown,
    }
    return {
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
        **seen,
        "caches": kept,
    }


def _of_ranks(
    ranks: Sequence[Mapping[str, Any]], here: Mapping[str, Any]
) -> tuple[dict[str, Any], float]:
    """Return what a start on several ranks observed, and the seconds of compilation.

    `here` is what the process of the start observed itself: it compiles nothing.
    """
    for rank in ranks:
        if rank["compiled_before"] is not None:
            raise StateError(
                f"rank {rank['rank']} has compiled before the start: {rank['compiled_before']}"
            )
    first = ranks[0]
    built = {module["name"]: module for of in (here, *ranks) for module in of["jit"]}
    kept = ("rank", "seconds", "counters", "events", "metrics")
    seen = {
        "counters": first["counters"],
        "events": [*here["events"], *first["events"]][:EVENTS_LIMIT],
        "jit": list(built.values()),
        "metrics": first["metrics"],
        "ranks": [{name: rank[name] for name in kept if rank[name] is not None} for rank in ranks],
    }
    return seen, max(rank["seconds"]["compilation"] for rank in ranks)
