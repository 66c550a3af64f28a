"""The tools that torch's compiler needs: a C++ compiler, headers, openssl, folders.

Each is looked at, where that can be, by doing the thing: a program is compiled, and not only its
compiler's name looked up. What is wrong comes back as a code and what a program printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix._util.enums import StrEnum
from matrix._util.scratch import Scratch

_PROGRAM = "#include <vector>\nstd::vector<int> numbers() { return {1}; }\n"
_C_PROGRAM = "#include <stdlib.h>\nint number(void) { return abs(-1); }\n"
_SECONDS = 60.0
_SPLIT = re.compile(r"""[\s'"\\]""")


class CompileCode(StrEnum):
    """Why a small program of C++ does not compile."""

    DOES_NOT_RUN = "does_not_run"
    NO_HEADER = "no_header"
    FAILS = "fails"


@dataclass(frozen=True, kw_only=True)
class CompileFault:
    """Why a compiler does not compile a small program, with the first line of what it printed."""

    code: CompileCode
    compiler: str
    detail: str


def compiler_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return the C++ compiler that inductor runs: CXX, or else g++, as the name of one program.

    It looks for no other compiler, and it splits no arguments off (torch 2.9 to 2.11,
    `_inductor/cpp_builder.py`: `cpp_compiler_search`).
    """
    return environ.get("CXX", "g++")


def c_compiler_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return the C compiler that Triton runs to launch kernels: CC, or else gcc, or else clang.

    `runtime/build.py` of Triton 3.3 to 3.9.
    """
    path = environ.get("PATH")
    named = environ.get("CC")
    found = (name for name in ("gcc", "clang") if shutil.which(name, path=path))
    return named if named is not None else next(found, "gcc")


def compile_fault(environ: Mapping[str, str], include: str | None) -> CompileFault | None:
    """Return why inductor could not compile, or None.

    `include` is the folder of the headers of a Python, which inductor compiles against; without one
    the compiler alone is tried.
    """
    program = _PROGRAM if include is None else f"#include <Python.h>\n{_PROGRAM}"
    headers = [] if include is None else [f"-I{include}"]
    return _fault(compiler_name(environ), ["-x", "c++", "-", *headers], program)


def c_fault(environ: Mapping[str, str]) -> CompileFault | None:
    """Return why Triton could not compile, or None."""
    return _fault(c_compiler_name(environ), ["-x", "c", "-"], _C_PROGRAM)


def _fault(compiler: str, source: Sequence[str], program: str) -> CompileFault | None:
    with Scratch("preflight") as folder:
        options = [*source, "-shared", "-fPIC", "-o", f"{folder}/a.so"]
        try:
            done = subprocess.run(
                [compiler, *options],
                input=program,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return CompileFault(
                code=CompileCode.DOES_NOT_RUN, compiler=compiler, detail=first_line(str(error))
            )
    if done.returncode == 0:
        return None
    code = CompileCode.NO_HEADER if "Python.h" in done.stderr else CompileCode.FAILS
    return CompileFault(code=code, compiler=compiler, detail=first_line(done.stderr))


def openssl_fault() -> str:
    """Return why inductor could not precompile its C++ header for the CPU; "" if it could.

    It always does so on Linux. It names the header by what `openssl sha512` prints, and has no
    other way (torch 2.9 to 2.11, `_inductor/codecache.py`: `_precompile_header`).
    """
    try:
        done = subprocess.run(
            ["openssl", "sha512", os.devnull],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return first_line(str(error))
    return "" if done.stdout.split() else first_line(done.stderr)


def splits(temporary: Path) -> bool:
    """Tell whether torch could not compile in this temporary folder, because of its path.

    Inductor writes its sources there and splits its compiler's command by the rules of a shell
    (torch 2.9 to 2.15, `_inductor/cpp_builder.py`).
    """
    return _SPLIT.search(str(temporary)) is not None


def writable_mib(folder: Path) -> int:
    """Return how many MiB are free in a folder, once a file was written there.

    Raises OSError if none can be.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0" * 4096)
        file.flush()
    return shutil.disk_usage(folder).free // 2**20


def first_line(text: str) -> str:
    """Return the first line of what a program printed that reports an error, or the first one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it printed nothing"])[0][:200]
