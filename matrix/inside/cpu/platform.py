"""The platform class: an out-of-tree platform whose device is the CPU.

It does not call itself vLLM's CPU platform (`is_cpu()` is false). vLLM takes shortcuts where it
sees a CPU: it turns VLLM_COMPILE into DYNAMO_TRACE_ONCE, it inlines mixture-of-experts layers
into the graph, it replaces linear layers by oneDNN calls. As an out-of-tree platform the graph
stays the one that CUDA compiles: custom operators opaque, everything else native torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

import torch
from vllm.platforms.interface import Platform, PlatformEnum

from matrix.inside.cpu.experts import define_router_operators, install_experts
from matrix.inside.cpu.inductor import choose_as_for_a_gpu
from matrix.inside.cpu.opaque import install_opaque_operators
from matrix.inside.cpu.runner import has_second_runner, use_first_runner
from matrix.inside.cpu.vision import send_one_medium, silence_vision_kernels

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_MEMORY_BYTES = 1 << 30
_WITH_VISION = "kimi_k25"

use_first_runner()


class CompilingCpuPlatform(Platform):
    """Runs Dynamo, the split, Inductor and the caches as on CUDA; computes nothing of use."""

    _enum = PlatformEnum.OOT
    device_name = "cpu"
    device_type = "cpu"
    dispatch_key = "CPU"
    dist_backend = "gloo"

    @property
    def supported_dtypes(self) -> list[torch.dtype]:
        """The types that vLLM may choose for a model."""
        return [torch.bfloat16, torch.float16, torch.float32]

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        """Name the device in vLLM's logs."""
        return "cpu"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        """Return the bytes that the KV cache may have: fixed, since nothing is measured here."""
        return _MEMORY_BYTES

    @classmethod
    def get_current_memory_usage(cls, device: Any = None) -> float:
        """Return 0: the CPU's memory is not this platform's to account for."""
        return 0.0

    @classmethod
    def inference_mode(cls) -> Any:
        """Return a context without gradients (`inference_mode` breaks compiled CPU graphs)."""
        return torch.no_grad()

    @classmethod
    def set_device(cls, device: torch.device) -> None:
        """Do nothing: there is one CPU."""

    @classmethod
    def manual_seed_all(cls, seed: int) -> None:
        """Seed torch's CPU generator."""
        torch.manual_seed(seed)

    @classmethod
    def is_pin_memory_available(cls) -> bool:
        """Return False: pinned memory is CUDA's."""
        return False

    @classmethod
    def support_hybrid_kv_cache(cls) -> bool:
        """Return True, as CUDA does: models with sliding windows keep their layer groups."""
        return True

    @classmethod
    def check_runner_kv_caches_multi_layer(cls) -> None:
        """Accept a layer with two caches, as CUDA does: vLLM 0.28 and newer ask it."""

    @classmethod
    def opaque_attention_op(cls) -> bool:
        """Return True, as CUDA does: attention is an operator that the graph is split on."""
        return True

    @classmethod
    def import_kernels(cls) -> None:
        """Import nothing, for no kernel of CUDA runs here; give the routers empty ones."""
        define_router_operators()

    @classmethod
    def get_attn_backend_cls(cls, *args: Any, **kwargs: Any) -> str:
        """Name the attention backend: one that only describes itself, for its kernels never run."""
        return _attention_backend(args, kwargs)

    @classmethod
    def get_pass_manager_cls(cls) -> str:
        """Name vLLM's post-grad pass manager without the passes that name CUDA operators."""
        return "matrix.inside.cpu.passes.CpuPassManager"

    @classmethod
    def get_punica_wrapper(cls) -> str:
        """Name what adds adapters (LoRA) to a layer: opaque operators, as on CUDA."""
        return "matrix.inside.cpu.adapters.OpaqueAdapters"

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        """Name the base communicator, which sends over gloo what several ranks have to send."""
        return (
            "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase"
        )

    @classmethod
    def check_and_update_config(cls, vllm_config: "VllmConfig") -> None:
        """Fit the configuration to a process a rank on a CPU; the compilation mode stays."""
        install_opaque_operators(experts=not install_experts())
        choose_as_for_a_gpu()
        parallel = vllm_config.parallel_config
        if parallel.worker_cls == "auto":
            worker = "DecodingCpuWorker" if has_second_runner(vllm_config) else "CpuWorker"
            parallel.worker_cls = f"matrix.inside.cpu.worker.{worker}"
        parallel.distributed_executor_backend = "mp" if parallel.world_size > 1 else "uni"
        parallel.disable_custom_all_reduce = True
        if vllm_config.model_config is not None:
            vllm_config.model_config.disable_cascade_attn = True
            if vllm_config.model_config.use_mla:
                importlib.import_module("matrix.inside.cpu.attention").install_prefill()
            if vllm_config.model_config.hf_config.model_type == _WITH_VISION:
                silence_vision_kernels()
                send_one_medium(vllm_config.scheduler_config)
            if hasattr(vllm_config.model_config.hf_config, "index_topk"):
                importlib.import_module("matrix.inside.cpu.attention").install_indexer()
        vllm_config.scheduler_config.async_scheduling = False
        if vllm_config.cache_config.block_size is None:
            vllm_config.cache_config.block_size = 16
        compilation = vllm_config.compilation_config
        compilation.cudagraph_capture_sizes = []
        if compilation.compile_sizes is None:
            compilation.compile_sizes = []
        for option in ("combo_kernels", "benchmark_combo_kernel"):
            compilation.inductor_compile_config.pop(option, None)
        passes = compilation.pass_config
        for name in vars(passes):
            if name.startswith(("fuse_", "enable_")) and isinstance(getattr(passes, name), bool):
                setattr(passes, name, False)


def _attention_backend(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    asked = kwargs.get("attn_selector_config", args[1] if len(args) > 1 else None)
    if getattr(asked, "use_sparse", False):
        return "matrix.inside.cpu.attention.SparseMLABackend"
    if getattr(asked, "use_mla", False):
        return "matrix.inside.cpu.attention.MLABackend"
    return "vllm.v1.attention.backends.cpu_attn.CPUAttentionBackend"
