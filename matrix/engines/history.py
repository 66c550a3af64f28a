"""Many records by DuckDB: an index beside the records, archives of them, and questions to both.

No server and no state that counts: an index (`.matrix-index.parquet`) holds the summary of each
record file of its folder, by the file's size and time; it is made anew where it is stale, and can
be deleted at any time. An archive (`*.records.parquet`) holds whole records, each as the very text
of its file, with the same summaries beside it. The extra `history`.

No SQL here is made of text from outside: file names, versions and filters are parameters.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from matrix.errors import MatrixError
from matrix.expectations import Expectations
from matrix.history import HistoryError, Times, summarise, times
from matrix.records import STARTS, Record, RecordError, parse, read, read_many, validate
from matrix.verdicts import judge

__all__ = [
    "INDEX",
    "LARGE",
    "PACK",
    "Asked",
    "Found",
    "History",
    "Listed",
    "by_index",
    "newest_records",
    "pays",
]

INDEX = ".matrix-index.parquet"
"""The index of a folder of records: a hidden file in it."""
PACK = ".records.parquet"
"""How the name of an archive of records ends."""
LARGE = 500
"""From how many record files on a folder gets an index unasked: some 4 s of reading without."""

_MEMORY = "512MB"
_ALONE = 200  # so few records are summarised in this process: another takes a second to start
_CHUNK = 500
_LAW_FILES = ("records.py", "cells.py", "verdicts.py", "history.py", "data/record.schema.json")
_CASES = 'STRUCT("case" VARCHAR, outcome VARCHAR, signature VARCHAR, cold DOUBLE, warm DOUBLE)[]'
_SUMMARY = {
    "cell": "VARCHAR",
    "platform": "VARCHAR",
    "started": "VARCHAR",
    "finished": "BOOLEAN",
    "whole": "BOOLEAN",
    "settles": "BOOLEAN",
    "deselected": "BIGINT",
    "error": "VARCHAR",
    "torch": "VARCHAR",
    "vllm": "VARCHAR",
    "python": "VARCHAR",
    "fingerprint": "VARCHAR",
    "jobs": "BIGINT",
    "seconds": "DOUBLE",
    "content": "VARCHAR",
    "judged": "VARCHAR",
    "cases": _CASES,
}
_ROW = {
    "stamp": "VARCHAR",
    "file": "VARCHAR",
    "size": "BIGINT",
    "mtime": "BIGINT",
    "fault": "VARCHAR",
    **_SUMMARY,
}
_PACKED = {**_ROW, "text": "VARCHAR"}
_COLUMNS = ", ".join(_ROW)
_COUNTERS = json.dumps(
    {
        "cases": [
            {
                "case": "VARCHAR",
                "starts": [{"start": "VARCHAR", "counters": "MAP(VARCHAR, BIGINT)"}],
            }
        ]
    }
)
_S3 = {
    "key_id": "ACCESS_KEY_ID",
    "secret": "SECRET_ACCESS_KEY",
    "session_token": "SESSION_TOKEN",
    "region": "REGION",
}
# Half a surrogate pair, which JSON may have as an escape and DuckDB's reader refuses.
_HALVES = r"(^|[^\\])((?:\\\\)*)(?:\\u[dD][89a-fA-F][0-9a-fA-F]{2})+"

Progress = Callable[[str], None]
Place = Path | str
"""A folder or file of records, or the address of a folder in an object store (`s3://...`)."""


@dataclass(frozen=True)
class Found:
    """Records with their paths, and one error for each file that is bad.

    `late` has what comes from the future: the path and when it says that it started. `times` are
    those of all records, also of older ones.
    """

    records: list[tuple[Path, Record]]
    errors: list[MatrixError]
    late: list[tuple[str, str]]
    times: Times


@dataclass(frozen=True)
class Asked:
    """Which records: all that hold. None and empty ask nothing.

    `cells` and `cases` are shell patterns on names (a `[` in them stands for itself); `since` and
    `until` are days or times in UTC, `until` a day includes it. Releases are specifiers' texts,
    as `matrix plan` takes them.
    """

    cell: str | None = None
    torch: str | None = None
    vllm: str | None = None
    python: str | None = None
    platform: str | None = None
    verdict: str | None = None
    since: str | None = None
    until: str | None = None
    case: str | None = None


@dataclass(frozen=True)
class Listed:
    """One record of a list. `paths` are all the files that hold it, the shown one first."""

    paths: tuple[str, ...]
    cell: str
    platform: str
    started: str
    torch: str
    vllm: str
    python: str
    verdict: str
    whole: bool
    error: str | None
    cases: int
    passed: int
    seconds: float | None
    content: str
    packed: bool


def pays(places: Iterable[Place]) -> bool:
    """Whether records of these places are better read by an index than one by one.

    They are where one is there already, where an archive or an object store is among them, or where
    a folder holds `LARGE` records.
    """
    for place in places:
        if isinstance(place, str) or place.name.endswith(PACK):
            return True
        if not place.is_dir():
            continue
        if (place / INDEX).exists():
            return True
        for count, path in enumerate(_walk(place), 1):
            if path.name.endswith(PACK) or count >= LARGE:
                return True
    return False


def by_index(places: Sequence[Place]) -> bool:
    """Whether to read these places by an index: where that pays and DuckDB is there, or needed."""
    return pays(places) and (_duckdb() is not None or _needs_duckdb(places))


def newest_records(places: Sequence[Place], late: str | None, progress: Progress) -> Found:
    """The records of which `tabulate` makes the table, as it would of all, and what is bad.

    What is never in the table is not read again. `late` as for `tabulate`. Where nothing is large
    (`pays`), or where DuckDB is missing and nothing needs it, all records are read, one by one.
    """
    local = [place for place in places if isinstance(place, Path)]
    if not by_index(places):
        records, errors = read_many(local)
        told = [(str(path), record.started) for path, record in records]
        seconds = times(record for _, record in records)
        return Found(records, list(errors), _late(told, late), seconds)
    with History(places, progress) as history:
        return history.newest(late)


class History:
    """The summaries of all records of some places, in a database in memory.

    Opening it brings the index of each folder up to date. Raises HistoryError where DuckDB is
    missing.
    """

    def __init__(
        self,
        places: Sequence[Place],
        progress: Progress,
        *,
        index: bool | None = None,
        jobs: int | None = None,
    ) -> None:
        """Read the places. `index`: write one always, never, or (None) where `pays` says so."""
        duckdb = _duckdb()
        if duckdb is None:
            raise HistoryError(
                "duckdb is not installed, and many or packed records are searched by it;"
                " install torch-vllm-matrix[history,table]"
            )
        self._errors: list[MatrixError] = []
        self._stale: set[str] = set()
        self._progress = progress
        self._jobs = jobs or min(os.cpu_count() or 1, 8)
        self._temp = tempfile.TemporaryDirectory(prefix="matrix-history-")
        self._db: Any = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY,
                "temp_directory": self._temp.name,
                "preserve_insertion_order": "false",
            },
        )
        # `source` is the archive that a row is in, or NULL for a file of its own.
        columns = ", ".join(f"{name} {kind}" for name, kind in _ROW.items())
        self._db.execute(f"CREATE TABLE rows (path VARCHAR, source VARCHAR, {columns})")
        self._db.execute("SET enable_progress_bar = false")
        try:
            self._open(places, index)
        except _error() as error:
            self.close()
            raise _one_line(error) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> History:
        """This history, which closes at the block's end."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close. What DuckDB itself fails at ends in one line, a HistoryError."""
        self.close()
        if isinstance(error, _error()):
            raise _one_line(error) from None

    def close(self) -> None:
        """Free the memory and the temporary files; the indexes stay."""
        self._db.close()
        self._temp.cleanup()

    @property
    def errors(self) -> list[MatrixError]:
        """One error for each place and file that is bad, by path."""
        bad = self._db.execute(
            "SELECT path, fault FROM rows WHERE fault IS NOT NULL ORDER BY path"
        ).fetchall()
        return [*self._errors, *(RecordError(f"{path}{fault}") for path, fault in bad)]

    def count(self) -> int:
        """How many good record files there are."""
        return int(self._one("SELECT count(*) FROM rows WHERE fault IS NULL"))

    def newest(self, late: str | None) -> Found:
        """As `newest_records`.

        Of each cell on each platform: the newest record that settles it (`matrix.history.settles`),
        and of what came after it the newest of each kind that has one verdict.
        """
        records, faults = self._read([row[:6] for row in self._candidates(late)])
        told = (
            self._db.execute(
                "SELECT path, started FROM rows WHERE fault IS NULL AND started > ? ORDER BY path",
                [late],
            ).fetchall()
            if late
            else []
        )
        if len(told) == self.count():
            told = []
        found = [(Path(path), record) for path, record in records.items()]
        return Found(found, [*self.errors, *faults], told, self.times())

    def shown(self, late: str | None) -> set[str]:
        """The digests of the contents of all records that the table could show."""
        return {row[6] for row in self._candidates(late)}

    def _candidates(self, late: str | None) -> Any:
        return self._db.execute(
            """
            WITH aged AS (
              SELECT *, (CASE WHEN started > $late THEN '0' ELSE '1' END) || started AS age
              FROM rows WHERE fault IS NULL
            ), settled AS (
              SELECT *, max(age) FILTER (settles) OVER (PARTITION BY cell, platform) AS last
              FROM aged
            )
            SELECT path, source, file, cell, platform, started, content FROM settled
            WHERE last IS NULL OR age >= last
            QUALIFY age = max(age) OVER (PARTITION BY cell, platform, settles, judged)
               AND (NOT settles OR age = last)
            ORDER BY path
            """,
            {"late": late or "9999"},
        ).fetchall()

    def find(self, asked: Asked, expectations: Expectations) -> list[Listed]:
        """The records asked for, newest first; the same record in two files once.

        Raises MatrixError for a filter that means nothing.
        """
        where, values = _where(asked)
        for column, text in (
            ("torch", asked.torch),
            ("vllm", asked.vllm),
            ("python", asked.python),
        ):
            if text is not None:
                where.append(f"{column} IN (SELECT unnest($of_{column}))")
                values[f"of_{column}"] = self._matching(column, text)
        verdicts = self.verdicts(expectations, " AND ".join(where), values)
        if asked.verdict is not None:
            where.append("judged IN (SELECT unnest($of_verdict))")
            values["of_verdict"] = [key for key, word in verdicts.items() if word == asked.verdict]
        rows = self._db.execute(
            f"""
            SELECT list(path ORDER BY string_split(path, '/')[-1] DESC, path), any_value(cell),
              any_value(platform), any_value(started), any_value(torch), any_value(vllm),
              any_value(python), any_value(judged), any_value(whole), any_value(error),
              any_value(len(cases)),
              any_value(len(list_filter(cases, lambda x: x.outcome = 'passed'))),
              any_value(seconds), content, bool_and(source IS NOT NULL)
            FROM rows WHERE {" AND ".join(where)} GROUP BY content
            ORDER BY any_value(started) DESC, any_value(cell), any_value(platform), content
            """,
            values,
        ).fetchall()
        names = [each.name for each in dataclasses.fields(Listed)]
        return [
            Listed(
                **dict(
                    zip(names, (tuple(paths), *to_verdict, verdicts[judged], *rest), strict=True)
                )
            )
            for paths, *to_verdict, judged, rest in ((*row[:8], row[8:]) for row in rows)
        ]

    def verdicts(
        self, expectations: Expectations, where: str = "true", values: Mapping[str, object] = {}
    ) -> dict[str, str]:
        """The verdict of each digest `judged`: one record of each is read and judged.

        `where` is SQL of this module, its parameters in `values`.
        """
        rows = self._db.execute(
            f"""
            SELECT path, source, file, cell, platform, started, judged FROM rows
            WHERE {where} AND fault IS NULL
            QUALIFY row_number() OVER (PARTITION BY judged ORDER BY source IS NOT NULL, path) = 1
            """,
            dict(values),
        ).fetchall()
        found: dict[str, str] = {}
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            of, faults = self._read([row[:6] for row in some])
            self._errors += faults
            for row in some:
                # A file that was lost meanwhile is no reason to lose the list.
                record = of.get(row[0])
                found[row[6]] = judge(record, expectations).verdict if record else "untested"
        return found

    def times(self, most: int = 60, cell: tuple[str, str] | None = None) -> Times:
        """The newest `most` times of each start of each case, as `matrix.history.times` has them.

        `cell`: of one cell on one platform alone.
        """
        rows = self._db.execute(
            """
            WITH once AS (
              SELECT DISTINCT ON (content) cell, platform, started, content, jobs, cases
              FROM rows WHERE fault IS NULL
                AND ($cell IS NULL OR (cell = $cell AND platform = $platform))
            ), flat AS (
              SELECT cell, platform, started, content, jobs, unnest(cases) AS c FROM once
            ), totals AS (
              SELECT cell, platform, c."case" AS name, 'cold' AS start, started, content, jobs,
                c.cold AS total FROM flat WHERE c.cold IS NOT NULL
              UNION ALL
              SELECT cell, platform, c."case", 'warm', started, content, jobs,
                c.warm FROM flat WHERE c.warm IS NOT NULL
            ), alike AS (
              SELECT * FROM totals
              QUALIFY jobs = last_value(jobs) OVER (
                PARTITION BY cell, platform, name, start ORDER BY started, content, jobs, total
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
            ), last AS (
              SELECT *, row_number() OVER (PARTITION BY cell, platform, name, start
                ORDER BY started DESC, content DESC, total DESC) AS age FROM alike
            )
            SELECT cell, platform, name, start, list((started, total) ORDER BY age DESC)
            FROM last WHERE age <= $most
            GROUP BY ALL ORDER BY ALL
            """,
            {"most": most, "cell": cell and cell[0], "platform": cell and cell[1]},
        ).fetchall()
        return Times({tuple(row[:4]): tuple(map(_pair, row[4])) for row in rows})

    def record(self, path: str) -> Record | None:
        """The record at this path (also one inside an archive), or None where there is none."""
        rows = self._db.execute(
            "SELECT path, source, file, cell, platform, started FROM rows"
            " WHERE path = ? AND fault IS NULL",
            [path],
        ).fetchall()
        records, faults = self._read(rows)
        if faults:
            raise faults[0]
        return records.get(path)

    def loose(self, before: str) -> list[tuple[str, str, str, int, int]]:
        """The good record files that started before: path, file, start, size and time of each."""
        found: list[tuple[str, str, str, int, int]] = self._db.execute(
            "SELECT path, file, started, size, mtime FROM rows"
            " WHERE source IS NULL AND fault IS NULL AND started < ? AND size > 0"
            " ORDER BY started, path",
            [before],
        ).fetchall()
        return found

    def content(self, path: str) -> str | None:
        """The digest of the content of the record at this path."""
        found = self._db.execute("SELECT content FROM rows WHERE path = ?", [path]).fetchone()
        return None if found is None else str(found[0])

    def held(self, archive: str) -> dict[str, str]:
        """The content's digest of each record in this archive, by the name of its file."""
        rows = self._db.execute("SELECT file, content FROM rows WHERE source = ?", [archive])
        return dict(rows.fetchall())

    def stale_archives(self) -> list[str]:
        """The archives that another release of the matrix wrote."""
        return sorted(self._stale)

    def is_stale(self, archive: str) -> bool:
        """Whether another release of the matrix wrote it."""
        return archive in self._stale

    def stored(self, late: str | None) -> list[tuple[str, str, str, str, str, bool, list[str]]]:
        """Every record once: content, cell, platform, age, start, whole, and its paths."""
        found: list[tuple[str, str, str, str, str, bool, list[str]]] = self._db.execute(
            """
            SELECT content, any_value(cell), any_value(platform),
              (CASE WHEN any_value(started) > $late THEN '0' ELSE '1' END) || any_value(started),
              any_value(started), any_value(whole), list(path ORDER BY path)
            FROM rows WHERE fault IS NULL GROUP BY content
            """,
            {"late": late or "9999"},
        ).fetchall()
        return found

    def records(self, paths: Iterable[str]) -> tuple[dict[str, Record], list[MatrixError]]:
        """The records at these paths (also inside archives), and what cannot be read any more."""
        rows = self._db.execute(
            "SELECT path, source, file, cell, platform, started FROM rows"
            " WHERE path IN (SELECT unnest(?)) AND fault IS NULL ORDER BY path",
            [list(paths)],
        ).fetchall()
        return self._read(rows)

    def runs(self) -> list[tuple[str, str, str, str, str, str, bool, str | None, int, str]]:
        """Every good record file, by path, without reading it.

        Its path, cell, platform, start, torch, vLLM, whether it is whole, its error, how many cases
        ran side by side, and the digest of what its verdict depends on.
        """
        found: list[tuple[str, str, str, str, str, str, bool, str | None, int, str]]
        found = self._db.execute(
            "SELECT path, cell, platform, started, torch, vllm, whole, error, jobs, judged"
            " FROM rows WHERE fault IS NULL ORDER BY path"
        ).fetchall()
        return found

    def places_of(self, paths: Iterable[str]) -> list[tuple[str, str | None, str]]:
        """Of each path, the archive that it is in or None, and its name there."""
        found: list[tuple[str, str | None, str]] = self._db.execute(
            "SELECT path, source, file FROM rows WHERE path IN (SELECT unnest(?)) ORDER BY path",
            [list(paths)],
        ).fetchall()
        return found

    def write_archive(self, archive: Path, lines: Path, out: Path, group: int) -> None:
        """Write the rows of an archive, and those of `lines` (path and text), to `out`."""
        old = ""
        values: dict[str, object] = {"lines": str(lines), "out": str(out), "group": group}
        if archive.exists():
            old = (
                f"UNION ALL SELECT {_COLUMNS}, text FROM rows"
                " JOIN (SELECT file AS name, text FROM read_parquet($old)) ON file = name"
                " WHERE source = $archive AND fault IS NULL"
            )
            values |= {"old": _literal(str(archive)), "archive": str(archive)}
        self._db.execute(
            f"""
            COPY (
              SELECT * FROM (
                SELECT {_COLUMNS}, text FROM rows JOIN (
                  SELECT path AS name, text FROM read_json($lines, format = 'newline_delimited',
                    maximum_object_size = 67108864,
                    columns = {{path: 'VARCHAR', text: 'VARCHAR'}})
                ) ON path = name WHERE source IS NULL
                {old}
              ) ORDER BY started, file
            ) TO $out (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {int(group)})
            """,
            {key: each for key, each in values.items() if key != "group"},
        )

    def write_without(self, archive: Path, files: Sequence[str], out: Path, group: int) -> bool:
        """Write an archive without these files to `out`; False, and nothing, where none is left."""
        values: dict[str, object] = {"archive": _literal(str(archive)), "files": list(files)}
        source = "FROM read_parquet($archive) WHERE file NOT IN (SELECT unnest($files))"
        if not self._db.execute(f"SELECT count(*) {source}", values).fetchone()[0]:
            return False
        self._db.execute(
            f"COPY (SELECT * {source} ORDER BY started, file) TO $out"
            f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {int(group)})",
            {**values, "out": str(out)},
        )
        return True

    def text_digests(self, archive: Path) -> dict[str, str]:
        """The SHA-256 of the text of each record in an archive, by the name of its file."""
        rows = self._db.execute(
            "SELECT file, sha256(text) FROM read_parquet(?)", [_literal(str(archive))]
        )
        return dict(rows.fetchall())

    def write_export(self, name: str, out: Path) -> None:
        """Write one of the three exported tables."""
        once = "(SELECT DISTINCT ON (content) * FROM rows WHERE fault IS NULL)"
        keys = "content, cell, platform, started"
        values: dict[str, object] = {"out": str(out)}
        if name == "records":
            kept = ", ".join(key for key in _SUMMARY if key != "cases")
            sql = f"SELECT {kept}, path FROM {once} ORDER BY started, content"
        elif name == "starts":
            starts = " UNION ALL ".join(
                f"SELECT {keys}, c.\"case\", c.outcome, c.signature, '{start}' AS start,"
                f" c.{start} AS seconds FROM flat"
                for start in STARTS
            )
            sql = (
                f"WITH flat AS (SELECT {keys}, unnest(cases) AS c FROM {once})"
                f' SELECT * FROM ({starts}) ORDER BY started, content, "case", start'
            )
        else:
            sources = [
                each
                for (each,) in self._db.execute(
                    "SELECT DISTINCT source FROM rows WHERE ends_with(source, ?) ORDER BY 1",
                    [PACK],
                ).fetchall()
            ]
            loose = [
                each
                for (each,) in self._db.execute(
                    f"SELECT path FROM {once} WHERE source IS NULL OR NOT ends_with(source, ?)",
                    [PACK],
                ).fetchall()
            ]
            texts = []
            if loose:
                texts.append("SELECT filename AS name, content AS text FROM read_text($loose)")
                values["loose"] = [_literal(each) for each in loose]
            if sources:
                texts.append(
                    "SELECT filename || '/' || file, text"
                    " FROM read_parquet($packs, filename = true)"
                )
                values["packs"] = [_literal(each) for each in sources]
            told = " UNION ALL ".join(texts) or "SELECT NULL AS name, NULL AS text WHERE false"
            values["halves"] = _HALVES
            sql = f"""
                WITH texts AS ({told}), good AS (
                  SELECT name, CASE WHEN json_valid(text) THEN text
                    ELSE regexp_replace(text, $halves, '\\1\\2?', 'g') END AS text
                  FROM texts
                ), flat AS (
                  SELECT {keys}, unnest(from_json(text, '{_COUNTERS}').cases) AS c
                  FROM {once} JOIN good ON path = name
                ), starts AS (
                  SELECT {keys}, c."case" AS "case", unnest(c.starts) AS s FROM flat
                ), counts AS (
                  SELECT {keys}, "case", s.start AS start, unnest(map_entries(s.counters)) AS e
                  FROM starts
                )
                SELECT {keys}, "case", start, e.key AS counter, e.value AS count FROM counts"""
        self._db.execute(f"COPY ({sql}) TO $out (FORMAT parquet, COMPRESSION zstd)", values)

    def _matching(self, column: str, text: str) -> list[str]:
        from packaging.version import InvalidVersion, Version

        from matrix.plan import parse_specifier

        asked = parse_specifier(text, f"--{column}")
        # `column` is one of three names of this module, never a person's.
        found = self._db.execute(f"SELECT DISTINCT {column} FROM rows WHERE fault IS NULL")
        held = []
        for (version,) in found.fetchall():
            with contextlib.suppress(InvalidVersion):
                if asked.contains(Version(Version(version).public), prereleases=True):
                    held.append(version)
        return held

    def _one(self, sql: str) -> Any:
        return self._db.execute(sql).fetchone()[0]

    def _read(
        self, rows: Sequence[tuple[str, str | None, str, str, str, str]]
    ) -> tuple[dict[str, Record], list[MatrixError]]:
        """The records by path, and faults, of (path, source, file, cell, platform, started)."""
        texts = self._texts(rows)
        records: dict[str, Record] = {}
        faults: list[MatrixError] = []
        for path, source, _, *what in rows:
            try:
                if source is None:
                    record = read(Path(path))
                else:
                    if path not in texts:
                        raise RecordError(f"{path}: is no longer in the archive; try again")
                    record = parse(texts[path], path)
                if [record.cell, record.platform, record.started] != what:
                    raise RecordError(
                        f"{path}: says another cell or time than its summary does; unpack and pack"
                        " it again, or delete the index"
                    )
            except RecordError as error:
                faults.append(error)
            else:
                records[path] = record
        return records, faults

    def _texts(self, rows: Sequence[tuple[str, str | None, str, str, str, str]]) -> dict[str, str]:
        sources: dict[str, list[tuple[str, str, str]]] = {}
        for path, source, file, _, _, started in rows:
            if source is not None:
                sources.setdefault(source, []).append((path, file, started))
        found: dict[str, str] = {}
        for source, some in sources.items():
            paths = {file: path for path, file, _ in some}
            days = [started for _, _, started in some]
            if source.endswith(PACK):
                # The days spare the groups of rows that hold none of these.
                told = self._db.execute(
                    "SELECT file, text FROM read_parquet($source)"
                    " WHERE started BETWEEN $first AND $last AND file IN (SELECT unnest($files))",
                    {
                        "source": _literal(source),
                        "first": min(days),
                        "last": max(days),
                        "files": list(paths),
                    },
                )
            else:
                told = self._db.execute(
                    "SELECT $file, content FROM read_text($source)",
                    {"source": source, "file": next(iter(paths))},
                )
            found.update({paths[file]: text for file, text in told.fetchall()})
        return found

    def _open(self, places: Sequence[Place], index: bool | None) -> None:
        seen: set[str] = set()
        for place in places:
            if isinstance(place, str):
                self._open_store(place)
            elif place.is_dir():
                self._open_folder(place, seen, pays([place]) if index is None else index)
            elif not place.exists():
                self._errors.append(
                    RecordError(f"{place}: no such folder or record; name one that is there")
                )
            elif place.name.endswith(PACK):
                self._open_packs([(place, place.name)], seen)
            else:
                self._add([(str(place), str(place), 0, 0)], seen)

    def _open_folder(self, folder: Path, seen: set[str], index: bool) -> None:
        files: dict[str, tuple[int, int]] = {}
        odd: list[tuple[str, str, int, int]] = []
        packs: list[tuple[Path, str]] = []
        missing = 0
        roots: dict[str, str] = {}
        for path in _walk(folder):
            file = str(path)[len(str(folder)) + 1 :] if str(folder) != "." else str(path)
            if path.name.endswith(PACK):
                packs.append((path, file))
                continue
            real = _real(path, roots)
            if real in seen:
                missing += 1
                continue
            seen.add(real)
            try:
                about = os.stat(path)
                file.encode()
            except (OSError, UnicodeEncodeError):
                odd.append((str(path), file, 0, 0))
            else:
                files[file] = (about.st_size, about.st_mtime_ns)
        self._load(folder, files, index and not missing)
        self._add(odd, None)
        self._open_packs(packs, seen)

    def _load(self, folder: Path, files: Mapping[str, tuple[int, int]], write: bool) -> None:
        """Add the folder's rows, from its index where that is fresh, and bring it up to date."""
        path, stamp = folder / INDEX, _stamp()
        fresh: dict[str, tuple[int, int]] = {}
        if path.exists():
            try:
                self._check_columns(path, _ROW)
                fresh = {
                    file: (size, mtime)
                    for file, size, mtime in self._db.execute(
                        "SELECT file, size, mtime FROM read_parquet($path) WHERE stamp = $stamp",
                        {"path": _literal(str(path)), "stamp": stamp},
                    ).fetchall()
                }
            except (_error(), HistoryError):
                # A damaged index is a stale one.
                fresh = {}
        stale = [file for file, about in files.items() if fresh.get(file) != about]
        kept = [file for file in fresh if file in files and fresh[file] == files[file]]
        same = len(kept) == len(fresh)
        if fresh:
            keep = "" if same else "AND file IN (SELECT unnest($kept))"
            values: dict[str, object] = {
                "path": _literal(str(path)),
                "stamp": stamp,
                "folder": _prefix(folder),
            }
            if not same:
                values["kept"] = kept
            self._db.execute(
                f"INSERT INTO rows SELECT $folder || file, NULL, {_COLUMNS}"
                f" FROM read_parquet($path) WHERE stamp = $stamp {keep}",
                values,
            )
        if not stale and (same and (fresh or not files)):
            return
        self._add([(_prefix(folder) + file, file, *files[file]) for file in stale], None)
        if write:
            self._write_index(folder, path)

    def _write_index(self, folder: Path, path: Path) -> None:
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            self._db.execute(
                f"COPY (SELECT {_COLUMNS} FROM rows"
                " WHERE source IS NULL AND path = $folder || file AND size > 0 ORDER BY file)"
                " TO $partial (FORMAT parquet, COMPRESSION zstd)",
                {"folder": _prefix(folder), "partial": str(partial)},
            )
            os.replace(partial, path)
        except (OSError, _error()) as error:
            # Such as a folder that nobody may write: all works without, only slower.
            self._progress(f"{path}: cannot be written, so the next time takes as long: {error}")
            with contextlib.suppress(OSError):
                partial.unlink()

    def _open_packs(self, packs: Iterable[tuple[Path, str]], seen: set[str]) -> None:
        for path, _ in sorted(packs):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                self._open_pack(str(path))

    def _open_pack(self, source: str) -> None:
        try:
            self._check_columns(source, _PACKED)
            stamps = self._db.execute(
                "SELECT DISTINCT stamp FROM read_parquet($source)", {"source": _literal(source)}
            ).fetchall()
            if stamps == [(_stamp(),)]:
                self._db.execute(
                    f"INSERT INTO rows SELECT $source || '/' || file, $source, {_COLUMNS}"
                    " FROM read_parquet($literal)",
                    {"source": source, "literal": _literal(source)},
                )
                return
            if stamps:
                self._stale.add(source)
                self._progress(
                    f"{source}: was packed by another release of this matrix, so all of it is read;"
                    " `matrix results pack --yes` on its folder packs it anew"
                )
            told = self._db.execute(
                "SELECT file, text FROM read_parquet($source)", {"source": _literal(source)}
            )
            self._add_texts(source, told)
        except (_error(), HistoryError) as error:
            line = " ".join(str(error).split())
            self._errors.append(
                HistoryError(f"{source}: no archive of records, or a damaged one ({line[:150]})")
            )

    def _open_store(self, address: str) -> None:
        """The archives of an object store's folder, and its loose records, which are all read."""
        base = address.rstrip("/")
        try:
            if address.startswith("s3://"):
                self._sign_in()
            if base.endswith(PACK):
                packs, loose = [base], []
            else:
                packs = [each for (each,) in self._glob(f"{base}/**/*{PACK}")]
                loose = [each for (each,) in self._glob(f"{base}/**/*.json")]
        except _error() as error:
            line = " ".join(str(error).split("LINE 1:")[0].split())
            raise HistoryError(f"{address}: cannot be read: {line[:200]}") from None
        for source in packs:
            self._open_pack(source)
        if loose:
            self._progress(f"{address}: reads {len(loose)} loose records; an archive is faster")
        for source in loose:
            name = source.rsplit("/", 1)[-1]
            if not name.startswith("."):
                told = self._db.execute(
                    "SELECT $name, content FROM read_text($source)",
                    {"name": name, "source": source},
                )
                self._add_texts(source, told, single=True)
        if not packs and not loose:
            self._errors.append(
                RecordError(f"{address}: no such folder or record; name one that is there")
            )

    def _sign_in(self) -> None:
        """Take S3's credentials from the environment (`AWS_*`), where it has some."""
        self._db.execute("LOAD httpfs")
        given = {name: os.environ.get(f"AWS_{key}") for name, key in _S3.items()}
        given["region"] = given["region"] or os.environ.get("AWS_DEFAULT_REGION")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        values: dict[str, object] = {key: each for key, each in given.items() if each}
        if endpoint:
            scheme, _, host = endpoint.rpartition("://")
            values |= {"endpoint": host.rstrip("/"), "url_style": "path"}
            values["use_ssl"] = scheme != "http"
        if values:
            settings = ", ".join(f"{key} ${key}" for key in values)
            self._db.execute(f"CREATE OR REPLACE SECRET (TYPE s3, {settings})", values)

    def _glob(self, pattern: str) -> list[tuple[str]]:
        found: list[tuple[str]] = self._db.execute(
            "SELECT file FROM glob($pattern) ORDER BY file", {"pattern": pattern}
        ).fetchall()
        return found

    def _check_columns(self, path: Path | str, columns: Mapping[str, str]) -> None:
        found = self._db.execute(
            "SELECT name FROM parquet_schema($path)", {"path": _literal(str(path))}
        ).fetchall()
        missing = set(columns) - {name for (name,) in found}
        if missing:
            raise HistoryError(f"has no column {min(missing)}")

    def _add_texts(self, source: str, told: Any, *, single: bool = False) -> None:
        rows = Path(self._temp.name) / "texts.jsonl"
        with open(rows, "w", encoding="ascii") as out:
            while some := told.fetchmany(_CHUNK):
                for file, text in some:
                    name = source if single else f"{source}/{file}"
                    out.write(json.dumps(_summary_of_text(text, name, file)) + "\n")
        self._insert(rows, source)

    def _add(self, files: Sequence[tuple[str, str, int, int]], seen: set[str] | None) -> None:
        """Summarise these files, side by side where there are many, and add their rows."""
        if seen is not None:
            files = [each for each in files if os.path.realpath(each[0]) not in seen]
            seen.update(os.path.realpath(each[0]) for each in files)
        if not files:
            return
        folder = Path(tempfile.mkdtemp(dir=self._temp.name))
        parts = [
            (list(files[at : at + _CHUNK]), folder / f"{at}.jsonl")
            for at in range(0, len(files), _CHUNK)
        ]
        if len(files) < _ALONE or self._jobs < 2:
            for part in parts:
                _summarise_files(*part)
        else:
            self._progress(f"reads {len(files)} records that are new or changed")
            with ProcessPoolExecutor(self._jobs, get_context("spawn")) as pool:
                done = 0
                for count in pool.map(_summarise_files, *zip(*parts, strict=True)):
                    done += count
                    if done // 10_000 != (done - count) // 10_000:
                        self._progress(f"{done} of {len(files)} read")
        for _, out in parts:
            self._insert(out, None)
            out.unlink()

    def _insert(self, rows: Path, source: str | None) -> None:
        columns = {"path": "VARCHAR", **_ROW}
        self._db.execute(
            f"INSERT INTO rows SELECT path, $source, {_COLUMNS} FROM read_json($rows,"
            " format = 'newline_delimited', maximum_object_size = 67108864, columns = $columns)",
            {"source": source, "rows": _literal(str(rows)), "columns": columns},
        )


