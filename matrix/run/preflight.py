"""The check that a machine has what a cell needs, and the platform that it offers.

Each check looks, where it can, by doing the thing: it compiles a program and does not only look up
a compiler's name. What is missing comes back as a `Refusal` that names the fix. `nvidia` has the
checks of a GPU.
"""

import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matrix._util.memory import available_memory_mib
from matrix._util.nvidia import visible_gpus
from matrix.errors import MatrixError
from matrix.record.model import ErrorKind, Platform, RunError
from matrix.run.toolchain import CompileCode, compile_fault, openssl_fault, splits, writable_mib

LEAST_FREE_MIB = 2048
"""Free space, in MiB, that the temporary folder and the records folder must each have."""
LEAST_MEMORY_MIB = 2048
"""Memory, in MiB, without which even the import of vLLM is hopeless."""


class PreflightError(MatrixError):
    """A platform that is not known."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a cell cannot run here: the kind of a record's error, and one line with the fix."""

    kind: ErrorKind
    reason: str

    @property
    def error(self) -> RunError:
        """The error of the record."""
        return RunError(kind=self.kind, reason=self.reason)


def preflight(
    records: Path,
    *,
    temporary: Path | None = None,
    platform: str = "auto",
    least_free_mib: int = LEAST_FREE_MIB,
    least_memory_mib: int = LEAST_MEMORY_MIB,
) -> Refusal | None:
    """Return the first thing that this machine lacks, or None. Make the records folder.

    `platform` is the cell's, as `choose_platform` takes it: the CPU needs one program more.
    """
    return (
        _no_fork()
        or _no_space(records, "--records", least_free_mib)
        or _unusable_temporary(temporary, least_free_mib)
        or _no_memory(least_memory_mib)
        or _no_compiler(os.environ)
        or (_no_openssl() if choose_platform(platform) == Platform.CPU else None)
    )


def choose_platform(asked: str) -> Platform:
    """Return the platform: `auto` is cuda where a GPU is visible, and cpu elsewhere.

    Raises PreflightError for anything but auto, cuda and cpu.
    """
    if asked == "auto":
        return Platform.CUDA if visible_gpus(os.environ) else Platform.CPU
    if asked not in tuple(Platform):
        raise PreflightError(f"--platform {asked}: is not a platform; choose auto, cpu or cuda")
    return Platform(asked)


def _no_fork() -> Refusal | None:
    if hasattr(os, "fork"):
        return None
    return Refusal(
        kind=ErrorKind.NO_FORK,
        reason=(
            f"{platform.system() or sys.platform} cannot fork, and each start runs in a forked"
            " process: run the matrix on Linux (on Windows, under WSL)"
        ),
    )


def _no_space(folder: Path, setting: str, least_mib: int) -> Refusal | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = writable_mib(folder)
    except OSError as error:
        return Refusal(
            kind=ErrorKind.NO_SPACE,
            reason=f"{folder}: cannot be written ({error.strerror}): set {setting} to another"
            " folder",
        )
    if free >= least_mib:
        return None
    return Refusal(
        kind=ErrorKind.NO_SPACE,
        reason=(
            f"{folder}: {free} MiB free, a cell needs {least_mib} MiB:"
            f" make room or set {setting} to another folder"
        ),
    )


def _unusable_temporary(folder: Path | None, least_mib: int) -> Refusal | None:
    try:
        folder = folder or Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        return Refusal(
            kind=ErrorKind.NO_SPACE,
            reason=f"{error.strerror}: make room, or set TMPDIR to a folder that can be written",
        )
    return _no_space(folder, "TMPDIR", least_mib) or _split_path(folder)


def _split_path(temporary: Path) -> Refusal | None:
    if not splits(temporary):
        return None
    return Refusal(
        kind=ErrorKind.UNUSABLE_TMPDIR,
        reason=(
            f"the temporary folder {str(temporary)!r} has a space, a quote or a backslash in its"
            " path, at which torch's compiler command splits: set TMPDIR to a path without one"
        ),
    )


def _no_memory(least_mib: int) -> Refusal | None:
    available = available_memory_mib()
    if available is None or available >= least_mib:
        return None
    return Refusal(
        kind=ErrorKind.NO_MEMORY,
        reason=(
            f"{available} MiB of memory available, a cell needs {least_mib} MiB: end other programs"
            " or raise the limit (ulimit -v, the container's memory)"
        ),
    )


def _no_compiler(environ: Mapping[str, str]) -> Refusal | None:
    """Return why inductor could not compile with this Python, or None."""
    fault = compile_fault(environ, sysconfig.get_path("include"))
    if fault is None:
        return None
    if fault.code is CompileCode.DOES_NOT_RUN:
        return Refusal(
            kind=ErrorKind.NO_COMPILER,
            reason=(
                f"the C++ compiler {fault.compiler!r} does not run ({fault.detail}), and"
                " inductor needs one: install g++, or set CXX to the name of one program,"
                " without arguments"
            ),
        )
    if fault.code is CompileCode.NO_HEADER:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return Refusal(
            kind=ErrorKind.NO_COMPILER,
            reason=(
                f"the header Python.h of Python {version} is missing, and inductor compiles against"
                f" it: install python{version}-dev or use a Python that has it"
            ),
        )
    return Refusal(
        kind=ErrorKind.NO_COMPILER,
        reason=f"{fault.compiler} cannot compile a small program: {fault.detail}",
    )


def _no_openssl() -> Refusal | None:
    fault = openssl_fault()
    if not fault:
        return None
    return Refusal(
        kind=ErrorKind.NO_COMPILER,
        reason=(
            f"openssl does not run ({fault}), and inductor needs it to compile for the CPU:"
            " install openssl"
        ),
    )
