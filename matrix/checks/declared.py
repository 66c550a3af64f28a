"""The rung *declared*: whether the metadata of both releases lets them go together on a Python.

Pure: the data of `matrix.catalog.releases` alone gives the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from matrix._util.versions import parse_version, specifier_text
from matrix.catalog.cells import Cell, CellError
from matrix.catalog.platform_tags import is_for_linux
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.checks.facts import Fact, FactCode

_ABI3 = re.compile(r"cp3(?P<minor>[0-9]+)-abi3")


class Declared(NamedTuple):
    """The answer of the metadata for a cell.

    `ok` where vLLM pins this torch and both releases have a wheel for the Python. `off_pin`: vLLM
    pins another torch; an override can still install this one. `fits` is false if nothing can: a
    range of Pythons or the wheels exclude this Python. The `facts` say why not; what no override
    can solve comes first.
    """

    ok: bool
    off_pin: bool
    fits: bool
    facts: tuple[Fact, ...] = ()


def declared(cell: Cell, releases: Releases) -> Declared:
    """Return what the metadata says of one cell; `Declarations` answers for many of them faster.

    Raises CellError if the cell's torch or vLLM is not in the data.
    """
    return Declarations(releases).of(cell)


class Declarations:
    """The answer of the metadata for all cells of these releases.

    Whether a release fits a Python is determined once, so that the whole product takes
    milliseconds (benchmarks/caches.py). A fact that the data lacks (torch's range of Pythons, the
    wheels of a release) fails nothing.
    """

    def __init__(self, releases: Releases, machine: str = "x86_64") -> None:
        """Read the facts of the releases; wheels are those for Linux on the processor."""
        self._machine = machine
        self._torch = {release.version: release for release in releases.every_torch}
        self._vllm = {release.version: release for release in releases.every_vllm}
        self._pins = {release.version: (_pin(release),) for release in releases.every_vllm}
        self._misfits: dict[tuple[str, str, str], tuple[Fact, ...]] = {}

    def of(self, cell: Cell) -> Declared:
        """Return what the metadata says of that cell.

        Raises CellError if its torch or its vLLM is not in the data.
        """
        torch, vllm = self._torch.get(cell.torch), self._vllm.get(cell.vllm)
        if torch is None or vllm is None:
            raise _unknown(cell, "torch" if torch is None else "vLLM")
        misfit = self._misfit("vLLM", vllm, cell.python) or self._misfit(
            "torch", torch, cell.python
        )
        off_pin = parse_version(vllm.torch) != parse_version(torch.version)
        return Declared(
            ok=not off_pin and not misfit,
            off_pin=off_pin,
            fits=not misfit,
            facts=misfit or (self._pins[vllm.version] if off_pin else ()),
        )

    def _misfit(self, project: str, release: Torch | Vllm, python: str) -> tuple[Fact, ...]:
        """Return why the release is not for this Python; () where nothing says so."""
        key = project, release.version, python
        if key not in self._misfits:
            misfit = _misfit(project, release, python, self._machine)
            self._misfits[key] = () if misfit is None else (misfit,)
        return self._misfits[key]


def _unknown(cell: Cell, project: str) -> CellError:
    version = cell.torch if project == "torch" else cell.vllm
    return CellError(
        f"cell {cell.name!r}: {project} {version} is not a known release; "
        f"`matrix refresh` reads new ones"
    )


def _pin(vllm: Vllm) -> Fact:
    pins = FactCode.PINS_TORCH
    return Fact(code=pins, package="vLLM", version=vllm.version, wanted=vllm.torch)


def _misfit(project: str, release: Torch | Vllm, python: str, machine: str) -> Fact | None:
    version = release.version
    if release.python is not None and not release.python.contains(python):
        wanted = specifier_text(release.python)
        return Fact(code=FactCode.NEEDS_PYTHON, package=project, version=version, wanted=wanted)
    if not release.wheels:
        return None
    tags = _linux(release.wheels, machine)
    if not tags:
        linux = f"Linux {machine}"
        return Fact(code=FactCode.NO_WHEEL, package=project, version=version, platform=linux)
    if not any(_is_for(tag, python) for tag in tags):
        return Fact(code=FactCode.NO_WHEEL, package=project, version=version, python=python)
    return None


def _linux(wheels: Mapping[str, tuple[str, ...]], machine: str) -> set[str]:
    """Return the Python tags of the wheels for Linux on a processor."""
    return {tag for name, tags in wheels.items() if is_for_linux(name, machine) for tag in tags}


def _is_for(tag: str, python: str) -> bool:
    """Tell whether a wheel with this Python tag, `cp312` or `cp38-abi3`, is for the Python."""
    major, minor = python.split(".")
    abi3 = _ABI3.fullmatch(tag)
    if abi3 is not None:
        return major == "3" and int(minor) >= int(abi3["minor"])
    return tag in (f"cp{major}{minor}", f"py{major}")
