"""Archives of records: whole records by day in Parquet, and what is taken out of them again.

An archive (`*.records.parquet`) holds each record as the very text of its file, with its row
(`matrix.engines.rows`) beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix.engines import summaries
from matrix.engines.rows import COLUMNS, Rows, failure, literal
from matrix.engines.summaries import ROW
from matrix.history import HistoryError

__all__ = ["PACK", "Packed", "delete", "load", "pack", "texts"]

PACK = ".records.parquet"
"""How the name of an archive of records ends."""

_GROUP = 2048  # records to a group of rows: some 60 MB of text, the least that is read of it
_PACKED = {**ROW, "text": "VARCHAR"}

_Loose = tuple[str, str, str, int, int, str]  # path, file, start, size, time, content


@dataclass(frozen=True)
class Packed:
    """What was packed: the archives written, and the record files that are now in one."""

    archives: tuple[Path, ...]
    files: tuple[Path, ...]


def load(rows: Rows, source: str) -> None:
    """Add the rows of an archive; what another release packed is read anew."""
    try:
        rows.check_columns(source, _PACKED)
        stamps = rows.execute(
            "SELECT DISTINCT stamp FROM read_parquet($source)", {"source": literal(source)}
        ).fetchall()
        if stamps == [(summaries.stamp(),)]:
            rows.execute(
                f"INSERT INTO rows SELECT $source || '/' || file, $source, {COLUMNS}"
                " FROM read_parquet($literal)",
                {"source": source, "literal": literal(source)},
            )
            return
        if stamps:
            rows.stale.add(source)
            rows.progress(
                f"{source}: was packed by another release of this matrix, so all of it is read;"
                " `matrix results pack --yes` on its folder packs it anew"
            )
        told = rows.execute(
            "SELECT file, text FROM read_parquet($source)", {"source": literal(source)}
        )
        rows.add_texts(source, told)
    except (failure(), HistoryError) as error:
        line = " ".join(str(error).split())
        rows.errors.append(
            HistoryError(f"{source}: no archive of records, or a damaged one ({line[:150]})")
        )


def texts(rows: Rows, source: str, files: Sequence[str], first: str, last: str) -> dict[str, str]:
    """The texts of records of an archive by their names; they started from `first` to `last`."""
    # The days spare the groups of rows that hold none of these.
    told = rows.execute(
        "SELECT file, text FROM read_parquet($source)"
        " WHERE started BETWEEN $first AND $last AND file IN (SELECT unnest($files))",
        {"source": literal(source), "first": first, "last": last, "files": list(files)},
    )
    return dict(told.fetchall())


def pack(
    folder: Path, rows: Rows, before: str, stays: Callable[[str], bool], say: Callable[[str], None]
) -> Packed:
    """Write the good records of a folder that started before this time to one archive a day.

    A day, since a month of a large matrix is more text than the memory that DuckDB may have. An
    archive is read back and compared before it takes its name; the record files stay. `stays` tells
    of a path whether it is left where it is. `rows` are those of the folder alone.
    """
    days: dict[str, list[_Loose]] = {}
    for row in _loose(rows, before):
        if not stays(row[0]):
            days.setdefault(row[2][:10], []).append(row)
    archives, packed = [], []
    stale = {Path(each).name.removesuffix(PACK) for each in rows.stale}
    for day in sorted({*days, *stale}):
        archive = folder / f"{day}{PACK}"
        done = _pack_day(archive, rows, days.get(day, []), say)
        if done or day in stale:
            archives.append(archive)
        packed += done
    return Packed(tuple(archives), tuple(packed))


def _loose(rows: Rows, before: str) -> list[_Loose]:
    """The good record files that started before."""
    found: list[_Loose] = rows.execute(
        "SELECT path, file, started, size, mtime, content FROM rows"
        " WHERE source IS NULL AND fault IS NULL AND started < ? AND size > 0"
        " ORDER BY started, path",
        [before],
    ).fetchall()
    return found


def _pack_day(
    archive: Path, rows: Rows, loose: Sequence[_Loose], say: Callable[[str], None]
) -> list[Path]:
    held = _held(rows, archive)
    written: dict[str, str] = {}
    done: list[Path] = []
    partial = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    with tempfile.TemporaryDirectory(prefix="matrix-pack-") as folder:
        lines = Path(folder) / "texts.jsonl"
        with open(lines, "w", encoding="ascii") as out:
            for path, file, _, size, mtime, content in loose:
                about = os.stat(path)
                if (about.st_size, about.st_mtime_ns) != (size, mtime):
                    say(f"{path}: was written meanwhile, so it is not packed")
                    continue
                if file in held:
                    if held[file] != content:
                        say(f"{path}: {archive} has another record of this name; rename the file")
                        continue
                else:
                    text = Path(path).read_bytes().decode()
                    out.write(json.dumps({"path": path, "text": text}) + "\n")
                    written[file] = hashlib.sha256(text.encode()).hexdigest()
                done.append(Path(path))
        if not written and not (held and str(archive) in rows.stale):
            return done
        try:
            _write(rows, archive, lines, partial)
            found = _digests(rows, partial)
            same = {file: found.get(file) for file in written} == written
            if not same or not found.keys() >= held.keys():
                raise HistoryError(f"{archive}: what was written is not what was read; try again")
            # Its files may be deleted next: it must be on the disk by then.
            _sync(partial)
            os.replace(partial, archive)
            _sync(archive.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
    return done


def _held(rows: Rows, archive: Path) -> dict[str, str]:
    """The content's digest of each record in this archive, by the name of its file."""
    told = rows.execute("SELECT file, content FROM rows WHERE source = ?", [str(archive)])
    return dict(told.fetchall())


