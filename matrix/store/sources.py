"""Where records are: folders, files, archives and object stores; their rows, and their texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from matrix.errors import MatrixError
from matrix.record.model import Record, RecordError
from matrix.record.reader import NOTHING_THERE, parse, read
from matrix.store.archive import load, texts
from matrix.store.database import RecordDatabase
from matrix.store.folder_index import follow, prefix
from matrix.store.layout import PACK, RecordSource, pays, walk
from matrix.store.s3 import load_store, loose_text

RowPlace = tuple[str, str | None, str, str, str, str]
"""Of a row its path, source, file, cell, platform and start."""


def add(rows: RecordDatabase, places: Sequence[RecordSource], *, index: bool | None) -> None:
    """Add the rows of all records of the places, each file once.

    `index`: keep one in each folder always, never, or (None) where `pays` says so.
    """
    seen: set[str] = set()
    for place in places:
        if isinstance(place, str):
            load_store(rows, place)
        elif (fault := _fault(place)) is not None:
            rows.errors.append(RecordError(f"{place}: {fault}"))
        elif place.is_dir():
            _add_folder(rows, place, seen, index=pays([place]) if index is None else index)
        elif place.name.endswith(PACK):
            _add_archives(rows, [place], seen)
        else:
            real = os.path.realpath(place)
            if real not in seen:
                seen.add(real)
                rows.add_files([(str(place), str(place), 0, 0)])


def records_of(
    rows: RecordDatabase, held: Sequence[RowPlace]
) -> tuple[dict[str, Record], list[MatrixError]]:
    """Read the records of some rows again; return them by path, and an error for each bad one."""
    found_texts = texts_of(rows, held)
    records: dict[str, Record] = {}
    faults: list[MatrixError] = []
    for path, source, _, *what in held:
        try:
            if source is None:
                record = read(Path(path))
            else:
                if path not in found_texts:
                    raise RecordError(f"{path}: has left the archive; try again")
                record = parse(found_texts[path], path)
            if [record.cell, record.platform, record.started] != what:
                raise RecordError(
                    f"{path}: has another cell or time than its summary; unpack and pack"
                    " it again, or delete the index"
                )
        except RecordError as error:
            faults.append(error)
        else:
            records[path] = record
    return records, faults


def _fault(place: Path) -> str | None:
    """Return why there is nothing to read at a place, or None."""
    try:
        os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING_THERE
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def texts_of(rows: RecordDatabase, held: Sequence[RowPlace]) -> dict[str, str]:
    """Return the texts of the records inside archives and stores, by their paths."""
    sources: dict[str, list[tuple[str, str, str]]] = {}
    for path, source, file, _, _, started in held:
        if source is not None:
            sources.setdefault(source, []).append((path, file, started))
    found: dict[str, str] = {}
    for source, rows_of_source in sources.items():
        if source.endswith(PACK):
            paths = {file: path for path, file, _ in rows_of_source}
            days = [started for _, _, started in rows_of_source]
            found_texts = texts(rows, source, list(paths), min(days), max(days))
            found.update({paths[file]: text for file, text in found_texts.items()})
        else:
            found[rows_of_source[0][0]] = loose_text(rows, source)
    return found


def _add_folder(rows: RecordDatabase, folder: Path, seen: set[str], *, index: bool) -> None:
    files: dict[str, tuple[int, int]] = {}
    odd: list[tuple[str, str, int, int]] = []
    archives: list[Path] = []
    missing = 0
    roots: dict[str, str] = {}
    before, cut = prefix(folder), len(os.path.join(folder, ""))
    for entry in walk(folder, rows.errors):
        file = entry.path[cut:]
        if entry.name.endswith(PACK):
            archives.append(Path(before + file))
            continue
        real = _real(entry, roots)
        if real in seen:
            missing += 1
            continue
        seen.add(real)
        try:
            about = entry.stat()
            file.encode()
        except (OSError, UnicodeEncodeError):
            odd.append((before + file, file, 0, 0))
        else:
            files[file] = (about.st_size, about.st_mtime_ns)
    follow(rows, folder, files, write=index and not missing)
    rows.add_files(odd)
    _add_archives(rows, archives, seen)


def _add_archives(rows: RecordDatabase, archives: Iterable[Path], seen: set[str]) -> None:
    for path in sorted(archives):
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            load(rows, str(path))


def _real(entry: os.DirEntry[str], roots: dict[str, str]) -> str:
    """`os.path.realpath`, which asks the disk once a folder and not once a file."""
    if entry.is_symlink():
        return os.path.realpath(entry.path)
    parent = os.path.dirname(entry.path)
    if parent not in roots:
        roots[parent] = os.path.realpath(parent)
    return f"{roots[parent]}/{entry.name}"