def _summarise_files(files: Sequence[tuple[str, str, int, int]], out: Path) -> int:
    """Write a row for each file (path, name in the index, size, time) to `out`; in any process."""
    with open(out, "w", encoding="ascii") as lines:
        for path, file, size, mtime in files:
            lines.write(json.dumps(_summary_of_file(path, file, size, mtime)) + "\n")
    return len(files)


def _summary_of_file(path: str, file: str, size: int, mtime: int) -> dict[str, object]:
    at: dict[str, object] = {"path": _text(path), "file": _text(file), "size": size, "mtime": mtime}
    try:
        record = read(Path(path))
        _check_schema(json.loads(Path(path).read_bytes()), path)
    except RecordError as error:
        return {**at, "stamp": _stamp(), "fault": _text(str(error).removeprefix(path))}
    except OSError as error:
        return {**at, "stamp": _stamp(), "fault": f": cannot be read: {error.strerror or error}"}
    return {**at, **_summary(record)}


def _summary_of_text(text: str, name: str, file: str) -> dict[str, object]:
    at: dict[str, object] = {"path": _text(name), "file": _text(file), "size": 0, "mtime": 0}
    try:
        record = parse(text, name)
        _check_schema(json.loads(text), name)
    except RecordError as error:
        return {**at, "stamp": _stamp(), "fault": _text(str(error).removeprefix(name))}
    return {**at, **_summary(record)}


