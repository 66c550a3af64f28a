"""Join folders of records, archives and object stores into one folder, without loss.

What is read is untrusted: it came back from other machines. A record goes to
`INTO/<platform>/<name>`, with the very bytes that it had; its log and its JUnit file go with it.
The same record is there once, whatever its name, and two records of one name both stay: the second
one gets a free name. Each file is made whole, and none that is there is changed. So to merge twice
changes nothing, and a merge that was stopped continues when it is started again.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from matrix._util.files import NameTakenError, create_bytes
from matrix.catalog.lock import alone
from matrix.errors import MatrixError
from matrix.record.content import content_hash
from matrix.record.model import PLATFORMS, Record, RecordError
from matrix.record.reader import NOTHING_THERE, RECORD_LIMIT, of_file, parse, read_many
from matrix.record.running import is_running
from matrix.record.tables import is_table
from matrix.store.layout import PACK, RUNS, RecordSource, by_index

BESIDE = (".log", ".junit.xml", ".upstream.log")
"""How the names of the files end that a run leaves with its record."""

_BESIDE_LIMIT = 64 << 20
"""The most bytes of a log or a JUnit file."""

_LOCK = ".matrix-merge.lock"
_DEEPEST = 32
_LINK, _PIPE = "a link", "a pipe, a socket or a device"
_SAFE_NAME = re.compile(r"[a-z0-9-]+(?:\.[A-Za-z0-9_-]{1,60}){0,4}\.json", re.ASCII)
_PROGRESS_SECONDS = 10.0


class MergeError(MatrixError):
    """A file that cannot be merged: the line names it and the fix."""


@dataclass(kw_only=True)
class Merged:
    """The result of a merge: counts of records and their files, and the rejected files.

    `known` were in the folder before, `renamed` of the `new` ones got a free name.
    """

    new: int = 0
    known: int = 0
    renamed: int = 0
    beside: int = 0
    refused: list[MatrixError] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """One record of a source: the name of its file, its bytes, and where its log may lie.

    `stem` is the path without `.json`; None in an archive and in an object store.
    """

    name: str
    content: bytes
    record: Record
    stem: Path | None


def merge(places: Sequence[RecordSource], into: Path, say: Callable[[str], None]) -> Merged:
    """Merge the records of the places into a folder, made for the first one if there is none.

    Of several merges into one folder one works at a time. What is wrong is in `refused`, and the
    rest is merged. Raises MergeError if the folder is none of records, LockError and FileError
    where the disk refuses; what was merged before is whole.
    """
    check_target(into)
    merged = Merged()
    with _Target(into, merged, say) as target:
        for place in places:
            before = merged.new + merged.known, len(merged.refused)
            for found in _records(place, merged.refused, target.has, say):
                target.add(found)
            if (merged.new + merged.known, len(merged.refused)) == (before[0], before[1]):
                merged.refused.append(
                    MergeError(
                        f"{place}: contains no record; name a folder with the records of runs"
                    )
                )
            elif merged.new + merged.known == before[0]:
                merged.refused[before[1] :] = [_none_good(place, merged.refused[before[1] :])]
    # A log that is a link is wrong as a file of its folder, and as that of its record.
    merged.refused = list({str(error): error for error in merged.refused}.values())
    return merged


class _Target:
    """The folder that is merged into, and the digests of the records that it holds.

    A folder that is not there is made for its first record: one of no records would look as if
    something had been merged. From then on, or where it is there, no other merge works in it.
    """

    def __init__(self, into: Path, merged: Merged, say: Callable[[str], None]) -> None:
        """Read nothing yet."""
        self._into, self._merged, self._say = into, merged, say
        self._shown = time.monotonic()
        self._lock = ExitStack()
        self._held: dict[str, Path | None] | None = None

    def __enter__(self) -> _Target:  # noqa: PYI034 - Self is not in Python 3.10
        """Read which records the folder holds, if it is there."""
        if os.path.lexists(self._into):
            self._open()
        return self

    def __exit__(self, *_: object) -> None:
        """Let other merges into the folder."""
        self._lock.close()

    def _open(self) -> dict[str, Path | None]:
        """Return the digests of what the folder holds; make it where it is not there."""
        if self._held is None:
            into, say = self._into, self._say
            lock = alone(into / _LOCK, lambda: say(f"{into}: waits for another merge into it"))
            self._lock.enter_context(lock)
            self._held = _held(into, self._merged.refused, say)
        return self._held

    def has(self, content: str) -> bool:
        """Return whether the folder holds a record of this digest; it then counts as known."""
        if self._held is not None and content in self._held:
            self._merged.known += 1
            return True
        return False

    def add(self, found: _Found) -> None:
        """Add a record that the folder may hold already, and the files that go with it."""
        held = self._open()
        content = content_hash(found.record)
        if content in held:
            self._merged.known += 1
        else:
            held[content] = self._create(found)
            self._merged.new += 1
        if time.monotonic() - self._shown >= _PROGRESS_SECONDS:
            self._shown = time.monotonic()
            self._say(
                f"{self._into}: {self._merged.new + self._merged.known} records merged so far"
            )
        path = held[content]
        if found.stem is not None and path is not None:
            self._add_beside(found.stem, path)

    def _create(self, found: _Found) -> Path:
        folder = self._into / found.record.platform
        if folder.is_symlink():
            raise MergeError(f"{folder}: is a link, which may lead out of {self._into}; remove it")
        name = _file_name(found)
        stem = name.removesuffix(".json")
        for number in range(1, 100_000):
            path = folder / (name if number == 1 else f"{stem}.{number}.json")
            try:
                create_bytes(path, found.content)
            except NameTakenError:
                continue
            self._merged.renamed += number > 1
            return path
        raise MergeError(f"{folder / name}: no free name is left; merge into another folder")

    def _add_beside(self, stem: Path, path: Path) -> None:
        """Add the log and the JUnit file of a record, unless they are there."""
        for ending in BESIDE:
            source = stem.with_name(stem.name + ending)
            try:
                content = _read_regular(source, _BESIDE_LIMIT)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._merged.refused.append(_unread(source, error))
            else:
                self._merged.beside += self._create_beside(path, ending, content)

    def _create_beside(self, path: Path, ending: str, content: bytes) -> bool:
        """Return whether the file was made: not where it, or another name for it, is there."""
        stem = path.name.removesuffix(".json")
        for number in range(1, 1000):
            other = path.with_name(f"{stem}{f'.other{number}' if number > 1 else ''}{ending}")
            try:
                create_bytes(other, content)
            except NameTakenError:
                try:
                    if _read_regular(other, _BESIDE_LIMIT) == content:
                        return False
                except OSError:
                    continue
            else:
                return True
        raise MergeError(f"{path}: no free name is left for its {ending}; merge it elsewhere")


def check_target(into: Path) -> None:
    """Raise MergeError if new records do not belong: a file, or a folder of other things."""
    if not os.path.lexists(into):
        return
    if not into.is_dir():
        raise MergeError(f"{into}: is not a folder; name one, new or of records")
    try:
        entries = [entry for entry in os.scandir(into) if not entry.name.startswith(".")]
    except OSError as error:
        raise MergeError(f"{into}: cannot be read: {error.strerror or error}") from None
    other = [
        entry.name
        for entry in entries
        if entry.name not in (*PLATFORMS, RUNS)
        and not entry.name.endswith((".json", PACK, *BESIDE))
        and not entry.name.startswith("README")
    ]
    if other and not any(entry.name in PLATFORMS for entry in entries):
        raise MergeError(
            f"{into}: is not a folder of records, it has {min(other)[:60]!r}; name a new folder"
        )


def _held(
    into: Path, refused: list[MatrixError], say: Callable[[str], None]
) -> dict[str, Path | None]:
    """Return the digests of the records in a folder with their files; None in an archive."""
    if not by_index([into]):
        records, errors = read_many([into])
        refused += errors
        return {content_hash(record): path for path, record in records}
    from matrix.store.query import History

    with History([into], say) as history:
        refused += history.errors
        rows = history.rows.execute(
            "SELECT content, path, source FROM rows WHERE fault IS NULL"
            " UNION ALL SELECT content, path, source FROM running"
        ).fetchall()
    return {content: None if source else Path(path) for content, path, source in rows}


def _records(
    place: RecordSource,
    refused: list[MatrixError],
    known: Callable[[str], bool],
    say: Callable[[str], None],
) -> Iterator[_Found]:
    """Yield the good records of a place; what is wrong goes to `refused`.

    Of a record in an archive or an object store that is `known` by its digest nothing is read.
    """
    if isinstance(place, str):
        yield from _stored(place, refused, known, say)
        return
    archives = []
    for path in _files(place, refused):
        if path.name.endswith(PACK):
            archives.append(path)
            continue
        try:
            found = _loose(path)
        except RecordError as error:
            refused.append(error)
        else:
            yield found
    for archive in archives:
        yield from _stored(archive, refused, known, say)


def _loose(path: Path) -> _Found:
    """Return the record in a file. Raises RecordError, also where its run continues."""
    try:
        content = _read_regular(path, RECORD_LIMIT)
    except OSError as error:
        raise _unread(path, error) from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not a record: its bytes are not UTF-8 text") from None
    record = of_file(text, path)
    if is_running(path, record):
        raise RecordError(f"{path}: its run goes on; merge it when it has ended")
    return _Found(
        name=path.name,
        content=content,
        record=record,
        stem=path.with_name(path.name.removesuffix(".json")),
    )


def _stored(
    place: RecordSource,
    refused: list[MatrixError],
    known: Callable[[str], bool],
    say: Callable[[str], None],
) -> Iterator[_Found]:
    """Yield the records of an archive, or of the address of an object store."""
    try:
        yield from _searched(place, refused, known, say)
    except MatrixError as error:  # also where it is damaged behind what a search reads of it
        refused.append(error)


def _searched(
    place: RecordSource,
    refused: list[MatrixError],
    known: Callable[[str], bool],
    say: Callable[[str], None],
) -> Iterator[_Found]:
    """Yield what `_stored` does. Raises MatrixError if not all of it can be read."""
    from matrix.store.query import History
    from matrix.store.sources import texts_of

    with History([place], say, index=False) as history:
        refused += history.errors
        rows = history.rows.execute(
            "SELECT path, source, file, cell, platform, started, content FROM rows"
            " WHERE fault IS NULL ORDER BY path"
        ).fetchall()
        wanted = [row[:6] for row in rows if not known(row[6])]
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            contents = texts_of(history.rows, some)
            for path, _, file, *_ in some:
                try:
                    text = contents[path]
                    record = parse(text, path)
                except (KeyError, RecordError) as error:
                    gone = RecordError(f"{path}: has left the archive; try again")
                    refused.append(gone if isinstance(error, KeyError) else error)
                    continue
                name = file.rsplit("/", 1)[-1]
                yield _Found(name=name, content=text.encode(), record=record, stem=None)


def _files(place: Path, refused: list[MatrixError]) -> Iterator[Path]:
    """Yield the files of a place that have the name of a record or an archive, in their order.

    A link, a pipe, a socket or a device in it is refused, and so is what lies too deep.
    """
    try:
        mode = os.stat(place).st_mode
    except OSError as error:
        refused.append(_unread(place, error))
        return
    if not stat.S_ISDIR(mode):
        # A person named it, so it may be a link.
        yield Path(os.path.realpath(place))
        return
    below = [(place, 1)]
    while below:
        folder, depth = below.pop()
        within = str(folder.relative_to(place))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            refused.append(_unread(folder, error))
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < _DEEPEST:
                    below.append((path, depth + 1))
                else:
                    refused.append(MergeError(f"{path}: lies too deep, below {depth} folders"))
            elif not entry.is_file(follow_symlinks=False):
                refused.append(_no_file(path, _LINK if entry.is_symlink() else _PIPE))
            elif entry.name.endswith((".json", PACK)) and not is_table(within, entry.name):
                yield path


def _read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a file that is not a link. Raises OSError, also for more than `limit`."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(errno.ENXIO, _PIPE)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit >> 20} MiB")
    return content


def _unread(path: Path | str, error: OSError) -> RecordError:
    if error.errno in (errno.ELOOP, errno.ENXIO):  # a link is not followed, a socket not opened
        return _no_file(path, _LINK if error.errno == errno.ELOOP else _PIPE)
    if error.errno == errno.ENOENT:
        return RecordError(f"{path}: {NOTHING_THERE}")
    return RecordError(f"{path}: cannot be read: {error.strerror or error}")


def _no_file(path: Path | str, what: str) -> RecordError:
    return RecordError(f"{path}: is {what}, not a file; it is not merged")


def _none_good(place: RecordSource, errors: Sequence[MatrixError]) -> MatrixError:
    """Return the one line of a place without a good record: it is not a folder of records."""
    if len(errors) == 1:
        return errors[0]
    return MergeError(
        f"{place}: no record in it can be read: {len(errors)} files are wrong, such as {errors[0]}"
    )


def _file_name(found: _Found) -> str:
    """Return the name of the record's file in the folder, which no source chooses freely."""
    record, name = found.record, found.name
    if _SAFE_NAME.fullmatch(name) and name.split(".", 1)[0] == record.cell and len(name) < 200:
        return name
    moment = re.sub(r"[^0-9TZ]", "", record.started)
    return f"{record.cell}.{moment}.json"
