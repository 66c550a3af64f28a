"""The packages that an upgrade in place leaves behind: nothing requires them any longer. Pure.

An installer adds and replaces what the new release requires, and removes nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from matrix._util.enums import StrEnum

_GPU_LIBRARY = re.compile(r"(nvidia|cuda|flashinfer)-[a-z0-9-]+")
"""Of what a run had installed, only these count: the rest may be of its machine."""

_OF_CUDA = re.compile(r"-cu(?P<major>[0-9]{2})$")
_FLASHINFER = "flashinfer-python"
WITH_FLASHINFER = ("flashinfer-cubin", "flashinfer-jit-cache")
"""FlashInfer does not import where one of these is there in another version than its own."""


class LeftKind(StrEnum):
    """The effect of a package that is left behind.

    `OTHER_CUDA`: it is of another CUDA than the new torch. `OTHER_VERSION`: the new FlashInfer
    refuses it. `BY_HAND`: as that, where a person installed it; no release requires it. `UNUSED`:
    nothing requires it.
    """

    OTHER_CUDA = "of another CUDA"
    OTHER_VERSION = "of another version"
    BY_HAND = "of another version, where it was installed by hand"
    UNUSED = "unused"


@dataclass(frozen=True, kw_only=True)
class LeftBehind:
    """A package that stays; `version` is None if nobody knows which.

    `shares` is the package for the new CUDA that lies in the same folder: one of the two takes the
    other's files when it is installed or removed.
    """

    name: str
    kind: LeftKind
    version: str | None = None
    shares: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReleasePackages:
    """The known packages of a release.

    `requirements` are its own, `resolved` what a resolver chose of some of them, `installed` what a
    run had, whose environment was as the release requires; both are empty if nobody asked.
    """

    requirements: tuple[str, ...]
    python: str
    machine: str
    resolved: Mapping[str, str]
    installed: Mapping[str, str]

    @property
    def required(self) -> Mapping[str, str | None]:
        """The packages that its own requirements name, with the version where that is exact."""
        found: dict[str, str | None] = {}
        for requirement in _parsed(self.requirements):
            marker = requirement.marker
            if marker is None or marker.evaluate(_environment(self.python, self.machine)):
                exact = [item.version for item in requirement.specifier if item.operator == "=="]
                found[canonicalize_name(requirement.name)] = exact[0] if exact else None
        return found

    @property
    def every(self) -> Mapping[str, str | None]:
        """All packages that are known to be there; of those of runs only the libraries of GPUs."""
        ran = {
            name: version for name, version in self.installed.items() if _GPU_LIBRARY.match(name)
        }
        return {**ran, **self.required, **self.resolved}

    @property
    def ran(self) -> bool:
        """Whether a run shows all packages; else only the required and resolved ones are known."""
        return bool(self.installed)


def left_behind(
    old: ReleasePackages, new: ReleasePackages, cuda: str | None
) -> tuple[LeftBehind, ...]:
    """Return what stays of the old packages; `cuda` is the one of the new torch."""
    before, after = old.every, new.every
    found = [
        LeftBehind(
            name=name,
            kind=_kind(name, cuda, before, after),
            version=version,
            shares=_namesake(name, after),
        )
        for name, version in sorted(before.items())
        if name not in after and name not in new.installed
    ]
    # Of a release that no run speaks of, only the requirements and a few resolved packages are
    # known: that a package is not among them says nothing, unless the new one refuses it.
    if not new.ran:
        found = [package for package in found if package.kind is not LeftKind.UNUSED]
    if before.get(_FLASHINFER) != after.get(_FLASHINFER) and before.get(_FLASHINFER):
        found += [
            LeftBehind(name=name, kind=LeftKind.BY_HAND, version=before[_FLASHINFER])
            for name in WITH_FLASHINFER
            if name not in before and name not in after
        ]
    return tuple(found)


def _kind(
    name: str,
    cuda: str | None,
    before: Mapping[str, str | None],
    after: Mapping[str, str | None],
) -> LeftKind:
    if name in WITH_FLASHINFER and before.get(_FLASHINFER) != after.get(_FLASHINFER):
        return LeftKind.OTHER_VERSION
    return LeftKind.OTHER_CUDA if _is_of_other_cuda(name, cuda) else LeftKind.UNUSED


def _namesake(name: str, after: Iterable[str]) -> str | None:
    """Return the new package of the same name but for its CUDA, which then has the same folder."""
    if not _OF_CUDA.search(name):
        return None
    stem = _OF_CUDA.sub("", name)
    found = (other for other in after if _OF_CUDA.search(other))
    return next((other for other in found if _OF_CUDA.sub("", other) == stem), None)


def _is_of_other_cuda(name: str, cuda: str | None) -> bool:
    found = _OF_CUDA.search(name)
    return found is not None and cuda is not None and found["major"] != cuda.partition(".")[0]


def _parsed(lines: Iterable[str]) -> Iterable[Requirement]:
    for line in lines:
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue  # nobody knows what it requires


def _environment(python: str, machine: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "extra": "",
    }
