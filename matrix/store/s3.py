"""Records in an object store (`s3://bucket/records`): its archives, and its loose records."""

from __future__ import annotations

import os
from typing import Any

from matrix.record.model import RecordError
from matrix.record.reader import NOTHING_THERE
from matrix.record.tables import is_table
from matrix.store.archive import load
from matrix.store.database import RecordDatabase, failure, one_line
from matrix.store.layout import PACK
from matrix.store.summary import HistoryError

_S3 = {
    "key_id": "ACCESS_KEY_ID",
    "secret": "SECRET_ACCESS_KEY",
    "session_token": "SESSION_TOKEN",
    "region": "REGION",
}


def load_store(rows: RecordDatabase, address: str) -> None:
    """Add the rows of an address's archives, and of its loose records, which are all read.

    Raises HistoryError if the store cannot be read.
    """
    base = address.rstrip("/")
    if not address.startswith("s3://"):
        scheme = address.partition("://")[0]
        raise HistoryError(
            f"{address}: {scheme}:// is not supported; name a folder, or one in an object store"
            " with S3's interface, as s3://bucket/records"
        )
    _load_httpfs(rows, address)
    try:
        _sign_in(rows)
        if base.endswith(PACK):
            packs, loose = [base], []
        elif base.endswith(".json"):
            packs, loose = [], _found(rows, base)
        else:
            packs = _found(rows, f"{base}/**/*{PACK}")
            loose = _found(rows, f"{base}/**/*.json")
    except failure() as error:
        raise HistoryError(f"{address}: cannot be read: {one_line(error, 200)}") from None
    for source in packs:
        load(rows, source)
    if loose:
        rows.progress(f"{address}: reads {len(loose)} loose records; an archive is faster")
    for source in loose:
        folder, _, name = source.rpartition("/")
        if not name.startswith(".") and not is_table(folder[len(base) :], name):
            cursor: Any = rows.execute(
                "SELECT $name, content FROM read_text($source)", {"name": name, "source": source}
            )
            rows.add_texts(source, cursor, single=True)
    if not packs and not loose:
        rows.errors.append(RecordError(f"{address}: {NOTHING_THERE}"))


def loose_text(rows: RecordDatabase, source: str) -> str:
    """Return the text of a loose record of a store."""
    found = rows.execute("SELECT content FROM read_text($source)", {"source": source})
    return str(found.fetchone()[0])


def _load_httpfs(rows: RecordDatabase, address: str) -> None:
    try:
        rows.execute("LOAD httpfs")
    except failure():
        raise HistoryError(
            f"{address}: needs DuckDB's extension httpfs, which is not installed here or of another"
            " version; install it once: python -c \"import duckdb; duckdb.sql('INSTALL httpfs')\""
        ) from None


def _sign_in(rows: RecordDatabase) -> None:
    """Take S3's credentials from the environment (`AWS_*`), where it has some."""
    given = {name: os.environ.get(f"AWS_{key}") for name, key in _S3.items()}
    given["region"] = given["region"] or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    values: dict[str, object] = {key: value for key, value in given.items() if value}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        values |= {"endpoint": host.rstrip("/"), "url_style": "path"}
        values["use_ssl"] = scheme != "http"
    if values:
        settings = ", ".join(f"{key} ${key}" for key in values)
        rows.execute(f"CREATE OR REPLACE SECRET (TYPE s3, {settings})", values)


def _found(rows: RecordDatabase, pattern: str) -> list[str]:
    cursor = rows.execute("SELECT file FROM glob($pattern) ORDER BY file", {"pattern": pattern})
    return [file for (file,) in cursor.fetchall()]
