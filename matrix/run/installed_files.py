"""Hold the installed files against the lists that their wheels brought (RECORD).

A package that was deleted in part, or a library that was cut short, makes a cell fail in ways that
look like the pair's. Sizes and names are compared, never contents: that takes a fraction of a
second. It runs in the cell's Python, before torch is imported.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from matrix.record.model import ErrorKind
from matrix.run.preflight import Refusal

_LIBRARIES_OF = {"torch", "torchvision", "torchaudio", "triton", "vllm"}
"""The packages of which no file may be missing, and whose libraries have the wheel's size.

Not those of others: two packages may own a file of one name, and the last one installed wins.
"""
_SHOWN = 4  # files that a refusal names


def broken_install(cell: str) -> Refusal | None:
    """Return which packages of this Python lack their files, or None where none does."""
    faults: list[str] = []
    for distribution in metadata.distributions():
        rows = _rows(distribution)
        if rows:
            faults += _faults(distribution, rows)
    if not faults:
        return None
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return Refusal(
        kind=ErrorKind.BROKEN_INSTALL,
        reason=(
            f"installed files are not as their packages list them: {'; '.join(faults[:_SHOWN])}"
            f" {' '.join(more)}".rstrip()
            + f": make the environment again by tox -r -e {cell}"
        ),
    )


def _faults(distribution: metadata.Distribution, rows: list[tuple[str, int]]) -> Iterator[str]:
    """Yield what is wrong with the files of a package, a few words each."""
    name = distribution.metadata["Name"]
    sizes = {path: _size(Path(str(distribution.locate_file(path)))) for path, _ in rows}
    missing = sum(size is None for size in sizes.values())
    if missing * 2 > len(rows):
        yield f"{name} lacks {missing} of {len(rows)} files"
        return
    if canonicalize_name(name) not in _LIBRARIES_OF:
        return
    for path, listed in rows:
        size = sizes[path]
        if size is None:
            yield f"{name} lacks {path}"
        elif size != listed and ".so" in Path(path).name:
            yield f"{path} has {size} of {listed} bytes"


def _rows(distribution: metadata.Distribution) -> list[tuple[str, int]]:
    """Return the code that a package lists, with its bytes; nothing where the list is unreadable.

    Without what an installer compiles or writes outside of the packages' folder.
    """
    try:
        text = distribution.read_text("RECORD") or ""
        if not distribution.metadata["Name"]:
            return []
        return list(_code(csv.reader(text.splitlines())))
    except Exception:  # noqa: BLE001 - one package's broken list of files says nothing of others
        return []


def _code(rows: Iterable[list[str]]) -> Iterator[tuple[str, int]]:
    for row in rows:
        if len(row) < 3 or not row[2].isdecimal():  # a path, its hash, its bytes
            continue
        path = Path(row[0])
        is_code = path.suffix == ".py" or ".so" in path.name
        if is_code and not path.is_absolute() and ".." not in path.parts:
            yield row[0], int(row[2])


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
