"""Whether the NVIDIA GPU of this machine can run a cell, and why not."""

import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from matrix._util.nvidia import (
    ANSWER_SECONDS,
    DEVICES,
    GPU_SHARE,
    START_MIB,
    capture,
    dotted,
    is_hidden,
    listed_gpus,
    present_gpus,
    smi_list,
    visible_gpus,
)
from matrix.record.model import ErrorKind, Platform
from matrix.run import nvidia_probe
from matrix.run.nvidia_probe import DriverAnswer
from matrix.run.preflight import Refusal, choose_platform
from matrix.run.toolchain import first_line

_CONTEXT_MIB = 512
"""GPU memory, in MiB, allowed for CUDA's own context, which is there before vLLM measures."""

_PCI_DEVICES = Path("/sys/bus/pci/devices")
_VENDOR = "0x10de"
_DISPLAY = ("0x0300", "0x0302")  # PCI's classes of a VGA and of a 3D controller

# cuInit's errors by who causes them; any other is the GPU's own.
_DRIVER_ERRORS = {
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": (
        ErrorKind.DRIVER_TOO_OLD,
        (
            "CUDA's forward compatibility does not support this GPU: update the NVIDIA driver, and"
            " remove cuda-compat from LD_LIBRARY_PATH"
        ),
    ),
    "CUDA_ERROR_NO_DEVICE": (
        ErrorKind.NO_GPU,
        "CUDA sees no GPU: see nvidia-smi -L and CUDA_VISIBLE_DEVICES",
    ),
    "CUDA_ERROR_STUB_LIBRARY": (
        ErrorKind.NO_DRIVER,
        (
            "the libcuda.so.1 found first is the toolkit's stub: take its folder out of"
            " LD_LIBRARY_PATH"
        ),
    ),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": (
        ErrorKind.NO_DRIVER,
        "libcuda.so.1 and the kernel's NVIDIA driver differ in version: reboot, or install one",
    ),
    "CUDA_ERROR_SYSTEM_NOT_READY": (
        ErrorKind.NO_DRIVER,
        "the GPUs are not set up: start nvidia-fabricmanager",
    ),
}


def unusable_gpu(
    platform: Platform,
    packages: Mapping[str, str],
    *,
    environ: Mapping[str, str] = os.environ,
    devices: Path = DEVICES,
    bus: Path = _PCI_DEVICES,
    driver: Callable[[], DriverAnswer | None] | None = None,
) -> Refusal | None:
    """Return why no cell can run on this machine's GPU, or None; None always for the platform cpu.

    `packages` are the cell's: they name the CUDA of its torch. `driver` asks the driver.
    """
    if platform != Platform.CUDA:
        return None
    seen = visible_gpus(environ, devices)
    if seen:
        refusal = refused_by((driver or ask_driver)(), wheel_cuda(packages))
        # Device files can outlive the driver's module.
        dead = refusal is not None and refusal.kind == ErrorKind.NO_GPU and not listed_gpus()
        return _no_driver(seen[0]) if dead else refusal
    found = gpus_on_the_bus(bus)
    if found and not is_hidden(environ) and not present_gpus(devices):
        return _no_driver(f"{found[0]} on the PCI bus")
    return Refusal(
        kind=ErrorKind.NO_GPU,
        reason="--platform cuda, but no GPU is visible: see nvidia-smi -L and CUDA_VISIBLE_DEVICES",
    )


def why_not_cuda(
    asked: str,
    environ: Mapping[str, str] = os.environ,
    *,
    devices: Path = DEVICES,
    bus: Path = _PCI_DEVICES,
) -> str | None:
    """Return why `auto` takes the CPU on a machine that has an NVIDIA GPU; None if it does not.

    A GPU that is hidden on purpose does not count.
    """
    if asked != "auto" or is_hidden(environ) or choose_platform(asked) == Platform.CUDA:
        return None
    found = gpus_on_the_bus(bus)
    if not found or present_gpus(devices):
        return None
    return (
        f"--platform auto takes cpu: this machine has an NVIDIA GPU ({found[0]} on the PCI bus),"
        f" but no driver answers for it ({_smi_answer()})"
    )


def ask_driver(
    seconds: float = ANSWER_SECONDS, *, device: str | None = None
) -> DriverAnswer | None:
    """Return the driver's answer; None if it hung for that long, or took its caller with it.

    `device` is the one that is asked about, as CUDA_VISIBLE_DEVICES names it; None for the first.

    A process of its own asks, `nvidia_probe`: a broken driver can hang or crash whoever calls it,
    and CUDA, once initialised, would spoil every fork of this process.
    """
    script = str(Path(nvidia_probe.__file__).resolve())
    asked = [] if device is None else [device]
    answer = capture([sys.executable, "-I", script, *asked], seconds)
    if answer is None or answer[0] != 0:
        return None
    fields = json.loads(answer[1])
    pairs = {key: tuple(fields[key]) for key in ("cuda", "capability") if fields[key]}
    return DriverAnswer(**{**fields, **pairs})


