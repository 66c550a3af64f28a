"""vLLM's post-grad pass manager, less the passes that name operators of its CUDA extension."""

import torch
from vllm.config import VllmConfig

try:
    from vllm.compilation.passes import pass_manager
except ModuleNotFoundError:  # vLLM 0.15 and older
    from vllm.compilation import pass_manager


class _NoPass(pass_manager.VllmInductorPass):
    """Stands where a pass over CUDA operators would run: such operators never occur here."""

    def __call__(self, graph: torch.fx.Graph) -> None:
        """Leave the graph as it is."""


class CpuPassManager(pass_manager.PostGradPassManager):
    """Everything of vLLM's own but the last pass; the fusions are off in the configuration."""

    def configure(self, config: VllmConfig) -> None:
        """Set up vLLM's passes and replace fix-functionalization, which names `torch.ops._C`."""
        super().configure(config)
        self.fix_functionalization = _NoPass(config)
