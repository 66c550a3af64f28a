"""Drop the GPU code of other chips from a CUDA library, in place: no offset moves, no size changes.

A CUDA library keeps its GPU code in the ELF sections `.nv_fatbin` and `__nv_relfatbin`, as one
*fatbin* a translation unit. A fatbin is a header and a row of images, one for each architecture:
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
    """The text does not name a GPU architecture."""


class Buffer(Protocol):
    """The bytes of a library, changed in place: a bytearray or a writable mmap."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> bytes | bytearray: ...
    def __setitem__(self, index: slice, value: bytes, /) -> None: ...
    def find(self, sub: bytes, start: int, end: int, /) -> int:
        """Return where the bytes stand first between start and end; -1 where they do not."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How much GPU code of a library was kept and dropped, in bytes, and counts of its fatbins.

    `other` counts fatbins without an image of the chip itself, of which a near image or PTX stays;
    `none` counts fatbins with nothing that the chip could run.
    """

    kept: int = 0
    dropped: int = 0
    fatbins: int = 0
    other: int = 0
    none: int = 0

    def __add__(self, more: Pruned) -> Pruned:
        """Return the sums of both."""
        return Pruned(
            kept=self.kept + more.kept,
            dropped=self.dropped + more.dropped,
            fatbins=self.fatbins + more.fatbins,
            other=self.other + more.other,
            none=self.none + more.none,
        )


@dataclass(frozen=True, kw_only=True)
class _Image:
    kind: int
    arch: int
    start: int
    size: int


def parse_arch(text: str) -> int:
    """Return the number of an architecture.

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
    that the driver can compile for it. Any other file than a CUDA library stays as it is.
    """
    found = Pruned()
    for start, end in _sections(library):
        for images in _fatbins(library, start, end):
            found += _prune(library, images, arch)
    return found


def _prune(library: Buffer, images: list[_Image], arch: int) -> Pruned:
    own = [image for image in images if image.kind != _PTX and image.arch == arch]
    keep = own or _nearest(images, arch)
    kept = dropped = 0
    for image in images:
        if image in keep:
            kept += image.size
            continue
        dropped += image.size
        for start in range(image.start, image.start + image.size, _BLOCK):
            stop = min(start + _BLOCK, image.start + image.size)
            library[start:stop] = bytes(stop - start)
    return Pruned(
        kept=kept,
        dropped=dropped,
        fatbins=1,
        other=int(bool(keep) and not own),
        none=int(bool(images) and not keep),
    )


def _nearest(images: list[_Image], arch: int) -> list[_Image]:
    """Return the newest images of one kind that the chip can take, though they are not its own."""
    older = [image for image in images if image.arch <= arch]
    code = [image for image in older if image.kind != _PTX and image.arch // 10 == arch // 10]
    usable = code or [image for image in older if image.kind == _PTX]
    newest = max((image.arch for image in usable), default=0)
    return [image for image in usable if image.arch == newest]


def _sections(library: Buffer) -> Iterator[tuple[int, int]]:
    """Yield where the sections with GPU code begin and end; none for any other kind of file."""
    if len(library) < 64 or bytes(library[0:6]) != _ELF:
        return
    (table,) = struct.unpack("<Q", library[0x28:0x30])
    size, count, names = struct.unpack("<HHH", library[0x3A:0x40])
    if size < 64 or table + size * count > len(library) or names >= count:
        return
    headers = [
        struct.unpack("<IIQQQQ", library[offset : offset + 40])
        for offset in range(table, table + size * count, size)
    ]
    strings = headers[names][4]
    for name, kind, _, _, start, length in headers:
        begin = strings + name
        end = library.find(b"\0", begin, min(begin + 64, len(library)))
        if (
            end >= 0
            and bytes(library[begin:end]) in _SECTIONS
            and kind != _NOBITS
            and start + length <= len(library)
        ):
            yield start, start + length


def _fatbins(library: Buffer, start: int, end: int) -> Iterator[list[_Image]]:
    """Yield the images of each fatbin of a section; skips the padding between fatbins."""
    offset = start
    while (offset := library.find(_MAGIC, offset, end)) >= 0 and offset + _FATBIN.size <= end:
        _, header, size = _FATBIN.unpack(library[offset : offset + _FATBIN.size])
        images = list(_images(library, offset + header, min(end, offset + header + size)))
        yield images
        # Where this does not read as a fatbin, go on behind its magic: never take code for a size.
        offset += header + size if images else len(_MAGIC)


def _images(library: Buffer, offset: int, end: int) -> Iterator[_Image]:
    while offset + _LEAST_HEADER <= end:
        kind, header, size, arch = _IMAGE.unpack(library[offset : offset + _IMAGE.size])
        known = kind in _KINDS and _LEAST_HEADER <= header <= _LARGEST_HEADER
        if not known or offset + header + size > end:
            return
        yield _Image(kind=kind, arch=arch, start=offset + header, size=size)
        offset += header + size
