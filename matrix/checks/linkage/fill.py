"""Make symbol tables: read local wheels, or fetch those of an index that have no table yet.

One wheel lies on the disk at a time, and next to it its largest library. torch has a wheel for each
Python; `wheel_choice.PYTHON` says which one to read. Its libraries are the same in all of them
except for `libtorch_python`, which only extensions that are built for one Python use.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from matrix._util.files import from_here, read_bytes, write_bytes
from matrix._util.scratch import Scratch
from matrix._util.text import mib
from matrix.catalog.platform_tags import MACHINES
from matrix.checks.linkage.elf import read_wheel
from matrix.checks.linkage.link import SYMBOL_TABLES, Tables, load_tables
from matrix.checks.linkage.tables import SymbolsError, dump, file_name, load
from matrix.checks.wheel_choice import OLDEST_READ, most_useful_first, taken
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from matrix.catalog.published_file import PublishedFile


class PackageSource(Protocol):
    """A package index, such as `matrix.catalog.index.Index`."""

    def files(self, project: str) -> tuple[PublishedFile, ...]:
        """Return the published files of a project."""

    def fetch(self, file: PublishedFile, folder: Path) -> Path:
        """Fetch a file into the folder; return its path."""


@dataclass(frozen=True, kw_only=True)
class WrittenTable:
    """A written table: its file, its size in bytes, and the seconds that reading the wheel took."""

    path: Path
    size: int
    seconds: float

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.path.name}  {self.size / 1024:.1f} KiB  read in {self.seconds:.1f} s"


def read_wheels(
    wheels: Sequence[Path], folder: Path = SYMBOL_TABLES, report: Callable[[str], None] = print
) -> list[str]:
    """Read each wheel into its table; return what could not be read, a line each.

    A table of another build is never written over: two builds may share a version and differ in
    CUDA.
    """
    faults = []
    for path in wheels:
        try:
            report(str(_make(path, folder, replaces=False)))
        except MatrixError as error:
            faults.append(str(error))
    return faults


def fill(
    index: PackageSource,
    folder: Path = SYMBOL_TABLES,
    report: Callable[[str], None] = print,
    *,
    only: Iterable[tuple[str, str]] = (),
) -> list[str]:
    """Fetch and read every wheel of the index that lacks a table; the newest patches first.

    `only` names releases, such as `("torch", "2.10.0")`, to restrict this to them. Returns what
    could not be fetched or read, a line each; the tables made so far stay, and a second call goes
    on.
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
        file
        for file in lacking(files, load_tables(folder))
        if not names or (file.project, file.version) in names
    ]
    if not wanted and not faults:
        report(nothing_new(folder))
    for number, file in enumerate(wanted, 1):
        size = f", {mib(file.size)}" if file.size else ""
        try:
            with _note(f"{number} of {len(wanted)}: {file.filename}{size}"):
                began = time.monotonic()
                with Scratch("wheel") as scratch:
                    path = index.fetch(file, scratch)
                    fetched = time.monotonic() - began
                    made = _make(path, folder, sha256=file.sha256)
            report(f"{made}, fetched in {fetched:.1f} s")
        except MatrixError as error:
            faults.append(str(error))
    return faults


def nothing_new(data: Path, machine: str = MACHINES[0]) -> str:
    """Return the line where the data has each wheel of the index that a fill would read."""
    oldest = " or ".join(f"{name} {first}" for name, first in OLDEST_READ.items())
    return (
        f"{from_here(data)}: nothing new; the index has no wheel for {machine} of {oldest} or a"
        " newer release that was not read before"
    )


def lacking(files: Iterable[PublishedFile], tables: Tables) -> list[PublishedFile]:
    """Return the wheels without a table, one a release, the most useful first.

    A damaged table, or one of another file, counts as missing.
    """
    return most_useful_first(file for file in taken(files) if not _has_table(file, tables))


def _has_table(file: PublishedFile, tables: Tables) -> bool:
    known = tables.torch_versions if file.project == "torch" else tables.vllm_versions
    if file.version not in known:
        return False
    try:
        table = (tables.torch if file.project == "torch" else tables.vllm)(file.version)
    except SymbolsError:
        return False
    return table.wheel.file == file.filename and table.wheel.sha256 == file.sha256


def _make(
    path: Path, folder: Path, sha256: str | None = None, *, replaces: bool = True
) -> WrittenTable:
    began = time.monotonic()
    table = read_wheel(path, sha256=sha256)
    content = dump(table)
    target = folder / file_name(table.wheel.project, table.wheel.version)
    if not replaces and (other := _other_build(target, table.wheel.sha256)):
        raise SymbolsError(
            f"{path.name}: {target.name} is of another build, {other}, and stays; name another"
            " folder: --tables DIR"
        )
    write_bytes(target, content)
    return WrittenTable(path=target, size=len(content), seconds=time.monotonic() - began)


def _other_build(path: Path, sha256: str) -> str | None:
    """Return the wheel of a table that is not of the wheel with this hash; None for any other.

    A table that is missing or damaged is of no build.
    """
    try:
        wheel = load(read_bytes(path), path.name).wheel
    except (OSError, SymbolsError):
        return None
    return wheel.file if wheel.sha256 != sha256 else None


@contextlib.contextmanager
def _note(what: str) -> Iterator[None]:
    """Show on a terminal what is being done, until it is done."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(f"\r\x1b[K{what} ...")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
