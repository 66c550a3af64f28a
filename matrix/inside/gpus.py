"""What nvidia-smi says of the GPUs that CUDA may use: CUDA stays untouched."""

from __future__ import annotations

import os
import subprocess

__all__ = ["buses", "first_gpu", "free_mib"]

_SECONDS = 30


def first_gpu() -> dict[str, object] | None:
    """The GPU that CUDA will name device 0, for the provenance; None where nobody says."""
    said = _first("name", "compute_cap", "driver_version", "memory.total")
    try:
        name, capability, driver, memory = said.rsplit(", ", 3)
        return {
            "name": name,
            "capability": capability,
            "driver": driver,
            "memory_mib": int(memory),
        }
    except ValueError:
        return None


def free_mib() -> int | None:
    """MiB free on the GPU that CUDA will name device 0; None where nobody says."""
    said = _first("memory.free")
    return int(said) if said.isdecimal() else None


def buses() -> list[str]:
    """The PCI addresses of the GPUs that CUDA may use; none where nobody says."""
    return _ask(os.environ.get("CUDA_VISIBLE_DEVICES", ""), "pci.bus_id")


def _first(*fields: str) -> str:
    lines = _ask(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip(), *fields)
    return lines[0] if lines else ""


def _ask(visible: str, *fields: str) -> list[str]:
    """A line for each GPU, its fields parted by a comma; none where nvidia-smi does not tell."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    if visible:
        command += ["-i", visible]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
