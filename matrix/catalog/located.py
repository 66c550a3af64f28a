"""A file by its path or its address: fetched where another machine has it, held to its SHA-256."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from matrix._util.addresses import without_secrets
from matrix._util.files import digest_of
from matrix.catalog.index import FetchError, Index
from matrix.catalog.published_file import PublishedFile

_NAME = re.compile(r"\w[\w.+!-]*")


def is_remote(location: str) -> bool:
    """Tell whether a server has the file; else it lies at a path of this machine."""
    return "://" in location and not location.startswith("file://")


def name_of(location: str) -> str:
    """Return the name of the file at a path or an address.

    >>> name_of("https://me:secret@example.org/whl/torch-2.16.0%2Bcu130-py3-none-any.whl")
    'torch-2.16.0+cu130-py3-none-any.whl'
    >>> name_of("vllm-0.33.0.tar.gz")
    'vllm-0.33.0.tar.gz'
    """
    name = location.rstrip("/").rpartition("/")[2]
    return unquote(name) if "://" in location else name


def place_of(location: str) -> str:
    """Return a location as it is recorded: an address without secrets, or a whole path."""
    return without_secrets(location) if "://" in location else str(Path(location).resolve())


def find_file(location: str, folder: Path, *, sha256: str | None = None) -> tuple[Path, str]:
    """Return where a file is, and its SHA-256; one that a server has is fetched into the folder.

    `sha256` is what it must have, in hexadecimal digits (None: any). Raises FetchError: no such
    file, a server that does not send it whole, another SHA-256.
    """
    name = name_of(without_secrets(location) if "://" in location else location)
    if is_remote(location):
        if not _NAME.fullmatch(name):
            raise FetchError(f"{without_secrets(location)}: does not end in the name of a file")
        path = folder / name
        index = Index(location)
        try:
            published = PublishedFile(project="", version="", filename=name, url=location)
            digest = index.download(published, path)
        finally:
            index.close()
    else:
        path = Path(unquote(urlsplit(location).path) if "://" in location else location)
        if not path.is_file():
            raise FetchError(f"{path}: does not exist; name a file that does")
        if not path.stat().st_size:
            # Those below /proc say so too, and to read some of them never ends.
            raise FetchError(f"{path}: has no size, so it is not a wheel; name another file")
        digest = digest_of(path)
    if sha256 is not None and sha256.lower().removeprefix("sha256:") != digest:
        raise FetchError(
            f"{name}: its SHA-256 is {digest}, not {sha256}; it is not the file that was meant"
        )
    return path, digest
