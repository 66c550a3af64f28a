"""Archives of records: whole records by day in Parquet, read and written.

An archive (`*.records.parquet`) holds each record as the very text of its file, with its row
(`matrix.store.database`).

No record is lost, whoever else works in the folder: one process at a time writes its archives
(`matrix.catalog.lock`), from what they hold then and not from what was read before; what is written
is read back and is on the disk before it takes its name; and a file is deleted only if it is the
one that was read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from matrix._util.files import sync
from matrix.catalog.lock import LockError, alone
from matrix.store import ingest as summaries
from matrix.store.database import (
    COLUMNS,
    UNSOUND,
    FileIdentity,
    RecordDatabase,
    failure,
    file_identity,
    literal,
    one_line,
)
from matrix.store.layout import PACK
from matrix.store.summary import HistoryError

_LOCK = ".matrix-archives.lock"
# What any release packed; what else there is goes by the stamp.
_PACKED = ("stamp", "file", "started", "text")


def load(rows: RecordDatabase, source: str) -> None:
    """Add the rows of an archive; what another release packed is read again."""
    found = file_identity(source)
    if "://" not in source and os.path.exists(source) and not os.path.isfile(source):
        rows.errors.append(HistoryError(f"{source}: is not a file, but a pipe or a device"))
        return
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
            if rows.execute(
                f"SELECT 1 FROM rows WHERE source = ? AND {UNSOUND} LIMIT 1", [source]
            ).fetchall():
                rows.execute("DELETE FROM rows WHERE source = ?", [source])
                raise HistoryError("a row is not that of a record")
        else:
            if stamps:
                rows.stale.add(source)
                rows.progress(
                    f"{source}: was packed by another release of this matrix or with other"
                    " requirements of vLLM, so all of it is read; `matrix results pack --yes`"
                    " on its folder packs it again"
                )
            cursor = rows.execute(
                "SELECT file, text FROM read_parquet($source)", {"source": literal(source)}
            )
            rows.add_texts(source, cursor)
        if found is not None:
            rows.marks[source] = found
    except (failure(), HistoryError) as error:
        line = " ".join(str(error).split())
        rows.errors.append(
            HistoryError(f"{source}: no archive of records, or a damaged one ({line[:150]})")
        )


def texts(
    rows: RecordDatabase, source: str, files: Sequence[str], first: str, last: str
) -> dict[str, str]:
    """Return the texts of records of an archive by name; they started from `first` to `last`."""
    # The days spare the groups of rows that hold none of these.
    cursor = rows.execute(
        "SELECT file, text FROM read_parquet($source)"
        " WHERE started BETWEEN $first AND $last AND file IN (SELECT unnest($files))",
        {"source": literal(source), "first": first, "last": last, "files": list(files)},
    )
    return dict(cursor.fetchall())


_GROUP = 2048  # records to a group of rows: some 60 MB of text, the least that is read of it

_Loose = tuple[str, str, str, int, int, str]  # path, file, start, size, time, content


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The archives that were written and the record files that are now in one.

    `deleted` is the number of these files that were deleted.
    """

    archives: tuple[Path, ...]
    files: tuple[Path, ...]
    deleted: int


def pack(
    folder: Path,
    rows: RecordDatabase,
    before: str,
    stays: Callable[[str, str], bool],
    say: Callable[[str], None],
    *,
    drop: bool = False,
) -> Packed:
    """Write the good records of a folder that started before this time to one archive a day.

    A day, since a month of a large matrix is more text than the memory that DuckDB may have. With
    `drop`, the record files that are in an archive are deleted. `stays` returns, for a path and the
    record's content, whether the file is kept. `rows` are those of the folder alone.
    """
    days: dict[str, list[_Loose]] = {}
    for row in _loose(rows, before):
        if not stays(row[0], row[5]):
            days.setdefault(row[2][:10], []).append(row)
    stale = {
        path.name.removesuffix(PACK) for path in map(Path, rows.stale) if path.parent == folder
    }
    archives, packed, deleted = [], list[Path](), 0
    with _alone(folder, say):
        _sweep(folder)
        for day in sorted({*days, *stale}):
            archive = folder / f"{day}{PACK}"
            done = _pack_day(archive, rows, days.get(day, []), say)
            if done or day in stale:
                archives.append(archive)
            packed += done
            if drop:
                for path, was in done.items():
                    try:
                        deleted += _unlink(path, was, say)
                    except OSError as error:
                        raise HistoryError(
                            f"{path}: is packed and cannot be deleted: {error.strerror or error};"
                            f" {deleted} packed files were deleted before"
                        ) from None
    return Packed(archives=tuple(archives), files=tuple(packed), deleted=deleted)


