"""What the profile run does with Kimi-K2.5's vision tower, of which nothing is compiled."""

import importlib
from typing import Any

_TOWER = "vllm.model_executor.models.kimi_k25_vit"


def silence_vision_kernels() -> None:
    """Let Kimi-K2.5's vision tower leave out the Triton kernel that it rotates in place with.

    The tower runs in the profile run, outside of vLLM-compile, and vLLM 0.32 takes that kernel
    wherever Triton is installed. Calling it again does nothing.
    """
    tower: Any = importlib.import_module(_TOWER)
    if hasattr(tower, "packed_qk_rope_"):
        tower.packed_qk_rope_ = lambda *_: None


def send_one_medium(scheduler_config: Any) -> None:
    """Let the run send one medium through the tower, not as many as a batch takes.

    vLLM raises these numbers of tokens to those of one medium. The patches of a full batch take a
    CPU a quarter of a minute.
    """
    scheduler_config.max_num_encoder_input_tokens = 1
    scheduler_config.encoder_cache_size = 1
