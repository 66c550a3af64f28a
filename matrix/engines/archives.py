"""Archives of records: whole records by day in Parquet, and what is taken out of them again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix.engines.history import PACK, History
from matrix.history import HistoryError

__all__ = ["Packed", "delete", "export", "pack"]

_GROUP = 2048  # records to a group of rows: some 60 MB of text, the least that is read of it


@dataclass(frozen=True)
class Packed:
    """What was packed: the archives written, and the record files that are now in one."""

    archives: tuple[Path, ...]
    files: tuple[Path, ...]


def pack(
    folder: Path, history: History, before: str, keep: Collection[str], say: Callable[[str], None]
) -> Packed:
    """Write the good records of a folder that started before this time to one archive a day.

    A day, since a month of a large matrix is more text than the memory that DuckDB may have. An
    archive is read back and compared before it takes its name; the record files stay. `keep` has
    paths that are left where they are. `history` is of the folder alone.
    """
    rows = history.loose(before)
    days: dict[str, list[tuple[str, str, str, int, int]]] = {}
    for row in rows:
        if row[0] not in keep:
            days.setdefault(row[2][:10], []).append(row)
    archives, packed = [], []
    stale = {Path(each).name.removesuffix(PACK) for each in history.stale_archives()}
    for day in sorted({*days, *stale}):
        archive = folder / f"{day}{PACK}"
        done = _pack_day(archive, history, days.get(day, []), say)
        if done or day in stale:
            archives.append(archive)
        packed += done
    return Packed(tuple(archives), tuple(packed))


def _pack_day(
    archive: Path,
    history: History,
    rows: Sequence[tuple[str, str, str, int, int]],
    say: Callable[[str], None],
) -> list[Path]:
    held = history.held(str(archive))
    texts: dict[str, str] = {}
    done: list[Path] = []
    partial = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    with tempfile.TemporaryDirectory(prefix="matrix-pack-") as folder:
        lines = Path(folder) / "texts.jsonl"
        with open(lines, "w", encoding="ascii") as out:
            for path, file, _, size, mtime in rows:
                about = os.stat(path)
                if (about.st_size, about.st_mtime_ns) != (size, mtime):
                    say(f"{path}: was written meanwhile, so it is not packed")
                    continue
                text = Path(path).read_bytes().decode()
                if file in held:
                    if held[file] != history.content(path):
                        say(f"{path}: {archive} has another record of this name; rename the file")
                        continue
                else:
                    out.write(json.dumps({"path": path, "text": text}) + "\n")
                    texts[file] = hashlib.sha256(text.encode()).hexdigest()
                done.append(Path(path))
        if not texts and not (held and history.is_stale(str(archive))):
            return done
        try:
            history.write_archive(archive, lines, partial, _GROUP)
            found = history.text_digests(partial)
            if {
                file: found.get(file) for file in texts
            } != texts or not found.keys() >= held.keys():
                raise HistoryError(f"{archive}: what was written is not what was read; try again")
            # Its files may be deleted next: it must be on the disk by then.
            _sync(partial)
            os.replace(partial, archive)
            _sync(archive.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
    return done


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def delete(history: History, paths: Iterable[str]) -> int:
    """Delete these records, files and rows of archives alike; returns how many.

    An archive is written anew without them, and goes where nothing is left in it.
    """
    count = 0
    archives: dict[str, list[str]] = {}
    for path, source, file in history.places_of(paths):
        if source is None:
            Path(path).unlink()
        else:
            archives.setdefault(source, []).append(file)
        count += 1
    for source, files in archives.items():
        archive = Path(source)
        partial = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
        try:
            if history.write_without(archive, files, partial, _GROUP):
                os.replace(partial, archive)
            else:
                archive.unlink()
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
    return count


def export(history: History, folder: Path) -> tuple[Path, ...]:
    """Write records.parquet, starts.parquet and counters.parquet; the same record once."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in ("records", "starts", "counters"):
        path = folder / f"{name}.parquet"
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            history.write_export(name, partial)
            os.replace(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
        written.append(path)
    return tuple(written)