def _loose(rows: RecordDatabase, before: str) -> list[_Loose]:
    """Return the good record files that started before that time."""
    found: list[_Loose] = rows.execute(
        "SELECT path, file, started, size, mtime, content FROM rows"
        " WHERE source IS NULL AND fault IS NULL AND started < ? AND size > 0"
        " ORDER BY started, path",
        [before],
    ).fetchall()
    return found


def _sweep(folder: Path) -> None:
    """Delete what a command that was killed left: nobody else writes here now."""
    for path in folder.glob(f".*{PACK}.*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def _pack_day(
    archive: Path, rows: RecordDatabase, loose: Sequence[_Loose], say: Callable[[str], None]
) -> dict[Path, FileIdentity]:
    """Pack these; returns the files that are in the archive by then, as they were when read."""
    was = _refresh(rows, archive)
    if was is not None and str(archive) not in rows.marks:
        say(f"{archive}: is damaged, so nothing is packed into it; move it away")
        return {}
    held = _held(rows, archive)
    written: dict[str, str] = {}
    done: dict[Path, FileIdentity] = {}
    with _partial(archive) as partial, _partial(archive, "texts") as lines:
        with open(lines, "w", encoding="ascii") as out:
            for path, file, _, size, mtime, content in loose:
                about = file_identity(path)
                if about is None:
                    continue  # Such as one that another command packed and deleted.
                text = None
                if file not in held:
                    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
                        text = Path(path).read_bytes().decode()
                if about[1:3] != (size, mtime) or file_identity(path) != about:
                    say(f"{path}: was written meanwhile, so it is not packed")
                    continue
                if text is not None:
                    out.write(json.dumps({"path": path, "text": text}) + "\n")
                    written[file] = hashlib.sha256(text.encode()).hexdigest()
                elif held.get(file) != content:
                    say(f"{path}: {archive} has another record of this name; rename the file")
                    continue
                done[Path(path)] = about
        if written or (held and str(archive) in rows.stale):
            wanted = _digests(rows, archive) if held else {}
            _write(rows, archive, lines, partial)
            _put(rows, archive, partial, {**wanted, **written}, was)
    return done


@contextlib.contextmanager
def _partial(archive: Path, kind: str = "rows") -> Iterator[Path]:
    """Give a temporary name in the archive's folder; the file is deleted in the end."""
    path = archive.with_name(f".{archive.name}.{os.getpid()}.{kind}.tmp")
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _refresh(rows: RecordDatabase, archive: Path) -> FileIdentity | None:
    """Read an archive's rows again where it is another than was read; returns what marks it."""
    found = file_identity(archive)
    source = str(archive)
    if rows.marks.get(source) != found:
        rows.execute("DELETE FROM rows WHERE source = ?", [source])
        rows.stale.discard(source)
        rows.marks.pop(source, None)
        if found is not None:
            load(rows, source)
    return found


def _held(rows: RecordDatabase, archive: Path) -> dict[str, str | None]:
    """Return the digest of each record's content in this archive, by the name of its file.

    None of a record that this release cannot read.
    """
    cursor = rows.execute("SELECT file, content FROM rows WHERE source = ?", [str(archive)])
    return dict(cursor.fetchall())


