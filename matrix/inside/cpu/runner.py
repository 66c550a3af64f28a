"""Which of its two model runners vLLM would choose on CUDA; this platform always has the first."""

import importlib
import os
from typing import Any

from vllm import envs

_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"
_CHOSEN_HERE = _VARIABLE not in os.environ


class _Environment:
    """The variables that vLLM reads, less the one that this platform sets."""

    def __getattr__(self, name: str) -> Any:
        return None if name == _VARIABLE else getattr(envs, name)


def use_first_runner() -> None:
    """Make vLLM take its first model runner, the one that the worker here is made from.

    Newer releases take the second wherever they find a GPU's Triton, which a machine with a GPU
    has on this platform as well. A choice that the environment already had stays.
    """
    os.environ.setdefault(_VARIABLE, "0")


def has_second_runner(vllm_config: Any) -> bool:
    """Return whether vLLM would take its second model runner for this on CUDA, by its own answer.

    It is asked as if this platform had not chosen, and as if it had found a GPU's Triton. A
    release that has no such question takes the first.
    """
    if not hasattr(type(vllm_config), "use_v2_model_runner"):
        return False
    home = vars(importlib.import_module(type(vllm_config).__module__))
    usual: dict[str, Any] = {name: home[name] for name in ("HAS_TRITON", "envs") if name in home}
    home["HAS_TRITON"] = True
    if _CHOSEN_HERE:
        home["envs"] = _Environment()
    try:
        return bool(vllm_config.use_v2_model_runner)
    finally:
        home.update(usual)
