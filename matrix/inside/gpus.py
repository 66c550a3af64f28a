"""What nvidia-smi and NVML report about the GPUs that CUDA can use: CUDA stays untouched."""

from __future__ import annotations

import ctypes
import os

from matrix._util.nvidia import smi_query, visible_gpus
from matrix.record.model import Platform

CPU_RANKS = "MATRIX_CPU_RANKS"
"""The variable that says how many ranks a start may have on the CPU platform: for tests of this
project, which rehearse there what needs several GPUs."""

_NVML = "libnvidia-ml.so.1"
_SLICE = "MIG-"
_COUNTED = {0: "none is", 1: "one is", 2: "two are"}


def first_gpu() -> dict[str, object] | None:
    """Return the GPU that CUDA will name device 0, for the provenance; None if it is unknown."""
    line = _of_first("name", "compute_cap", "driver_version", "memory.total")
    try:
        name, capability, driver, memory = line.rsplit(", ", 3)
        return {
            "name": name,
            "capability": capability,
            "driver": driver,
            "memory_mib": int(memory),
        }
    except ValueError:
        return None


def free_mib(count: int = 1) -> int | None:
    """Return the MiB free on each of the first GPUs that CUDA may use; None if it is unknown."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[:count]
    lines = smi_query(",".join(map(str.strip, chosen)), "memory.free")[:count]
    known = [int(text) for text in lines if text.isdecimal()]
    return min(known) if known and len(known) == len(lines) else None


def too_few(wanted: int, platform: Platform) -> str | None:
    """Return why a start cannot be on so many GPUs here, or None.

    CUDA sees one slice of a GPU at most. A start takes the same share of each of its GPUs, so they
    are to be of one kind.
    """
    if wanted < 2:
        return None
    if platform is Platform.CUDA:
        names = set(visible_gpus(os.environ))
        sliced = any(name.startswith(_SLICE) for name in names)
        visible = min(len(names), 1) if sliced else len(names)
    else:
        asked = os.environ.get(CPU_RANKS, "")
        visible = int(asked) if asked.isdecimal() else 0
    needed = "two" if wanted == 2 else str(wanted)
    if visible >= wanted:
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        kinds = smi_query(chosen, "name", "memory.total") if platform is Platform.CUDA else []
        if len(set(kinds)) < 2:
            return None
        return f"needs {needed} GPUs of one kind; those that are visible are of several"
    return f"needs {needed} GPUs; {_COUNTED.get(visible, f'{visible} are')} visible"


def buses() -> list[str]:
    """Return the PCI addresses of the GPUs that CUDA may use; none where they are unknown."""
    return smi_query(os.environ.get("CUDA_VISIBLE_DEVICES", ""), "pci.bus_id")


def nvml_fault() -> str | None:
    """Return why NVML, by which vLLM looks for a GPU, does not come up here; None if it does.

    NVML initialises no CUDA.
    """
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return f"{_NVML}, the driver's library, does not load"
    status = nvml.nvmlInit_v2()
    if status == 0:
        nvml.nvmlShutdown()
        return None
    nvml.nvmlErrorString.restype = ctypes.c_char_p
    message = nvml.nvmlErrorString(status) or b""
    return f"NVML says: {message.decode('utf-8', 'replace') or status}"


def _of_first(*fields: str) -> str:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    lines = smi_query(first, *fields)
    return lines[0] if lines else ""