def _write(rows: Rows, archive: Path, lines: Path, out: Path) -> None:
    """Write the rows of an archive, and those of `lines` (path and text), to `out`."""
    old = ""
    values: dict[str, object] = {"lines": str(lines), "out": str(out)}
    if archive.exists():
        old = (
            f"UNION ALL SELECT {COLUMNS}, text FROM rows"
            " JOIN (SELECT file AS name, text FROM read_parquet($old)) ON file = name"
            " WHERE source = $archive AND fault IS NULL"
        )
        values |= {"old": literal(str(archive)), "archive": str(archive)}
    rows.execute(
        f"""
        COPY (
          SELECT * FROM (
            SELECT {COLUMNS}, text FROM rows JOIN (
              SELECT path AS name, text FROM read_json($lines, format = 'newline_delimited',
                maximum_object_size = 67108864,
                columns = {{path: 'VARCHAR', text: 'VARCHAR'}})
            ) ON path = name WHERE source IS NULL
            {old}
          ) ORDER BY started, file
        ) TO $out (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP})
        """,
        values,
    )


def _digests(rows: Rows, archive: Path) -> dict[str, str]:
    """The SHA-256 of the text of each record in an archive, by the name of its file."""
    told = rows.execute("SELECT file, sha256(text) FROM read_parquet(?)", [literal(str(archive))])
    return dict(told.fetchall())


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def delete(rows: Rows, paths: Iterable[str]) -> int:
    """Delete these records, files and rows of archives alike; returns how many.

    An archive is written anew without them, and goes where nothing is left in it.
    """
    count = 0
    archives: dict[str, list[str]] = {}
    places = rows.execute(
        "SELECT path, source, file FROM rows WHERE path IN (SELECT unnest(?)) ORDER BY path",
        [list(paths)],
    ).fetchall()
    for path, source, file in places:
        if source is None:
            Path(path).unlink()
        else:
            archives.setdefault(source, []).append(file)
        count += 1
    for source, files in archives.items():
        archive = Path(source)
        partial = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
        try:
            if _write_without(rows, archive, files, partial):
                os.replace(partial, archive)
            else:
                archive.unlink()
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
    return count


def _write_without(rows: Rows, archive: Path, files: Sequence[str], out: Path) -> bool:
    """Write an archive without these files to `out`; False, and nothing, where none is left."""
    values: dict[str, object] = {"archive": literal(str(archive)), "files": list(files)}
    source = "FROM read_parquet($archive) WHERE file NOT IN (SELECT unnest($files))"
    if not rows.execute(f"SELECT count(*) {source}", values).fetchone()[0]:
        return False
    rows.execute(
        f"COPY (SELECT * {source} ORDER BY started, file) TO $out"
        f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP})",
        {**values, "out": str(out)},
    )
    return True