def _summary(record: Record) -> dict[str, object]:
    found = dataclasses.asdict(summarise(record))
    return {
        "stamp": _stamp(),
        **{key: _text(each) if isinstance(each, str) else each for key, each in found.items()},
        "cases": [
            {key: _text(each) if isinstance(each, str) else each for key, each in case.items()}
            for case in found["cases"]
        ],
    }


def _text(value: str) -> str:
    """Text that a database can hold: no lone surrogates and no NUL, which JSON may have."""
    return value.encode("utf-8", "replace").decode().replace("\0", "?")


def _check_schema(data: object, name: str) -> None:
    """`matrix.records.validate`, a hundred times faster where jsonschema-rs finds no fault."""
    fast = _fast_validator()
    if fast is not None:
        try:
            if fast.is_valid(data):
                return
        except ValueError:
            pass  # Text that Rust cannot hold, such as half a surrogate pair.
    validate(data, name)


@cache
def _fast_validator() -> Any:
    try:
        jsonschema_rs = importlib.import_module("jsonschema_rs")
    except ImportError:
        return None
    schema = Path(__file__).parents[1] / "data" / "record.schema.json"
    return jsonschema_rs.validator_for(json.loads(schema.read_text(encoding="utf-8")))


@cache
def _stamp() -> str:
    """By what law a summary was made: another release may read or judge a record otherwise."""
    here = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in _LAW_FILES:
        digest.update((here / name).read_bytes())
    digest.update(repr(_ROW).encode())
    return digest.hexdigest()[:16]


