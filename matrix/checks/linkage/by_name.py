"""Whether a vLLM links with a build of torch that has no table, where the build's name decides.

`2.11.0+cu129` is for CUDA 12.9: it brings `libcudart.so.12`, and what needs another `libcudart`
does not load with it. If the name does not decide, only the build's table answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from matrix._util.versions import parse_version
from matrix.checks.linkage.build import cudart_of
from matrix.checks.linkage.link import Linkage, Tables, link
from matrix.checks.linkage.tables import DescribedWheel, Library, Names, TorchSymbols, VllmSymbols

_LOCAL = re.compile(r"(?i)\+(?:cu(?P<cuda>\d{2})\d|cpu|rocm[\d.]+|xpu)(?:\.|$)")


def linked(tables: Tables, vllm: str, torch: str, python: str) -> Linkage:
    """Return what the tables answer, else what the name of a build without a table decides.

    Raises SymbolsError if neither answers.
    """
    if (
        torch not in tables.torch_versions
        and torch not in tables.candidates
        and _is_of_a_release(torch, tables.torch_versions)
    ):
        refused = refused_by_name(tables.vllm(vllm), torch, python)
        if refused is not None:
            return refused
    return tables.link(vllm, torch, python)


def _is_of_a_release(torch: str, known: Iterable[str]) -> bool:
    """Tell whether a build is of a known release, so that a mistyped version gets no answer."""
    release = parse_version(parse_version(torch).public)
    return any(parse_version(version) == release for version in known)


def refused_by_name(vllm: VllmSymbols, torch: str, python: str) -> Linkage | None:
    """Return which extensions need another `libcudart`; None unless one of the core does."""
    found = _LOCAL.search(torch)
    if found is None:
        return None
    cudart = f"libcudart.so.{found['cuda']}" if found["cuda"] else None
    wheel = DescribedWheel(project="torch", version=torch, file="", sha256="")
    brought = (Library(name=cudart, needed=(), exports=Names.of(())),) if cudart else ()
    by_cudart = link(vllm, TorchSymbols(wheel=wheel, libraries=brought), python)
    extensions = []
    for extension in by_cudart.extensions:
        missing = tuple(name for name in extension.libraries if cudart_of(name) is not None)
        if missing:
            # What else it lacks is not known: nothing of this torch was read.
            extensions.append(
                extension._replace(symbols=(), names=(), libraries=missing, instead=cudart)
            )
    refused = by_cudart._replace(extensions=tuple(extensions))
    return None if refused.ok else refused