def _write(rows: RecordDatabase, archive: Path, lines: Path, out: Path) -> None:
    """Write the rows of an archive, and those of `lines` (path and text), to `out`."""
    old = ""
    values: dict[str, object] = {"lines": literal(str(lines)), "out": str(out)}
    if archive.exists():
        old = (
            f"UNION ALL SELECT {COLUMNS}, text FROM rows"
            " JOIN (SELECT file AS name, text FROM read_parquet($old)) ON file = name"
            " WHERE source = $archive"
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


def _digests(rows: RecordDatabase, archive: Path) -> dict[str, str]:
    """Return the SHA-256 of each record's text in an archive, by the name of its file."""
    cursor = rows.execute("SELECT file, sha256(text) FROM read_parquet(?)", [literal(str(archive))])
    return dict(cursor.fetchall())


def _put(
    rows: RecordDatabase,
    archive: Path,
    partial: Path,
    wanted: Mapping[str, str],
    was: FileIdentity | None,
) -> None:
    """Let `partial` take the archive's name, if it holds what it must and the archive what it did.

    Record files may be deleted next: it is on the disk by then.
    """
    if _digests(rows, partial) != wanted:
        raise HistoryError(f"{archive}: what was written is not what was read; try again")
    sync(partial)
    if file_identity(archive) != was:
        raise HistoryError(f"{archive}: was written meanwhile by something else; try again")
    os.replace(partial, archive)
    sync(archive.parent)


def _unlink(path: Path, was: FileIdentity, say: Callable[[str], None]) -> bool:
    """Delete a file, if it is still the one that was read."""
    now = file_identity(path)
    if now == was:
        path.unlink(missing_ok=True)
        return True
    if now is not None:
        say(f"{path}: was written meanwhile, so it stays")
    return False


def delete(rows: RecordDatabase, paths: Iterable[str], say: Callable[[str], None]) -> int:
    """Delete these records, files and rows of archives alike; returns how many were there.

    An archive is written again without them, and goes where nothing is left in it. Raises
    HistoryError, which names the number of files deleted before.
    """
    every = rows.execute(
        "SELECT path, source, file, content, size, mtime FROM rows"
        " WHERE path IN (SELECT unnest(?)) ORDER BY path",
        [list(paths)],
    ).fetchall()
    archives: dict[str, dict[str, str]] = {}
    count, at = 0, ""
    try:
        for path, source, file, content, size, mtime in every:
            at = path
            if source is not None:
                archives.setdefault(source, {})[file] = content
            elif (about := file_identity(path)) is not None:
                same = (size, mtime) == about[1:3] if size else _content(path) == content
                count += _unlink(Path(path), about if same else (), say)
        for archive, files in archives.items():
            with _alone(Path(archive).parent, say):
                count += _delete_from(rows, Path(archive), files)
    except (OSError, failure(), HistoryError, LockError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise HistoryError(
            f"{at}: cannot be deleted: {why or one_line(error)};"
            f" {count} of {len(every)} files were deleted before"
        ) from None
    return count


def _alone(folder: Path, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Return what lets one command at a time write the archives of a folder."""
    return alone(
        folder / _LOCK,
        lambda: say(f"{folder}: waits for another command that writes its archives"),
        "cannot be locked to write archives",
    )


def _content(path: str) -> object:
    return summaries.of_file(path, path, 0, 0).get("content")


def _delete_from(rows: RecordDatabase, archive: Path, files: Mapping[str, str]) -> int:
    """Write an archive without these records (file -> content); returns how many it had."""
    was = _refresh(rows, archive)
    if was is None:
        return 0
    held = _held(rows, archive)
    gone = [file for file, content in files.items() if held.get(file) == content]
    if not gone:
        return 0
    if len(gone) == len(held):
        archive.unlink()
        sync(archive.parent)
        return len(gone)
    values = {"archive": literal(str(archive)), "files": gone}
    wanted = _digests(rows, archive)
    with _partial(archive) as partial:
        rows.execute(
            "COPY (SELECT * FROM read_parquet($archive)"
            " WHERE file NOT IN (SELECT unnest($files)) ORDER BY started, file)"
            f" TO $out (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP})",
            {**values, "out": str(partial)},
        )
        kept = {file: digest for file, digest in wanted.items() if file not in gone}
        _put(rows, archive, partial, kept, was)
    return len(gone)