def _where(asked: Asked) -> tuple[list[str], dict[str, object]]:
    """SQL conditions of fixed text, and the values of their parameters."""
    where, values = ["fault IS NULL"], dict[str, object]()
    conditions: dict[str, tuple[str, Callable[[str], str]]] = {
        "cell": ("cell GLOB $cell", _glob),
        "platform": ("platform = $platform", str),
        "since": ("started >= $since", _since),
        "until": ("started <= $until", _until),
        "case": ('len(list_filter(cases, lambda x: x."case" GLOB $case)) > 0', _glob),
    }
    for key, (condition, mend) in conditions.items():
        value = getattr(asked, key)
        if value is not None:
            where.append(condition)
            values[key] = mend(value)
    return where, values


def _glob(pattern: str) -> str:
    """The pattern with `[` as itself, since cases have it in their names."""
    return pattern.replace("[", "[[]")


def _since(text: str) -> str:
    return text if "T" in text else f"{text}T00:00:00Z"


def _until(text: str) -> str:
    return text if "T" in text else f"{text}T23:59:59Z"


def _walk(folder: Path) -> Iterator[Path]:
    """What `read_many` would read of a folder, and the archives in it, in no order."""
    for where, folders, files in os.walk(folder):
        for name in files:
            if (name.endswith(".json") or name.endswith(PACK)) and not name.startswith("."):
                yield Path(where, name)
        for name in folders:
            if name.endswith(".json") and not name.startswith("."):
                yield Path(where, name)


