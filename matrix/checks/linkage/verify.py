"""Ask the dynamic loader itself whether an extension links: what it names, and all that it misses.

It is what `matrix.checks.linkage.link` is held against. An extension is imported by a Python of
its own, after
torch, and the loader stops at the first thing that is missing. Asked as `ldd -r` asks, without
running anything, it lists every symbol that is missing.
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

__all__ = ["Seen", "agrees", "called", "observe", "seen", "write_stub"]

_SECONDS = 300  # for one import, on a machine that is busy
_LIBRARY = re.compile(r"(\S+): cannot open shared object file")
_SYMBOL = re.compile(r"undefined symbol: ([^\s,]+)(?:, version (\S+))?")
_DRIVER = re.compile(r"cu[A-Z]\w+")
# It runs in the environment of the pair, which has torch and not this project.
_PROGRAM = PACKAGE / "inside" / "extension.py"


@dataclass(frozen=True)
class Seen:
    """What the loader said of one extension: its line without folders, and what it misses.

    `symbols` are all undefined ones without a version, Python's own left out.
    """

    said: str
    library: str | None = None
    symbol: str | None = None
    symbols: tuple[str, ...] = ()

    @property
    def loads(self) -> bool:
        """Whether it was imported."""
        return self.said == "loads"


def agrees(predicted: Linked, found: Seen) -> bool:
    """Whether the loader found what was predicted: the same symbols, and it failed by one of them.

    A file that is for another Python must only fail.
    """
    if predicted.fault is not None:
        return not found.loads
    if predicted.ok or found.loads:
        return predicted.ok and found.loads and not found.symbols
    if set(predicted.symbols) != set(found.symbols):
        return False
    if predicted.libraries:
        return found.library in predicted.libraries
    return found.symbol in predicted.symbols


def seen(said: str, traced: str, name: str) -> Seen:
    """Read what the loader said of the extension `name`, and what it lists when it traces."""
    line = next((each for each in reversed(said.splitlines()) if each.strip()), "")
    line = re.sub(r"[^\s:]*/", "", line.strip())
    library, symbol = _LIBRARY.search(line), _SYMBOL.search(line)
    undefined = {
        found[1]
        for each in traced.splitlines()
        if (found := _SYMBOL.search(each)) and not found[2] and f"/{name})" in each
    }
    return Seen(
        line,
        library[1] if library else None,
        symbol[1] if symbol else None,
        tuple(sorted(each for each in undefined if not re.match(r"_?Py[A-Z_]|cu[A-Z]", each))),
    )


def observe(venv: Path, packages: Path, path: Path, stub: Path) -> Seen:
    """Import the extension at `path` in this environment, and list what it misses.

    `packages` is the environment's `site-packages`, `stub` a folder with what stands for the driver
    on a machine that has none. What else this machine has installed, such as a CUDA of its own, is
    not found: the loader is told to look into the system's own folders only.
    """
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LD_")}
    if not _has_driver():
        environ["LD_LIBRARY_PATH"] = str(stub)
    python = str(venv / "bin" / "python")
    name = path.name.partition(".")[0]
    loader = [_interpreter(), "--inhibit-cache"]
    done = called(
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
    traced = called(
        [*loader, str(path)],
        {
            **environ,
            "LD_LIBRARY_PATH": ":".join(map(str, folders)),
            "LD_TRACE_LOADED_OBJECTS": "1",
            "LD_WARN": "yes",
            "LD_BIND_NOW": "yes",
        },
    )
    said = done.stdout if done.returncode == 0 else done.stderr
    return seen(said or f"ended with {done.returncode}", traced.stdout + traced.stderr, path.name)


def _interpreter() -> str:
    """The dynamic loader as a program."""
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
    """A folder with a libcuda.so.1 that has the names which the extensions ask the driver for."""
    names = {
        name for each in symbols.extensions for name in each.imports if _DRIVER.fullmatch(name)
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
    done = called([compiler, *options, "-o", str(out / "libcuda.so.1"), str(source)])
    if done.returncode:
        raise MatrixError(f"gcc: {done.stderr.strip()}")
    return out


def called(
    command: list[str], environ: dict[str, str] | None = None, seconds: float = _SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it says; one that takes too long ends with status 124."""
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
