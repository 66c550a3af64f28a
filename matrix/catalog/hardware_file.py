"""The table of GPUs, releases of CUDA and flavours: data/hardware.toml, read and validated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from matrix._util.paths import DATA
from matrix._util.toml_rows import read_text, rows_of_kinds
from matrix._util.versions import parse_version, specifier_set
from matrix.catalog.hardware import (
    Capability,
    CudaRelease,
    DriverBranches,
    Flavour,
    HardwareError,
    HardwareTable,
    ModelNeed,
    capability_of,
    driver_of,
    plain_name,
)
from matrix.catalog.platform_tags import MACHINES

HARDWARE_FILE = DATA / "hardware.toml"
_RELEASE = re.compile(r"[1-9][0-9]{0,2}\.[0-9]{1,2}", re.ASCII)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "gpu": ("capability", "names", "source"),
    "processor": ("machine", "names", "source"),
    "driver": ("capabilities", "sources"),
    "cuda": ("version", "least", "own", "sources"),
    "flavour": ("project", "versions", "cuda", "index", "source"),
    "model": ("case", "least", "versions", "sources"),
}
_OPTIONAL = {"cuda": ("adds", "removes"), "driver": ("first", "last")}
_LISTS = {
    ("gpu", "names"),
    ("processor", "names"),
    ("flavour", "cuda"),
    ("driver", "capabilities"),
    ("driver", "sources"),
    ("cuda", "adds"),
    ("cuda", "removes"),
    ("cuda", "sources"),
    ("model", "sources"),
}


def load_hardware(path: Path | None = None) -> HardwareTable:
    """Read the table, by default the package's.

    Raises HardwareError, which names the file, the row, the key and the fix.
    """
    path = path or HARDWARE_FILE
    found = rows_of_kinds(read_text(path, HardwareError), str(path), tuple(_KEYS), HardwareError)
    rows = {
        kind: [
            (_checked(row, kind, f"{path}: {kind} {number}"), f"{path}: {kind} {number}")
            for number, row in enumerate(found[kind], 1)
        ]
        for kind in _KEYS
    }
    gpus: dict[str, Capability] = {}
    for row, where in rows["gpu"]:
        capability = capability_of(row["capability"])
        if capability is None:
            given = row["capability"]
            raise HardwareError(
                f"{where}: capability: {given!r} is not a compute capability; write it as 9.0"
            )
        for name in row["names"]:
            if name in gpus or plain_name(name) != name:
                raise HardwareError(f"{where}: names: {name!r}: appears twice, or is not plain")
            gpus[name] = capability
    return HardwareTable(
        gpus=gpus,
        processors=_processors(rows["processor"], gpus),
        drivers=_branches(rows["driver"]),
        cuda=_releases_of_cuda(rows["cuda"]),
        flavours=tuple(_flavour(row, where) for row, where in rows["flavour"]),
        models=_models(rows["model"]),
    )


def _checked(row: Mapping[str, Any], kind: str, where: str) -> Mapping[str, Any]:
    if row.keys() - set(_OPTIONAL.get(kind, ())) != set(_KEYS[kind]):
        raise HardwareError(f"{where}: its keys are not {', '.join(_KEYS[kind])}; give these")
    for key, value in row.items():
        is_list = (kind, key) in _LISTS
        if is_list and not isinstance(value, list):
            raise HardwareError(f'{where}: {key}: is not a list; write it as ["..."]')
        texts = value if is_list else [value]
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise HardwareError(f"{where}: {key}: is not text; write it in quotes")
    for key in ("source", "sources"):
        pages = row.get(key, ())
        for page in [pages] if isinstance(pages, str) else pages:
            if not page.startswith("https://"):
                raise HardwareError(f"{where}: {key}: is not an address; name the page of it")
    return row


def _processors(
    rows: Iterable[tuple[Mapping[str, Any], str]], gpus: Mapping[str, Capability]
) -> dict[str, str]:
    """Return the processor that each of some GPUs comes with."""
    found: dict[str, str] = {}
    for row, where in rows:
        if row["machine"] not in MACHINES:
            raise HardwareError(f"{where}: machine: is not one of {', '.join(MACHINES)}")
        for name in row["names"]:
            if name not in gpus:
                raise HardwareError(f"{where}: names: {name!r} is not the name of a GPU above")
            if name in found:
                raise HardwareError(f"{where}: names: {name!r} appears twice; keep one")
            found[name] = row["machine"]
    return found


def _branches(rows: Iterable[tuple[Mapping[str, Any], str]]) -> dict[Capability, DriverBranches]:
    """Return the branches of the driver that know each compute capability."""
    found: dict[Capability, DriverBranches] = {}
    for row, where in rows:
        for key in _OPTIONAL["driver"]:
            if not re.fullmatch(r"[1-9][0-9]{2}", row.get(key, "100"), re.ASCII):
                raise HardwareError(
                    f"{where}: {key}: {row[key]!r} is not a branch; write it as 580"
                )
        branches = DriverBranches(first=row.get("first"), last=row.get("last"))
        if not any(branches):
            raise HardwareError(f"{where}: has neither first nor last; write one, or leave it out")
        if all(branches) and row["first"] > row["last"]:
            raise HardwareError(f"{where}: last: {row['last']} is before the first, {row['first']}")
        for capability in _capabilities(row, "capabilities", where):
            if capability in found:
                raise HardwareError(f"{where}: capabilities: {capability} appears twice; keep one")
            found[capability] = branches
    return found


def _releases_of_cuda(rows: Iterable[tuple[Mapping[str, Any], str]]) -> dict[str, CudaRelease]:
    """Return the releases of CUDA by version, oldest first."""
    found: dict[str, CudaRelease] = {}
    for row, where in rows:
        release = _cuda_release(row, where)
        if release.version in found:
            raise HardwareError(f"{where}: version: {release.version} appears twice; keep one")
        found[release.version] = release
    return dict(sorted(found.items(), key=lambda item: parse_version(item[0])))


def _cuda_release(row: Mapping[str, Any], where: str) -> CudaRelease:
    if not _RELEASE.fullmatch(row["version"]):
        raise HardwareError(f"{where}: version: {row['version']!r} is not a release; write 13.0")
    for key in ("least", "own"):
        try:
            driver_of(row[key])
        except HardwareError as error:
            raise HardwareError(f"{where}: {key}: {error}") from None
    return CudaRelease(
        version=row["version"],
        least=row["least"],
        own=row["own"],
        adds=_capabilities(row, "adds", where),
        removes=_capabilities(row, "removes", where),
    )


def _capabilities(row: Mapping[str, Any], key: str, where: str) -> frozenset[Capability]:
    names = row.get(key, [])
    found = frozenset(filter(None, map(capability_of, names)))
    if len(found) < len(names):
        raise HardwareError(f'{where}: {key}: names no architectures; write it as ["sm_120"]')
    return found


def _models(rows: Iterable[tuple[Mapping[str, Any], str]]) -> tuple[ModelNeed, ...]:
    """Return what each model needs of a GPU."""
    found: dict[str, ModelNeed] = {}
    for row, where in rows:
        case, least = row["case"], capability_of(row["least"])
        if least is None:
            raise HardwareError(f"{where}: least: is not a compute capability; write it as 9.0")
        if case in found:
            raise HardwareError(f"{where}: case: {case!r} appears twice; keep one")
        found[case] = ModelNeed(case=case, least=least, versions=_versions(row, where))
    return tuple(found.values())


def _versions(row: Mapping[str, Any], where: str) -> SpecifierSet:
    try:
        return specifier_set(row["versions"])
    except InvalidSpecifier:
        raise HardwareError(f"{where}: versions: is not a range; write it as >=2.9,<2.12") from None


def _flavour(row: Mapping[str, Any], where: str) -> Flavour:
    return Flavour(
        project=row["project"],
        versions=_versions(row, where),
        cuda=tuple(row["cuda"]),
        index=row["index"],
        source=row["source"],
    )
