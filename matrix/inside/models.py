"""The models that the startup tests start: small versions of real ones, and three of our own."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matrix._util.paths import DATA
from matrix.record.model import Platform

_FOLDER = DATA / "models"
LEFT_OUT = "matrix_left_out"
"""The attribute of a configuration on the CPU that has what was dropped of it, by its keys."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model: its configuration in `matrix/data/models/<name>`, its hub id where it has one.

    `overrides` make it small, as upstream's own tests do; `cpu_overrides` come on top on the CPU,
    where the keys `cpu_without` are dropped as well, from its `text_config` too.
    `architecture` is vLLM's class for it. `needs` names what its kernels ask of a machine.
    A model that takes images has a tokenizer next to its configuration. Where its image processor
    is code in its repository, `images` is the module of vLLM that asks for it; else transformers
    has it, and its configuration is there too. `config_is_code`: so is its configuration class,
    which transformers may lack.
    """

    name: str
    architecture: str
    repository: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    cpu_overrides: Mapping[str, Any] = field(default_factory=dict)
    cpu_without: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    images: str | None = None
    sees: bool = False
    config_is_code: bool = False

    @property
    def folder(self) -> Path:
        """Return the folder of this model's configuration."""
        return _FOLDER / self.name

    @property
    def model_type(self) -> str:
        """Return the name by which transformers looks up this model's configuration class."""
        config: dict[str, str] = json.loads((self.folder / "config.json").read_text())
        return config["model_type"]


_SMALL = {
    "num_hidden_layers": 8,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}

# Quantised kernels are a GPU's; in bfloat16 the layers and the split are the same.
_QUANTIZATION = ("quantization_config",)

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(name="small-dense", architecture="LlamaForCausalLM"),
        Model(name="small-moe", architecture="MixtralForCausalLM"),
        Model(name="small-vision", architecture="Qwen2_5_VLForConditionalGeneration", sees=True),
        Model(
            name="phi-tiny-moe",
            architecture="PhiMoEForCausalLM",
            repository="microsoft/Phi-tiny-MoE-instruct",
            cpu_overrides={
                "hidden_size": 256,
                "intermediate_size": 64,
                "num_attention_heads": 4,
                "num_key_value_heads": 1,
                "head_dim": 64,
            },
        ),
        Model(
            name="gpt-oss-120b",
            architecture="GptOssForCausalLM",
            repository="openai/gpt-oss-120b",
            overrides={**_SMALL, "num_local_experts": 8},
            cpu_without=_QUANTIZATION,
            needs=("mxfp4",),
        ),
        Model(
            name="deepseek-v3.2",
            architecture="DeepseekV32ForCausalLM",
            repository="deepseek-ai/DeepSeek-V3.2",
            overrides={**_SMALL, "n_routed_experts": 8},
            cpu_without=_QUANTIZATION,
            needs=("sparse_mla",),
        ),
        Model(
            name="kimi-k2.5",
            architecture="KimiK25ForConditionalGeneration",
            repository="moonshotai/Kimi-K2.5",
            overrides={"text_config": {**_SMALL, "n_routed_experts": 8}},
            cpu_overrides={"vision_config": {"num_hidden_layers": 1}},
            cpu_without=_QUANTIZATION,
            needs=("mla",),
            images="vllm.model_executor.models.kimi_k25",
        ),
        Model(
            name="glm-4.5",
            architecture="Glm4MoeForCausalLM",
            repository="zai-org/GLM-4.5",
            overrides={**_SMALL, "n_routed_experts": 8},
        ),
        Model(
            name="minimax-m2.5",
            architecture="MiniMaxM2ForCausalLM",
            repository="MiniMaxAI/MiniMax-M2.5",
            overrides={**_SMALL, "n_routed_experts": 8},
            needs=("fp8",),
            cpu_without=_QUANTIZATION,
            config_is_code=True,
        ),
    )
}


def overrides(model: Model, platform: Platform) -> dict[str, Any] | Callable[[Any], Any]:
    """Return the `hf_overrides` of a model on a platform."""
    asked = dict(model.overrides)
    if platform is Platform.CPU:
        asked |= model.cpu_overrides
    if platform is not Platform.CPU or not model.cpu_without:
        return asked

    def change(config: Any) -> Any:
        for key, value in asked.items():
            if not isinstance(value, Mapping):
                config.update({key: value})
            elif hasattr(config, key):  # vLLM tries it on an empty configuration first
                getattr(config, key).update(value)
        for part in (config, getattr(config, "text_config", config)):
            dropped = {key: vars(part).pop(key) for key in model.cpu_without if key in vars(part)}
            if dropped:
                setattr(part, LEFT_OUT, dropped)
        return config

    return change
