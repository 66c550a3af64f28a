"""What the NVIDIA driver says of itself and of the GPU that CUDA will name 0.

It is asked in a process of its own, whose script is this file: a broken driver can hang or crash
whoever calls it, and CUDA, once initialised, would spoil every fork of this process.
"""

import ctypes
import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["ANSWER_SECONDS", "Answer", "ask", "asked", "on_the_bus"]

ANSWER_SECONDS = 60.0
"""Seconds after which a driver counts as hung. Without persistence mode a GPU needs a few."""

_CUDA, _NVML = "libcuda.so.1", "libnvidia-ml.so.1"
_NVIDIA = "0x10de"
_DISPLAY = ("0x0300", "0x0302")  # PCI's classes of a VGA and of a 3D controller
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True)
class Answer:
    """What a driver answered; None for what it did not come to, or would not say.

    `missing`: why its library does not load. `cuda`: the highest CUDA that it supports. `error`:
    what cuInit returned, by CUDA's name for it. `gpus`: how many CUDA sees, as
    CUDA_VISIBLE_DEVICES has it; the rest is of the first one, which may be a MIG slice.
    """

    missing: str | None = None
    cuda: tuple[int, int] | None = None
    error: str | None = None
    gpus: int | None = None
    name: str | None = None
    capability: tuple[int, int] | None = None
    used_mib: int | None = None
    free_mib: int | None = None
    total_mib: int | None = None


def ask(seconds: float = ANSWER_SECONDS) -> Answer | None:
    """The driver's answer; None where it hung for that long, or took its caller with it."""
    said = asked([sys.executable, "-I", str(Path(__file__).resolve())], seconds)
    if said is None or said[0] != 0:
        return None
    fields = json.loads(said[1])
    pairs = {key: tuple(fields[key]) for key in ("cuda", "capability") if fields[key]}
    return Answer(**{**fields, **pairs})


def asked(command: list[str], seconds: float = ANSWER_SECONDS) -> tuple[int, str] | None:
    """A program's exit status and all that it printed, or None where it does not run or end.

    A process that hangs inside the driver cannot be killed, so its end is not waited for.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        return None
    return process.returncode, output


def on_the_bus(devices: Path = Path("/sys/bus/pci/devices")) -> tuple[str, ...]:
    """The PCI addresses of this machine's NVIDIA GPUs, with or without a driver for them."""
    found = []
    for each in devices.glob("*"):
        with suppress(OSError):
            vendor, kind = ((each / name).read_text().strip() for name in ("vendor", "class"))
            if vendor == _NVIDIA and kind.startswith(_DISPLAY):
                found.append(each.name)
    return tuple(sorted(found))


def _answer() -> Answer:
    try:
        cuda = ctypes.CDLL(_CUDA)
    except OSError as error:
        return Answer(missing=str(error))
    number = ctypes.c_int()
    version = None
    if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0:  # as 12080 for CUDA 12.8
        version = (number.value // 1000, number.value % 1000 // 10)
    status = cuda.cuInit(0)
    if status:
        name = ctypes.c_char_p()
        known = cuda.cuGetErrorName(status, ctypes.byref(name)) == 0 and name.value
        return Answer(cuda=version, error=known.decode() if known else f"CUDA error {status}")
    cuda.cuDeviceGetCount(ctypes.byref(number))
    gpus, device = number.value, ctypes.c_int()
    if not gpus or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return Answer(cuda=version, gpus=gpus)
    label = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(label, len(label), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(number.value)
    used, free, total = _memory(_uuid(cuda, device)) or (None, None, None)
    return Answer(
        cuda=version,
        gpus=gpus,
        name=label.value.decode("utf-8", "replace"),
        capability=(capability[0], capability[1]),
        used_mib=used,
        free_mib=free,
        total_mib=total,
    )


def _uuid(cuda: ctypes.CDLL, device: ctypes.c_int) -> str:
    """The device's id without its prefix; the second version of the call knows MIG slices."""
    raw = (ctypes.c_ubyte * 16)()
    getter = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    getter(ctypes.byref(raw), device)
    text = bytes(raw).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _memory(uuid: str) -> tuple[int, int, int] | None:
    """Used, free and total MiB by NVML, which needs no context on the GPU to know them."""
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return None
    if nvml.nvmlInit_v2():
        return None
    handle, sizes = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()
    for prefix in ("GPU", "MIG"):
        if not nvml.nvmlDeviceGetHandleByUUID(f"{prefix}-{uuid}".encode(), ctypes.byref(handle)):
            if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(sizes)):
                return None
            total, free, used = (size >> 20 for size in sizes)
            return used, free, total
    return None


if __name__ == "__main__":
    print(json.dumps(asdict(_answer())))
