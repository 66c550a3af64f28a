"""Read this Python's packages, and hold them against what vLLM's own metadata requires.

It runs in the cell's Python, before torch is imported. Nothing of the packages is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from matrix._util.text import at_most
from matrix.bundle.run import LEFT_OUT_FILE
from matrix.catalog.cells import Cell, CellError
from matrix.catalog.projects import Project
from matrix.catalog.release import COMPANIONS
from matrix.catalog.releases import Releases
from matrix.record.model import Departure, ErrorKind, Why
from matrix.record.stock import TORCH_FAMILY, InstalledPackages, attributed, departures, prevents
from matrix.run.preflight import Refusal

_SHOWN = 8  # packages that a refusal names
# Folders that some packages leave beside their own by mistake; an error may name them as words.
_NOT_THEIRS = {"benchmarks", "docs", "examples", "include", "samples", "test", "tests"}


def read_environment() -> InstalledPackages:
    """Return the distributions that this Python finds, by their metadata.

    A distribution without a readable name or version is not there. Of two of a name in different
    folders an import finds the first; of two in one folder nobody knows, so both are named.
    """
    versions: dict[str, str] = {}
    required: dict[str, Sequence[str]] = {}
    folders: dict[str, str] = {}
    twice: dict[str, tuple[str, ...]] = {}
    for distribution in metadata.distributions():
        facts = _facts(distribution)
        name = canonicalize_name(facts["Name"] or "") if facts else ""
        version = facts["Version"] if facts else None
        if facts is None or not name or not version:
            continue
        folder = str(distribution.locate_file(""))
        if name not in versions:
            versions[name], folders[name] = version, folder
            required[name] = facts.get_all("Requires-Dist") or _of_an_egg(distribution)
        elif folder == folders[name] and version not in twice.get(name, (versions[name],)):
            twice[name] = (*twice.get(name, (versions[name],)), version)
    return InstalledPackages(
        versions=dict(sorted(versions.items())),
        requires=lambda name: required.get(name, ()),
        twice=twice,
    )


def _facts(distribution: metadata.Distribution) -> metadata.PackageMetadata | None:
    """Return the metadata, which is to be read once: to parse it is what takes the time."""
    try:
        return distribution.metadata
    except Exception:  # noqa: BLE001 - a folder without metadata, or bytes that are not text
        return None


def _of_an_egg(distribution: metadata.Distribution) -> Sequence[str]:
    """Return what an old kind of package requires, which has a file of it."""
    return (distribution.requires or ()) if distribution.read_text("requires.txt") else ()


def look(environment: InstalledPackages, cell: Cell, releases: Releases) -> tuple[Departure, ...]:
    """Return what of the environment is not what its vLLM requires, and who made it so."""
    found = attributed(
        _with_pins(departures(environment), environment, cell, releases),
        left_out=left_out_by_bundle(Path(sys.prefix)),
        overridden=_overridden(environment, cell, releases),
    )
    return _with_imports(found)


def _with_pins(
    found: tuple[Departure, ...], environment: InstalledPackages, cell: Cell, releases: Releases
) -> tuple[Departure, ...]:
    """Return the departures with the companions that a vLLM from sources pins and that are absent.

    The metadata of one that was built without compiling require none of them; its sources do.
    """
    try:
        vllm = releases.candidate_of(cell, Project.VLLM)
    except CellError:
        return found
    if vllm is None or not vllm.is_built:
        return found
    named = {departure.name for departure in found}
    absent = [
        Departure(name=name, required=f"{name}=={pin}", installed=None, why=Why.MISSING)
        for name, pin in vllm.pins.items()
        if name in COMPANIONS and name not in environment.versions and name not in named
    ]
    return tuple(sorted((*found, *absent), key=lambda departure: departure.name))


class AbsentCompanions(NamedTuple):
    """The companions that a torch candidate lacks and the vLLM of its cell requires.

    `vllm` is the release, or the name of the candidate where `is_release` is false.
    """

    torch: str
    vllm: str
    is_release: bool
    names: tuple[str, ...]


def absent_companions(cell: Cell, releases: Releases) -> AbsentCompanions | None:
    """Return what a torch lacks and its vLLM requires; None if nothing is.

    The cell runs: most of vLLM does without, and what does not stays untested with this reason.
    """
    torch = releases.candidate_of(cell, Project.TORCH)
    vllm = next((row for row in releases.every_vllm if row.version == cell.vllm), None)
    if torch is None or vllm is None:
        return None
    absent = tuple(name for name in torch.without if name in COMPANIONS and getattr(vllm, name))
    if not absent:
        return None
    build = cell.vllm_build
    return AbsentCompanions(
        torch=torch.name,
        vllm=vllm.version if build is None else build.name,
        is_release=build is None,
        names=absent,
    )


def left_out_by_bundle(prefix: Path) -> Collection[str]:
    """Return the packages that the bundle of this environment leaves out or takes from its target.

    `matrix.bundle.run` writes them where it makes the environment; elsewhere there are none.
    """
    try:
        found = json.loads((prefix / LEFT_OUT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ()
    names = found if isinstance(found, list) else ()
    return {canonicalize_name(name) for name in names if isinstance(name, str)}


def _overridden(environment: InstalledPackages, cell: Cell, releases: Releases) -> Collection[str]:
    """Return which of torch and its companions are what this cell overrides on purpose.

    A companion that the overrides leave out is absent on purpose; one that they name and that is
    not there is not. Of a candidate, which has no row, nobody but its cell's name says anything.
    """
    try:
        if not releases.is_off_pin(cell):
            return ()
        pinned = set(filter(None, map(_pinned, releases.overrides(cell))))
    except CellError:
        return TORCH_FAMILY
    return {name for name in TORCH_FAMILY if (name in pinned) == (name in environment.versions)}


def _pinned(line: str) -> str | None:
    """Return what an override installs; None if its marker holds nowhere."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    applies = requirement.marker is None or requirement.marker.evaluate()
    return canonicalize_name(requirement.name) if applies else None


def _with_imports(found: tuple[Departure, ...]) -> tuple[Departure, ...]:
    """Return the departures with the names by which Python imports those that are there."""
    if all(departure.why is Why.MISSING for departure in found):
        return found  # the files of every package need not be listed
    imports: dict[str, list[str]] = {}
    try:
        for name, distributions in metadata.packages_distributions().items():
            for distribution in distributions if name not in _NOT_THEIRS else ():
                imports.setdefault(canonicalize_name(distribution), []).append(name)
    except Exception:  # noqa: BLE001 - one package's broken list of files
        return found
    return tuple(
        replace(departure, imports=tuple(sorted(set(imports.get(departure.name, ())))))
        for departure in found
    )


def wrong_packages(found: Sequence[Departure], cell: Cell, torch: str) -> Refusal | None:
    """Return why nothing can be learned of the pair in this environment, or None."""
    wrong = [departure for departure in found if prevents(departure, torch)]
    if not wrong:
        return None
    named = at_most(_SHOWN, [_named(departure, torch) for departure in wrong])
    return Refusal(
        kind=ErrorKind.WRONG_PACKAGES,
        reason=(
            f"this environment is not what vLLM {cell.vllm} requires: {', '.join(named)};"
            f" install them, or make the environment again by tox -r -e {cell.name}"
        ),
    )


def _named(departure: Departure, torch: str) -> str:
    if departure.why is Why.OTHER_TORCH:
        version = departure.installed
        return f"{departure.name} {version} is for {departure.required}, and torch is {torch}"
    return f"{departure.required} is missing"
