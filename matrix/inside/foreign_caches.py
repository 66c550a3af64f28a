"""Caches as another torch, another vLLM or another GPU leaves them, made here.

A start within one of these is keyed as theirs would be: what torch and vLLM put into the keys of
their caches, and into what they save, is replaced meanwhile. What a release lacks of these names is
not in its keys, and is left as it is. torch and vLLM are imported inside the functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from packaging.version import Version

from matrix.inside import cache_files
from matrix.record.model import CacheKind

_ANOTHER = "another"
_GARBAGE = b"not an artifact\n"
_ROOT = "VLLM_CACHE_ROOT"


@contextlib.contextmanager
def another_torch() -> Iterator[None]:
    """Be the next patch release of torch."""
    import torch

    codecache: Any = importlib.import_module("torch._inductor.codecache")
    version = type(torch.__version__)(_next(str(torch.__version__)))
    # It remembers its key, which holds the version.
    forget = getattr(codecache.torch_key, "clear", lambda: None)
    with patch.object(torch, "__version__", version):
        forget()
        yield
    forget()


@contextlib.contextmanager
def another_vllm() -> Iterator[None]:
    """Be the next patch release of vLLM."""
    import vllm

    with patch.object(vllm, "__version__", _next(str(vllm.__version__))):
        yield


@contextlib.contextmanager
def another_gpu() -> Iterator[None]:
    """Have a GPU of another kind, as far as caches tell; on the CPU have one at all."""
    cache: Any = importlib.import_module("torch._inductor.codecache").CacheBase
    try:
        package: Any = importlib.import_module("torch._dynamo.package")
    except ModuleNotFoundError:
        package = None
    system = {**cache.get_system(), "device": {"name": _ANOTHER}}
    system["hash"] = hashlib.sha256(repr(sorted(system.items())).encode()).hexdigest()
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(cache, "get_system", staticmethod(lambda: system)))
        if hasattr(package, "SystemInfo"):
            known = package.SystemInfo.current()
            info = dataclasses.replace(known, gpu_name=_ANOTHER)
            stack.enter_context(
                patch.object(package.SystemInfo, "current", classmethod(lambda _: info))
            )
        yield


ANOTHER: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "torch": another_torch,
    "vllm": another_vllm,
    "gpu": another_gpu,
}
"""The ways to be another, by what differs."""


def spoil(kind: CacheKind, folder: Path) -> str | None:
    """Replace the files of a kind in vLLM's cache below the folder by bytes that nobody can load.

    Their names stay. Return why that cannot be: the cold start left none. Some releases, and some
    flags, have no file of the kind: with the mega artifact a model is saved with its graphs in it.
    """
    root = folder / "vllm"
    kinds = {
        path: cache_files.kind_of(_ROOT, path.relative_to(root).parts)
        for path in filter(Path.is_file, root.rglob("*"))
    }
    found = [path for path, known in kinds.items() if known is kind]
    if not found:
        return f"the cold start left no file of the kind {kind}"
    for path in found:
        path.write_bytes(_GARBAGE)
    return None


def _next(version: str) -> str:
    """Return the next patch release, with the local part of this one.

    >>> _next("2.11.0+cu130")
    '2.11.1+cu130'
    """
    known = Version(version)
    local = f"+{known.local}" if known.local else ""
    return f"{known.major}.{known.minor}.{known.micro + 1}{local}"
