"""The files in the compile caches of a start: counts and bytes by kind, and the new ones.

The folders are walked by `os.scandir` and no file is opened. Links are not followed. The names are
those of torch 2.9 to 2.15 (`_inductor/codecache.py`, `runtime/cache_dir_utils.py`) and of vLLM 0.16
to 0.33 (`compilation/backends.py`, `decorators.py`, `compiler_interface.py`), which puts Inductor's
cache and Triton's below its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from matrix.record.model import CacheKind

_FILES_LIMIT = 50_000
"""The most files and folders that are looked at; of more nothing is known."""
_DEPTH_LIMIT = 24
"""The most folders below a cache's own; of deeper ones nothing is known."""

CacheSnapshot = Mapping[str, tuple[CacheKind, int]]
"""The kind and the size in bytes of each file, by its path."""

_VLLM, _INDUCTOR, _TRITON = "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"
_BY_FOLDER = (
    (frozenset({"triton", "triton_cache"}), CacheKind.TRITON),
    (frozenset({"fxgraph"}), CacheKind.FXGRAPH),
    (frozenset({"aotautograd"}), CacheKind.AOTAUTOGRAD),
)
_COMPILED = frozenset({".so", ".o", ".a", ".cubin", ".fatbin", ".ptx", ".hsaco", ".spv", ".zebin"})
_GENERATED = frozenset({".py", ".cpp", ".c", ".cc", ".cu", ".h", ".hpp"})
_AOT = "torch_aot_compile"
_INDUCTORS = "inductor_cache"  # Inductor's cache where vLLM puts it below its own
_ARTIFACT = "artifact_"  # of a graph: a file, or a folder if it is saved unpacked


def caches() -> tuple[tuple[str, Path], ...]:
    """Return the compile caches of this process, each with the variable that names its folder.

    Call it before the start: vLLM sets the variables itself while it starts.
    """
    named = ((name, os.environ.get(name)) for name in (_VLLM, _INDUCTOR, _TRITON))
    return tuple((name, Path(folder)) for name, folder in named if folder)


def look(folders: Sequence[tuple[str, Path]]) -> CacheSnapshot | None:
    """Return the files in the folders; None if there are none, or more than the limits."""
    if not folders:
        return None
    found: dict[str, tuple[CacheKind, int]] = {}
    entries = 0
    try:
        for name, folder in folders:
            for parts, entry in _walk(folder, ()):
                entries += 1
                if entries > _FILES_LIMIT:
                    return None
                if entry.is_file(follow_symlinks=False):
                    size = entry.stat(follow_symlinks=False).st_size
                    found[entry.path] = kind_of(name, parts), size
    except OSError:
        return None
    return found


def _walk(
    folder: Path | str, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], os.DirEntry[str]]]:
    """Yield all that lies below a folder, with its path from the cache's own folder.

    Raises OSError if a folder is too deep or cannot be read; one that is not there is empty.
    """
    if len(above) > _DEPTH_LIMIT:
        raise OSError(f"more than {_DEPTH_LIMIT} folders")
    try:
        listing = os.scandir(folder)
    except FileNotFoundError:
        return
    with listing:
        for entry in listing:
            parts = (*above, entry.name)
            yield parts, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, parts)


def kind_of(cache: str, parts: Sequence[str]) -> CacheKind:
    """Return the kind of a file, by the variable of its cache and its path below that.

    >>> kind_of("TORCHINDUCTOR_CACHE_DIR", ("ab", "cabc.so")).value
    'compiled'
    >>> kind_of("VLLM_CACHE_ROOT", ("torch_compile_cache", "1f", "rank_0_0", "backbone",
    ...                             "inductor_cache", "fxgraph", "ab", "fabc", "0123")).value
    'fxgraph'
    """
    folders, name = parts[:-1], PurePosixPath(parts[-1])
    if name.suffix in (".tmp", ".lock"):
        return CacheKind.OTHER
    if cache == _TRITON:
        return CacheKind.TRITON
    for named, kind in _BY_FOLDER:
        if not named.isdisjoint(folders):
            return kind
    if name.suffix in _COMPILED:
        return CacheKind.COMPILED
    artifact = any(part.startswith(_ARTIFACT) for part in folders)
    if cache == _INDUCTOR or _INDUCTORS in folders or artifact:
        return CacheKind.GENERATED if name.suffix in _GENERATED else CacheKind.OTHER
    if name.name.startswith(_ARTIFACT):
        return CacheKind.ARTIFACT
    return CacheKind.AOT if _AOT in folders else CacheKind.OTHER


def held(
    before: CacheSnapshot | None, after: CacheSnapshot | None
) -> dict[str, dict[str, int]] | None:
    """Return by kind what the caches hold after a start, as JSON; None if that is not known.

    New is a file that was not there before the start, or had another size: a start that loads an
    artifact may write the same entries again (`torch.compiler.load_cache_artifacts`). It may do so
    below another folder, so what torch compiled is known by the name of its own folder, which
    torch and Triton make of a hash of the content or key, and by its own.
    """
    if before is None or after is None:
        return None
    known = {_identity(path, *file) for path, file in before.items()}
    found: dict[str, dict[str, Any]] = {}
    for path, (kind, size) in sorted(after.items()):
        of = found.setdefault(
            kind.value, dict.fromkeys(("files", "bytes", "new_files", "new_bytes"), 0)
        )
        of["files"] += 1
        of["bytes"] += size
        if _identity(path, kind, size) not in known:
            of["new_files"] += 1
            of["new_bytes"] += size
    return dict(sorted(found.items()))


def _identity(path: str, kind: CacheKind, size: int) -> tuple[str, CacheKind, int]:
    """Return what a file has in common with a copy of it."""
    if kind in (CacheKind.ARTIFACT, CacheKind.AOT, CacheKind.OTHER):
        return path, kind, size
    return "/".join(path.rsplit("/", 2)[-2:]), kind, size
