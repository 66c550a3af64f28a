"""Read what a wheel of torch or vLLM needs of a machine.

pyelftools reads which glibc a library needs; without it nothing is read. One library of a wheel
lies unpacked on the disk at a time (1 GB for the largest).
"""

from __future__ import annotations

import hashlib
import mmap
import re
import shutil
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from matrix._util.archives import BAD_ARCHIVE
from matrix._util.files import no_file, write_text
from matrix._util.text import pip_install
from matrix.catalog.platform_tags import machine_of
from matrix.checks.gpu_code.images import fatbins
from matrix.checks.gpu_code.wheels import Groups, ReadWheel, load_wheels, to_json
from matrix.errors import MatrixError

_BLOCK = 1 << 20
_LARGEST = 8 << 30  # bytes; torch's largest library has 1 GB
_GLIBC = re.compile(r"GLIBC_([0-9]+\.[0-9]+(?:\.[0-9]+)?)")
_PROJECTS = ("torch", "vllm")
_Opened = Callable[[str], AbstractContextManager[IO[bytes]]]


class WheelReadError(MatrixError):
    """The file is not a wheel of torch or vLLM for Linux, or is damaged; names it and the fix."""


def read_wheels(paths: Sequence[Path], file: Path, report: Callable[[str], None]) -> list[str]:
    """Read wheels into the file; return what could not be read, a line each.

    What was read stays where another wheel fails; the file is written after each.
    """
    faults = []
    for path in paths:
        try:
            wheel = read_wheel(path)
            known = load_wheels(file).including([wheel])
            write_text(file, to_json(known))
            report(
                f"{path.name}: {sum(map(_size, wheel.code.values()))} fatbins, glibc {wheel.glibc}"
            )
        except MatrixError as error:
            faults.append(str(error))
    return faults


def read_wheel(path: Path) -> ReadWheel:
    """Read a wheel of torch or vLLM for Linux. Raises WheelReadError for any other file."""
    if fault := no_file(path):
        raise WheelReadError(f"{path.name}: {fault}; name the file of a wheel")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            record = next((name for name in members if name.endswith(".dist-info/RECORD")), None)
            if record is None:
                raise WheelReadError(f"{path.name}: has no RECORD; fetch the wheel again")
            return _read(
                path.name,
                archive.read(record),
                filter(_is_library, members),
                lambda name: _unpacked(archive, name),
            )
    except (*BAD_ARCHIVE, OSError) as error:
        raise WheelReadError(
            f"{path.name}: cannot be read ({error}); fetch the wheel again"
        ) from error


def _read(file: str, record: bytes, libraries: Iterable[str], opened: _Opened) -> ReadWheel:
    project, version, machine = _described(file)
    code: dict[str, Groups] = {}
    needed: set[tuple[int, ...]] = set()
    for name in sorted(libraries):
        with opened(name) as library:
            needed |= _glibcs(library)
            if groups := _groups(library):
                code[name] = groups
    glibc = ".".join(map(str, max(needed))) if needed else None
    digest = hashlib.sha256(record).hexdigest()
    return ReadWheel(
        project=project,
        version=version,
        machine=machine,
        file=file,
        record=digest,
        glibc=glibc,
        code=code,
    )


def _described(file: str) -> tuple[str, str, str]:
    """Return the project, the version and the processor of a wheel by its name."""
    try:
        name, version, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename as error:
        raise WheelReadError(f"{file}: {error}; name a wheel of torch or vLLM") from None
    machines = {found for tag in tags if (found := machine_of(tag.platform))}
    if canonicalize_name(name) not in _PROJECTS or len(machines) != 1:
        raise WheelReadError(f"{file}: is not a wheel of torch or vLLM for Linux; name such a one")
    if version.local:
        raise WheelReadError(
            f"{file}: is another flavour than the release of the package index; name that wheel"
        )
    return str(canonicalize_name(name)), str(version), machines.pop()


def _groups(library: IO[bytes]) -> Groups:
    """Return the fatbins of a library by the architectures of their images."""
    library.seek(0, 2)
    if not library.tell():
        return {}
    with mmap.mmap(library.fileno(), 0, access=mmap.ACCESS_READ) as content:
        counted = Counter(
            frozenset(image.name for image in images) for images in fatbins(content) if images
        )
    return dict(counted)


def _glibcs(library: IO[bytes]) -> set[tuple[int, ...]]:
    """Return the versions of glibc whose symbols a library needs; none for any other file."""
    try:
        from elftools.common.exceptions import ELFError
        from elftools.construct import ConstructError
        from elftools.elf.elffile import ELFFile
        from elftools.elf.gnuversions import GNUVerNeedSection
    except ImportError as error:
        raise MatrixError(
            f"{error.name} is not installed; it reads wheels: {pip_install('linkage')}"
        ) from None
    found: set[tuple[int, ...]] = set()
    library.seek(0)
    if library.read(4) != b"\x7fELF":
        return found
    try:
        for section in ELFFile(library).iter_sections("SHT_GNU_verneed"):
            assert isinstance(section, GNUVerNeedSection)
            for _, needs in section.iter_versions():
                names = (_GLIBC.fullmatch(str(need.name)) for need in needs)
                found |= {tuple(map(int, name[1].split("."))) for name in names if name}
    except (ELFError, ConstructError, struct.error, ValueError, KeyError, IndexError) as error:
        raise WheelReadError(
            f"contains a damaged library ({error}); fetch the wheel again"
        ) from error
    return found


def _size(groups: Groups) -> int:
    return sum(groups.values())


def _is_library(name: str) -> bool:
    return ".so" in PurePosixPath(name).suffixes and not name.endswith("/")


@contextmanager
def _unpacked(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    if archive.getinfo(name).file_size > _LARGEST:
        raise WheelReadError(f"{name}: is larger than {_LARGEST >> 30} GiB; name another wheel")
    with tempfile.TemporaryFile() as file:
        with archive.open(name) as source:
            shutil.copyfileobj(source, file, _BLOCK)
        file.flush()
        yield file
