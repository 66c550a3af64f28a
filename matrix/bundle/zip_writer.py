"""Write a zip archive, packed with Zstandard, which zipfile knows only from Python 3.14 on.

An installer such as uv reads it; pip does not. The same files give the same bytes.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from types import TracebackType

from matrix.errors import MatrixError

__all__ = ["ZipWriter", "find_zstd"]

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_DEFLATE, _ZSTD = 8, 93
_UTF8 = 1 << 11  # the flag of a name in UTF-8
_DATE = 0x21  # 1980-01-01
_UNIX = 3 << 8
_LARGE = 1 << 16  # bytes from which Zstandard is worth a process of its own
_LEVEL = 6  # of deflate: zeros pack away at any, and above it little but the time grows
_ZSTD_OPTIONS = ("-q", "-12", "--long=27", "--single-thread", "-c")
_BLOCK = 1 << 20
_LIMIT = 0xFFFFFFFF  # bytes that the plain format can tell


def find_zstd() -> str:
    """The program zstd; raises MatrixError where there is none."""
    found = shutil.which("zstd")
    if found is None:
        raise MatrixError("zstd is not here, and --repack packs with it: install zstd")
    return found


class ZipWriter:
    """An archive that is being written; `zstd` is the program, or None to deflate everything."""

    def __init__(self, path: Path, zstd: str | None = None) -> None:
        """Begin the archive."""
        self._path, self._zstd = path, zstd
        self._file = path.open("wb")
        self._entries: list[bytes] = []

    def __enter__(self) -> ZipWriter:
        """Nothing more than the archive."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Write the table of contents, unless something went wrong."""
        try:
            if kind is None:
                self._end()
        finally:
            self._file.close()

    def add(self, name: str, source: Path, attributes: int) -> None:
        """Add a file; `attributes` are zipfile's `external_attr`."""
        size = source.stat().st_size
        method = _ZSTD if self._zstd and size >= _LARGE else _DEFLATE
        encoded = name.encode("utf-8")
        at = self._file.tell()
        self._file.write(bytes(_LOCAL.size) + encoded)
        crc = self._copy(source, method)
        end = self._file.tell()
        packed = end - at - _LOCAL.size - len(encoded)
        if max(size, end) > _LIMIT:
            raise MatrixError(f"{self._path.name}: {name}: larger than 4 GiB; leave out --repack")
        needs = 63 if method == _ZSTD else 20
        shared = (needs, _UTF8, method, 0, _DATE, crc, packed, size, len(encoded), 0)
        self._file.seek(at)
        self._file.write(_LOCAL.pack(b"PK\3\4", *shared))
        self._file.seek(end)
        self._entries.append(
            _ENTRY.pack(b"PK\1\2", _UNIX | 63, *shared, 0, 0, 0, attributes, at) + encoded
        )

    def _copy(self, source: Path, method: int) -> int:
        """Write the file's packed bytes and return the checksum of the plain ones."""
        crc = 0
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
        with source.open("rb") as file:
            while block := file.read(_BLOCK):
                crc = zlib.crc32(block, crc)
                if method == _DEFLATE:
                    self._file.write(packer.compress(block))
        if method == _DEFLATE:
            self._file.write(packer.flush())
        else:
            self._pack(source)
        return crc

    def _pack(self, source: Path) -> None:
        self._file.flush()
        done = subprocess.run(
            [str(self._zstd), *_ZSTD_OPTIONS, "--", str(source)],
            stdout=self._file,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise MatrixError(f"{self._zstd}: {said or done.returncode}; leave out --repack")
        self._file.seek(0, 2)

    def _end(self) -> None:
        at = self._file.tell()
        table = b"".join(self._entries)
        count = len(self._entries)
        if max(at, len(table)) > _LIMIT or count > 0xFFFF:
            raise MatrixError(f"{self._path.name}: too large for a zip archive")
        self._file.write(table + _END.pack(b"PK\5\6", 0, 0, count, count, len(table), at, 0))
