"""What a machine must have before a cell can run on it, and which platform it offers.

Each check looks, where it can, by doing the thing: a program is compiled, not a compiler's name
looked up. What is missing comes back as a `Refusal` with the mend in its line.
"""

import math
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix._util.memory import available_memory_mib
from matrix.errors import MatrixError
from matrix.run.nvidia_probe import Answer, ask, asked, on_the_bus

__all__ = [
    "CONTEXT_MIB",
    "GPU_SHARE",
    "LEAST_FREE_MIB",
    "LEAST_MEMORY_MIB",
    "START_MIB",
    "PreflightError",
    "Refusal",
    "choose_platform",
    "gpu_need_mib",
    "preflight",
    "unusable_gpu",
    "visible_gpus",
    "wheel_cuda",
    "why_not_cuda",
]

LEAST_FREE_MIB = 2048
"""Free space, in MiB, that the temporary folder and the records folder must each have."""
LEAST_MEMORY_MIB = 2048
"""Memory, in MiB, without which even the import of vLLM is hopeless."""
GPU_SHARE = 0.25
"""The share of a GPU's whole memory that one start asks vLLM for: `matrix/inside/starts.py`'s."""
START_MIB = 11 * 1024
"""The most GPU memory, in MiB, that one start asks for: `matrix/inside/concurrency.py`'s.

The most that nvidia-smi showed of one start was 8434 (vLLM 0.32.0, nine cases on an H200).
"""
CONTEXT_MIB = 512
"""GPU memory, in MiB, allowed for CUDA's own context, which is there before vLLM measures."""

_PROGRAM = "#include <Python.h>\n#include <vector>\nstd::vector<int> numbers() { return {1}; }\n"
_SECONDS = 60.0
# By CUDA's major version, from the same page as the rule of `_refused_by`.
_LEAST_DRIVERS = {12: 525, 13: 580}
# cuInit's errors by whose they are; any other is the GPU's own.
_DRIVER_ERRORS = {
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": (
        "driver_too_old",
        "CUDA's forward compatibility does not serve this GPU: update the NVIDIA driver, and take"
        " cuda-compat out of LD_LIBRARY_PATH",
    ),
    "CUDA_ERROR_NO_DEVICE": (
        "no_gpu",
        "CUDA sees no GPU: see nvidia-smi -L and CUDA_VISIBLE_DEVICES",
    ),
    "CUDA_ERROR_STUB_LIBRARY": (
        "no_driver",
        "the libcuda.so.1 found first is the toolkit's stub: take its folder out of"
        " LD_LIBRARY_PATH",
    ),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": (
        "no_driver",
        "libcuda.so.1 and the kernel's NVIDIA driver are of two versions: reboot, or install one",
    ),
    "CUDA_ERROR_SYSTEM_NOT_READY": (
        "no_driver",
        "the GPUs are not set up: start nvidia-fabricmanager",
    ),
}


class PreflightError(MatrixError):
    """A platform that there is not."""


@dataclass(frozen=True)
class Refusal:
    """Why a cell cannot run here: the kind of a record's error, and one line with the mend."""

    kind: str
    reason: str


def preflight(
    records: Path,
    *,
    temporary: Path | None = None,
    platform: str = "auto",
    least_free_mib: int = LEAST_FREE_MIB,
    least_memory_mib: int = LEAST_MEMORY_MIB,
) -> Refusal | None:
    """The first thing that this machine lacks, or None. Makes the records folder.

    `platform` is the cell's, as `choose_platform` takes it: the CPU needs a program more.
    """
    return (
        _no_fork()
        or _no_space(records, "--records", least_free_mib)
        or _no_space(temporary or Path(tempfile.gettempdir()), "TMPDIR", least_free_mib)
        or _no_memory(least_memory_mib)
        or _no_compiler(os.environ)
        or (_no_openssl() if choose_platform(platform) == "cpu" else None)
    )


def choose_platform(asked: str) -> str:
    """`auto` is cuda where a GPU is visible and cpu elsewhere; `cuda` and `cpu` are themselves.

    Raises PreflightError for anything else.
    """
    if asked == "auto":
        return "cuda" if visible_gpus() else "cpu"
    if asked not in ("cuda", "cpu"):
        raise PreflightError(f"--platform {asked}: no such platform; choose auto, cpu or cuda")
    return asked


def visible_gpus(
    environ: Mapping[str, str] = os.environ, devices: Path = Path("/dev")
) -> tuple[str, ...]:
    """The NVIDIA GPUs that a CUDA program would see, by what they are called. Initialises no CUDA.

    Those of `nvidia-smi -L`, or else the device files, less what CUDA_VISIBLE_DEVICES hides.
    """
    if _hidden(environ):
        return ()
    there = _there(devices)
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or not there:
        return there
    seen: list[str] = []
    for each in (part.strip() for part in chosen.split(",")):
        found = _named(each, there)
        if found is None:
            break  # CUDA itself stops at the first name that it does not know
        seen.append(found)
    return tuple(seen)


