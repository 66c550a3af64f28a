"""The plan of a bundle: sizes, packages of the target, omissions, locks, manifest. Pure.

`matrix.bundle.run` reads what is planned here, on the machine that runs the bundle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.bundle.manifest import SCHEMA, BundleCell, BundleItem, Package
from matrix.catalog.cells import Cell
from matrix.checks.resolution.lock import Pinned, Target
from matrix.errors import MatrixError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB)?")
_UNITS = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class BundlePlanError(MatrixError):
    """A request that no bundle can fulfil."""


@dataclass(frozen=True, kw_only=True)
class Have:
    """A distribution that the target has, and its version."""

    name: str
    version: str


def parse_size(text: str) -> int:
    """Return a number of bytes.

    >>> parse_size("58MiB"), parse_size("1.5GiB"), parse_size("1000")
    (60817408, 1610612736, 1000)

    Raises BundlePlanError for any other shape, and for nothing at all.
    """
    found = _SIZE.fullmatch(text)
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise BundlePlanError(f"size {text!r}: write it as 58MiB, 1GiB, or a number of bytes")
    return size


def parse_have(text: str) -> Have:
    """Return a distribution that the target has, with its public version.

    >>> parse_have("Torch==2.11.0+cu128")
    Have(name='torch', version='2.11.0')

    Raises BundlePlanError for any other shape.
    """
    name, _, version = text.partition("==")
    try:
        return Have(
            name=canonicalize_name(name.strip(), validate=True),
            version=parse_version(version).public,
        )
    except (InvalidVersion, ValueError):
        raise BundlePlanError(f"--have {text!r}: write it as torch==2.11.0") from None


def one_python(cells: Iterable[Cell]) -> str:
    """Return the Python that all the cells share; raises BundlePlanError if they differ."""
    pythons = {cell.python: cell.name for cell in cells}
    if len(pythons) > 1:
        (one, first), (other, second) = list(pythons.items())[:2]
        raise BundlePlanError(
            f"{first} is Python {one} and {second} is Python {other}; make one bundle a Python"
        )
    return next(iter(pythons))


def requirements(cell: Cell, companions: Mapping[str, str], more: Iterable[str]) -> tuple[str, ...]:
    """Return what a cell's environment needs: its pins, as in tox.ini, pytest and `more`.

    `more` holds the constraints of its vLLM, and the dependencies of this project.
    """
    pins = [f"{name}=={version}" for name, version in companions.items()]
    return (*pins, f"vllm=={cell.vllm}", "pytest>=8", *more)


def with_project(installs: Iterable[str], dependencies: Iterable[str]) -> tuple[str, ...]:
    """Return what the environment of a candidate's cell needs: what it installs, and our own."""
    return (*installs, "pytest>=8", *dependencies)


