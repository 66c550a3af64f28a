"""Folders of vLLM's sources: which files count, their digest, copies, and unpacked archives."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matrix._util.archives import BAD_ARCHIVE, unpack_member
from matrix._util.files import digest_of
from matrix._util.text import clean, clip
from matrix.catalog.vllm_sources.git import READ_ONLY
from matrix.errors import MatrixError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_UNPACKED = 4 << 30  # bytes of a whole source distribution; vLLM 0.33.0 has 0.14 GiB
_TEXT = 4 << 20  # bytes of a file that is read as text
# What builds and tools leave; at the top alone, since vLLM has folders of such names further below.
_LEFT_AT_THE_TOP = ("build", "dist", "venv")
_LEFT = ("__pycache__", ".git", ".tox", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache")
_NEEDED = ("setup.py", "pyproject.toml", "vllm/__init__.py")


class SourcesError(MatrixError):
    """Sources that are not vLLM's, or cannot be read."""


def check_is_vllm(folder: Path, where: str) -> dict[str, Any]:
    """Return the pyproject.toml of a folder of vLLM's sources.

    Raises SourcesError, which begins with `where`, for any other folder.
    """
    if not folder.is_dir():
        raise SourcesError(f"{where}: is not a folder; name one that has vLLM's sources")
    for name in _NEEDED:
        if not (folder / name).is_file():
            raise SourcesError(f"{where}: has no {name}; name a folder of vLLM's sources")
    text = read_source(folder, "pyproject.toml", where)
    assert text is not None  # it is there
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise SourcesError(f"{where}: pyproject.toml: is not TOML ({clean(str(error))})") from None
    project = data.get("project")
    called = project.get("name") if isinstance(project, dict) else None
    if called != "vllm":
        shown = clip(clean(str(called)), 60)
        raise SourcesError(
            f"{where}: pyproject.toml: has the sources of {shown}, not of vllm; name vLLM's"
        )
    return data


def read_source(folder: Path, name: str, where: str) -> str | None:
    """Return the text of a file of the sources; None if it is not there.

    Raises SourcesError if it is not UTF-8 or too large.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_TEXT + 1)
        if len(content) > _TEXT:
            raise SourcesError(f"{where}: {name}: is larger than {_TEXT >> 20} MiB")
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SourcesError(f"{where}: {name}: is not UTF-8") from None
    except OSError as error:
        raise SourcesError(f"{where}: {name}: cannot be read ({error.strerror})") from None


def copy_tree(folder: Path, to: Path) -> str:
    """Copy the files of a folder of sources into an empty one; return the digest of the copy.

    Of a git checkout these are the files that git tracks or does not ignore; else all but what
    builds leave. Raises SourcesError if a file cannot be read or written.
    """
    try:
        for name in _files_of(folder):
            source, target = folder / name, to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target, follow_symlinks=False)
    except OSError as error:
        raise SourcesError(
            f"{error.filename or folder}: cannot be copied ({error.strerror or error})"
        ) from None
    return state_of(to)


def state_of(folder: Path) -> str:
    """Return the SHA-256 of what a folder holds: names, contents, targets of links, executability.

    Neither the order on the disk nor times count.
    """
    digest = hashlib.sha256()
    for name in sorted(_walk(folder)):
        path = folder / name
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            kind, content = b"link", hashlib.sha256(bytes(path.readlink())).digest()
        else:
            kind = b"program" if mode & stat.S_IXUSR else b"file"
            content = bytes.fromhex(digest_of(path))
        digest.update(b"\0".join((kind, os.fsencode(name), content)) + b"\n")
    return digest.hexdigest()


def check_links(folder: Path, where: str) -> None:
    """Raise SourcesError, which begins with `where`, for a link that leads out of a folder.

    What it leads to is in no digest of the folder, and a build would read it all the same.
    """
    for name in _walk(folder):
        path = folder / name
        if not path.is_symlink():
            continue
        target = Path(os.path.normpath(Path(name).parent / path.readlink()))
        if target.is_absolute() or os.pardir in target.parts:
            shown = clip(clean(name), 100)
            raise SourcesError(
                f"{where}: {shown}: is a link to a file outside the sources; remove it, or have git"
                " ignore it"
            )


def unpack(path: Path, to: Path) -> Path:
    """Unpack a source distribution into an empty folder; return the one folder that it has.

    Raises SourcesError: not an archive, members outside its folder, too large.
    """
    size = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                size += member.size
                if size > _UNPACKED:
                    raise SourcesError(
                        f"{path.name}: unpacks to more than {_UNPACKED >> 30} GiB; not read"
                    )
                unpack_member(archive, member, to)
    except (*BAD_ARCHIVE, OSError) as error:
        reason = clip(clean(str(error)), 200)
        raise SourcesError(f"{path.name}: cannot be unpacked ({reason})") from None
    found = list(to.iterdir())
    if len(found) != 1 or not found[0].is_dir():
        raise SourcesError(
            f"{path.name}: does not contain exactly one folder, as source distributions do"
        )
    return found[0]


def _files_of(folder: Path) -> Sequence[str]:
    if (folder / ".git").exists() and shutil.which("git"):
        names = _tracked(folder)
        # git still lists what it tracked below a folder that is a link by now: others' files.
        links = {Path(name) for name in names if (folder / name).is_symlink()}
        return [
            name
            for name in names
            if _counts(folder / name) and links.isdisjoint(Path(name).parents)
        ]
    return sorted(_walk(folder))


def _counts(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _tracked(folder: Path) -> list[str]:
    """Return the files that git tracks or does not ignore. Raises SourcesError with its reason."""
    safe = ["-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]
    options = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(
        ["git", "-C", str(folder), *safe, *options],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **READ_ONLY, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode:
        reason = clip(clean(done.stderr.decode("utf-8", "replace")), 200)
        raise SourcesError(f"{folder}: git cannot list its files ({reason})")
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        top = Path(place) == folder
        kept = [
            name
            for name in folders
            if name not in _LEFT
            and not (top and (name in _LEFT_AT_THE_TOP or name.endswith(".egg-info")))
        ]
        links = [name for name in kept if Path(place, name).is_symlink()]
        folders[:] = [name for name in kept if name not in links]
        for name in (*files, *links):
            path = Path(place, name)
            if not name.endswith(".pyc") and _counts(path):
                yield str(path.relative_to(folder))
