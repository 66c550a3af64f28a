"""The `vllm.platform_plugins` entry point: offers vLLM a CPU platform that keeps vLLM-compile.

vLLM calls `activate` once, while it resolves its platform; nothing here imports torch.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["PLATFORM_VARIABLE", "activate", "gpu_visible"]

PLATFORM_VARIABLE = "MATRIX_PLATFORM"
"""Set to `cpu` or `cuda` by the harness; unset in any other use of the environment."""

_QUALNAME = "matrix.inside.cpu.platform.CompilingCpuPlatform"


def gpu_visible(environ: Mapping[str, str]) -> bool:
    """Tell whether an NVIDIA GPU is visible, without initialising CUDA.

    `CUDA_VISIBLE_DEVICES` set to nothing (or to -1) hides every GPU, as it does for CUDA itself.
    """
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return False
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


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