def left_out(
    lock: Mapping[str, Pinned], have: Collection[Have], without: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return what the target has of this lock, and what else stays out, as versions by name.

    A distribution of `have` whose version is not the lock's does not count. All that only such
    distributions require stays out with them. `without` are patterns such as `flashinfer-*`.
    """
    patterns = [canonicalize_name(pattern) for pattern in without]
    there = {item.name: item.version for item in have if item.name in lock and _fits(item, lock)}
    unwanted = {
        name
        for name in lock
        if name not in there and any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    needs: dict[str, list[str]] = {name: [] for name in lock}
    pending = []
    for name, pinned in lock.items():
        for via in pinned.via:
            if via in lock:
                needs[via].append(name)
        if not pinned.via or any(via not in lock for via in pinned.via):
            pending.append(name)
    kept: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in kept and name not in there and name not in unwanted:
            kept.add(name)
            pending += needs[name]
    out = {name: lock[name].version for name in sorted(lock.keys() - kept - there.keys())}
    return dict(sorted(there.items())), out


def _fits(have: Have, lock: Mapping[str, Pinned]) -> bool:
    return parse_version(lock[have.name].version).public == have.version


def unfit_have(have: Have, locks: Mapping[str, Mapping[str, Pinned]]) -> str | None:
    """Return why no cell takes what the target has, in one line; None if one does."""
    if any(have.name in lock and _fits(have, lock) for lock in locks.values()):
        return None
    takes = sorted(
        f"{cell} takes {lock[have.name].version}"
        for cell, lock in locks.items()
        if have.name in lock
    )
    why = "; ".join(takes) or f"no cell of this bundle needs {have.name}"
    return f"--have {have.name}=={have.version}: does not fit ({why}); leave it out or correct it"


def unmatched(without: Iterable[str], locks: Mapping[str, Mapping[str, Pinned]]) -> str | None:
    """Return which pattern of `without` matches nothing, as one line; None if all match."""
    names = {name for lock in locks.values() for name in lock}
    for pattern in without:
        if not any(fnmatchcase(name, canonicalize_name(pattern)) for name in names):
            why = "matches nothing that a cell needs"
            return f"--without {pattern}: {why}; leave it out or correct it"
    return None


def wheel_of(names: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return the file of each distribution and version, from the names of wheels.

    Raises BundlePlanError for a name that is not a wheel's.
    """
    found: dict[tuple[str, str], str] = {}
    for name in names:
        try:
            distribution, version, _, _ = parse_wheel_filename(name)
        except InvalidWheelFilename as error:
            raise BundlePlanError(f"{name}: is not a wheel ({error})") from error
        found[distribution, str(version)] = name
    return found


def manifest_text(
    *,
    made: str,
    target: Target,
    gpu_arch: str | None,
    installer: str,
    without: Iterable[str],
    cells: Iterable[BundleCell],
    files: Iterable[BundleItem],
    parts: Iterable[BundleItem],
) -> str:
    """Return the manifest of a bundle, as JSON under data/bundle.schema.json."""
    data = {
        "schema": SCHEMA,
        "made": made,
        "python": target.python,
        "machine": target.machine,
        "glibc": target.glibc,
        "gpu_arch": gpu_arch,
        "installer": installer,
        "without": sorted(without),
        "cells": {
            cell.name: {
                "have": dict(cell.have),
                "left_out": dict(cell.left_out),
                "lock": [_package(package) for package in cell.lock],
                **({"candidates": cell.candidates} if cell.candidates else {}),
            }
            for cell in sorted(cells, key=lambda cell: cell.name)
        },
        "parts": [_item(part) for part in parts],
        "files": [_item(file) for file in sorted(files, key=lambda item: item.name)],
    }
    return json.dumps(data, indent=1) + "\n"


def refreshed(
    data: Mapping[str, Any],
    project: Package,
    files: Iterable[BundleItem],
    parts: Iterable[BundleItem],
) -> str:
    """Return a manifest, as read from JSON, with another project: its package, files and parts."""

    def of_project(name: str) -> bool:
        return name.partition("/")[0] == project.wheel.partition("/")[0]

    cells = {
        name: {
            **cell,
            "lock": [line for line in cell["lock"] if not of_project(line["wheel"])]
            + [_package(project)],
        }
        for name, cell in data["cells"].items()
    }
    kept = [file for file in data["files"] if not of_project(file["name"])]
    both = sorted([*kept, *map(_item, files)], key=lambda file: str(file["name"]))
    changed = {**data, "cells": cells, "parts": [_item(part) for part in parts], "files": both}
    return json.dumps(changed, indent=1) + "\n"


def _package(package: Package) -> dict[str, object]:
    by_file = {"by_file": True} if package.by_file else {}
    facts = {"name": package.name, "version": package.version, "wheel": package.wheel}
    return {**facts, **by_file}


def _item(item: BundleItem) -> dict[str, object]:
    published = {"published": item.published} if item.published else {}
    return {"name": item.name, "bytes": item.bytes, "sha256": item.sha256, **published}
