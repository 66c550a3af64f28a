"""Ask the dynamic loader whether an extension links, and which symbols it misses.

`scripts/check_linkage.py` compares `matrix.checks.linkage.link` with this. A Python of its own
imports the extension after torch, and the loader stops at the first thing that is missing. A second
call, as `ldd -r` makes it, runs nothing and lists every symbol that is missing.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from matrix._util.paths import PACKAGE
from matrix.checks.linkage.link import Linked
from matrix.checks.linkage.tables import VllmSymbols
from matrix.errors import MatrixError

_SECONDS = 300  # for one import, on a busy machine
_LIBRARY = re.compile(r"(\S+): cannot open shared object file")
_SYMBOL = re.compile(r"undefined symbol: ([^\s,]+)(?:, version (\S+))?")
_DRIVER = re.compile(r"cu[A-Z]\w+")
_FOREIGN = re.compile(r"_?Py[A-Z_]|cu[A-Z]")  # Python's own, and the driver's
# It runs in the environment of the pair, which has torch and not this project.
_PROGRAM = PACKAGE / "inside" / "extension.py"


@dataclass(frozen=True, kw_only=True)
class LoaderResult:
    """The loader's output for one extension: its line without folders, and the missing part.

    `symbols` are all undefined ones without a version, without Python's own.
    """

    line: str
    library: str | None = None
    symbol: str | None = None
    symbols: tuple[str, ...] = ()

    @property
    def loads(self) -> bool:
        """Tell whether Python imported the extension."""
        return self.line == "loads"


def agrees(predicted: Linked, found: LoaderResult) -> bool:
    """Tell whether the loader missed the predicted symbols, and failed because of one of them.

    A file that is for another Python must only fail.
    """
    if not predicted.is_complete:
        return not found.loads
    if predicted.ok or found.loads:
        return predicted.ok and found.loads and not found.symbols
    if set(predicted.symbols) != set(found.symbols):
        return False
    if predicted.libraries:
        return found.library in predicted.libraries
    return found.symbol in predicted.symbols


def read_loader(output: str, traced: str, name: str) -> LoaderResult:
    """Read what the loader printed for the extension `name`, and what it lists when it traces."""
    line = next((text for text in reversed(output.splitlines()) if text.strip()), "")
    line = re.sub(r"[^\s:]*/", "", line.strip())
    library, symbol = _LIBRARY.search(line), _SYMBOL.search(line)
    undefined = {
        found[1]
        for text in traced.splitlines()
        if (found := _SYMBOL.search(text)) and not found[2] and f"/{name})" in text
    }
    return LoaderResult(
        line=line,
        library=library[1] if library else None,
        symbol=symbol[1] if symbol else None,
        symbols=tuple(sorted(found for found in undefined if not _FOREIGN.match(found))),
    )


def observe(venv: Path, packages: Path, path: Path, stub: Path) -> LoaderResult:
    """Import the extension at `path` in this environment, and list what it misses.

    `packages` is the environment's `site-packages`, `stub` a folder with a replacement for the
    driver on a machine without one. The loader looks into the system's own folders only, so that it
    does not find what else this machine has installed, such as a CUDA of its own.
    """
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LD_")}
    if not _has_driver():
        environ["LD_LIBRARY_PATH"] = str(stub)
    python = str(venv / "bin" / "python")
    name = path.name.partition(".")[0]
    loader = [_interpreter(), "--inhibit-cache"]
    done = run_command(
        [
            *loader,
            "--argv0",
            python,
            python,
            "-c",
            _PROGRAM.read_text(encoding="utf-8"),
            str(path),
            name,
        ],
        environ,
    )
    folders = [packages / "torch" / "lib", *packages.glob("nvidia/**/lib"), stub]
    traced = run_command(
        [*loader, str(path)],
        {
            **environ,
            "LD_LIBRARY_PATH": ":".join(map(str, folders)),
            "LD_TRACE_LOADED_OBJECTS": "1",
            "LD_WARN": "yes",
            "LD_BIND_NOW": "yes",
        },
    )
    output = done.stdout if done.returncode == 0 else done.stderr
    output = output or f"ended with {done.returncode}"
    return read_loader(output, traced.stdout + traced.stderr, path.name)


def _interpreter() -> str:
    """Return the path of the dynamic loader as a program; raises MatrixError if it is missing."""
    path = "/lib64/ld-linux-x86-64.so.2"
    if not Path(path).exists():
        raise MatrixError(f"{path} is not here; run this on Linux with glibc, x86_64")
    return path


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def write_stub(symbols: VllmSymbols, folder: Path) -> Path:
    """Write a folder with a libcuda.so.1 that has the driver's names which the extensions import.

    Returns the folder. Raises MatrixError if there is no gcc, or it fails.
    """
    names = {
        name
        for extension in symbols.extensions
        for name in extension.imports
        if _DRIVER.fullmatch(name)
    }
    source, out = folder / "libcuda.c", folder / "stub"
    out.mkdir()
    source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in sorted(names)))
    compiler = shutil.which("gcc")
    if compiler is None:
        raise MatrixError(
            "gcc is not here, and makes a libcuda.so.1 for a machine without a driver"
        )
    options = ["-shared", "-fPIC", "-w", "-fno-builtin", "-Wl,-soname,libcuda.so.1"]
    done = run_command([compiler, *options, "-o", str(out / "libcuda.so.1"), str(source)])
    if done.returncode:
        raise MatrixError(f"gcc: {done.stderr.strip()}")
    return out


def run_command(
    command: list[str], environ: dict[str, str] | None = None, seconds: float = _SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output; one that takes too long ends with status 124."""
    try:
        return subprocess.run(
            command,
            env=environ,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"took longer than {seconds:.0f} s")
