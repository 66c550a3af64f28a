"""The rows of many records in a database in memory (DuckDB), and how they get there.

No SQL here, nor in the modules that use it, is made of text from outside: file names, versions and
filters are parameters.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from matrix._util.scratch import Scratch
from matrix._util.text import pip_install
from matrix.errors import MatrixError
from matrix.record.running import is_marked
from matrix.store.ingest import ROW, of_text, write_rows
from matrix.store.summary import HistoryError

COLUMNS = ", ".join(ROW)
"""The columns of a row, for SQL."""

_ALWAYS = (
    *("cell", "platform", "started", "finished", "complete", "evidence", "deselected"),
    *("total_cases", "torch", "vllm", "builds", "python", "jobs", "content", "verdict_key"),
    *("outcome_key", "environment_key", "cases"),
)
UNSOUND = (
    f"fault IS NULL AND (({' AND '.join(f'{name} IS NOT NULL' for name in _ALWAYS)}"
    " AND platform IN ('cpu', 'cuda') AND regexp_full_match(cell, '[a-z0-9.-]+')"
    " AND regexp_full_match(started, '[0-9TZ:-]+')) IS NOT true)"
)
"""Which rows of an index or an archive no version of this program wrote, for SQL."""
OnProgress = Callable[[str], None]
FileIdentity = tuple[int, ...]
"""A file's number, size and times: equal as long as nobody wrote it."""

_MEMORY = "512MB"
_ALONE = 200  # so few records are summarised in this process: another takes a second to start
_CHUNK = 250
_SAVE_SECONDS = 30.0


