"""Which wheels of a lock a machine can install, by the glibc in their names. Pure.

uv resolves for some releases of glibc only; between two of them its lock says which wheels there
are, and their names for which glibc they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from matrix.checks.resolution.lock import LockFileError, Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def wheels_in(pylock: str) -> dict[str, tuple[str, ...]]:
    """Return the file names of each project's wheels in a lock of the form `pylock.toml`.

    Raises LockError for any other text.
    """
    try:
        packages = tomllib.loads(pylock)["packages"]
        return {
            canonicalize_name(package["name"]): tuple(
                wheel.get("name") or unquote(urlsplit(_place(wheel)).path.rpartition("/")[2])
                for wheel in package.get("wheels") or _archive(package)
            )
            for package in packages
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise LockFileError("the lock is not a pylock.toml; does uv print one here?") from None


def _archive(package: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    """Return the one file of a package that was asked for by its address."""
    return (package["archive"],) if "archive" in package else ()


def _place(wheel: Mapping[str, str]) -> str:
    return wheel.get("url") or wheel["path"]


def without_wheel(wheels: Mapping[str, Iterable[str]], target: Target) -> tuple[str, ...]:
    """Return the projects of which no wheel is for the target's glibc, in order."""
    tags = {*target.pip_platforms, "any"}
    return tuple(
        name
        for name, files in sorted(wheels.items())
        if not any(_fits(file, tags) for file in files)
    )


def _fits(file: str, tags: set[str]) -> bool:
    try:
        found = parse_wheel_filename(file)[3]
    except InvalidWheelFilename:
        return False
    return any(tag.platform in tags for tag in found)