def gpus_on_the_bus(devices: Path = _PCI_DEVICES) -> tuple[str, ...]:
    """Return the PCI addresses of this machine's NVIDIA GPUs, with or without a driver for them."""
    found = []
    for device in devices.glob("*"):
        with suppress(OSError):
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
            if vendor == _VENDOR and kind.startswith(_DISPLAY):
                found.append(device.name)
    return tuple(sorted(found))


def gpu_need_mib(total_mib: int) -> int:
    """Return the free memory, in MiB, below which vLLM refuses a start on a GPU of this size.

    vLLM measures when CUDA's context is up, and wants what is asked for free then (0.16 to 0.20,
    `v1/worker/utils.py`: `request_memory`).
    """
    return min(math.ceil(total_mib * GPU_SHARE), START_MIB) + _CONTEXT_MIB


def wheel_cuda(packages: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the CUDA that an environment's torch was built with, by its packages; or None.

    >>> wheel_cuda({"torch": "2.10.0", "nvidia-cuda-runtime-cu12": "12.8.90"})
    (12, 8)
    """
    local = re.search(r"\+cu(\d+)(\d)$", packages.get("torch", ""))
    if local:
        return int(local[1]), int(local[2])
    names = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu11")
    for name in ("cuda-toolkit", *names):
        found = re.match(r"(\d+)\.(\d+)", packages.get(name, ""))
        if found:
            return int(found[1]), int(found[2])
    return None


def _no_driver(gpu: str) -> Refusal:
    return Refusal(
        kind=ErrorKind.NO_DRIVER,
        reason=(
            f"this machine has an NVIDIA GPU ({gpu}), but no driver answers for it"
            f" ({_smi_answer()}): install NVIDIA's driver (in a container: start it with the GPU),"
            " or run with --platform cpu"
        ),
    )


def least_driver(cuda: tuple[int, int]) -> str | None:
    """Return the oldest driver that serves a CUDA, by the table of hardware; None if unknown."""
    from matrix.catalog.hardware_file import load_hardware  # only where it is to be named

    return load_hardware().least_driver(dotted(cuda))


def refused_by(answer: DriverAnswer | None, wheel: tuple[int, int] | None) -> Refusal | None:
    """Return why a driver that answered so cannot serve a torch built with that CUDA, or None.

    Since CUDA 11 a driver serves every toolkit of its major version and of those before it
    (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
    """
    if answer is None:
        return Refusal(
            kind=ErrorKind.GPU_FAULT,
            reason=(
                "the NVIDIA driver does not answer (cuInit hung or crashed): see the kernel's log"
                " for Xid, and reset the GPU or reboot"
            ),
        )
    if answer.missing is not None:
        return Refusal(
            kind=ErrorKind.NO_DRIVER,
            reason=(
                f"there is a GPU, but the driver's library does not load ({answer.missing[:100]}):"
                " install NVIDIA's driver (in a container: start it with the GPU), or run with"
                " --platform cpu"
            ),
        )
    if answer.error is not None:
        kind, why = _DRIVER_ERRORS.get(
            answer.error,
            (
                ErrorKind.GPU_FAULT,
                (
                    "CUDA does not start on this GPU: see nvidia-smi and the kernel's log for"
                    " Xid, and reset the GPU or reboot"
                ),
            ),
        )
        return Refusal(kind=kind, reason=f"{why} (cuInit: {answer.error})")
    if not answer.gpus:
        kind, why = _DRIVER_ERRORS["CUDA_ERROR_NO_DEVICE"]
        return Refusal(kind=kind, reason=why)
    if wheel is not None and answer.cuda is not None and answer.cuda[0] < wheel[0]:
        least = least_driver(wheel)
        return Refusal(
            kind=ErrorKind.DRIVER_TOO_OLD,
            reason=(
                f"this torch was built with CUDA {dotted(wheel)}, and the NVIDIA driver here knows"
                f" CUDA {dotted(answer.cuda)} at most: update the driver"
                + (f" (CUDA {dotted(wheel)} needs {least} or later)" if least else "")
            ),
        )
    return _too_full(answer)


def _too_full(answer: DriverAnswer) -> Refusal | None:
    if answer.total_mib is None or answer.free_mib is None:
        return None
    need = gpu_need_mib(answer.total_mib)
    if answer.free_mib >= need:
        return None
    return Refusal(
        kind=ErrorKind.GPU_FULL,
        reason=(
            f"the GPU ({answer.name}) has {answer.free_mib} MiB free of {answer.total_mib} MiB,"
            f" {answer.used_mib} MiB are in use, and a start needs {need} MiB: end the programs"
            " that hold it (nvidia-smi lists them), or choose another GPU by CUDA_VISIBLE_DEVICES"
        ),
    )


def _smi_answer() -> str:
    answer = smi_list()
    return "there is no nvidia-smi" if answer is None else f"nvidia-smi: {first_line(answer[1])}"
