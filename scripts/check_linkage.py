"""Hold `matrix linkage` against the dynamic loader: import the extensions of real pairs.

    check_linkage.py [--python 3.11] [--out docs/linkage-evidence.json] VLLM:TORCH ...

For each pair uv makes an environment in a temporary folder, with torch and all that it requires,
and vLLM alone. Each of vLLM's extensions is imported there in a process of its own, after torch.
The loader names one missing library or symbol and stops; asked as `ldd -r` asks, it names every
symbol. Both are compared with what the tables say. A machine without a driver gets a library of its
names that does nothing. It takes gcc, uv and 8 GB of disk. Exit status: 0 where
all agree, 1 where one does not, 2 where a pair cannot be tried.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder is on the path, not its repository: this must run from a bare checkout.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matrix.errors import MatrixError
from matrix.linkage import Linked, Tables, load_tables
from matrix.records import write_text
from matrix.symbols import VllmSymbols

__all__ = ["Seen", "agrees", "main", "seen"]

_OUT = Path("docs/linkage-evidence.json")
_SECONDS = 300  # for one import, on a machine that is busy
_LIBRARY = re.compile(r"(\S+): cannot open shared object file")
_SYMBOL = re.compile(r"undefined symbol: ([^\s,]+)(?:, version (\S+))?")
_DRIVER = re.compile(r"cu[A-Z]\w+")
_IMPORT = """
import importlib.machinery, importlib.util, sys
import torch
path, name = sys.argv[1:]
loader = importlib.machinery.ExtensionFileLoader(name, path)
try:
    loader.create_module(importlib.util.spec_from_loader(name, loader))
except ImportError as error:
    # Some only register operators as they are loaded, and are no modules of Python's.
    if "does not define module export function" not in str(error):
        sys.exit(f"{error}")
print("loads")
"""


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Try each pair, write the evidence and say what agrees."""
    parser = argparse.ArgumentParser(description="Hold linkage against real imports.")
    parser.add_argument("pairs", nargs="+", metavar="VLLM:TORCH")
    parser.add_argument("--python", default="3.11", metavar="VERSION")
    parser.add_argument("--out", type=Path, default=_OUT, metavar="FILE")
    options = parser.parse_args(arguments)
    status = 0
    try:
        evidence = _evidence(options.out)
        for pair in options.pairs:
            vllm, _, torch = pair.partition(":")
            try:
                row = _try_pair(vllm, torch, options.python, load_tables())
            except MatrixError as error:
                print(f"{pair}: {error}", file=sys.stderr)
                status = 2
                continue
            _print(row)
            if not row["agrees"]:
                status = status or 1
            key = ("vllm", "torch", "python")
            evidence = [each for each in evidence if any(each[name] != row[name] for name in key)]
            evidence.append(row)
            evidence.sort(key=lambda each: [str(each[name]) for name in key])
            text = json.dumps({"schema": 1, "pairs": evidence}, indent=1, ensure_ascii=True)
            write_text(options.out, text + "\n")
    except MatrixError as error:
        print(error, file=sys.stderr)
        return 2
    return status


def _evidence(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        return []
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))["pairs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MatrixError(f"{path}: is no evidence ({error!r}); move it away") from None
    assert isinstance(pairs, list)
    return pairs


def _try_pair(vllm: str, torch: str, python: str, tables: Tables) -> dict[str, object]:
    linkage = tables.link(vllm, torch, python)
    with tempfile.TemporaryDirectory(prefix="check-linkage-") as name:
        folder = Path(name)
        venv = folder / "venv"
        _uv("venv", "--quiet", "--python", python, str(venv))
        target = ("--quiet", "--python", str(venv / "bin" / "python"))
        _uv("pip", "install", *target, f"torch=={torch}")
        _uv("pip", "install", *target, "--no-deps", f"vllm=={vllm}")
        [packages] = venv.glob("lib/python3*/site-packages")
        stub = _stub(tables.vllm(vllm), folder)
        rows, whole = [], True
        for each in linkage.extensions:
            path = packages / each.path
            found = _observe(venv, packages, path, stub)
            good = agrees(each, found)
            whole = whole and good
            rows.append(
                {
                    "extension": each.path,
                    "predicted": each.reason or "loads",
                    "observed": found.said,
                    "undefined": list(found.symbols),
                    "agrees": good,
                }
            )
        full = _called([str(venv / "bin" / "python"), "--version"]).stdout.split()[-1]
    return {
        "vllm": vllm,
        "torch": torch,
        "python": full,
        "glibc": platform.libc_ver()[1],
        "predicted": linkage.verdict,
        "agrees": whole,
        "extensions": rows,
    }


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


def _observe(venv: Path, packages: Path, path: Path, stub: Path) -> Seen:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LD_")}
    if not _has_driver():
        environ["LD_LIBRARY_PATH"] = str(stub)
    python = str(venv / "bin" / "python")
    name = path.name.partition(".")[0]
    done = _called([python, "-c", _IMPORT, str(path), name], environ)
    folders = [packages / "torch" / "lib", *packages.glob("nvidia/**/lib"), stub]
    traced = _called(
        [_interpreter(), str(path)],
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


def _stub(symbols: VllmSymbols, folder: Path) -> Path:
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
    done = _called([compiler, *options, "-o", str(out / "libcuda.so.1"), str(source)])
    if done.returncode:
        raise MatrixError(f"gcc: {done.stderr.strip()}")
    return out


def _uv(*arguments: str) -> None:
    program = shutil.which("uv")
    if program is None:
        raise MatrixError("uv is not here, and makes the environments: install uv")
    done = _called([program, *arguments], seconds=3600)
    if done.returncode:
        raise MatrixError(f"uv {arguments[0]}: {done.stderr.strip().splitlines()[-1:]}")


def _called(
    command: list[str], environ: dict[str, str] | None = None, seconds: float = _SECONDS
) -> subprocess.CompletedProcess[str]:
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


def _print(row: dict[str, object]) -> None:
    extensions = row["extensions"]
    assert isinstance(extensions, list)
    right = sum(each["agrees"] for each in extensions)
    print(
        f"vLLM {row['vllm']} x torch {row['torch']}, Python {row['python']}: {row['predicted']};"
        f" {right} of {len(extensions)} extensions as predicted"
    )
    for each in extensions:
        mark = "  " if each["agrees"] else "! "
        print(f"{mark}{each['extension']}: {each['observed']}")
        if not each["agrees"]:
            print(f"    predicted: {each['predicted']}; undefined: {each['undefined']}")


if __name__ == "__main__":
    sys.exit(main())
