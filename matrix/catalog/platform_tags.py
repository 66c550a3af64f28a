"""The platform tags of Linux wheels: the processor that one is for, and its lowest glibc. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

MACHINES = ("x86_64", "aarch64")
"""The processors for which there are wheels of torch and vLLM for Linux."""

_LINUX = re.compile(rf"(?:many)?linux.*?_(?P<machine>{'|'.join(MACHINES)})")
_GLIBC = re.compile(r"manylinux(?:_(?P<major>[0-9]+)_(?P<minor>[0-9]+)|(?P<year>1|2010|2014))_.+")
# The older names of three glibc releases: https://peps.python.org/pep-0600/
_YEARS = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}


def machine_of(platform: str) -> str | None:
    """Return the processor of a platform tag for Linux; None for any other tag.

    >>> machine_of("manylinux1_x86_64"), machine_of("win_amd64")
    ('x86_64', None)
    """
    found = _LINUX.fullmatch(platform)
    return None if found is None else found["machine"]


def is_for_linux(platform: str, machine: str) -> bool:
    """Tell whether wheels with this platform tag are for Linux on a processor, or for all.

    >>> is_for_linux("manylinux_2_28_aarch64", "aarch64"), is_for_linux("any", "aarch64")
    (True, True)
    """
    return platform == "any" or machine_of(platform) == machine


def wheel_glibc(platforms: Iterable[str], machine: str) -> str | None:
    """Return the oldest glibc for which a release has a wheel, by the tags; None: no tag says so.

    >>> wheel_glibc(["manylinux_2_28_x86_64", "manylinux2014_aarch64"], "aarch64")
    '2.17'
    """
    found = []
    for platform in platforms:
        tag = _GLIBC.fullmatch(platform)
        if tag is not None and is_for_linux(platform, machine):
            year = tag["year"]
            found.append(_YEARS[year] if year else (int(tag["major"]), int(tag["minor"])))
    return ".".join(map(str, min(found))) if found else None
