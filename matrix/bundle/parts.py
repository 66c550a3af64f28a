"""Write the files of a bundle as one archive that is cut into parts of a size."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path

from matrix.bundle.manifest import BundleItem

PROJECT = "project/"
"""The folder of this project in a bundle."""


def write_parts(
    files: Path, items: Sequence[BundleItem], folder: Path, size: int
) -> list[BundleItem]:
    """Write one archive of the files, cut into parts of that many bytes; return the parts.

    The wheels come first and the project begins a part of its own, so that a refresh can replace it
    alone.
    """
    project = [item for item in items if item.name.startswith(PROJECT)]
    wheels = Parts(folder, size, "part")
    archive = _tar(wheels)
    for item in items:
        if item not in project:
            _add(archive, files, item)
            (files / item.name).unlink()
    # This does not close the archive, which goes on in the parts of the project.
    return [*wheels.done(), *write_project_parts(files, project, folder, size)]


def write_project_parts(
    files: Path, items: Sequence[BundleItem], folder: Path, size: int
) -> list[BundleItem]:
    """Write the archive's end, which is the project, in parts of its own; return these."""
    parts = Parts(folder, size, "project")
    with _tar(parts) as archive:
        for item in items:
            _add(archive, files, item)
    return parts.done()


def _tar(parts: Parts) -> tarfile.TarFile:
    return tarfile.TarFile(mode="w", fileobj=parts, format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]


def _add(archive: tarfile.TarFile, files: Path, item: BundleItem) -> None:
    info = tarfile.TarInfo(item.name)
    info.size = item.bytes
    with (files / item.name).open("rb") as file:
        archive.addfile(info, file)


class Parts:
    """A file to write to that cuts what it gets into several, and notes the SHA-256 of each."""

    def __init__(self, folder: Path, size: int, name: str) -> None:
        self._folder, self._size, self._stem = folder, size, name
        self._items: list[BundleItem] = []
        self._begin()

    def write(self, data: bytes) -> int:
        """Write to the part that is not full yet, and to more where it gets full."""
        left = memoryview(data)
        while left:
            if self._written == self._size:
                self._end()
                self._begin()
            block = left[: self._size - self._written]
            self._file.write(block)
            self._digest.update(block)
            self._written += len(block)
            left = left[len(block) :]
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written to all parts."""
        return sum(part.bytes for part in self._items) + self._written

    def done(self) -> list[BundleItem]:
        """Close the last part; return all of them."""
        self._end()
        return self._items

    def _begin(self) -> None:
        self._name = f"{self._stem}-{len(self._items):03d}"
        self._file = (self._folder / self._name).open("wb")
        self._digest = hashlib.sha256()
        self._written = 0

    def _end(self) -> None:
        self._file.close()
        self._items.append(
            BundleItem(name=self._name, bytes=self._written, sha256=self._digest.hexdigest())
        )
