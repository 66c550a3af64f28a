"""Files: whole or not at all, and their digests."""

import contextlib
import hashlib
import os
from pathlib import Path

from matrix.errors import MatrixError


class FileError(MatrixError):
    """A file that cannot be written."""


def write_text(path: Path, text: str) -> None:
    """Replace the file at once: a temporary file beside it, synced to disk, then renamed.

    Raises FileError when the disk refuses.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from None
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


_BLOCK = 1 << 20


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
