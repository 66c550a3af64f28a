"""Faults outside of torch and vLLM: of the machine, its tools, its memory, and of NCCL.

Pure. A row says how a line shows such a fault, what it means, and what there is to do. No release
of torch or vLLM answers these, so an answer names none. What a row claims is from the program that
writes the text: CUDA's documentation of its errors, Triton's `runtime/build.py` and
`backends/nvidia/driver.py`, `torch/utils/cpp_extension.py`, `flashinfer/jit/cpp_ext.py`, NCCL's
`init.cc`, vLLM's `kv_cache_utils.py`, `shm_broadcast.py` and its pages about memory and troubles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultKind,
    FaultRemedy,
    Meaning,
    RemedyCode,
)

DEV_SHM = "/dev/shm"  # noqa: S108 - the name of what a text is about
_MEMORY, _GRAPHS, _WAITING = "GPU memory", "CUDA graphs", "workers"
_HELD, _DISK = "memory that others hold", "disk"
_NO_GPU, _NCCL = "no GPU", "NCCL"
# Marks of several rows: each mark costs a search through a whole log.
_DEVICE, _NVML, _ERROR = b"CUDA-capable device", b"NVMLError_", b"CUDA error: "


@dataclass(frozen=True, kw_only=True)
class OutsideFault:
    """How a line shows a fault, by its `subject`: what is missing or wrong.

    `marks` are the bytes of which a line must have one. `pattern` may name what is there (`has`)
    and what is needed (`wants`).
    """

    kind: FaultKind
    subject: str
    meaning: Meaning
    marks: tuple[bytes, ...]
    pattern: re.Pattern[str]
    remedies: tuple[RemedyCode, ...]


_ROWS = (
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="fabric manager",
        meaning=Meaning.NOT_READY,
        marks=(
            b"system not yet initialized",
            b"cudaErrorSystemNotReady",
            b"ERROR_SYSTEM_NOT_READY",
        ),
        pattern=re.compile(
            r"(?:[Cc][Uu][Dd][Aa]|\bError\b|\b802\b).{0,300}?system not yet initialized"
            r"|\bcudaErrorSystemNotReady\b"
            r"|\bCUDA_ERROR_SYSTEM_NOT_READY\b"
        ),
        remedies=(RemedyCode.FABRIC_MANAGER,),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject=_NO_GPU,
        meaning=Meaning.NO_GPU,
        marks=(b"No CUDA GPUs are available", _DEVICE, b"driver initialization failed"),
        pattern=re.compile(
            r"No CUDA GPUs are available|no CUDA-capable device is detected"
            r"|CUDA driver initialization failed, you might not have a CUDA gpu"
        ),
        remedies=(RemedyCode.SEE_GPUS, RemedyCode.UNHIDE_GPUS),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="device ordinal",
        meaning=Meaning.FEWER_GPUS,
        marks=(_ERROR,),
        pattern=re.compile(r"CUDA error: invalid device ordinal"),
        remedies=(RemedyCode.SEE_GPUS, RemedyCode.UNHIDE_GPUS),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="platform",
        meaning=Meaning.NO_PLATFORM,
        marks=(b"Failed to infer device type",),
        pattern=re.compile(r"Failed to infer device type"),
        remedies=(RemedyCode.SEE_GPUS, RemedyCode.MORE_LOG),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="kernel module",
        meaning=Meaning.NOT_LOADED_DRIVER,
        marks=(_NVML,),
        pattern=re.compile(r"\bNVMLError_DriverNotLoaded\b"),
        remedies=(RemedyCode.SEE_GPUS, RemedyCode.SOME_DRIVER),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="hardware",
        meaning=Meaning.BROKEN_GPU,
        marks=(b"uncorrectable ", b"GPU is lost", _NVML, b"the device handle"),
        pattern=re.compile(
            r"uncorrectable (?:ECC|NVLink) error|\bGPU is lost\b|\bNVMLError_GpuIsLost\b"
            r"|Unable to determine the device handle"
        ),
        remedies=(RemedyCode.KERNEL_LOG,),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="busy GPU",
        meaning=Meaning.BUSY_GPU,
        marks=(_DEVICE,),
        pattern=re.compile(r"CUDA-capable device\(s\) is/are busy or unavailable"),
        remedies=(RemedyCode.FREE_GPU,),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="unknown error",
        meaning=Meaning.UNKNOWN_STATE,
        marks=(b"CUDA unknown error", _ERROR),
        pattern=re.compile(r"CUDA unknown error|CUDA error: unknown error"),
        remedies=(RemedyCode.SEE_GPUS, RemedyCode.KERNEL_LOG),
    ),
    OutsideFault(
        kind=FaultKind.GPU_STATE,
        subject="forked process",
        meaning=Meaning.FORKED,
        marks=(b"Cannot re-initialize CUDA",),
        pattern=re.compile(r"Cannot re-initialize CUDA in forked subprocess"),
        remedies=(RemedyCode.SPAWN,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="C compiler",
        meaning=Meaning.NO_COMPILER,
        marks=(b"Failed to find C compiler",),
        pattern=re.compile(r"Failed to find C compiler"),
        remedies=(RemedyCode.COMPILER,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="C++ compiler",
        meaning=Meaning.NO_CXX_COMPILER,
        marks=(b"No working C++ compiler found",),
        pattern=re.compile(r"No working C\+\+ compiler found"),
        remedies=(RemedyCode.CXX_COMPILER,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="headers of C",
        meaning=Meaning.NO_C_HEADERS,
        marks=(
            b"fatal error: std",
            b"'stdlib.h' file not",
            b"cannot find crt",
            b"cannot find -lc:",
        ),
        pattern=re.compile(
            r"fatal error: '?std(?:lib|io|int)\.h'?(?:: No such file| file not found)"
            r"|cannot find crt[1in]\.o|cannot find -lc: No such file"
        ),
        remedies=(RemedyCode.COMPILER,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="Python.h",
        meaning=Meaning.NO_HEADERS,
        marks=(b"Python.h",),
        pattern=re.compile(r"\bPython\.h: No such file|'Python\.h' file not found"),
        remedies=(RemedyCode.HEADERS,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="libcuda.so",
        meaning=Meaning.NO_DRIVER_LINK,
        marks=(b" -lcuda", b"libcuda.so cannot found"),
        pattern=re.compile(
            r"(?:cannot find|unable to find library) -lcuda(?![\w+-])|libcuda\.so cannot found"
        ),
        remedies=(RemedyCode.DRIVER_LINK,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="ldconfig",
        meaning=Meaning.NO_LDCONFIG,
        marks=(b"/sbin/ldconfig'",),
        pattern=re.compile(
            r"No such file or directory: '/sbin/ldconfig'|Command '\['/sbin/ldconfig', '-p'\]'"
        ),
        remedies=(RemedyCode.DRIVER_FOLDER,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="nvcc",
        meaning=Meaning.NO_TOOLKIT,
        marks=(b"CUDA_HOME ", b"Could not find nvcc", b"nvcc: ", b"nvcc'"),
        pattern=re.compile(
            r"CUDA_HOME (?:(?:environment variable )?is not set|does not exist)"
            r"|Could not find nvcc\b|\bnvcc: (?:command )?not found|\[Errno 2\] No such file or directory: '[^']*\bnvcc'"
        ),
        remedies=(RemedyCode.TOOLKIT,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="headers of CUDA",
        meaning=Meaning.PART_OF_TOOLKIT,
        marks=(b"fatal error: cu", b"fatal error: nv"),
        pattern=re.compile(
            r"fatal error: (?:cu[a-z]{2,12}[\w-]{0,30}\.h|nvrtc\.h|nv/target): No such file"
        ),
        remedies=(RemedyCode.TOOLKIT,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="nvcc of another CUDA",
        meaning=Meaning.OTHER_TOOLKIT,
        marks=(b"The detected CUDA version (",),
        # torch breaks the line.
        pattern=re.compile(
            r"The detected CUDA version \((?P<has>\d{1,2}\.\d{1,2}|<version>)\) mismatches the"
            r" version that was used to compile(?:\s{0,80}PyTorch \((?P<wants>\d{1,2}\.\d{1,2})\))?"
        ),
        remedies=(RemedyCode.TOOLKIT,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="ninja",
        meaning=Meaning.NO_NINJA,
        marks=(b"Ninja is required", b"directory: 'ninja'"),
        pattern=re.compile(
            r"Ninja is required to load C\+\+ extensions"
            r"|\[Errno 2\] No such file or directory: 'ninja'"
        ),
        remedies=(RemedyCode.NINJA,),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject=_GRAPHS,
        meaning=Meaning.GRAPHS_FULL,
        marks=(),
        pattern=re.compile(r"(?!)"),
        remedies=(RemedyCode.FEWER_GRAPHS, RemedyCode.SMALLER_MODEL),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject=_HELD,
        meaning=Meaning.HELD_GPU,
        marks=(b"is less than desired GPU memory",),
        pattern=re.compile(r"Free memory on device .{0,120}? is less than desired GPU memory"),
        remedies=(RemedyCode.FREE_GPU, RemedyCode.LESS_SHARE),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject="memory while it is measured",
        meaning=Meaning.CHANGED_GPU,
        marks=(b"Error in memory profiling",),
        pattern=re.compile(r"Error in memory profiling"),
        remedies=(RemedyCode.FREE_GPU,),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject=_MEMORY,
        meaning=Meaning.GPU_FULL,
        marks=(b"CUDA out of memory", _ERROR),
        pattern=re.compile(r"CUDA out of memory|CUDA error: out of memory"),
        remedies=(RemedyCode.SMALLER_MODEL, RemedyCode.FREE_GPU),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject="cache blocks",
        meaning=Meaning.NO_CACHE,
        marks=(b"No available memory for the cache blocks",),
        pattern=re.compile(r"No available memory for the cache blocks"),
        remedies=(RemedyCode.MORE_SHARE, RemedyCode.SMALLER_MODEL),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject="KV cache",
        meaning=Meaning.LONG_CONTEXT,
        marks=(b" KV cache is needed, which is larger", b"seq len (", b"maximum number of tokens"),
        pattern=re.compile(
            r"KV cache is needed, which is larger than the available KV cache memory"
            r"|max seq len \(\d{1,12}\) is larger than the maximum number of tokens"
        ),
        remedies=(RemedyCode.SHORTER_CONTEXT, RemedyCode.MORE_SHARE),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject=DEV_SHM,
        meaning=Meaning.SHARED_MEMORY,
        marks=(b"insufficient shared memory (shm)", b"creating shared memory segment", b"psm_"),
        pattern=re.compile(
            r"insufficient shared memory \(shm\)|Error while creating shared memory segment"
            r"|No space left on device: '/?(?:dev/shm/)?psm_"
        ),
        remedies=(RemedyCode.SHARED_MEMORY,),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject=_DISK,
        meaning=Meaning.NO_SPACE,
        marks=(b"No space left on device",),
        pattern=re.compile(r"No space left on device"),
        remedies=(RemedyCode.FREE_SPACE,),
    ),
    OutsideFault(
        kind=FaultKind.REPORT,
        subject=_WAITING,
        meaning=Meaning.WAITING,
        marks=(b"shared memory broadcast block found",),
        pattern=re.compile(r"No available shared memory broadcast block found"),
        remedies=(RemedyCode.WAIT, RemedyCode.ABOVE),
    ),
    OutsideFault(
        kind=FaultKind.NCCL,
        subject="NCCL of different versions",
        meaning=Meaning.NCCL_VERSIONS,
        marks=(b"Mismatched NCCL version detected",),
        pattern=re.compile(r"Mismatched NCCL version detected"),
        remedies=(RemedyCode.SAME_NCCL,),
    ),
    OutsideFault(
        kind=FaultKind.NCCL,
        subject=_NCCL,
        meaning=Meaning.NCCL_CALL,
        marks=(b"unhandled system error", b"unhandled cuda error", b"remote process exited"),
        pattern=re.compile(
            r"NCCL error.{0,300}?(?:unhandled (?:system|cuda) error|remote process exited)"
        ),
        remedies=(RemedyCode.NCCL_LOG, RemedyCode.SHARED_MEMORY),
    ),
    OutsideFault(
        kind=FaultKind.REPORT,
        subject="engine",
        meaning=Meaning.REPORTS,
        marks=(
            b"Engine core initialization failed",
            b"Engine process failed to start",
            b"EngineCore encountered an issue",
            b"WorkerProc initialization failed",
        ),
        pattern=re.compile(
            r"Engine core initialization failed|Engine process failed to start"
            r"|EngineCore encountered an issue|WorkerProc initialization failed"
        ),
        remedies=(RemedyCode.ABOVE,),
    ),
)
_BY_SUBJECT = {row.subject: row for row in _ROWS}
OUTSIDE_MARKS = tuple(dict.fromkeys(mark for row in _ROWS for mark in row.marks))
"""What a line must have that shows one of them."""
_CAPTURING = re.compile(
    r"Capturing CUDA graph|\bin (?:capture_model|capture_end|_?capture_cudagraphs?)\b"
)
_SIZE = r"(?P<{0}>\d{{1,7}}(?:\.\d{{1,4}})?) (?P<{0}_unit>bytes|[KMG]iB)\b"
_EXHAUSTED = re.compile(
    rf"CUDA out of memory\. Tried to allocate {_SIZE.format('tried')}\. GPU \d+ has a total"
    rf" capacity of {_SIZE.format('total')} of which {_SIZE.format('free')} is free\b.{{0,2000}}?"
    rf" this process has {_SIZE.format('own')} memory in use"
)
_UNITS = {"bytes": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_OF_OTHERS = 0.05  # of a GPU: less of it is no other program's
_BELOW = 200  # characters below a line that its message may go on with


def of_outside(line: str, after: str) -> Fault | None:
    """Read a fault of the machine, its tools, its memory or of NCCL."""
    text = f"{line}\n{after[:_BELOW]}"
    for row in _ROWS:
        found = row.pattern.search(text)
        if found is None or found.start() >= len(line):
            continue
        # Others hold the memory where an empty GPU would have had enough of it.
        if row.subject == _MEMORY and _is_held(line):
            row = _BY_SUBJECT[_HELD]  # noqa: PLW2901 - the line says more
        groups = found.groupdict()
        return Fault(
            kind=row.kind,
            signature="",
            subject=row.subject,
            has=groups.get("has"),
            wants=groups.get("wants"),
        )
    return None


def _is_held(line: str) -> bool:
    """Tell whether others hold a part of a GPU that matters, and without it this would fit.

    What CUDA itself takes is in what this process has, but for a few MiB.
    """
    found = _EXHAUSTED.search(line)
    if found is None:
        return False
    tried, total, free, own = (
        float(found[key]) * _UNITS[found[f"{key}_unit"]]
        for key in ("tried", "total", "free", "own")
    )
    return own + tried <= total and total - free - own > total * _OF_OTHERS


def in_context(fault: Fault, before: str) -> Fault:
    """Return a fault as the text before its line says: memory that ended while graphs were taken.

    vLLM captures them last, in `capture_model`, under a bar of progress.
    """
    if fault.subject == _MEMORY and _CAPTURING.search(before):
        return replace(fault, subject=_GRAPHS)
    return fault


def without_consequences(faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults without those that another of them causes, or says more of."""
    return [fault for fault in faults if not any(_causes(other, fault) for other in faults)]