class RecordDatabase:
    """A table `rows`: of each record file and each record in an archive its row.

    A table `running` of the same columns has the records whose run is not finished.

    Its columns are those of `matrix.store.ingest.ROW`, `path`, and `source`: the archive, or
    the address, that the record is in, or NULL for a file of its own. `errors` has what is wrong
    with whole places, `stale` the archives that another release of the matrix wrote, `marks` the
    identity of each archive file when it was read.

    Raises HistoryError if DuckDB is missing.
    """

    def __init__(self, progress: OnProgress, jobs: int | None = None) -> None:
        """Make the empty table. `jobs`: how many processes read records."""
        engine = duckdb()
        if engine is None:
            raise HistoryError(
                "duckdb is not installed, and many or packed records are searched by it:"
                f" {pip_install('history,table')}"
            )
        self.errors: list[MatrixError] = []
        self.stale: set[str] = set()
        self.marks: dict[str, FileIdentity] = {}
        self.progress = progress
        self._jobs = jobs or min(os.cpu_count() or 1, 8)
        self._scratch = Scratch("history")
        self._db: Any = engine.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY,
                "temp_directory": str(self._scratch.path),
                "preserve_insertion_order": "false",
                # Nothing is downloaded that nobody asked for.
                "autoinstall_known_extensions": "false",
            },
        )
        columns = ", ".join(f"{name} {kind}" for name, kind in ROW.items())
        for table in ("rows", "running"):
            self._db.execute(f"CREATE TABLE {table} (path VARCHAR, source VARCHAR, {columns})")
        self._db.execute("SET enable_progress_bar = false")

    def close(self) -> None:
        """Free the memory and the temporary files."""
        self._db.close()
        self._scratch.close()

    def execute(self, sql: str, values: object = None) -> Any:  # noqa: ANN401 (DuckDB has no types here)
        """Run SQL of this project, with its parameters; returns DuckDB's cursor."""
        return self._db.execute(sql, values)

    def set_running_aside(self) -> None:
        """Move the rows of records whose run is not finished to the table `running`.

        So no question to the records takes them for records of runs that died.
        """
        unfinished = self.execute(
            "SELECT path FROM rows WHERE source IS NULL AND fault IS NULL AND NOT finished"
        ).fetchall()
        paths = [path for (path,) in unfinished if is_marked(Path(path))]
        if paths:
            chosen = "FROM rows WHERE path IN (SELECT unnest($paths))"
            self.execute(f"INSERT INTO running SELECT * {chosen}", {"paths": paths})
            self.execute(f"DELETE {chosen}", {"paths": paths})

    def add_files(
        self, files: Sequence[tuple[str, str, int, int]], save: Callable[[], None] | None = None
    ) -> None:
        """Summarise these files (path, name, size, time), side by side where there are many.

        `save` is called every half minute and in the end, however it ends, so that what was read
        is not read again.
        """
        if not files:
            return
        saved, unsaved = time.monotonic(), False
        try:
            with contextlib.closing(self._written(files)) as written:
                for rows in written:
                    self._insert(rows, None)
                    rows.unlink()
                    unsaved = True
                    if save is not None and time.monotonic() - saved >= _SAVE_SECONDS:
                        save()
                        saved, unsaved = time.monotonic(), False
        finally:
            if save is not None and unsaved:
                save()

    def add_texts(
        self,
        source: str,
        cursor: Any,  # noqa: ANN401 (a cursor of DuckDB, which has no types here)
        *,
        single: bool = False,
    ) -> None:
        """Summarise the (file, text) of a cursor. `single`: the source is the one record itself."""
        rows = self._scratch.path / "texts.jsonl"
        with open(rows, "w", encoding="ascii") as out:
            while some := cursor.fetchmany(_CHUNK):
                for file, text in some:
                    name = source if single else f"{source}/{file}"
                    out.write(json.dumps(of_text(text, name, file)) + "\n")
        self._insert(rows, source)

    def _written(self, files: Sequence[tuple[str, str, int, int]]) -> Generator[Path]:
        """Files of rows as they come to be written, a part of the records each."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch.path))
        parts = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
        outs = [folder / f"{index}.jsonl" for index in range(len(parts))]
        if len(files) < _ALONE or self._jobs < 2:
            for part, out in zip(parts, outs, strict=True):
                write_rows(part, out)
                yield out
            return
        # Few commands get here, and these take longer to import than many a command needs.
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        self.progress(f"reads {len(files)} records that are new or changed")
        pool = ProcessPoolExecutor(self._jobs, get_context("spawn"), initializer=_serve)
        try:
            done, began = 0, time.monotonic()
            for count, out in zip(pool.map(write_rows, parts, outs), outs, strict=True):
                yield out
                done += count
                if done // 10_000 != (done - count) // 10_000:
                    took = time.monotonic() - began
                    self.progress(f"{done} of {len(files)} read in {took:.0f} s")
        finally:
            pool.shutdown(cancel_futures=True)

    def _insert(self, rows: Path, source: str | None) -> None:
        columns = {"path": "VARCHAR", **ROW}
        self._db.execute(
            f"INSERT INTO rows SELECT path, $source, {COLUMNS} FROM read_json($rows,"
            " format = 'newline_delimited', maximum_object_size = 67108864, columns = $columns)",
            {"source": source, "rows": literal(str(rows)), "columns": columns},
        )

    def check_columns(self, path: Path | str, columns: Iterable[str]) -> None:
        """Raise HistoryError if a Parquet file has not all of these columns."""
        found = self.execute(
            "SELECT name FROM parquet_schema($path)", {"path": literal(str(path))}
        ).fetchall()
        missing = set(columns) - {name for (name,) in found}
        if missing:
            raise HistoryError(f"has no column {min(missing)}")


def duckdb() -> Any:  # noqa: ANN401 (the module, which has no types here)
    """Return the module, or None if it is not installed."""
    try:
        return importlib.import_module("duckdb")
    except ImportError:
        return None


def failure() -> type[Exception]:
    """Return the class of DuckDB's errors. It must be installed."""
    found: type[Exception] = duckdb().Error
    return found


def one_line(error: BaseException, most: int = 300) -> str:
    """Return DuckDB's message, without the SQL that it shows below it."""
    return " ".join(str(error).split("LINE 1:")[0].split())[:most]


def literal(path: str) -> str:
    """Escape a local path where DuckDB expects a pattern."""
    if "://" in path:
        return path
    return re.sub(r"([*?\[])", r"[\1]", path)


def file_identity(path: Path | str) -> FileIdentity | None:
    """Return the identity of the file of this name, or None if there is none."""
    try:
        return identity_of(os.stat(path))
    except OSError:
        return None


def identity_of(about: os.stat_result) -> FileIdentity:
    """Return a file's number, its size in bytes, and its times in nanoseconds."""
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _serve() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it."""
    from matrix._util.process import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
