"""The marks, in a failure's text, of a fault of the machine or of the harness.

Such a fault makes a case untested and shows nothing about the pair. A CUDA error that a program can
cause by itself (an illegal address, an assertion on the device, a launch failure) is not one: it
stays the case's own. Pure, and importable inside a cell.
"""

from __future__ import annotations

import re

from matrix.record.model import ErrorKind

_MARKS = (
    (r"No space left on device", ErrorKind.NO_SPACE),
    (r"Free memory on device .* is less than desired", ErrorKind.GPU_FULL),
    (r"Available memory on node .* is less than desired CPU", ErrorKind.NO_MEMORY),
    (r"failed to map segment from shared object|^MemoryError", ErrorKind.NO_MEMORY),
    (
        (
            r"The NVIDIA driver on your system is too old"
            r"|CUDA driver version is insufficient for CUDA runtime version"
            r"|forward compatibility was attempted on non supported HW"
            r"|PTX was compiled with an unsupported toolchain"
            # Such are the names of libcuda's own functions, and of nothing in torch or in CUDA's
            # other libraries.
            r"|undefined symbol: cu[A-Z]\w*"
        ),
        ErrorKind.DRIVER_TOO_OLD,
    ),
    (
        (
            r"Found no NVIDIA driver on your system|libcuda\.so\.1: cannot open shared object file"
            r"|NVMLError_(?:DriverNotLoaded|LibraryNotFound|LibRmVersionMismatch)\b"
            r"|unsupported display driver / cuda driver combination|CUDA error: system not yet init"
        ),
        ErrorKind.NO_DRIVER,
    ),
    (r"No CUDA GPUs are available|no CUDA-capable device is detected", ErrorKind.NO_GPU),
    (r"no kernel image is available for execution on the device", ErrorKind.GPU_UNSUPPORTED),
    (
        (
            r"uncorrectable (?:ECC|NVLink) error|CUDA error: unknown error"
            r"|CUDA-capable device\(s\) is/are busy or unavailable"
            r"|\bGPU is lost\b|Unable to determine the device handle|NVMLError_GpuIsLost\b"
        ),
        ErrorKind.GPU_FAULT,
    ),
    # Another process took the port between the moment when a start chose it and when it listened.
    # torch's TCPStore says it so, as seen with two runs on one machine (vLLM 0.19.1 with torch
    # 2.10.0), and so does Python's own socket.
    (r"\bEADDRINUSE\b|\b(?i:address already in use)\b", ErrorKind.PORT_TAKEN),
    (
        r"couldn't connect to|Max retries exceeded with url|LocalEntryNotFoundError",
        ErrorKind.INTERNAL,
    ),
    (r"\b(?:IsolationError|StateError): ", ErrorKind.INTERNAL),
)
_SIZE = r"(\d+(?:\.\d+)?) ([KMG]i)?(?:B|bytes)\b"
_EXHAUSTED = re.compile(
    rf"CUDA out of memory\. Tried to allocate {_SIZE}\. GPU \d+ has a total capacity of {_SIZE}"
    rf".*? this process has {_SIZE} memory in use",
    re.DOTALL,
)
_UNITS = {None: 1.0, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


def machine_fault(failure: str) -> ErrorKind | None:
    """Return the record's kind of error for a failure of the machine or the harness; None else.

    CUDA out of memory is one where an empty GPU would have had the memory: others held it.

    >>> print(machine_fault("torch.AcceleratorError: CUDA error: uncorrectable ECC error"))
    gpu_fault
    >>> machine_fault("torch.AcceleratorError: CUDA error: an illegal memory access was ...")
    """
    for mark, kind in _MARKS:
        if re.search(mark, failure):
            return kind
    return ErrorKind.GPU_FULL if _held_by_others(failure) else None


def _held_by_others(failure: str) -> bool:
    """Return whether CUDA ran out of memory though this process would have fitted an empty GPU."""
    found = _EXHAUSTED.search(failure)
    if found is None:
        return False
    tried, total, own = (float(found[group]) * _UNITS[found[group + 1]] for group in (1, 3, 5))
    return own + tried <= total
