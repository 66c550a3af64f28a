"""The tox environments of cells in a checkout: what they take, and which may be removed.

Reads and removes files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from matrix._util.process import processes
from matrix.catalog.cells import Cell, CellError, factors
from matrix.errors import MatrixError
from matrix.run.rerun import WORK_DIR, outer_environ
from matrix.run.task import Present

TOX_FOLDER = ".tox"
"""The folder of tox's environments, below that of tox.ini."""

WHOLE_MIB = 10 * 1024
"""What an environment takes, in MiB, where nothing of it is there: 9.7 GB were measured."""

LINKED_MIB = 600
"""What one takes whose torch and vLLM uv links from its cache: what is compiled and written."""

_REMOVED = ".removed-"


class EnvironmentsError(MatrixError):
    """An environment that cannot be removed: it is in use, or the disk refuses."""


@dataclass(frozen=True, kw_only=True)
class Environments:
    """The environments in a folder of tox, and the cache from which uv links their files.

    `root` is the checkout whose they are; None if the folder lies in it.
    """

    folder: Path
    cache: Path
    root: Path | None = None

    def cells(self) -> frozenset[str]:
        """Return the names of the environments of cells that are there."""
        found = set()
        for path in self.folder.glob("py*-torch*"):
            with contextlib.suppress(CellError):
                factors(path.name)
                found.add(path.name)
        return frozenset(found)

    def present(self, names: Iterable[str], *, sized: bool = True) -> tuple[Present, ...]:
        """Return the environments of these names that are there and that nobody uses.

        Their sizes are looked up where they are to be `sized`, which takes half a second for each.
        """
        busy = self._in_use()
        return tuple(
            Present(
                environment=name, disk_mib=_own_mib(path) if sized else 0, usable=is_whole(path)
            )
            for name in sorted(set(names))
            if (path := self.folder / name).is_dir() and name not in busy
        )

    def in_use(self, name: str) -> bool:
        """Return whether a process of this machine works in the environment, or makes it."""
        return name in self._in_use()

    def remove(self, name: str) -> Path:
        """Take the environment away, and return the folder whose content is yet to be deleted.

        Raises EnvironmentsError if it is in use, or the disk refuses.
        """
        if self.in_use(name):
            raise EnvironmentsError(f"{self.folder / name}: is in use and is kept")
        away = self.folder / f"{_REMOVED}{name}.{os.getpid()}"
        try:
            (self.folder / name).rename(away)
        except OSError as error:
            why = error.strerror or error
            raise EnvironmentsError(f"{self.folder / name}: cannot be removed: {why}") from None
        return away

    def sweep(self) -> None:
        """Delete what killed runs took away and did not delete."""
        for path in self.folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def linked(self) -> frozenset[tuple[str, str]]:
        """Return the releases of torch and vLLM that uv links from its cache, on the same disk."""
        if not self._same_disk():
            return frozenset()
        return frozenset(
            (name, found.name.removesuffix(".dist-info").partition("-")[2].partition("+")[0])
            for name in ("torch", "vllm")
            for found in self.cache.glob(f"archive-v*/*/{name}-*.dist-info")
            # A wheel of that name that is not the real one, as tests have, has no library.
            if (found.parent / name / "lib").is_dir() or any((found.parent / name).glob("*.so"))
        )

    def _same_disk(self) -> bool:
        with contextlib.suppress(OSError):
            home = self.folder if self.folder.exists() else self.folder.parent
            return home.stat().st_dev == self.cache.stat().st_dev
        return False

    def _in_use(self) -> frozenset[str]:
        """Return the environments that a process of this machine works in, or makes."""
        head = f"{self.folder}{os.sep}"
        found = set()
        home = (self.root or self.folder.parent).resolve()
        for words, at in _command_lines():
            inside = (word[len(head) :] for word in words if word.startswith(head))
            found |= {word.partition(os.sep)[0] for word in inside}
            makes = at == home or str(self.folder) in words  # the value of --workdir
            if makes and any(Path(word).name == "tox" for word in words):
                found |= {name for word in words for name in word.split(",")}
        return frozenset(found)


def tox_folder(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where tox makes the environments of a checkout when this process starts it."""
    return root / outer_environ(environ).get(WORK_DIR, TOX_FOLDER)


def uv_cache() -> Path:
    """Return uv's cache folder, as the environment variables of uv and of XDG say.

    A user without a home, as containers have some, gets the one that uv takes then.
    """
    named = os.environ.get("UV_CACHE_DIR")
    if named:
        return Path(named)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return Path(".uv_cache")
    return Path(base, "uv")


def needs_mib(cell: Cell, linked: frozenset[tuple[str, str]]) -> int:
    """Return what the environment of a cell takes of the disk, in MiB, where it is not there.

    It is less where uv links the wheels of torch and of vLLM from its cache (`linked`).
    """
    return LINKED_MIB if {("torch", cell.torch), ("vllm", cell.vllm)} <= linked else WHOLE_MIB


def seconds_for(mib: int) -> float:
    """Return how long an environment that takes so much of the disk is thought to take.

    Linked from uv's cache it took 9 to 11 s on a quiet machine; without, 35 to 148 s.
    """
    return 20.0 if mib == LINKED_MIB else 150.0


def is_whole(folder: Path) -> bool:
    """Return whether the environment was made to its end: it has a Python, and a vLLM in it."""
    site = folder.glob("lib/python3*/site-packages/vllm-*.dist-info")
    return (folder / "bin/python").exists() and any(site)


def _own_mib(folder: Path) -> int:
    """Return how much of the disk would be free without the folder, in MiB, rounded up.

    A file that has other names, as one that uv linked from its cache has, frees nothing.
    """
    return -(-sum(_own_bytes(folder)) // 2**20)


def _own_bytes(folder: Path) -> Iterator[int]:
    # An environment has 50,000 files: os.walk, which asks twice for each, takes twice as long.
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                entries = list(found)
        except OSError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                about = entry.stat(follow_symlinks=False)
                if about.st_nlink == 1:
                    yield about.st_blocks * 512


def _command_lines() -> Iterator[tuple[list[str], Path]]:
    """Yield the command line and the folder of each other process that this user may look at."""
    for process in processes():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            yield (
                line.decode("utf-8", "replace").split("\0"),
                Path(f"/proc/{process.pid}/cwd").readlink(),
            )
