"""The table of GPUs, drivers and flavours: data/hardware.toml, read and validated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier

from matrix._util.paths import DATA
from matrix._util.toml_rows import read_text, rows_of_kinds
from matrix._util.versions import specifier_set
from matrix.catalog.hardware import (
    Capability,
    CudaNeeds,
    Flavour,
    HardwareError,
    HardwareTable,
    capability_of,
    driver_of,
    plain_name,
)

HARDWARE_FILE = DATA / "hardware.toml"
_KEYS: Mapping[str, tuple[str, ...]] = {
    "gpu": ("capability", "names", "source"),
    "cuda": ("version", "least", "own", "source"),
    "flavour": ("project", "versions", "cuda", "index", "source"),
}
_LISTS = {("gpu", "names"), ("flavour", "cuda")}


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
            raise HardwareError(f"{where}: capability: is none; write it as 9.0")
        for name in row["names"]:
            if name in gpus or plain_name(name) != name:
                raise HardwareError(f"{where}: names: {name!r}: is there twice, or not plain")
            gpus[name] = capability
    return HardwareTable(
        gpus=gpus,
        cuda={row["version"]: _needs(row, where) for row, where in rows["cuda"]},
        flavours=tuple(_flavour(row, where) for row, where in rows["flavour"]),
    )


def _checked(row: Mapping[str, Any], kind: str, where: str) -> Mapping[str, Any]:
    if row.keys() != set(_KEYS[kind]):
        raise HardwareError(f"{where}: its keys are not {', '.join(_KEYS[kind])}; give these")
    for key, value in row.items():
        texts = value if (kind, key) in _LISTS and isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise HardwareError(f"{where}: {key}: is not text; write it in quotes")
    if not row["source"].startswith("https://"):
        raise HardwareError(f"{where}: source: is not an address; name the page that says so")
    return row


def _needs(row: Mapping[str, Any], where: str) -> CudaNeeds:
    for key in ("least", "own"):
        try:
            driver_of(row[key])
        except HardwareError as error:
            raise HardwareError(f"{where}: {key}: {error}") from None
    return CudaNeeds(version=row["version"], least=row["least"], own=row["own"])


def _flavour(row: Mapping[str, Any], where: str) -> Flavour:
    try:
        versions = specifier_set(row["versions"])
    except InvalidSpecifier:
        raise HardwareError(f"{where}: versions: is not a range; write it as >=2.9,<2.12") from None
    return Flavour(
        project=row["project"],
        versions=versions,
        cuda=tuple(row["cuda"]),
        index=row["index"],
        source=row["source"],
    )
