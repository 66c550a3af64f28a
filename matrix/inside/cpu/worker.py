"""The worker and the model runner: gloo, no memory profiling, no CUDA operators."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from vllm.platforms import current_platform
from vllm.platforms.interface import PlatformEnum
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.gpu_worker import Worker, init_worker_distributed_environment

from matrix.inside.cpu.fp8 import cast_blocks
from matrix.inside.cpu.weights import quick_dummy_weights

try:
    from vllm.v1.worker.worker_base import CompilationTimes
except ImportError:
    CompilationTimes = None


class CpuModelRunner(CPUModelRunner):
    """vLLM's CPU model runner, less what needs `torch.ops._C` or Triton and is never compiled."""

    def _postprocess_triton(self) -> None:
        pass

    def initialize_kv_cache_tensors(self, *args: Any, **kwargs: Any) -> Any:
        """Bind the KV cache as vLLM does on a CPU.

        It refuses a layer with two caches (DeepSeek's indexer has one) on platforms that it does
        not know.
        """
        platform = type(current_platform)
        known, platform._enum = platform._enum, PlatformEnum.CPU
        try:
            return super().initialize_kv_cache_tensors(*args, **kwargs)
        finally:
            platform._enum = known

    def _dummy_sampler_run(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states


class CpuWorker(Worker):
    """Loads the model and runs vLLM's own profile run once, which is what compiles the model."""

    def init_device(self) -> None:
        """Join the group of the ranks over gloo and build the model runner."""
        self.device = torch.device("cpu")
        os.environ["VLLM_DIST_IDENT"] = self.distributed_init_method.split(":")[-1]
        init_worker_distributed_environment(
            self.vllm_config, self.rank, self.distributed_init_method, self.local_rank, "gloo"
        )
        torch.manual_seed(self.model_config.seed)
        self.model_runner = CpuModelRunner(self.vllm_config, self.device)

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model, and compile what CUDA compiles while it loads quantised weights."""
        with _on_the_cpu(), quick_dummy_weights():
            super().load_model(*args, **kwargs)
        cast_blocks(self.model_config.hf_config)

    def _maybe_get_memory_pool_context(self, tag: str) -> AbstractContextManager[None]:
        # Memory pools for sleeping engines: vLLM asks every platform but its own CPU's for one.
        return nullcontext()

    def determine_available_memory(self) -> int:
        """Compile the model by a profile run; return the KV cache's fixed size in bytes."""
        with torch.no_grad():
            self.model_runner.profile_run()
        return 1 << 30

    def compile_or_warm_up_model(self) -> Any:
        """Return the seconds of compilation; everything was compiled by the profile run."""
        compilation = self.vllm_config.compilation_config
        if CompilationTimes is None:
            return compilation.compilation_time
        return CompilationTimes(
            language_model=compilation.compilation_time,
            encoder=compilation.encoder_compilation_time,
        )


class DecodingCpuWorker(CpuWorker):
    """Also runs one token, as vLLM's second model runner does when it warms up its kernels.

    What is compiled inside an opaque operator is compiled again for one token.
    """

    def determine_available_memory(self) -> int:
        """Compile the model by a profile run and a run of one token; return the cache's bytes."""
        available = super().determine_available_memory()
        with torch.no_grad():
            self.model_runner._dummy_run(1, is_profile=True)
        return available


@contextmanager
def _on_the_cpu() -> Iterator[None]:
    """Let a model that asks for the current CUDA device get the CPU: Kimi-K2.5 of vLLM 0.15."""
    usual = torch.cuda.current_device
    torch.cuda.current_device = lambda: torch.device("cpu")
    try:
        yield
    finally:
        torch.cuda.current_device = usual
