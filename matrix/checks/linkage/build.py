"""Which build of a release a symbol table was read from: its wheel, its processor, its CUDA. Pure.

One release has several builds: `torch 2.11.0` and `torch 2.11.0+cu129` are for CUDA 13.0 and 12.9,
and need another `libcudart`. An answer from tables holds for these builds and for no other.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from matrix.catalog.cells import build_of as candidate_of
from matrix.catalog.platform_tags import MACHINES
from matrix.checks.linkage.tables import DescribedWheel, TorchSymbols, VllmSymbols

# Also as a wheel may bring it: `libcudart-8774224f.so.12`.
_CUDART = re.compile(r"libcudart(?:-[0-9a-f]{8})?\.so\.(\d+)")


class WheelBuild(NamedTuple):
    """One build: its version with the local part, its wheel, and what that is for.

    `machine` is the processor (`x86_64`), None if the wheel's name does not say it. `cuda` is
    the major release of the CUDA runtime that its libraries need (`13`), None for a build without
    CUDA.
    """

    version: str
    file: str
    sha256: str
    machine: str | None
    cuda: str | None


def build_of(symbols: TorchSymbols | VllmSymbols) -> WheelBuild:
    """Return the build that this table was read from.

    A build that needs two releases of the CUDA runtime has the newest in `cuda`.
    """
    if isinstance(symbols, TorchSymbols):
        needed = [name for library in symbols.libraries for name in (library.name, *library.needed)]
    else:
        needed = [name for extension in symbols.extensions for name in extension.needed]
    majors = {int(major) for name in needed if (major := cudart_of(name))}
    wheel = symbols.wheel
    return WheelBuild(
        version=_version(wheel),
        file=wheel.file,
        sha256=wheel.sha256,
        machine=_machine(wheel),
        cuda=str(max(majors)) if majors else None,
    )


def cudart_of(library: str) -> str | None:
    """Return the major release of the CUDA runtime whose library this is; None for another one.

    >>> cudart_of("libcudart.so.13"), cudart_of("libcudart-8774224f.so.12"), cudart_of("libc.so.6")
    ('13', '12', None)
    """
    found = _CUDART.fullmatch(library)
    return found[1] if found else None


def _version(wheel: DescribedWheel) -> str:
    """Return the wheel's own version; the table of a candidate has its release key instead."""
    if candidate_of(wheel.version) is None:
        return wheel.version
    try:
        return str(parse_wheel_filename(wheel.file)[1])
    except InvalidWheelFilename:
        return wheel.version


def _machine(wheel: DescribedWheel) -> str | None:
    try:
        tags = parse_wheel_filename(wheel.file)[3]
    except InvalidWheelFilename:
        return None
    found = {name for tag in tags for name in MACHINES if tag.platform.endswith(f"_{name}")}
    return found.pop() if len(found) == 1 else None