def why_not_cuda(
    asked_for: str, environ: Mapping[str, str] = os.environ, bus: Path | None = None
) -> str | None:
    """Why `auto` takes the CPU on a machine that has an NVIDIA GPU; None where that is no question.

    A GPU that is hidden on purpose is none.
    """
    if asked_for != "auto" or _hidden(environ) or choose_platform(asked_for) == "cuda":
        return None
    found = on_the_bus() if bus is None else on_the_bus(bus)
    if not found or _there():
        return None
    return (
        f"--platform auto takes cpu: this machine has an NVIDIA GPU ({found[0]} on the PCI bus),"
        f" but no driver answers for it ({_smi_says()})"
    )


def gpu_need_mib(total_mib: int) -> int:
    """The free memory, in MiB, without which a start on a GPU of this size is refused by vLLM.

    vLLM measures when CUDA's context is up, and wants what is asked for free then (0.16 to 0.20,
    `v1/worker/utils.py`: `request_memory`).
    """
    return min(math.ceil(total_mib * GPU_SHARE), START_MIB) + CONTEXT_MIB


def wheel_cuda(packages: Mapping[str, str]) -> tuple[int, int] | None:
    """The CUDA that an environment's torch was built with, by the packages' metadata; or None.

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


def unusable_gpu(
    platform: str,
    packages: Mapping[str, str],
    *,
    environ: Mapping[str, str] = os.environ,
    devices: Path = Path("/dev"),
    bus: Path | None = None,
    driver: Callable[[], Answer | None] = ask,
) -> Refusal | None:
    """Why no cell can run on this machine's GPU, or None; None always for the platform cpu.

    `packages` are the cell's, which tell the CUDA of its torch. `driver` asks the driver.
    """
    if platform != "cuda":
        return None
    seen = visible_gpus(environ, devices)
    if seen:
        refusal = _refused_by(driver(), wheel_cuda(packages))
        # Device files can outlive the driver's module.
        dead = refusal is not None and refusal.kind == "no_gpu" and not _listed_gpus()
        return _no_driver(seen[0]) if dead else refusal
    found = on_the_bus() if bus is None else on_the_bus(bus)
    if found and not _hidden(environ) and not _there(devices):
        return _no_driver(f"{found[0]} on the PCI bus")
    return Refusal(
        "no_gpu",
        "--platform cuda, but no GPU is visible: see nvidia-smi -L and CUDA_VISIBLE_DEVICES",
    )


def _no_fork() -> Refusal | None:
    if hasattr(os, "fork"):
        return None
    return Refusal(
        "no_fork",
        f"{platform.system() or sys.platform} cannot fork, and each start runs in a forked process:"
        " run the matrix on Linux (on Windows, under WSL)",
    )


def _no_space(folder: Path, setting: str, least_mib: int) -> Refusal | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
        free = shutil.disk_usage(folder).free // 2**20
    except OSError as error:
        return Refusal(
            "no_space", f"{folder}: cannot be written ({error.strerror}): set {setting} to another"
        )
    if free >= least_mib:
        return None
    return Refusal(
        "no_space",
        f"{folder}: {free} MiB free, a cell needs {least_mib} MiB:"
        f" make room or set {setting} to another",
    )


def _no_memory(least_mib: int) -> Refusal | None:
    available = available_memory_mib()
    if available is None or available >= least_mib:
        return None
    return Refusal(
        "no_memory",
        f"{available} MiB of memory available, a cell needs {least_mib} MiB: end other programs"
        " or raise the limit (ulimit -v, the container's memory)",
    )


def _no_compiler(environ: Mapping[str, str]) -> Refusal | None:
    """Why inductor could not compile: it runs CXX, or g++ without it, as the name of one program.

    It looks for no other compiler, and it splits no arguments off (torch 2.9 to 2.11,
    `_inductor/cpp_builder.py`: `cpp_compiler_search`).
    """
    compiler = environ.get("CXX", "g++")
    include = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        options = ["-x", "c++", "-", f"-I{include}", "-shared", "-fPIC", "-o", f"{folder}/a.so"]
        try:
            done = subprocess.run(
                [compiler, *options],
                input=_PROGRAM,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Refusal(
                "no_compiler",
                f"the C++ compiler {compiler!r} does not run ({_first_line(str(error))}), and"
                " inductor needs one: install g++, or set CXX to the name of one program,"
                " without arguments",
            )
    if done.returncode == 0:
        return None
    if "Python.h" in done.stderr:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return Refusal(
            "no_compiler",
            f"the header Python.h of Python {version} is missing, and inductor compiles against it:"
            f" install python{version}-dev or use a Python that has it",
        )
    return Refusal(
        "no_compiler", f"{compiler} cannot compile a small program: {_first_line(done.stderr)}"
    )


def _no_openssl() -> Refusal | None:
    """Why inductor could not precompile its C++ header for the CPU, which it always does on Linux.

    It names the header by what `openssl sha512` prints, and has no other way (torch 2.9 to 2.11,
    `_inductor/codecache.py`: `_precompile_header`).
    """
    try:
        done = subprocess.run(
            ["openssl", "sha512", os.devnull],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        said = "" if done.stdout.split() else _first_line(done.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        said = _first_line(str(error))
    if not said:
        return None
    return Refusal(
        "no_compiler",
        f"openssl does not run ({said}), and inductor needs it to compile for the CPU:"
        " install openssl",
    )


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it says nothing"])[0][:200]


def _no_driver(gpu: str) -> Refusal:
    return Refusal(
        "no_driver",
        f"this machine has an NVIDIA GPU ({gpu}), but no driver answers for it ({_smi_says()}):"
        " install NVIDIA's driver (in a container: start it with the GPU), or run with"
        " --platform cpu",
    )


def _refused_by(answer: Answer | None, wheel: tuple[int, int] | None) -> Refusal | None:
    """Why a driver that answered so cannot serve a torch built with that CUDA, or None.

    Since CUDA 11 a driver serves every toolkit of its major version and of those before it
    (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
    """
    if answer is None:
        return Refusal(
            "gpu_fault",
            "the NVIDIA driver does not answer (cuInit hung or crashed): see the kernel's log for"
            " Xid, and reset the GPU or reboot",
        )
    if answer.missing is not None:
        return Refusal(
            "no_driver",
            f"there is a GPU, but the driver's library does not load ({answer.missing[:100]}):"
            " install NVIDIA's driver (in a container: start it with the GPU), or run with"
            " --platform cpu",
        )
    if answer.error is not None:
        kind, why = _DRIVER_ERRORS.get(
            answer.error,
            (
                "gpu_fault",
                "CUDA does not come up on this GPU: see nvidia-smi and the kernel's log for Xid,"
                " and reset the GPU or reboot",
            ),
        )
        return Refusal(kind, f"{why} (cuInit: {answer.error})")
    if not answer.gpus:
        return Refusal(*_DRIVER_ERRORS["CUDA_ERROR_NO_DEVICE"])
    if wheel is not None and answer.cuda is not None and answer.cuda[0] < wheel[0]:
        least = _LEAST_DRIVERS.get(wheel[0])
        return Refusal(
            "driver_too_old",
            f"this torch was built with CUDA {_dotted(wheel)}, and the NVIDIA driver here knows"
            f" CUDA {_dotted(answer.cuda)} at most: update the driver"
            + (f" (CUDA {wheel[0]} needs {least} or later)" if least else ""),
        )
    return _too_full(answer)


def _too_full(answer: Answer) -> Refusal | None:
    if answer.total_mib is None or answer.free_mib is None:
        return None
    need = gpu_need_mib(answer.total_mib)
    if answer.free_mib >= need:
        return None
    return Refusal(
        "gpu_full",
        f"the GPU ({answer.name}) has {answer.free_mib} MiB free of {answer.total_mib} MiB,"
        f" {answer.used_mib} MiB are in use, and a start needs {need} MiB: end the programs that"
        " hold it (nvidia-smi lists them), or choose another GPU by CUDA_VISIBLE_DEVICES",
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _hidden(environ: Mapping[str, str]) -> bool:
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    return chosen is not None and chosen.strip() in ("", "-1", "NoDevFiles")


def _there(devices: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs that the driver lists, or else those that have a device file."""
    return _listed_gpus() or _device_files(devices)


def _smi_says() -> str:
    said = asked(["nvidia-smi", "-L"])
    return "there is no nvidia-smi" if said is None else f"nvidia-smi: {_first_line(said[1])}"


def _listed_gpus() -> tuple[str, ...]:
    said = asked(["nvidia-smi", "-L"])
    if said is None or said[0] != 0:
        return ()
    return tuple(line for line in said[1].splitlines() if re.match(r"GPU \d+:", line))


def _device_files(devices: Path) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in devices.glob("nvidia*") if each.name[6:].isdecimal()))


def _named(chosen: str, there: Sequence[str]) -> str | None:
    if chosen.isdecimal():
        return there[int(chosen)] if int(chosen) < len(there) else None
    if chosen.startswith("MIG-"):
        return chosen  # a slice of a GPU has its own name, which the list of GPUs does not give
    return next((each for each in there if chosen and chosen in each), None)
