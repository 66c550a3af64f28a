"""Many records as Parquet tables, for any other engine: records, starts and counters."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from matrix._util.files import check_folder, replacing
from matrix.record.model import STARTS
from matrix.store.database import RecordDatabase, literal
from matrix.store.ingest import SUMMARY
from matrix.store.layout import PACK
from matrix.store.summary import HistoryError
from matrix.verdict.precedence import EvidenceLevel

_ONCE = "(SELECT DISTINCT ON (content) * FROM rows WHERE fault IS NULL)"
_KEYS = "content, cell, platform, started"
# The names that these columns had before, which other engines know.
_EXPORTED = {
    "complete": "complete AS whole",
    "evidence": f"evidence = {int(EvidenceLevel.CONCLUSIVE)} AS settles",
    "verdict_key": "verdict_key AS judged",
    "outcome_key": "outcome_key AS kind",
    "environment_key": "environment_key AS setting",
}
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
# Half a surrogate pair, which JSON may have as an escape and DuckDB's reader refuses.
_HALVES = r"(^|[^\\])((?:\\\\)*)(?:\\u[dD][89a-fA-F][0-9a-fA-F]{2})+"


def export(rows: RecordDatabase, folder: Path) -> tuple[Path, ...]:
    """Write records.parquet, starts.parquet and counters.parquet; the same record once.

    All three or none. Raises HistoryError if the folder cannot be written.
    """
    try:
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return _export(rows, folder)
    except OSError as error:
        raise HistoryError(
            f"{folder}: cannot be written: {error.strerror or error}; name another folder"
        ) from None


def _export(rows: RecordDatabase, folder: Path) -> tuple[Path, ...]:
    paths = []
    # Replaced together at the end, so that no engine finds records of one export and counters of
    # another.
    with contextlib.ExitStack() as stack:
        for name, (sql, values) in {
            "records": (_records(), {}),
            "starts": (_starts(), {}),
            "counters": _counters(rows),
        }.items():
            paths.append(folder / f"{name}.parquet")
            partial = stack.enter_context(replacing(paths[-1], durable=False))
            rows.execute(
                f"COPY ({sql}) TO $out (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)",
                {**values, "out": str(partial)},
            )
    return tuple(paths)


def _records() -> str:
    kept = ", ".join(_EXPORTED.get(key, key) for key in SUMMARY if key != "cases")
    return f"SELECT {kept}, path FROM {_ONCE} ORDER BY started, content"


def _starts() -> str:
    starts = " UNION ALL ".join(
        f"SELECT {_KEYS}, c.\"case\", c.outcome, c.signature, '{start}' AS start,"
        f" c.{start} AS seconds FROM flat"
        for start in STARTS
    )
    return (
        f"WITH flat AS (SELECT {_KEYS}, unnest(cases) AS c FROM {_ONCE})"
        f' SELECT * FROM ({starts}) ORDER BY started, content, "case", start'
    )


def _counters(rows: RecordDatabase) -> tuple[str, dict[str, object]]:
    """Return SQL for the counters, and its parameters.

    No summary has counters: they are read from the texts of all records.
    """
    values: dict[str, object] = {"halves": _HALVES}
    sources = rows.execute(
        "SELECT DISTINCT source FROM rows WHERE ends_with(source, ?) ORDER BY 1", [PACK]
    ).fetchall()
    loose = rows.execute(
        f"SELECT path FROM {_ONCE} WHERE source IS NULL OR NOT ends_with(source, ?)", [PACK]
    ).fetchall()
    texts = []
    if loose:
        texts.append("SELECT filename AS name, content AS text FROM read_text($loose)")
        values["loose"] = [literal(path) for (path,) in loose]
    if sources:
        texts.append(
            "SELECT filename || '/' || file AS name, text"
            " FROM read_parquet($packs, filename = true)"
        )
        values["packs"] = [literal(source) for (source,) in sources]
    every_text = " UNION ALL ".join(texts) or "SELECT NULL AS name, NULL AS text WHERE false"
    sql = f"""
        WITH texts AS ({every_text}), good AS (
          SELECT name, CASE WHEN json_valid(text) THEN text
            ELSE regexp_replace(text, $halves, '\\1\\2?', 'g') END AS text
          FROM texts
        ), flat AS (
          SELECT {_KEYS}, unnest(from_json(text, '{_COUNTERS}').cases) AS c
          FROM {_ONCE} JOIN good ON path = name
        ), starts AS (
          SELECT {_KEYS}, c."case" AS "case", unnest(c.starts) AS s FROM flat
        ), counts AS (
          SELECT {_KEYS}, "case", s.start AS start, unnest(map_entries(s.counters)) AS e
          FROM starts
        )
        SELECT {_KEYS}, "case", start, e.key AS counter, e.value AS count FROM counts"""
    return sql, values
