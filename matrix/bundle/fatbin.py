"""Drop the GPU code of other chips from a CUDA library, in place: no offset moves, no size changes.

A CUDA library keeps its GPU code in the ELF sections `.nv_fatbin` and `__nv_relfatbin`, as one
*fatbin* a translation unit. A fatbin is a header and a row of images, each for one architecture:
machine code, or PTX which the driver can compile for that chip or a newer one. A machine loads only
the image of its own chip. With zeros for the others the library loads as before, and packs small.

The layout, as cuobjdump reads it too. A fatbin: magic (4 bytes), version (2), size of the header
(2), size of the images (8). An image: kind (2), version (2), size of the header (4), size of the
code as it is stored, compressed or not (8); the architecture (4), such as 90, is at byte 28.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from matrix.errors import MatrixError

__all__ = ["Buffer", "GpuArchError", "Pruned", "keep_only", "parse_arch"]

_ELF = b"\x7fELF\x02\x01"  # 64 bit, little-endian: all that CUDA has libraries for
_SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")
_NOBITS = 8  # a section without bytes in the file
_MAGIC = struct.pack("<I", 0xBA55ED50)
_FATBIN = struct.Struct("<4xHHQ")
_IMAGE = struct.Struct("<H2xIQ12xI")
_PTX = 1
_KINDS = (_PTX, 2, 16)  # 2 and 16 are machine code
_LEAST_HEADER, _LARGEST_HEADER = 32, 4096
_ARCH = re.compile(r"sm_([0-9]{2,3})[af]?")
_BLOCK = 1 << 20


class GpuArchError(MatrixError):
    """A text that names no GPU architecture."""


class Buffer(Protocol):
    """The bytes of a library, changed in place: a bytearray or a writable mmap."""

    def __len__(self) -> int: ...  # noqa: D105
    def __getitem__(self, index: slice, /) -> bytes | bytearray: ...  # noqa: D105
    def __setitem__(self, index: slice, value: bytes, /) -> None: ...  # noqa: D105
    def find(self, sub: bytes, start: int, end: int, /) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Pruned:
    """What became of a library's GPU code, in bytes, and of its fatbins, as counts.

    `other`: fatbins without an image of the chip itself, where a near image or PTX was kept.
    `none`: fatbins with nothing that the chip could run.
    """

    kept: int = 0
    dropped: int = 0
    fatbins: int = 0
    other: int = 0
    none: int = 0

    def __add__(self, more: Pruned) -> Pruned:
        """Both together."""
        return Pruned(
            self.kept + more.kept,
            self.dropped + more.dropped,
            self.fatbins + more.fatbins,
            self.other + more.other,
            self.none + more.none,
        )


@dataclass(frozen=True)
class _Image:
    kind: int
    arch: int
    start: int
    size: int


def parse_arch(text: str) -> int:
    """The number of an architecture.

    >>> parse_arch("sm_90"), parse_arch("sm_90a")
    (90, 90)

    Raises GpuArchError for any other shape.
    """
    found = _ARCH.fullmatch(text)
    if found is None:
        raise GpuArchError(f"GPU architecture {text!r}: write it as sm_90")
    return int(found[1])


def keep_only(library: Buffer, arch: int) -> Pruned:
    """Put zeros where the library holds GPU code that a chip of this architecture never loads.

    Of each fatbin the chip's own images stay. Where it has none, the newest machine code that the
    chip can run stays (of the same major architecture and not newer); failing that, the newest PTX
    that the driver can compile for it. What is no CUDA library stays as it is.
    """
    found = Pruned()
    for start, end in _sections(library):
        for images in _fatbins(library, start, end):
            found += _prune(library, images, arch)
    return found


def _prune(library: Buffer, images: list[_Image], arch: int) -> Pruned:
    own = [each for each in images if each.kind != _PTX and each.arch == arch]
    keep = own or _nearest(images, arch)
    kept = dropped = 0
    for image in images:
        if image in keep:
            kept += image.size
            continue
        dropped += image.size
        for at in range(image.start, image.start + image.size, _BLOCK):
            stop = min(at + _BLOCK, image.start + image.size)
            library[at:stop] = bytes(stop - at)
    return Pruned(kept, dropped, 1, int(bool(keep) and not own), int(bool(images) and not keep))


def _nearest(images: list[_Image], arch: int) -> list[_Image]:
    """The newest images of one kind that the chip can take, though they are not its own."""
    older = [each for each in images if each.arch <= arch]
    code = [each for each in older if each.kind != _PTX and each.arch // 10 == arch // 10]
    usable = code or [each for each in older if each.kind == _PTX]
    newest = max((each.arch for each in usable), default=0)
    return [each for each in usable if each.arch == newest]


def _sections(library: Buffer) -> Iterator[tuple[int, int]]:
    """Where the sections with GPU code begin and end; nothing for what is no such ELF file."""
    if len(library) < 64 or bytes(library[0:6]) != _ELF:
        return
    (table,) = struct.unpack("<Q", library[0x28:0x30])
    size, count, names = struct.unpack("<HHH", library[0x3A:0x40])
    if size < 64 or table + size * count > len(library) or names >= count:
        return
    headers = [
        struct.unpack("<IIQQQQ", library[at : at + 40])
        for at in range(table, table + size * count, size)
    ]
    strings = headers[names][4]
    for name, kind, _, _, start, length in headers:
        at = strings + name
        end = library.find(b"\0", at, min(at + 64, len(library)))
        if (
            end >= 0
            and bytes(library[at:end]) in _SECTIONS
            and kind != _NOBITS
            and start + length <= len(library)
        ):
            yield start, start + length


def _fatbins(library: Buffer, start: int, end: int) -> Iterator[list[_Image]]:
    """The images of each fatbin of a section; padding between fatbins is passed over."""
    at = start
    while (at := library.find(_MAGIC, at, end)) >= 0 and at + _FATBIN.size <= end:
        _, header, size = _FATBIN.unpack(library[at : at + _FATBIN.size])
        images = list(_images(library, at + header, min(end, at + header + size)))
        yield images
        # What does not read as a fatbin is passed over byte by byte: never take code for a size.
        at += header + size if images else len(_MAGIC)


def _images(library: Buffer, at: int, end: int) -> Iterator[_Image]:
    while at + _LEAST_HEADER <= end:
        kind, header, size, arch = _IMAGE.unpack(library[at : at + _IMAGE.size])
        known = kind in _KINDS and _LEAST_HEADER <= header <= _LARGEST_HEADER
        if not known or at + header + size > end:
            return
        yield _Image(kind, arch, at + header, size)
        at += header + size
