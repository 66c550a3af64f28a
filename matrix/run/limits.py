"""The resources of this machine for runs of cells, and the user's limits.

Reads /proc, /sys and a disk, and asks nvidia-smi and the NVIDIA driver.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from matrix._util.cgroup import ROOT
from matrix._util.cores import available_cores
from matrix._util.memory import available_memory_mib, total_memory_mib
from matrix._util.nvidia import VISIBLE_VARIABLE, is_hidden, smi_visible
from matrix.errors import MatrixError
from matrix.run.machine import Gpu, Machine
from matrix.run.nvidia import ask_driver

_FIELDS = ("index", "name", "memory.total", "memory.free")


class LimitError(MatrixError):
    """A limit that nothing can keep to, or a machine that does not say what it has."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of runs on a machine; None for all that it has.

    `disk_mib` is for all environments of cells together, those included that are there. Raises
    LimitError for a negative number.
    """

    cores: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    gpus: int | None = None

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        for item in fields(self):
            number = getattr(self, item.name)
            if number is not None and number < 0:
                option = item.name.removesuffix("_mib")
                raise LimitError(f"--{option} {number}: is below 0; write a number from 0 up")


def machine_here(
    folder: Path,
    limits: Limits | None = None,
    *,
    name: str = "here",
    environ: Mapping[str, str] = os.environ,
    root: Path = ROOT,
) -> Machine:
    """Return what runs may take of this machine. `folder` is the one of environments.

    Of memory and disk that is what is free. A limit on memory may take more than is free now, up to
    what there is: who sets it knows what else will end. GPUs are those of CUDA_VISIBLE_DEVICES, the
    first ones where there is a limit. Raises LimitError if the memory or the disk is not known.
    """
    at_most = limits or Limits()
    return Machine(
        name=name,
        cores=_least(available_cores(root), at_most.cores),
        memory_mib=_memory_mib(at_most.memory_mib, root),
        disk_mib=_least(_free_disk_mib(folder), at_most.disk_mib),
        gpus=visible(environ)[: at_most.gpus],
    )


def visible(environ: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA would use, with their memory; without those that do not answer.

    The device of a GPU is its number in the order of the PCI bus, which is nvidia-smi's and, with
    CUDA_DEVICE_ORDER=PCI_BUS_ID, CUDA's. A UUID would be the same in any order, but vLLM 0.14 to
    0.19 take nothing but a number (`device_id_to_physical_device_id` of their platforms).
    """
    if is_hidden(environ):
        return ()
    chosen = [part.strip() for part in environ.get(VISIBLE_VARIABLE, "").split(",") if part.strip()]
    slices = [name for name in chosen if name.startswith("MIG-")]
    if slices:
        return tuple(gpu for name in slices for gpu in _slice(name))
    found = (_gpu(line) for line in smi_visible(environ, *_FIELDS))
    return tuple({gpu.device: gpu for gpu in found if gpu is not None}.values())


def _gpu(line: str) -> Gpu | None:
    """Return the GPU of a line of nvidia-smi; None if it does not say how much memory it has."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != len(_FIELDS) or not (parts[2].isdecimal() and parts[3].isdecimal()):
        return None
    index, name, total, free = parts
    return Gpu(device=index, name=name, total_mib=int(total), free_mib=int(free))


def _slice(name: str) -> Iterator[Gpu]:
    """Return a MIG slice, whose memory nvidia-smi does not report: the driver does."""
    answer = ask_driver(device=name)
    if answer is not None and answer.total_mib is not None and answer.free_mib is not None:
        yield Gpu(
            device=name,
            name=answer.name or name,
            total_mib=answer.total_mib,
            free_mib=answer.free_mib,
        )


def _memory_mib(limit: int | None, root: Path) -> int:
    found = available_memory_mib(root) if limit is None else total_memory_mib(root)
    if found is not None:
        return _least(found, limit)
    if limit is None:
        raise LimitError("memory: the free memory of this machine is unknown; give --memory MIB")
    return limit


def _free_disk_mib(folder: Path) -> int:
    """Return what is free where a folder is, or will be made."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), folder)
    try:
        return shutil.disk_usage(there).free >> 20
    except OSError as error:
        raise LimitError(f"{folder}: its disk cannot be read: {error.strerror or error}") from None


def _least(has: int, limit: int | None) -> int:
    return has if limit is None else min(has, limit)
