"""The table of the faults outside of torch and vLLM: the machine, its tools, its memory, NCCL.

Pure. A row says how a line shows such a fault, what it means, and what there is to do. What a row
claims is from the program that writes the text: CUDA's documentation of its errors, Triton's
`runtime/build.py` and `backends/nvidia/driver.py`, `torch/utils/cpp_extension.py`,
`flashinfer/jit/cpp_ext.py`, NCCL's `init.cc`, vLLM's `kv_cache_utils.py` and `shm_broadcast.py`,
and its pages about memory and troubles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from matrix.explain.model import FaultKind, Meaning, RemedyCode

DEV_SHM = "/dev/shm"  # noqa: S108 - the name of what a text is about
GPU_MEMORY, GRAPHS, WAITING = "GPU memory", "CUDA graphs", "workers"
HELD, DISK = "memory that others hold", "disk"
NO_GPU, PLATFORM = "no GPU", "platform"
# Marks of several rows: each mark costs a search through a whole log.
_DEVICE, _NVML, _ERROR = b"CUDA-capable device", b"NVMLError_", b"CUDA error: "
_OF_NCCL = b"NCCL error"
NCCL_CALLS = ("call to the system", "another process", "call")  # of NCCL, without a cause


@dataclass(frozen=True, kw_only=True)
class OutsideFault:
    """How a line shows a fault, by its `subject`: what is missing or wrong.

    `marks` are the bytes of which a line must have one. `pattern` may name what is there (`has`)
    and what is needed (`wants`). `least` is the compute capability that a GPU needs.
    """

    kind: FaultKind
    subject: str
    meaning: Meaning
    marks: tuple[bytes, ...]
    pattern: re.Pattern[str]
    remedies: tuple[RemedyCode, ...]
    least: str | None = None


OUTSIDE_FAULTS = (
    OutsideFault(
        kind=FaultKind.DATA_TYPE,
        subject="bfloat16",
        meaning=Meaning.NO_BFLOAT16,
        marks=(b"Bfloat16 is only supported", b"Feature '.bf16' requires"),
        pattern=re.compile(
            r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0"
            r"|Feature '\.bf16' requires \.target sm_80"
        ),
        remedies=(RemedyCode.HALF, RemedyCode.NEWER_GPU),
        least="8.0",
    ),
    OutsideFault(
        kind=FaultKind.DATA_TYPE,
        subject="FP8",
        meaning=Meaning.NO_FP8,
        marks=(b"type fp8e4nv not supported",),
        pattern=re.compile(r"type fp8e4nv not supported in this architecture"),
        remedies=(RemedyCode.WITHOUT_FP8, RemedyCode.NEWER_GPU),
        least="8.9",
    ),
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
        subject=NO_GPU,
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
        subject=PLATFORM,
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
        # Programs that go on without a compiler only warn.
        pattern=re.compile(
            r"(?m:^(?!.{0,200}\bWARN(?:ING)?\b).{0,1000}?"
            r"\bCUDA_HOME (?:(?:environment variable )?is not set|does not exist))"
            r"|Could not find nvcc\b|\bnvcc: (?:command )?not found"
            r"|\[Errno 2\] No such file or directory: '[^']*\bnvcc'"
        ),
        remedies=(RemedyCode.TOOLKIT,),
    ),
    OutsideFault(
        kind=FaultKind.TOOL,
        subject="headers of CUDA",
        meaning=Meaning.PART_OF_TOOLKIT,
        marks=(b"fatal error: cu", b"fatal error: nv"),
        pattern=re.compile(
            r"fatal error: (?:(?:cuda|cublas|cufft|cufile|cupti|curand|cusolver|cusparse)\w{0,30}"
            r"\.h|nvrtc\.h|nv/target): No such file"
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
        subject=GRAPHS,
        meaning=Meaning.GRAPHS_FULL,
        marks=(),
        pattern=re.compile(r"(?!)"),
        remedies=(RemedyCode.FEWER_GRAPHS, RemedyCode.SMALLER_MODEL),
    ),
    OutsideFault(
        kind=FaultKind.MEMORY,
        subject=HELD,
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
        subject=GPU_MEMORY,
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
        subject=DISK,
        meaning=Meaning.NO_SPACE,
        marks=(b"No space left on device",),
        pattern=re.compile(r"No space left on device"),
        remedies=(RemedyCode.FREE_SPACE,),
    ),
    OutsideFault(
        kind=FaultKind.REPORT,
        subject=WAITING,
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
        subject="one GPU of two processes",
        meaning=Meaning.NCCL_ONE_GPU,
        marks=(b"Duplicate GPU detected",),
        pattern=re.compile(r"Duplicate GPU detected"),
        remedies=(RemedyCode.SEE_GPUS,),
    ),
    OutsideFault(
        kind=FaultKind.NCCL,
        subject="call to the system",
        meaning=Meaning.NCCL_SYSTEM,
        marks=(_OF_NCCL,),
        pattern=re.compile(r"NCCL error(?:(?!NCCL error).){0,300}?unhandled system error"),
        remedies=(RemedyCode.NCCL_LOG, RemedyCode.SHARED_MEMORY),
    ),
    OutsideFault(
        kind=FaultKind.NCCL,
        subject="another process",
        meaning=Meaning.NCCL_PEER,
        marks=(_OF_NCCL,),
        pattern=re.compile(r"NCCL error(?:(?!NCCL error).){0,300}?remote process exited"),
        remedies=(RemedyCode.ABOVE, RemedyCode.NCCL_LOG),
    ),
    OutsideFault(
        kind=FaultKind.NCCL,
        subject="call",
        meaning=Meaning.NCCL_CALL,
        marks=(_OF_NCCL,),
        pattern=re.compile(
            r"NCCL error(?:(?!NCCL error).){0,300}?"
            r"(?:unhandled cuda error|internal error|invalid (?:usage|argument))"
        ),
        remedies=(RemedyCode.NCCL_LOG,),
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
            b" failed to be inspected",
            b"actor died ",
        ),
        pattern=re.compile(
            r"Engine core initialization failed|Engine process failed to start"
            r"|EngineCore encountered an issue|WorkerProc initialization failed"
            r"|Model architectures .{1,200} failed to be inspected"
            r"|\bThe actor died (?:unexpectedly|because of an error)"
        ),
        remedies=(RemedyCode.ABOVE,),
    ),
)
