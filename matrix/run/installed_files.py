"""Hold the installed files against the lists that their wheels brought (RECORD), and over a run.

A package that was deleted in part, or a library that was cut short, makes a cell fail in ways that
look like the pair's. Sizes and names are compared, never contents: that takes a fraction of a
second. It runs in the cell's Python, before torch is imported, and again where something failed.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.utils import canonicalize_name

from matrix.record.model import ErrorKind
from matrix.run.preflight import Refusal

_LIBRARIES_OF = {"torch", "torchvision", "torchaudio", "triton", "vllm"}
"""The packages of which no file may be missing, and whose libraries have the wheel's size.

Not those of others: two packages may own a file of one name, and the last one installed wins.
"""
_SHOWN = 4  # files that a refusal names


@dataclass(frozen=True, kw_only=True)
class PackageFiles:
    """The files that a package lists, with their bytes by the list, and those that are there.

    Without what an installer compiles or writes outside of the packages' folder.
    """

    name: str
    folder: str
    listed: Mapping[str, int]
    found: Mapping[str, int]


def look_at_files() -> tuple[PackageFiles, ...]:
    """Return the files of every package of this Python that has a readable list of them."""
    packages = []
    for distribution in metadata.distributions():
        name, listed = _listed(distribution)
        if listed:
            folder = str(distribution.locate_file(""))
            found = dict(_sizes(folder, listed))
            packages.append(PackageFiles(name=name, folder=folder, listed=listed, found=found))
    return tuple(packages)


def broken_install(packages: Iterable[PackageFiles], cell: str) -> Refusal | None:
    """Return which packages lacked their files when somebody looked, or None if none did."""
    faults = [fault for package in packages for fault in _faults(package)]
    return _refusal("installed files are not as their packages list them", faults, cell)


def broken_since(packages: Iterable[PackageFiles], cell: str) -> Refusal | None:
    """Return which files are gone, or of another size, since somebody looked; None if none is.

    Files of every kind and package count: nothing of an environment should change during a run.
    """
    faults = []
    for package in packages:
        now = dict(_sizes(package.folder, package.found))
        for path, size in package.found.items():
            if path not in now:
                faults.append(f"{path} of {package.name} is gone")
            elif now[path] != size:
                faults.append(f"{path} of {package.name} has {now[path]} of {size} bytes")
    return _refusal("installed files changed while the cell ran", faults, cell)


def _refusal(what: str, faults: list[str], cell: str) -> Refusal | None:
    if not faults:
        return None
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return Refusal(
        kind=ErrorKind.BROKEN_INSTALL,
        reason=(
            f"{what}: {'; '.join(faults[:_SHOWN])}{more}:"
            f" make the environment again by tox -r -e {cell}"
        ),
    )


def _faults(package: PackageFiles) -> Iterator[str]:
    """Yield what is wrong with the code of a package, a few words each."""
    name = package.name
    code = {path: size for path, size in package.listed.items() if _is_code(path)}
    missing = sum(path not in package.found for path in code)
    if missing * 2 > len(code):
        yield f"{name} lacks {missing} of {len(code)} files"
        return
    if canonicalize_name(name) not in _LIBRARIES_OF:
        return
    for path, listed in code.items():
        size = package.found.get(path)
        if size is None:
            yield f"{name} lacks {path}"
        elif size != listed and not path.endswith(".py"):
            yield f"{path} has {size} of {listed} bytes"


def _listed(distribution: metadata.Distribution) -> tuple[str, dict[str, int]]:
    """Return a package's name, and what it lists; nothing if the list is unreadable."""
    try:
        name, text = distribution.metadata["Name"], distribution.read_text("RECORD") or ""
        return name or "", dict(_rows(csv.reader(text.splitlines()))) if name else {}
    except Exception:  # noqa: BLE001 - one package's broken list of files says nothing of others
        return "", {}


def _rows(rows: Iterable[list[str]]) -> Iterator[tuple[str, int]]:
    for row in rows:
        if len(row) < 3 or not row[2].isdecimal():  # a path, its hash, its bytes
            continue
        path = row[0]
        outside = path.startswith("/") or ".." in path.split("/")
        if not outside and not path.endswith(".pyc"):  # Python compiles those when it likes to
            yield path, int(row[2])


def _is_code(path: str) -> bool:
    return path.endswith(".py") or ".so" in path.rpartition("/")[2]


def _sizes(folder: str, paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield the files that are there, with their bytes."""
    for path in paths:
        try:
            # Of tens of thousands: a Path of each would take longer than the question.
            yield path, os.stat(f"{folder}/{path}").st_size  # noqa: PTH116
        except (OSError, ValueError):  # also a name that no file can have
            continue
