"""Inspections and imports of every start, done once before the cases of a run.

A start asks the class of its model what it can do. vLLM has a new interpreter do that, which
imports torch and vLLM once more, and keeps the answer in a file below its cache. The answer does
not depend on what a start compiles, so a run asks for all models in one forked child, and its cases
begin with the answers (`give`). A start whose answer is missing asks as usual.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from matrix.inside.isolation import IsolationError, run_forked
from matrix.record.model import Platform

INSPECTIONS_VARIABLE = "MATRIX_INSPECTIONS"
"""Names the folder of the answers that a run holds for its cases."""

_ROOT = "VLLM_CACHE_ROOT"
_ANSWERS = "modelinfos"  # below the root: model_executor/models/registry.py of vLLM 0.14 to 0.33
_KERNELS = ("flashinfer", "deep_gemm")  # starts on a GPU import them, which takes seconds
_CUDA_SECONDS = 60.0


def ask(architectures: Iterable[str], platform: Platform, folder: Path) -> dict[str, Any]:
    """Have vLLM write what its classes of these models say below `folder`, in a forked child.

    Return how many were `answered`, and the `modules` that this imported and that the session may
    import too. On a GPU those are left out whose import spoils a fork: the process that imported
    them, or a child of it, could not use CUDA.
    """
    compat = import_module("matrix.inside.vllm_compat")
    os.environ[_ROOT] = str(folder)
    modules = list[str]()
    for architecture in architectures:
        with suppress(Exception):  # this release lacks the model, or its start says why
            modules += compat.inspect_model(architecture)
    if platform is Platform.CUDA:
        modules = _harmless([[*modules, *compat.STARTED], *([name] for name in _KERNELS)])
    answered = sum(1 for _ in (folder / _ANSWERS).glob("*.json"))
    return {"answered": answered, "modules": modules}


def give(root: Path) -> None:
    """Put the answers that the run holds, if it has any, below `root`, a start's own cache."""
    held = os.environ.get(INSPECTIONS_VARIABLE)
    if held is None or not (Path(held) / _ANSWERS).is_dir():
        return
    try:
        shutil.copytree(Path(held) / _ANSWERS, root / _ANSWERS)
    except OSError:  # the start asks, or says what this disk lacks
        shutil.rmtree(root / _ANSWERS, ignore_errors=True)


def import_all(names: Iterable[str]) -> int:
    """Import these modules for every child to inherit; return how many of them import."""
    return sum(map(_imports, names))


def _harmless(groups: Iterable[list[str]]) -> list[str]:
    """Import group after group; return those modules after which a fork can still use CUDA."""
    kept = list[str]()
    for group in groups:
        imported = [name for name in group if _imports(name)]
        if not _forks_can_use_cuda():
            break
        kept += imported
    return kept


def _forks_can_use_cuda() -> bool:
    try:
        return run_forked(_use_cuda, timeout=_CUDA_SECONDS).kind == "returned"
    except IsolationError:  # this process itself uses it now
        return False


def _imports(name: str) -> bool:
    try:
        import_module(name)
    except Exception:  # noqa: BLE001 - the start that needs it says why
        return False
    return True


def _use_cuda() -> None:
    import torch

    torch.zeros(1, device="cuda").cpu()
