"""Symbol tables of candidates: read from a candidate's own wheel, kept by its release key.

They lie in the user's cache and not in the package's data, where a candidate and a release of one
version would share a name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from packaging.utils import parse_wheel_filename

from matrix._util.files import read_bytes, write_bytes
from matrix._util.reported import Say
from matrix._util.scratch import Scratch
from matrix._util.text import mib
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Candidate, File
from matrix.catalog.candidates.place import answers_folder
from matrix.catalog.located import find_file
from matrix.catalog.projects import Project
from matrix.checks.linkage.elf import ElfError, NoLibraryError, read_wheel
from matrix.checks.linkage.tables import (
    DescribedWheel,
    SymbolsError,
    TorchSymbols,
    VllmSymbols,
    dump,
    file_name,
    load,
)

_PYTHON = "3.12"
"""The Python whose wheel of a torch is read where there is one, as `fill` does for releases."""


def tables_folder() -> Path:
    """Return the folder of the tables of candidates."""
    return answers_folder() / "symbols"


def candidate_tables(
    candidates: Iterable[Candidate], folder: Path | None = None
) -> dict[str, Path]:
    """Return the tables that there are of these candidates, by release key."""
    paths = {candidate.key: table_path(candidate, folder) for candidate in candidates}
    return {key: path for key, path in paths.items() if path.is_file()}


def table_path(candidate: Candidate, folder: Path | None = None) -> Path:
    """Return the file of the table of a candidate, whether it is there or not."""
    return (folder or tables_folder()) / file_name(candidate.project, candidate.key)


def read_candidate(
    candidate: Candidate, python: str, say: Say, folder: Path | None = None
) -> TorchSymbols | VllmSymbols:
    """Return the symbols of a candidate's wheel; reads the wheel where no table has them yet.

    A vLLM whose wheel contains no compiled file has a table without extensions. `say` gets a line
    before a wheel is read. Raises CandidateError if it has no wheel to read, FetchError if
    the wheel cannot be had or is another one by now, ElfError if it cannot be read.
    """
    wheel, path = _wheel_to_read(candidate, python), table_path(candidate, folder)
    known = _known(path, wheel)
    if known is not None:
        return known
    size = f", {mib(wheel.size)}" if wheel.size else ""
    say(f"{candidate.name}: reads the symbols of {wheel.name}{size}")
    with Scratch("wheel") as scratch:
        found, digest = find_file(wheel.url, scratch, sha256=wheel.sha256)
        try:
            table = read_wheel(found, sha256=digest)
        except NoLibraryError:
            if candidate.project is Project.TORCH:
                raise
            own = DescribedWheel(
                project="vllm", version=candidate.key, file=wheel.name, sha256=digest
            )
            table = VllmSymbols(wheel=own, extensions=())
    if isinstance(table, TorchSymbols) and not table.libraries:
        fault = next(iter(table.faults.values()), "contains none of them")
        raise ElfError(f"{wheel.name}: no library of torch can be read, one {fault}")
    table = replace(table, wheel=table.wheel._replace(version=candidate.key))
    write_bytes(path, dump(table))
    return table


def _wheel_to_read(candidate: Candidate, python: str) -> File:
    """Return the wheel of a candidate that shows its symbols on a Python.

    Of a torch one does for all: only `libtorch_python` differs with Python. Raises CandidateError
    where it has no wheel, none for that Python, or none for x86_64.
    """
    where = f"candidate {candidate.name!r}"
    if not candidate.has_extensions:
        raise CandidateError(f"{where}: is built from its sources, and has no wheel to read")
    wheel = candidate.extensions(_PYTHON if candidate.project is Project.TORCH else python)
    if wheel is None and candidate.project is Project.TORCH:
        wheel = candidate.files[0]
    if wheel is None:
        on_cuda = candidate.on_cuda.files if candidate.on_cuda is not None else ()
        there = ", ".join(file.name for file in (*candidate.files, *on_cuda))
        raise CandidateError(f"{where}: has no wheel for Python {python}, only {there}")
    platforms = {tag.platform for tag in parse_wheel_filename(wheel.name)[3]}
    if not any(name == "any" or name.endswith("_x86_64") for name in platforms):
        raise CandidateError(
            f"{where}: {wheel.name} is not for x86_64, and symbols are read of such wheels alone"
        )
    return wheel


def _known(path: Path, wheel: File) -> TorchSymbols | VllmSymbols | None:
    """Return the table of a file; None if there is none of this wheel, or it is damaged."""
    try:
        table = load(read_bytes(path), path.name)
    except (OSError, SymbolsError):
        return None
    return table if table.wheel.sha256 == wheel.sha256 else None
