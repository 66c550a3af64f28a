"""What Inductor does with the C++ compiler before it compiles: done once, before a run's cases.

For the CPU Inductor generates C++. First it finds out which vector instructions this machine
has: it compiles and runs a probe for each. Then it precompiles a header of its own. Both depend on
torch, the compiler and the machine alone. No counter speaks of them, and they hold nothing of what
a start compiled. So the cases of a run share them on purpose, and no cold start waits for them.
`benchmarks/cpp_compiler.py` measures the saving. torch is imported inside the functions.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

HEADERS_VARIABLE = "MATRIX_CPP_HEADERS"
"""Names the folder of the headers that a run holds for its cases."""

Probe = tuple[str, str, bool]
"""A probe: the instructions that it tries, the digest of its source, and whether it ran."""

_Check = Callable[[Any, str], bool]
_HEADERS = "precompiled_headers"
_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def probe(folder: Path) -> list[Probe]:
    """Have Inductor probe this machine's vector instructions, with its cache below `folder`.

    Call it in a forked child, before torch is imported: the process keeps the cache.
    """
    _prepare(folder)
    probes = list[Probe]()

    def noting(usual: _Check, isa: Any, code: str) -> bool:
        ran = usual(isa, code)
        probes.append((str(isa), _digest(code), ran))
        return ran

    _ask_instructions(noting)
    return probes


def take(probes: Iterable[Probe]) -> None:
    """Give Inductor in this process, and in its children, the answers of another process.

    It runs here each probe that these lack.
    """
    known = {(name, digest): ran for name, digest, ran in probes}

    def answering(usual: _Check, isa: Any, code: str) -> bool:
        ran = known.get((str(isa), _digest(code)))
        return usual(isa, code) if ran is None else ran

    _ask_instructions(answering)


def precompile(folder: Path) -> int:
    """Have Inductor compile a small function in this process, with its headers below `folder`.

    Return how many headers it has there then; none with a torch that precompiles none. Call it in a
    forked child: the process keeps the compiled function, and the folder of the headers.
    """
    _prepare(folder)
    torch: Any = import_module("torch")
    if not _move_headers(folder):
        return 0
    torch.compile(_small)(torch.ones(8, 8))
    shutil.rmtree(folder / "inductor", ignore_errors=True)
    return sum(1 for _ in (folder / _HEADERS).glob("*.gch"))


def give_headers(own: Path) -> None:
    """Let this process keep its headers below `own`, with a link to each that the run holds.

    A case that is killed while it writes a header leaves that to itself alone. Without this call
    Inductor keeps them in the user's own cache.
    """
    held = os.environ.get(HEADERS_VARIABLE)
    if held is not None:
        (own / _HEADERS).mkdir(parents=True, exist_ok=True)
        for header in (Path(held) / _HEADERS).glob("*.h*"):
            with suppress(OSError):  # then the case makes its own
                (own / _HEADERS / header.name).hardlink_to(header)
    _move_headers(own)


def _prepare(folder: Path) -> None:
    """Set what torch reads while it is imported: a cache below `folder`, and no pool of processes.

    The pool is for many kernels; its processes would import torch too.
    """
    os.environ[_CACHE] = str(folder / "inductor")
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"


def _move_headers(folder: Path) -> bool:
    """Change the folder of the headers, which torch fixes at import; return whether it has one."""
    codecache: Any = import_module("torch._inductor.codecache")
    if not hasattr(codecache, "_HEADER_DIR"):
        return False
    codecache._HEADER_DIR = str(folder / _HEADERS)
    codecache._HEADER_LOCK_DIR = str(folder / _HEADERS / "locks")
    return True


def _ask_instructions(check: Callable[[_Check, Any, str], bool]) -> None:
    """Have Inductor ask, once for this process; `check` is given how it probes, and what."""
    module: Any = import_module("torch._inductor.cpu_vec_isa")
    usual = getattr(module.VecISA, "check_build", None)
    if usual is None:
        module.valid_vec_isa_list()
        return
    module.VecISA.check_build = lambda isa, code: check(usual, isa, code)
    try:
        module.valid_vec_isa_list()
    finally:
        module.VecISA.check_build = usual


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _small(values: Any) -> Any:
    return values.sin() + 1
