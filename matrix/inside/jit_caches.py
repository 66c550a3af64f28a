"""Where libraries keep the kernels that they build just in time: one folder for each run.

It is fresh unless the user names one, and the cases of a run share it on purpose. What Inductor and
vLLM compile, and Triton's kernels with it, are apart from that: those caches are fresh for each
case (`fresh_vllm_cache`), because counters and warm starts depend on them.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matrix._util.jit_folders import JIT_FOLDERS, jit_environment

_FLASHINFER = "flashinfer"
_HASH = re.compile(r"[._-]?(?:[0-9a-f]{16,}|\b[0-9a-f]{1,2}\b).*")


@contextmanager
def caches(kept: Path | None = None) -> Iterator[Path]:
    """Give the libraries caches of their own meanwhile, by their environment variables.

    They are empty and are removed at the end, or lie in the folder `kept`, with what it has, and
    stay. Libraries read most of these variables when they are imported, so it must be before that.
    Raises OSError if no folder can be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="matrix-jit-")) if kept is None else kept.absolute()
    before = {name: os.environ.get(name) for name in JIT_FOLDERS}
    try:
        for name, below in jit_environment(folder).items():
            Path(below).mkdir(parents=True, exist_ok=True)
            os.environ[name] = below
        yield folder
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def built(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return by library what its cache below the folder holds now, in sorted order.

    Of FlashInfer the names of its modules that were built to their end, of others the names of
    their folders or files without hashes.
    """
    found = {}
    for below in sorted(set(JIT_FOLDERS.values())):
        if below == _FLASHINFER:
            libraries = (folder / below).glob(".cache/flashinfer/*/*/cached_ops/*/*.so")
            names = {path.stem for path in libraries if path.stem == path.parent.name}
        else:
            paths = (path for path in (folder / below).rglob("*") if path.is_file())
            names = {_name(path.relative_to(folder / below)) for path in paths}
        if names:
            found[below] = tuple(sorted(names))
    return found


def _name(path: Path) -> str:
    """Return what a file of a cache is of: DeepGEMM has cache/kernel.NAME.HASH/kernel.cubin."""
    parts = path.parts
    named = parts[1] if len(parts) > 1 and parts[0] == "cache" else parts[0]
    return _HASH.sub("", named) or "unnamed"
