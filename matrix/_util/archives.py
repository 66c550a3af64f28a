"""Damaged or hostile archives: what Python's readers raise for them, and a safe way to unpack."""

from __future__ import annotations

import posixpath
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

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
    TypeError,  # of tarfile, where a stream ends within the head of gzip
    # A member that is named and not there; a number or a name that cannot be read; what is
    # encrypted, packed in an unknown way or nested too deeply; a size beyond all sizes.
    KeyError,
    ValueError,
    RuntimeError,
    OverflowError,
    IndexError,  # zipfile, of a member without a name
)


def unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    """Write one member of an archive below a folder, as tarfile's filter `data` does.

    Python 3.10.12 and 3.11.4 brought that filter. Before them (Debian 12 has Python 3.11.2) this
    function writes files, folders and symbolic links itself, and refuses hard links.
    Raises tarfile.TarError: a member that leads out of the folder, or is of another kind.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extract(member, to, filter="data")
        return
    name = posixpath.normpath(member.name.lstrip("/"))
    target = to / name
    folders = [to / folder for folder in PurePosixPath(name).parents[:-1]]
    if name.split("/")[0] == ".." or any(folder.is_symlink() for folder in folders):
        raise tarfile.TarError(f"{name} would be extracted outside the folder")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():  # an archive may have a name twice: the file must not go through it
        target.unlink()
    if member.issym():
        lexical = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        # `a/../..` leads elsewhere than its text where `a` is a link itself.
        plain = posixpath.normpath(member.linkname) == member.linkname.rstrip("/")
        if not plain or posixpath.isabs(lexical) or lexical.split("/")[0] == "..":
            raise tarfile.TarError(f"{name} is a link to a place outside the folder")
        target.symlink_to(member.linkname)
        return
    source = archive.extractfile(member) if member.isreg() else None
    if source is None:
        raise tarfile.TarError(f"{name} is neither a file, a folder nor a symbolic link")
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
