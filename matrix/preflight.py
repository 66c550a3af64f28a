"""What a machine must have before a cell can run on it, and which platform it offers.

Each check looks, where it can, by doing the thing: a program is compiled, not a compiler's name
looked up. What is missing comes back as a `Refusal` with the mend in its line.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix.errors import MatrixError

__all__ = [
    "LEAST_FREE_MIB",
    "LEAST_MEMORY_MIB",
    "PreflightError",
    "Refusal",
    "available_memory_mib",
    "choose_platform",
    "preflight",
    "total_memory_mib",
    "visible_gpus",
]

LEAST_FREE_MIB = 2048
"""Free space, in MiB, that the temporary folder and the records folder must each have."""
LEAST_MEMORY_MIB = 2048
"""Memory, in MiB, without which even the import of vLLM is hopeless."""

_PROGRAM = "#include <Python.h>\n#include <vector>\nstd::vector<int> numbers() { return {1}; }\n"
_SECONDS = 60.0


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
    asked = environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None and asked.strip() in ("", "-1", "NoDevFiles"):
        return ()
    there = _listed_gpus() or _device_files(devices)
    if asked is None or not there:
        return there
    seen: list[str] = []
    for each in (part.strip() for part in asked.split(",")):
        found = _named(each, there)
        if found is None:
            break  # CUDA itself stops at the first name that it does not know
        seen.append(found)
    return tuple(seen)


def total_memory_mib() -> int | None:
    """This machine's memory, or what its control group allows of it; None where neither is told."""
    found = [each for each in (_meminfo("MemTotal"), _cgroup_number("memory.max")) if each]
    return min(found) if found else None


def available_memory_mib() -> int | None:
    """The memory that this process may still take: free, the control group's rest, the ulimit."""
    limit, used = _cgroup_number("memory.max"), _cgroup_number("memory.current")
    found = [_meminfo("MemAvailable"), _address_space()]
    if limit is not None and used is not None:
        # Page cache counts as used and is given back on demand.
        found.append(limit - used + (_cgroup_stat("inactive_file") or 0))
    known = [each for each in found if each is not None]
    return min(known) if known else None


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


def _listed_gpus() -> tuple[str, ...]:
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    if done.returncode != 0:
        return ()
    return tuple(line for line in done.stdout.splitlines() if re.match(r"GPU \d+:", line))


def _device_files(devices: Path) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in devices.glob("nvidia*") if each.name[6:].isdecimal()))


def _named(asked: str, there: Sequence[str]) -> str | None:
    if asked.isdecimal():
        return there[int(asked)] if int(asked) < len(there) else None
    if asked.startswith("MIG-"):
        return asked  # a slice of a GPU has its own name, which the list of GPUs does not give
    return next((each for each in there if asked and asked in each), None)


def _meminfo(key: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) // 1024
    return None


def _cgroup_folder() -> Path | None:
    """The folder of this process's control group (version 2), where it has one."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    name = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if name is None else Path("/sys/fs/cgroup") / name.lstrip("/")


def _cgroup_number(file: str) -> int | None:
    folder = _cgroup_folder()
    try:
        text = (folder / file).read_text(encoding="ascii").strip() if folder else ""
    except OSError:
        return None
    return int(text) // 2**20 if text.isdecimal() else None


def _cgroup_stat(key: str) -> int | None:
    folder = _cgroup_folder()
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines() if folder else []
    except OSError:
        return None
    return next((int(line.split()[1]) // 2**20 for line in lines if line.split()[0] == key), None)


def _address_space() -> int | None:
    """The rest of `ulimit -v`, or None where there is no limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return max(0, limit - used * resource.getpagesize()) // 2**20
    except (ImportError, OSError):
        return None
