"""Unpack upstream's own tests from the source distribution of a vLLM release.

Nothing of it is run or imported here. Only `tests/` and pyproject.toml, which has upstream's
configuration of pytest, come to the disk: regular files with plain names, and no links.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO

from matrix._util.archives import BAD_ARCHIVE
from matrix._util.files import digest_of, read_text, write_text
from matrix.catalog.index import FetchError, Index
from matrix.errors import MatrixError

TESTS = "tests"
NOTE = ".sdist.json"
"""The file next to `tests` with their source distribution and the SHA-256 of each file of it."""

_CONFIG = "pyproject.toml"
_ARCHIVE = 4 << 30  # bytes of a whole source distribution; vLLM 0.33.0 has 0.14 GiB
_MEMBER = 32 << 20  # bytes of one file
_ALL = 512 << 20  # bytes of all tests; vLLM 0.33.0 has 12 MiB
_FILES = 50_000
_NOTE_LIMIT = 32 << 20  # bytes: each file has its path and its hash


def fetch_tests(version: str, index: Index, folder: Path) -> Path:
    """Return the folder that holds the `tests` of a vLLM release, made below `folder`.

    What is there from the same source distribution, unchanged, is not fetched again. Raises
    MatrixError: the index has no source distribution of that release, or it cannot be read or
    written.
    """
    from matrix.catalog.refresh_merge import followed, source_distribution  # a cell needs none

    files = followed("vllm", index.files("vllm")).get(version, ())
    file = source_distribution(files)
    if file is None:
        raise MatrixError(
            f"vLLM {version}: the index has no source distribution of it, so upstream's tests of"
            " it are unknown; name a folder that has them: --upstream-tests DIR"
        )
    target = folder / f"vllm-{version}"
    try:
        if file.sha256 is not None and origin(target) == (file.filename, file.sha256):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as name:
            part = Path(name) / target.name
            unpack_tests(index.fetch(file, Path(name)), part)
            note = {"file": file.filename, "sha256": file.sha256, "files": digests_of(part)}
            write_text(part / NOTE, json.dumps(note))
            if target.exists():
                target.rename(Path(name) / "old")
            part.rename(target)
    except OSError as error:
        raise MatrixError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return target


def origin(folder: Path) -> tuple[str, str] | None:
    """Return the source distribution of which a folder has the tests, and its SHA-256.

    None if nobody knows: a person made the folder, or its files are not those that
    `fetch_tests` unpacked. Raises OSError if a file cannot be read.
    """
    try:
        data = json.loads(read_text(folder / NOTE, _NOTE_LIMIT))
        named, files = (data["file"], data["sha256"]), data["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    known = all(isinstance(text, str) for text in named) and files == digests_of(folder)
    return named if known else None


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the tests' files and of their configuration, by path below the folder.

    It is of what `copy_tests` copies: links are left out. Raises OSError.
    """
    paths = [folder / _CONFIG]
    for place, folders, names in os.walk(folder / TESTS):
        folders[:] = [name for name in folders if name not in _left_out(place, folders)]
        paths += [Path(place, name) for name in names if name not in _left_out(place, names)]
    return {
        path.relative_to(folder).as_posix(): digest_of(path)
        for path in sorted(paths)
        if path.is_file() and not path.is_symlink()
    }


def unpack_tests(archive: Path, folder: Path) -> None:
    """Unpack the tests and upstream's pyproject.toml into a new folder.

    Links and devices are left out. Raises FetchError: no archive that can be read, a name that
    leads out of the folder, more than the limits, or no tests; OSError if the disk refuses.
    """
    where, total, count = archive.name, 0, 0
    folder.mkdir()
    try:
        with tarfile.open(archive, "r|*") as sdist:
            for path, source in _wanted(sdist, where):
                content = source.read(_MEMBER + 1)
                total, count = total + len(content), count + 1
                if len(content) > _MEMBER or total > _ALL or count > _FILES:
                    raise FetchError(
                        f"{where}: {path}: upstream's tests have at most {_FILES} files,"
                        f" {_ALL >> 20} MiB in all and {_MEMBER >> 20} MiB in one; not unpacked"
                    )
                _write(folder.joinpath(*path.parts), content, f"{where}: {path}")
    except BAD_ARCHIVE as error:
        line = str(error).partition("\n")[0]
        raise FetchError(f"{where}: is not an archive that can be read ({line})") from None
    if not (folder / TESTS).is_dir():
        raise FetchError(f"{where}: contains no {TESTS}; it is not a source distribution of vLLM")


def copy_tests(source: Path, folder: Path) -> None:
    """Copy tests and configuration to a new folder, without links. Raises OSError."""
    shutil.copytree(source / TESTS, folder / TESTS, ignore=_left_out)
    config = source / _CONFIG
    if config.is_file() and not config.is_symlink():
        shutil.copyfile(config, folder / _CONFIG)
    else:
        # Without one pytest would look further up, and find a configuration of somebody else.
        (folder / _CONFIG).write_text("[tool.pytest.ini_options]\n", encoding="utf-8")


def _left_out(place: str, names: list[str]) -> list[str]:
    """Return those names in a folder that are links, or compiled by Python."""
    return [name for name in names if Path(place, name).is_symlink() or name == "__pycache__"]


def _wanted(sdist: tarfile.TarFile, where: str) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yield the regular files to unpack, each with its path below the archive's own folder."""
    for member in sdist:
        if member.offset_data + member.size > _ARCHIVE:
            raise FetchError(f"{where}: unpacks to more than {_ARCHIVE >> 30} GiB; not unpacked")
        _, _, below = member.name.partition("/")
        path = PurePosixPath(below)
        if path.parts[:1] != (TESTS,) and below != _CONFIG:
            continue
        if ".." in path.parts or "\\" in below or not below.isprintable():
            raise FetchError(
                f"{where}: {member.name!a}: leads out of its folder, or is not a plain name;"
                " not unpacked"
            )
        source = sdist.extractfile(member) if member.isreg() else None
        if source is not None:
            with closing(source):
                yield path, source


def _write(target: Path, content: bytes, where: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
    except (FileExistsError, NotADirectoryError):
        raise FetchError(f"{where}: appears twice; not unpacked") from None
