"""Make symbol tables: read wheels that are here, or fetch those of an index that have none yet.

One wheel lies on disk at a time, while it is read, and next to it its largest library.
torch's wheel is one a Python; `PYTHON` says which one is read. Its libraries are the same in all of
them but for `libtorch_python`, which only extensions that are built for one Python use.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from matrix._util.files import write_bytes
from matrix._util.text import mib
from matrix._util.versions import newest_patches
from matrix.checks.linkage.elf import read_wheel
from matrix.checks.linkage.link import DATA, Tables, load_tables
from matrix.checks.linkage.tables import SymbolsError, dump, file_name
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.index import PublishedFile

__all__ = ["OLDEST", "PYTHON", "Made", "Source", "fill", "lacking", "read_wheels"]

PYTHON = "cp312"
OLDEST = {"torch": Version("2.9"), "vllm": Version("0.14")}
"""The first releases that `fill` reads: from here on vLLM's wheel is one for all Pythons."""


class Source(Protocol):
    """What a package index has; `matrix.catalog.index.Index` is one."""

    def files(self, project: str) -> tuple[PublishedFile, ...]: ...  # noqa: D102
    def fetch(self, file: PublishedFile, folder: Path) -> Path: ...  # noqa: D102


@dataclass(frozen=True)
class Made:
    """A table that was written: its file, and its size and what it took to read its wheel."""

    path: Path
    size: int
    seconds: float

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.path.name}  {self.size / 1024:.1f} KiB  read in {self.seconds:.1f} s"


def read_wheels(
    wheels: Sequence[Path], folder: Path = DATA, told: Callable[[str], None] = print
) -> list[str]:
    """Read each wheel into its table; returns what could not be read, a line each."""
    faults = []
    for path in wheels:
        try:
            told(str(_make(path, folder)))
        except MatrixError as error:
            faults.append(str(error))
    return faults


def fill(
    index: Source,
    folder: Path = DATA,
    told: Callable[[str], None] = print,
    *,
    only: Iterable[tuple[str, str]] = (),
) -> list[str]:
    """Fetch and read every wheel of the index that lacks a table; the newest patches first.

    `only` names releases, such as `("torch", "2.10.0")`, where not all are wanted. Returns what
    could not be fetched or read, a line each; what is done stays, and a second call goes on.
    """
    faults: list[str] = []
    files: list[PublishedFile] = []
    for project in ("vllm", "torch"):
        try:
            files += index.files(project)
        except MatrixError as error:
            faults.append(str(error))
    names = set(only)
    wanted = [
        each
        for each in lacking(files, load_tables(folder))
        if not names or (each.project, each.version) in names
    ]
    for number, file in enumerate(wanted, 1):
        size = f", {mib(file.size)}" if file.size else ""
        try:
            with _note(f"{number} of {len(wanted)}: {file.filename}{size}"):
                began = time.monotonic()
                with tempfile.TemporaryDirectory(prefix="matrix-wheel-") as scratch:
                    path = index.fetch(file, Path(scratch))
                    fetched = time.monotonic() - began
                    made = _make(path, folder, sha256=file.sha256)
            told(f"{made}, fetched in {fetched:.1f} s")
        except MatrixError as error:
            faults.append(str(error))
    return faults


def lacking(files: Iterable[PublishedFile], tables: Tables) -> list[PublishedFile]:
    """The wheels without a table, one a release, in the order in which they are worth reading.

    A release that was yanked, is older than `OLDEST` or no final one, is left out. Where a release
    has several wheels for this platform, the one with the highest build number counts, as for an
    installer. A table of another file than that, or a damaged one, counts for none.
    """
    best: dict[tuple[str, str], tuple[tuple[object, ...], PublishedFile]] = {}
    for file in files:
        rank = _rank(file)
        if rank is None:
            continue
        key = (file.project, file.version)
        if key not in best or rank > best[key][0]:
            best[key] = rank, file
    found = [file for _, file in best.values() if not _has_table(file, tables)]
    first = {
        (project, version)
        for project in OLDEST
        for version in newest_patches((f.version for f in found if f.project == project), str)
    }
    found.sort(key=lambda each: (each.project, Version(each.version)), reverse=True)
    found.sort(key=lambda each: (each.project, each.version) not in first)
    return found


def _rank(file: PublishedFile) -> tuple[object, ...] | None:
    """How much this wheel is the one that an installer takes; None for what it never does."""
    if file.yanked is not None or not file.is_wheel or file.project not in OLDEST:
        return None
    try:
        _, version, build, tags = parse_wheel_filename(file.filename)
    except InvalidWheelFilename:
        return None
    if version.is_prerelease or version.local or version < OLDEST[file.project]:
        return None
    fits = any(
        each.platform.startswith("manylinux")
        and each.platform.endswith("_x86_64")
        and ((each.interpreter, each.abi) == (PYTHON, PYTHON) or each.abi == "abi3")
        for each in tags
    )
    return (build or (-1, ""),) if fits else None


def _has_table(file: PublishedFile, tables: Tables) -> bool:
    known = tables.torch_versions if file.project == "torch" else tables.vllm_versions
    if file.version not in known:
        return False
    try:
        table = (tables.torch if file.project == "torch" else tables.vllm)(file.version)
    except SymbolsError:
        return False
    return table.wheel.file == file.filename and table.wheel.sha256 == file.sha256


def _make(path: Path, folder: Path, sha256: str | None = None) -> Made:
    began = time.monotonic()
    table = read_wheel(path, sha256=sha256)
    content = dump(table)
    target = folder / file_name(table.wheel.project, table.wheel.version)
    write_bytes(target, content)
    return Made(target, len(content), time.monotonic() - began)


@contextlib.contextmanager
def _note(what: str) -> Iterator[None]:
    """Show what is being done while it is, where a person looks on."""
    watched = sys.stderr.isatty()
    if watched:
        print(f"\r\x1b[K{what} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
