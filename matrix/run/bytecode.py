"""Give a new environment the bytecode that Python has compiled in another one of the same files.

The first import of torch and vLLM in an environment compiles 5,500 modules, some 15 seconds on a
core, and a fresh environment does so again. uv links the files of a wheel into every environment,
so that two of them have the same file: what Python wrote of it there is as good here. Python itself
compares time and size of the source, and the release of Python, before it takes bytecode.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_MOST = 2  # environments that are looked through


def share_bytecode(site: Path, others: Iterable[Path]) -> int:
    """Link the bytecode of other folders of packages that is of files which this folder has too.

    Only where both have the very file: a copy of the same bytes does not count. The first folders
    come first, and what is there stays. Returns how many modules have bytecode for it.
    """
    shared = 0
    for other in list(others)[:_MOST]:
        for cached, source in _compiled(other):
            inside = source.relative_to(other)
            if not _is_one(source, site / inside):
                continue
            target = site / inside.parent / cached.parent.name / cached.name
            try:
                target.parent.mkdir(exist_ok=True)
                os.link(cached, target)
            except OSError:  # it is there, or this disk has no such links
                continue
            shared += 1
    return shared


def _compiled(site: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file of bytecode in a folder of packages, with its source."""
    for folder, _, names in os.walk(site):
        place = Path(folder)
        if place.name != "__pycache__":
            continue
        for name in names:
            module, _, rest = name.partition(".")
            # pytest keeps bytecode of its own, of what it changes.
            if rest.endswith(".pyc") and "pytest" not in rest:
                yield place / name, place.parent / f"{module}.py"


def _is_one(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
