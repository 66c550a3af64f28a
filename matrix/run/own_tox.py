"""The tox that tox installs for itself, called directly once it is there.

Where the tox that a person installed lacks a package that `requires` of tox.ini names, it makes an
environment of its own, `.tox` in its work folder, starts the tox there, and holds a lock on that
environment until it ends (`tox/provision.py` of tox 4.67). Two calls never work side by side then.
"""

from __future__ import annotations

import configparser
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

_INSTALLED = (sys.executable, "-m", "tox")
# As tox calls it: a folder of this checkout must not stand in for a package.
_APART = "-P" if sys.version_info >= (3, 11) else "-I"
_PYTHON = "python{}.{}".format(*sys.version_info)


def unlocked(tox: Sequence[str], root: Path, folder: Path) -> list[str]:
    """Return how to call tox so that it waits for no other call: as given, or the one it installed.

    `root` has tox.ini, `folder` is tox's work folder. Where neither has what tox.ini requires, or
    that cannot be read, it is the given one: tox then installs its own, or says what is wrong.
    """
    if tuple(tox[:3]) != _INSTALLED:
        return [*tox]
    required = required_packages(root / "tox.ini")
    if required is None or _has_all(_versions(metadata.distributions()), required):
        return [*tox]
    own = folder / ".tox"
    python = own / "bin" / "python"
    # tox makes it again for another Python, which may not know the option.
    site = own / "lib" / _PYTHON / "site-packages"
    there = _versions(metadata.distributions(path=[str(site)]))
    if not python.exists() or not _is_installed(own) or not _has_all(there, required):
        return [*tox]
    return [str(python), _APART, "-m", "tox", *tox[3:]]


def _is_installed(environment: Path) -> bool:
    """Tell whether tox came to the end of the installation: it then notes what it installed."""
    try:
        noted = json.loads((environment / ".tox-info.json").read_bytes())
    except (OSError, ValueError):
        return False
    runner = noted.get("PythonRun") if isinstance(noted, dict) else None
    return isinstance(runner, dict) and "deps" in runner


def required_packages(path: Path) -> list[Requirement] | None:
    """Return what tox.ini requires of the tox that reads it; None if nobody can read it."""
    config = configparser.RawConfigParser()
    try:
        config.read(path, encoding="utf-8")
        lines = config.get("tox", "requires", fallback="").splitlines()
        return [Requirement(line) for line in map(str.strip, lines) if line]
    except (configparser.Error, UnicodeDecodeError, InvalidRequirement):
        return None


def _versions(installed: Iterable[metadata.Distribution]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for distribution in installed:
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def _has_all(versions: Mapping[str, str], required: Iterable[Requirement]) -> bool:
    """Tell whether each package is there that applies here, as tox asks it: pre-releases do."""
    return all(
        _is_met(requirement.specifier, versions.get(canonicalize_name(requirement.name)))
        for requirement in required
        if requirement.marker is None or requirement.marker.evaluate()
    )


def _is_met(specifier: SpecifierSet, version: str | None) -> bool:
    if version is None:
        return False
    try:
        return specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False
