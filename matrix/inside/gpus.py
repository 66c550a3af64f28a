"""What nvidia-smi and NVML tell of the GPUs that CUDA may use: CUDA stays untouched."""

from __future__ import annotations

import ctypes
import os

from matrix._util.nvidia import smi_query

_NVML = "libnvidia-ml.so.1"


def first_gpu() -> dict[str, object] | None:
    """Return the GPU that CUDA will name device 0, for the provenance; None where it is unknown."""
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


def free_mib() -> int | None:
    """Return the MiB free on the GPU that CUDA will name device 0; None where it is unknown."""
    text = _of_first("memory.free")
    return int(text) if text.isdecimal() else None


def buses() -> list[str]:
    """Return the PCI addresses of the GPUs that CUDA may use; none where they are unknown."""
    return smi_query(os.environ.get("CUDA_VISIBLE_DEVICES", ""), "pci.bus_id")


def nvml_fault() -> str | None:
    """Return why NVML, by which vLLM looks for a GPU, does not come up here; None where it does.

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
