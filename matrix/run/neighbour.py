"""Find the environment from which a candidate's new environment can take its other packages.

To install a cell, uv asks the index for some 200 projects, most of them one after another: that is
ten of fifteen seconds. Where an environment of the same Python and vLLM is there, and only torch
differs, the versions of all others are known, and uv has their wheels. Within these versions uv
resolves without the index, in half a second, and so finds out itself whether what the candidate
requires goes with them. Both sides of a comparison then have the same packages except torch.

It reads folders; `toxfile.py` runs uv. `matrix.run.bytecode` looks into the other environments,
too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from matrix.catalog.candidates.model import TORCH_COMPANIONS
from matrix.catalog.cells import Cell, CellError
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases

CHOOSES = (
    *("UV_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_NO_CACHE", "UV_OFFLINE", "UV_PRERELEASE"),
    *("UV_REFRESH", "UV_REINSTALL", "UV_RESOLUTION", "PIP_CONSTRAINT"),
)
"""The environment variables by which a person chooses versions; no neighbour has a say then."""

_OWN = frozenset({*TORCH_COMPANIONS, *map(str, Project)})


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """An environment of the same Python and vLLM: its name, and the versions of its packages.

    `pins` are without torch, its companions, vLLM, what is not from an index, and what the torch
    there requires in one version alone, since another torch may require another.
    """

    name: str
    pins: tuple[str, ...]


def find_neighbour(cell: Cell, releases: Releases, folder: Path) -> Neighbour | None:
    """Return the environment in tox's folder that was made last of the cell's Python and vLLM.

    None if there is none but the cell's own. The releases of a cell are what its name stands
    for; a candidate of another build is another vLLM.
    """
    found = [
        (beside.made, beside.name, pins)
        for beside in _environments(cell, releases, folder)
        if beside.cell.vllm == cell.vllm and (pins := _pins(beside.site))
    ]
    if not found:
        return None
    _, name, pins = max(found)
    return Neighbour(name=name, pins=pins)


def sites_beside(cell: Cell, releases: Releases, folder: Path) -> list[Path]:
    """Return the folders of packages of the other environments in tox's folder of this Python.

    Those of the same vLLM come first, then those of the same torch, the newest first.
    """
    ranked = [
        (beside.cell.vllm == cell.vllm, beside.cell.torch == cell.torch, beside.made, beside.site)
        for beside in _environments(cell, releases, folder)
    ]
    return [site for *_, site in sorted(ranked, reverse=True)]


class _Environment(NamedTuple):
    """An environment of a cell, its folder of packages, and when that changed last."""

    cell: Cell
    name: str
    site: Path
    made: int


def _environments(cell: Cell, releases: Releases, folder: Path) -> Iterator[_Environment]:
    """Yield the environments of other cells that are of the Python of this one."""
    prefix = f"py{cell.python.replace('.', '')}-"
    for site in folder.glob(f"{prefix}*/lib/python{cell.python}/site-packages"):
        name = site.relative_to(folder).parts[0]
        try:
            other, made = releases.resolve(name), site.stat().st_mtime_ns
        except (CellError, OSError):  # another environment, or one that is removed just now
            continue
        if other != cell:
            yield _Environment(other, name, site, made)


def _pins(site: Path) -> tuple[str, ...]:
    """Return the versions that a folder of packages has; none without torch or vLLM."""
    packages = _packages(site)
    if not all(project in packages for project in map(str, Project)):
        return ()
    theirs = _required_exactly(packages[str(Project.TORCH)])
    return tuple(
        f"{name}=={version}"
        for name, package in sorted(packages.items())
        if name not in _OWN and name not in theirs and (version := _version(package))
    )


def _packages(site: Path) -> Mapping[str, metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    for package in metadata.distributions(path=[str(site)]):
        try:
            found[canonicalize_name(package.metadata["Name"])] = package
        except Exception:  # noqa: BLE001, S112 - metadata that nobody can read
            continue
    return found


def _required_exactly(package: metadata.Distribution) -> set[str]:
    """Return what a package requires in one version, such as torch the libraries of CUDA."""
    exact: set[str] = set()
    for line in package.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if any(clause.operator in ("==", "===") for clause in requirement.specifier):
            exact.add(canonicalize_name(requirement.name))
    return exact


def _version(package: metadata.Distribution) -> str | None:
    """Return the version of a package that is from an index; None of any other."""
    try:
        if package.read_text("direct_url.json") is not None:
            return None
        return str(Version(package.version))
    except (OSError, ValueError, KeyError, InvalidVersion):
        return None
