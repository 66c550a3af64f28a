"""The models that the startup tests start: small versions of real ones, and two of our own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["MODELS", "Model", "overrides"]

_FOLDER = Path(__file__).resolve().parent.parent / "data" / "models"


@dataclass(frozen=True)
class Model:
    """One model: its configuration in `matrix/data/models/<name>`, its hub id where it has one.

    `overrides` make it small, as upstream's own tests do; `cpu_overrides` come on top on the CPU.
    `architecture` is vLLM's class for it. `needs` names what its kernels ask of a machine.
    """

    name: str
    architecture: str
    repository: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    cpu_overrides: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    nested: str | None = None

    @property
    def folder(self) -> Path:
        """Where this model's configuration lies."""
        return _FOLDER / self.name


_SMALL = {
    "num_hidden_layers": 8,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model("small-dense", "LlamaForCausalLM"),
        Model("small-moe", "MixtralForCausalLM"),
        Model(
            "phi-tiny-moe",
            "PhiMoEForCausalLM",
            "microsoft/Phi-tiny-MoE-instruct",
            cpu_overrides={
                "hidden_size": 256,
                "intermediate_size": 64,
                "num_attention_heads": 4,
                "num_key_value_heads": 1,
                "head_dim": 64,
            },
        ),
        Model(
            "gpt-oss-120b",
            "GptOssForCausalLM",
            "openai/gpt-oss-120b",
            overrides={**_SMALL, "num_local_experts": 8},
            needs=("mxfp4",),
        ),
        Model(
            "deepseek-v3.2",
            "DeepseekV32ForCausalLM",
            "deepseek-ai/DeepSeek-V3.2",
            overrides={**_SMALL, "n_routed_experts": 8},
            needs=("sparse_mla",),
        ),
        Model(
            "kimi-k2.5",
            "KimiK25ForConditionalGeneration",
            "moonshotai/Kimi-K2.5",
            overrides={**_SMALL, "n_routed_experts": 8},
            needs=("mla", "int4"),
            nested="text_config",
        ),
        Model(
            "glm-4.5",
            "Glm4MoeForCausalLM",
            "zai-org/GLM-4.5",
            overrides={**_SMALL, "n_routed_experts": 8},
        ),
        Model(
            "minimax-m2.5",
            "MiniMaxM2ForCausalLM",
            "MiniMaxAI/MiniMax-M2.5",
            overrides={**_SMALL, "n_routed_experts": 8},
            # Block-scaled fp8 is a GPU's; in bfloat16 the layers and the split are the same.
            cpu_overrides={"quantization_config": None},
        ),
    )
}


def overrides(model: Model, platform: str) -> dict[str, Any]:
    """Return the `hf_overrides` of a model on a platform (`cpu` or `cuda`)."""
    asked = dict(model.overrides)
    if platform == "cpu":
        asked |= model.cpu_overrides
    return {model.nested: asked} if model.nested else asked
