"""What a CUDA needs of a machine, from data/cuda.toml: drivers and architectures of GPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from matrix._util.paths import DATA
from matrix._util.toml_rows import check_keys, read_text, rows
from matrix._util.versions import parse_version
from matrix.errors import MatrixError

_DATA = DATA / "cuda.toml"
_NEEDED = ("version", "driver", "evidence")
_KEYS = (*_NEEDED, "adds", "removes")


class CudaError(MatrixError):
    """A row of data/cuda.toml that cannot be read: names the file, the row and the fix."""


@dataclass(frozen=True, kw_only=True)
class CudaRelease:
    """A release of CUDA: the oldest driver of its major, and the GPUs that it adds and removes."""

    version: Version
    driver: str
    adds: frozenset[str] = frozenset()
    removes: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class CudaReleases:
    """The releases of CUDA that change something, oldest first."""

    releases: tuple[CudaRelease, ...]

    def driver(self, cuda: str) -> str | None:
        """Return the oldest driver that runs programs of this CUDA; None for an unknown one."""
        major = parse_version(cuda).major
        drivers = [row.driver for row in self.releases if row.version.major == major]
        return drivers[0] if drivers else None

    def since(self, architecture: str) -> str | None:
        """Return the first CUDA that knows a GPU's architecture; None for an unknown one."""
        plain = architecture.rstrip("af")
        first = (row for row in self.releases if plain in row.adds)
        return next((str(row.version) for row in first), None)

    def until(self, architecture: str) -> str | None:
        """Return the first CUDA that does not know an architecture any more; None for none."""
        plain = architecture.rstrip("af")
        last = (row for row in self.releases if plain in row.removes)
        return next((str(row.version) for row in last), None)

    def knows(self, cuda: str, architecture: str) -> bool:
        """Tell whether this CUDA knows a GPU's architecture."""
        since, until = self.since(architecture), self.until(architecture)
        if since is None:
            return False
        asked = parse_version(cuda)
        return asked >= Version(since) and (until is None or asked < Version(until))


def load_cuda(path: Path = _DATA) -> CudaReleases:
    """Read the releases of CUDA. Raises CudaError, which names the file, the row and the fix."""
    found = []
    for number, row in enumerate(rows(read_text(path, CudaError), path.name, "cuda", CudaError), 1):
        where = f"{path.name}: cuda {number}"
        check_keys(row, where, _KEYS, _NEEDED, CudaError)
        for key in ("adds", "removes"):
            value = row.get(key, [])
            if not isinstance(value, list) or not all(map(_is_architecture, value)):
                raise CudaError(f'{where}: {key}: is not a list such as ["sm_120"]')
        evidence = row["evidence"]
        if not isinstance(evidence, list) or not evidence or not all(map(_is_link, evidence)):
            raise CudaError(f"{where}: evidence: is not a list of links; name one")
        version = row["version"]
        if not isinstance(version, str) or not re.fullmatch(r"\d{1,3}\.\d{1,3}", version):
            raise CudaError(f'{where}: version: {version!r} is not a release; write "13.0"')
        found.append(
            CudaRelease(
                version=Version(version),
                driver=str(row["driver"]),
                adds=frozenset(row.get("adds", [])),
                removes=frozenset(row.get("removes", [])),
            )
        )
    return CudaReleases(releases=tuple(sorted(found, key=lambda row: row.version)))


def _is_architecture(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sm_\d{2,3}", value) is not None


def _is_link(value: object) -> bool:
    return isinstance(value, str) and value.startswith("https://")
