"""The part of vLLM's sources that its extensions are built from, and its comparison.

It reads folders of sources, and runs nothing of them.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path

from matrix.catalog.vllm_sources.folder import SourcesError, read_source
from matrix.catalog.vllm_sources.sources import Sources

COMPILED = ("csrc", "cmake", "CMakeLists.txt", "pyproject.toml", "vllm/_custom_ops.py")
"""The files and folders whose change makes the extensions of another build unusable.

They are WHEEL_BLOCKING_PATHS of setup.py of vLLM 0.32.0 and 0.33.0, which refuses by them.
"""

LOCATION = "VLLM_PRECOMPILED_WHEEL_LOCATION"
"""The variable that names to setup.py the wheel whose extensions it takes."""


def check_takes_extensions(sources: Sources) -> None:
    """Raise SourcesError if the setup.py of these sources cannot take extensions of a wheel."""
    if LOCATION not in (read_source(sources.folder, "setup.py", sources.shown) or ""):
        raise SourcesError(
            f"{sources.shown}: setup.py: does not know {LOCATION}, so it takes no extensions of a"
            " published wheel; compile it with --build"
        )


def compiled_differently(one: Path, other: Path) -> list[str]:
    """Return the names of what goes into the extensions and differs between two folders."""
    names = {name for folder in (one, other) for name in _compiled(folder)}
    return sorted(name for name in names if not _same(one / name, other / name))


def _compiled(folder: Path) -> Iterator[str]:
    for name in COMPILED:
        path = folder / name
        every = path.rglob("*") if path.is_dir() else [path]
        yield from (
            found.relative_to(folder).as_posix()
            for found in every
            if found.is_symlink() or found.is_file()
        )


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        links = one.is_symlink() and other.is_symlink()
        return links and one.readlink() == other.readlink()
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
