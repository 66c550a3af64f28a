"""The exceptions that Python's readers of archives raise for a damaged or hostile archive."""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it refuses such an archive by another error
    LZMAError = zlib.error  # type: ignore[misc,assignment]

BAD_ARCHIVE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    LZMAError,
    EOFError,
    struct.error,
    # A member that is named and not there; a number or a name that cannot be read; what is
    # encrypted, packed in an unknown way or nested too deeply; a size beyond all sizes.
    KeyError,
    ValueError,
    RuntimeError,
    OverflowError,
    IndexError,  # zipfile, of a member without a name
)
