"""The GPU code of a CUDA library: its fatbins, and the images in them. Pure.

A CUDA library keeps its GPU code in the ELF sections `.nv_fatbin` and `__nv_relfatbin`, as one
*fatbin* a translation unit. A fatbin is a header and a row of images, one for each architecture:
machine code, or PTX which the driver can compile for that chip or a newer one.

The layout, as cuobjdump reads it too. A fatbin: magic (4 bytes), version (2), size of the header
(2), size of the images (8). An image: kind (2), version (2), size of the header (4), size of the
code as it is stored, compressed or not (8); the architecture (4), such as 90, is at byte 28. The
flags (8) at byte 40 of a header that has them say which chips the code is for: one alone (`sm_90a`)
or those of a family (`sm_100f`). nvcc 13.0 wrote the libraries by which these two bits were found.
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
_FLAGS = slice(40, 48)
_THIS_CHIP, _FAMILY = 1 << 20, 1 << 21
_PTX = 1
_KINDS = (_PTX, 2, 16)  # 2 and 16 are machine code
_LEAST_HEADER, _LARGEST_HEADER = 32, 4096
_ARCH = re.compile(r"sm_([0-9]{2,3})[af]?")


class GpuArchError(MatrixError):
    """The text does not name a GPU architecture."""


class Content(Protocol):
    """The bytes of a library: bytes, a bytearray or an mmap."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> bytes | bytearray: ...
    def find(self, sub: bytes, start: int, end: int, /) -> int:
        """Return where the bytes stand first between start and end; -1 where they do not."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """Code for one architecture, such as 90, and where its `size` bytes begin.

    `only` is `a` where it is for this chip alone, `f` where it is for the chips of its family.
    """

    is_ptx: bool
    arch: int
    start: int
    size: int
    only: str = ""

    @property
    def name(self) -> str:
        """Its architecture as compilers name it: `sm_90a`, and of PTX `compute_90`."""
        return f"{'compute' if self.is_ptx else 'sm'}_{self.arch}{self.only}"


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


def fatbins(library: Content) -> Iterator[list[Image]]:
    """Yield the images of each fatbin of a library; none for any other file.

    What does not read as a fatbin is an empty one.
    """
    for start, end in _sections(library):
        yield from _fatbins(library, start, end)


def _sections(library: Content) -> Iterator[tuple[int, int]]:
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


def _fatbins(library: Content, start: int, end: int) -> Iterator[list[Image]]:
    """Yield the images of each fatbin of a section; skips the padding between fatbins."""
    offset = start
    while (offset := library.find(_MAGIC, offset, end)) >= 0 and offset + _FATBIN.size <= end:
        _, header, size = _FATBIN.unpack(library[offset : offset + _FATBIN.size])
        images = list(_images(library, offset + header, min(end, offset + header + size)))
        yield images
        # Where this does not read as a fatbin, go on behind its magic: never take code for a size.
        offset += header + size if images else len(_MAGIC)


def _images(library: Content, offset: int, end: int) -> Iterator[Image]:
    while offset + _LEAST_HEADER <= end:
        kind, header, size, arch = _IMAGE.unpack(library[offset : offset + _IMAGE.size])
        known = kind in _KINDS and _LEAST_HEADER <= header <= _LARGEST_HEADER
        if not known or offset + header + size > end:
            return
        yield Image(
            is_ptx=kind == _PTX,
            arch=arch,
            start=offset + header,
            size=size,
            only=_only(bytes(library[offset : offset + header])),
        )
        offset += header + size


def _only(header: bytes) -> str:
    flags = int.from_bytes(header[_FLAGS], "little") if len(header) >= _FLAGS.stop else 0
    return "a" if flags & _THIS_CHIP else "f" if flags & _FAMILY else ""
