"""The `vllm.platform_plugins` entry point: offers vLLM a CPU platform that keeps vLLM-compile.

vLLM calls `activate` once, while it resolves its platform; nothing here imports torch.
"""

import contextlib
import os

from matrix._util.nvidia import gpu_visible

PLATFORM_VARIABLE = "MATRIX_PLATFORM"
"""Set to `cpu` or `cuda` by the harness; unset in any other use of the environment."""

_QUALNAME = "matrix.inside.cpu.platform.CompilingCpuPlatform"


def activate() -> str | None:
    """Return the CPU platform's class name, or None to leave vLLM's own choice alone.

    It is offered where the harness asked for it (`MATRIX_PLATFORM=cpu`), or where nobody asked
    for anything, no GPU is visible and vLLM finds no platform of its own: never on a machine's
    accelerator by surprise.
    """
    asked = os.environ.get(PLATFORM_VARIABLE, "")
    if asked == "cpu":
        return _QUALNAME
    if asked == "" and not gpu_visible(os.environ) and not _vllm_has_a_platform():
        return _QUALNAME
    return None


def _vllm_has_a_platform() -> bool:
    """Tell whether vLLM finds a platform of its own here (ROCm, XPU, TPU, a CPU build, Jetson)."""
    from vllm.platforms import builtin_platform_plugins

    for detect in builtin_platform_plugins.values():
        with contextlib.suppress(Exception):
            if detect() is not None:
                return True
    return False
