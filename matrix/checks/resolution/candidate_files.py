"""Whether the files of a candidate are still there, and the same.

uv reads the metadata of a file by its address without a look at its hash, so it is compared here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from matrix._util.scratch import Scratch
from matrix.catalog.candidates.model import Candidate, File, OnIndex
from matrix.catalog.index import FetchError, Index
from matrix.catalog.located import find_file, is_remote


def check_files(candidates: Iterable[Candidate], python: str) -> None:
    """Raise FetchError if a file of a candidate is gone, or is another one by now.

    Of a file on an index the page of its project is read. A file at an address of its own is
    compared when it is installed, as it would have to be fetched whole.
    """
    for candidate in candidates:
        own = candidate.file(python)
        files = [*([own] if own else ()), *candidate.companions_on(python)]
        for file in files:
            if not is_remote(file.url):
                with Scratch("resolve") as folder:
                    find_file(file.url, folder, sha256=file.sha256)
        if isinstance(candidate.source, OnIndex):
            named = candidate.source.companions  # maybe from elsewhere
            listed = [file for file in files if is_remote(file.url) and file.url not in named]
            _check_pages(candidate.source.index, listed)


def _check_pages(address: str, files: Iterable[File]) -> None:
    """Raise FetchError if an index no longer has these files, or has others."""
    with contextlib.closing(Index(address)) as index:
        for file in files:
            there = {row.filename: row.sha256 for row in index.files(file.project)}
            if file.name not in there:
                raise FetchError(f"{file.name}: is no longer on the index {address}")
            if there[file.name] not in (None, file.sha256):
                raise FetchError(
                    f"{file.name}: its SHA-256 on the index {address} is {there[file.name]}, not"
                    f" {file.sha256}; add the candidate again"
                )