def is_report(fault: Fault) -> bool:
    """Tell whether a fault only reports another one, which ended the engine."""
    return fault.kind is FaultKind.REPORT and fault.subject != _WAITING


def _causes(cause: Fault, fault: Fault) -> bool:
    """Tell whether a fault is why another one is there."""
    if cause is fault:
        return False
    if fault.kind is FaultKind.REPORT:
        return fault.subject == _WAITING or cause.kind is not FaultKind.REPORT
    if fault.subject == _NO_GPU and fault.kind is FaultKind.GPU_STATE:
        has_no_driver = cause.kind is FaultKind.MISSING_LIBRARY and cause.subject in (
            "libcuda.so.1",
            "libnvidia-ml.so.1",
        )
        return cause.kind in (FaultKind.GPU_STATE, FaultKind.OLD_DRIVER) or has_no_driver
    if fault.subject == _DISK:
        return cause.subject == DEV_SHM
    if fault.subject == _MEMORY:
        return cause.kind is FaultKind.MEMORY
    if fault.subject == _NCCL and fault.kind is FaultKind.NCCL:
        return cause.kind is FaultKind.NCCL or cause.subject == DEV_SHM
    return False


def outside_answer(fault: Fault, cuda: str | None) -> FaultAnswer:
    """Return what such a fault means and what helps; `cuda` is that of the torch of the text."""
    row = _BY_SUBJECT[fault.subject or ""]
    wants = fault.wants or cuda
    return FaultAnswer(
        fault=fault,
        meaning=row.meaning,
        operands={"cuda": wants} if wants and row.kind is FaultKind.TOOL else {},
        remedies=tuple(
            FaultRemedy(code=code, what=wants if code is RemedyCode.TOOLKIT else None)
            for code in row.remedies
        ),
    )
