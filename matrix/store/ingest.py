"""The summary of a record as one row: its columns, and the version of what they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from matrix.catalog.requirements import known_requirements
from matrix.record.content import content_hash
from matrix.record.model import Record, RecordError
from matrix.record.reader import parse, read
from matrix.store.summary import Summary, SummaryCase, summarise

SUMMARY = {
    "cell": "VARCHAR",
    "platform": "VARCHAR",
    "started": "VARCHAR",
    "finished": "BOOLEAN",
    "complete": "BOOLEAN",
    "evidence": "BIGINT",
    "deselected": "BIGINT",
    "total_cases": "BIGINT",
    "error": "VARCHAR",
    "torch": "VARCHAR",
    "vllm": "VARCHAR",
    "builds": "VARCHAR",
    "python": "VARCHAR",
    "tests_version": "BIGINT",
    "jobs": "BIGINT",
    "seconds": "DOUBLE",
    "stock": "BOOLEAN",
    "content": "VARCHAR",
    "verdict_key": "VARCHAR",
    "outcome_key": "VARCHAR",
    "environment_key": "VARCHAR",
    "cases": (
        'STRUCT("case" VARCHAR, outcome VARCHAR, signature VARCHAR, cold DOUBLE, warm DOUBLE)[]'
    ),
}
"""The columns of `matrix.store.summary.Summary` and their types in DuckDB."""
ROW = {
    "stamp": "VARCHAR",
    "file": "VARCHAR",
    "size": "BIGINT",
    "mtime": "BIGINT",
    "fault": "VARCHAR",
    **SUMMARY,
}
"""The columns of a row: the version of summaries that made it, the file's name in its folder or
archive, its size in bytes and time in nanoseconds, what is wrong with it (NULL for a good record),
and the summary."""

SUMMARY_VERSION = 9
"""The version of what an index and an archive store of a record. Raise it by one when the same
record gets another row than before: indexes are then read again, and archives read without theirs.
"""


def write_rows(files: Sequence[tuple[str, str, int, int]], out: Path) -> int:
    """Write a row for each file (path, name, size, time) to `out`, one line of JSON each.

    Returns how many. Works in any process.
    """
    with open(out, "w", encoding="ascii") as lines:
        lines.writelines(json.dumps(of_file(*file)) + "\n" for file in files)
    return len(files)


def of_file(path: str, file: str, size: int, mtime: int) -> dict[str, object]:
    """Return the row of a record file, with its path."""
    at: dict[str, object] = {"path": _text(path), "file": _text(file), "size": size, "mtime": mtime}
    try:
        record = read(Path(path))
    except RecordError as error:
        return {**at, "stamp": stamp(), "fault": _text(str(error).removeprefix(path))}
    return {**at, **_summary(record)}


def of_text(text: str, name: str, file: str) -> dict[str, object]:
    """Return the row of a record's text, which errors call `name`."""
    at: dict[str, object] = {"path": _text(name), "file": _text(file), "size": 0, "mtime": 0}
    try:
        record = parse(text, name)
    except RecordError as error:
        return {**at, "stamp": stamp(), "fault": _text(str(error).removeprefix(name))}
    return {**at, **_summary(record)}


def stamp() -> str:
    """Return what marks a row of this version: another may read or judge a record otherwise.

    A record from before `departures` is judged by `data/requirements.json`, so its digest is here.
    """
    return f"summary {SUMMARY_VERSION}, requirements {digest_of_requirements()}"


@cache
def digest_of_requirements() -> str:
    """Return the digest of the known requirements, once: each row has it."""
    return content_hash(known_requirements())


def _summary(record: Record) -> dict[str, object]:
    found = summarise(record)
    return {"stamp": stamp(), **_held(found), "cases": [_held(case) for case in found.cases]}


def _held(part: Summary | SummaryCase) -> dict[str, object]:
    fields = vars(part).items()
    return {key: _text(value) if isinstance(value, str) else value for key, value in fields}


def _text(value: str) -> str:
    """Text that a database can hold: no lone surrogates and no NUL, which JSON may have."""
    return value.encode("utf-8", "replace").decode().replace("\0", "?")
