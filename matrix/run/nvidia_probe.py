"""Print what the NVIDIA driver answers about itself and about the GPU that CUDA will name 0.

`nvidia.ask_driver` runs this file as a script in a process of its own (`python -I`), so it imports
the standard library only. Its argument is a device to ask about, instead of CUDA's first.
"""

import ctypes
import json
import os
import sys
from dataclasses import asdict, dataclass

_CUDA, _NVML = "libcuda.so.1", "libnvidia-ml.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True, kw_only=True)
class DriverAnswer:
    """The answer of a driver; None for values that it did not reach or does not report.

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


def _answer() -> DriverAnswer:
    try:
        cuda = ctypes.CDLL(_CUDA)
    except OSError as error:
        return DriverAnswer(missing=str(error))
    number = ctypes.c_int()
    version = None
    if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0:  # as 12080 for CUDA 12.8
        version = (number.value // 1000, number.value % 1000 // 10)
    status = cuda.cuInit(0)
    if status:
        name = ctypes.c_char_p()
        known = cuda.cuGetErrorName(status, ctypes.byref(name)) == 0 and name.value
        return DriverAnswer(cuda=version, error=known.decode() if known else f"CUDA error {status}")
    cuda.cuDeviceGetCount(ctypes.byref(number))
    gpu_count, device = number.value, ctypes.c_int()
    if not gpu_count or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return DriverAnswer(cuda=version, gpus=gpu_count)
    label = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(label, len(label), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(number.value)
    used, free, total = _memory(_uuid(cuda, device)) or (None, None, None)
    return DriverAnswer(
        cuda=version,
        gpus=gpu_count,
        name=label.value.decode("utf-8", "replace"),
        capability=(capability[0], capability[1]),
        used_mib=used,
        free_mib=free,
        total_mib=total,
    )


def _uuid(cuda: ctypes.CDLL, device: ctypes.c_int) -> str:
    """Return the device's id without its prefix; version 2 of the call knows MIG slices."""
    raw = (ctypes.c_ubyte * 16)()
    getter = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    getter(ctypes.byref(raw), device)
    text = bytes(raw).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _memory(uuid: str) -> tuple[int, int, int] | None:
    """Return used, free and total MiB by NVML, which needs no context on the GPU to know them."""
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
    if sys.argv[1:]:
        os.environ["CUDA_VISIBLE_DEVICES"] = sys.argv[1]  # before the library reads it
    sys.stdout.write(json.dumps(asdict(_answer())) + "\n")
