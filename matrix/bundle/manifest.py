"""A bundle's manifest: what it says, and whether the files are as it says.

A bundle contains this file next to its `run.py`, so it may use only the standard library. What a
manifest says is untrusted until it was looked at here: each name, size and hash has its form, so
that no name leads out of a folder and none breaks a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

MANIFEST = "bundle.json"
SCHEMA = 1
_BLOCK = 1 << 20
_LARGEST = 64 << 20  # bytes of a manifest
_FULL_CELL = r"py[0-9]{2,4}-torch[0-9a-z]{2,80}-vllm[0-9a-z]{2,80}"
_PACKAGE = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?"
_VERSION = r"[A-Za-z0-9.!+_-]{1,200}"
_HASH = r"[0-9a-f]{64}"


class BundleError(Exception):
    """Why a bundle cannot run here, in clear lines; the command line exits with 2."""


@dataclass(frozen=True, kw_only=True)
class BundleItem:
    """A file of the bundle, or a part of it: its name, its bytes, its SHA-256 in hex.

    `published` is the SHA-256 by which the index knows a wheel that the bundle rewrote.
    """

    name: str
    bytes: int
    sha256: str
    published: str | None = None


@dataclass(frozen=True, kw_only=True)
class Package:
    """A line of a cell's lock: a distribution, its version and the file to install it from.

    `wheel` is the name of a file of the bundle. `by_file`: its version does not distinguish it from
    a release.
    """

    name: str
    version: str
    wheel: str
    by_file: bool = False


@dataclass(frozen=True, kw_only=True)
class BundleCell:
    """A cell: its lock, what the target must have, what is left out, its candidates by project."""

    name: str
    lock: tuple[Package, ...]
    have: Mapping[str, str]
    left_out: Mapping[str, str]
    candidates: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of a bundle, and its machine. `glibc` is the oldest that its wheels accept.

    `digest` is the SHA-256 of the manifest itself; the items of `parts`, where there are any,
    are the bundle's files in one archive, cut.
    """

    digest: str
    made: str
    python: str
    machine: str
    glibc: str
    gpu_arch: str | None
    installer: str
    cells: Mapping[str, BundleCell]
    files: Mapping[str, BundleItem]
    parts: tuple[BundleItem, ...]


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises BundleError, which names the file and the key, where it is missing or not valid.
    """
    path = bundle / MANIFEST
    try:
        with open_regular(path) as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); is this a bundle?") from None
    try:
        if len(text) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST >> 20} MiB")
        data = json.loads(text)
        if not isinstance(data, dict):
            raise TypeError("it is not a JSON object")
        if data["schema"] != SCHEMA:
            raise BundleError(
                f"{path}: schema: {repr(data['schema'])[:80]} is not {SCHEMA}; make the bundle"
                " again"
            )
        return _manifest(data, hashlib.sha256(text).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        why = "".join(char if char.isprintable() else "?" for char in why[:300])
        raise BundleError(f"{path}: is not a manifest ({why}); copy it again") from None


def _manifest(data: Mapping[str, Any], digest: str) -> Manifest:
    items = [_item(file) for file in data["files"]]
    files = {item.name: item for item in items}
    if len(files) < len(items):
        raise ValueError("files: a name appears twice")
    cells = {name: _cell(name, cell) for name, cell in data["cells"].items()}
    named = {package.wheel for cell in cells.values() for package in cell.lock}
    installer = _text("installer", data["installer"])
    if unknown := sorted((named | {installer}) - files.keys()):
        raise ValueError(f"files: {unknown[0]!r} is missing")
    return Manifest(
        digest=digest,
        made=_text("made", data["made"], r"[0-9TZ:-]{20}"),
        python=_text("python", data["python"], r"[0-9]{1,2}\.[0-9]{1,3}"),
        machine=_text("machine", data["machine"], r"[0-9a-z_]{1,40}"),
        glibc=_text("glibc", data["glibc"], r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}"),
        gpu_arch=None
        if data["gpu_arch"] is None
        else _text("gpu_arch", data["gpu_arch"], r"sm_[0-9]{1,4}[a-z]?"),
        installer=installer,
        cells=cells,
        files=files,
        parts=tuple(_item(part) for part in data["parts"]),
    )


def _cell(name: str, data: Mapping[str, Any]) -> BundleCell:
    """Return a cell; its name becomes a folder's, so it is looked at first."""
    _text("cells", name, _FULL_CELL)
    return BundleCell(
        name=name,
        lock=tuple(_package(line) for line in data["lock"]),
        have=_versions("have", data["have"]),
        left_out=_versions("left_out", data["left_out"]),
        candidates={
            _text("candidates", project, "torch|vllm"): {
                _text("candidates", key): _text("candidates", value) for key, value in build.items()
            }
            for project, build in data.get("candidates", {}).items()
        }
        or None,
    )


def _package(data: Mapping[str, Any]) -> Package:
    package = Package(**data)
    _text("lock", package.name, _PACKAGE)
    _text("lock", package.version, _VERSION)
    _text("lock", package.wheel)
    if not isinstance(package.by_file, bool):
        raise TypeError("lock: by_file is not true or false")
    return package


def _versions(key: str, data: Mapping[str, Any]) -> dict[str, str]:
    """Return the version of each package; a requirement may stand in the place of a version."""
    return {_text(key, name, _PACKAGE): _text(key, value) for name, value in data.items()}


def _item(data: Mapping[str, Any]) -> BundleItem:
    item = BundleItem(**data)
    name = _text("files", item.name)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or not path.parts:
        raise ValueError(f"the name {name[:80]!r} leaves the bundle")
    size: object = item.bytes
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise TypeError(f"{name}: bytes is not a size")
    for digest in (item.sha256, *(() if item.published is None else (item.published,))):
        _text(f"{name}: sha256", digest, _HASH)
    return item


def _text(key: str, value: object, pattern: str | None = None) -> str:
    """Return a text that fits the pattern; by default any that prints in one line."""
    if not isinstance(value, str):
        raise TypeError(f"{key}: {str(value)[:80]!r} is not a text")
    fits = value.isprintable() if pattern is None else re.fullmatch(pattern, value)
    if not (fits and 0 < len(value) <= 1000):
        raise ValueError(f"{key}: {value[:80]!r} is not one")
    return value


def open_regular(path: Path) -> IO[bytes]:
    """Open a file to read it; raises OSError for what is not one, such as a pipe."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "is not a file", str(path))
    return path.open("rb")


def faults(manifest: Manifest, bundle: Path) -> list[str]:
    """Read the bundle's files, or its parts, to their ends; return what is wrong, a line each."""
    items = manifest.parts or tuple(manifest.files.values())
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda item: _fault(item, bundle / item.name), items)
        return [line for line in found if line]


def _fault(item: BundleItem, path: Path) -> str | None:
    try:
        size = path.stat().st_size
        if size != item.bytes:
            what = "cut short" if size < item.bytes else "too long"
            return f"{path}: {what}, {size} bytes and not {item.bytes}; copy it again"
        digest = hashlib.sha256()
        with open_regular(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return f"{path}: missing; copy it again"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}); copy it again"
    if digest.hexdigest() != item.sha256:
        return f"{path}: damaged, its SHA-256 is not the manifest's; copy it again"
    return None