def _real(path: Path, roots: dict[str, str]) -> str:
    """`os.path.realpath`, which asks the disk once a folder and not once a file."""
    if path.is_symlink():
        return os.path.realpath(path)
    parent = str(path.parent)
    if parent not in roots:
        roots[parent] = os.path.realpath(parent)
    return f"{roots[parent]}/{path.name}"


def _literal(path: str) -> str:
    """A local path for where DuckDB would take it for a pattern."""
    if "://" in path:
        return path
    return re.sub(r"([*?\[])", r"[\1]", path)


def _prefix(folder: Path) -> str:
    return "" if str(folder) == "." else f"{folder}/"


def _late(told: Sequence[tuple[str, str]], late: str | None) -> list[tuple[str, str]]:
    future = [each for each in told if late is not None and each[1] > late]
    return [] if len(future) == len(told) else future


def _needs_duckdb(places: Iterable[Place]) -> bool:
    """Whether some of the records cannot be read without it."""
    for place in places:
        if isinstance(place, str) or place.name.endswith(PACK):
            return True
        if place.is_dir() and any(path.name.endswith(PACK) for path in _walk(place)):
            return True
    return False


def _pair(value: Any) -> tuple[str, float]:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return str(value[0]), float(value[1])


@cache
def _duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError:
        return None


def _one_line(error: BaseException) -> HistoryError:
    line = " ".join(str(error).split("LINE 1:")[0].split())
    return HistoryError(f"the records cannot be searched: {line[:300]}")


def _error() -> type[Exception]:
    found: type[Exception] = _duckdb().Error
    return found
