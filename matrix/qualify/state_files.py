"""The files that qualifications of candidates leave: findings, runs made, rounds of timings.

It reads and writes files, each replaced at once. A file that is not as written is refused with its
name and key, and never overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from matrix._util.files import read_text, write_text
from matrix.catalog.cells import CellError, candidate_project
from matrix.catalog.lock import alone
from matrix.errors import MatrixError
from matrix.qualify.model import QualificationVerdict
from matrix.qualify.table_watch import TablePlace, WatchedTable
from matrix.qualify.watch import (
    CasePlace,
    FindingKey,
    FindingKind,
    Followed,
    QualifiedBuild,
    Status,
    WatchHistory,
)
from matrix.record.json_value import JsonValue
from matrix.record.model import Platform, RecordError

_SCHEMA = 1
_RUNS = "runs.json"
_ROUNDS = "rounds.json"
_MOST_RUNS = 500
_FINDING_KEYS = dict.fromkeys(
    ("cell", "platform", "case", "kind", "what", "status", "first", "last", "build")
)
_BUILD_KEYS = dict.fromkeys(("identity", "version", "day", "verdict"))
_HISTORY_KEYS = dict.fromkeys(("schema", "candidate", "findings", "builds"))
_TABLE_KEYS = dict.fromkeys(("schema", "began", "last", "findings", "records"))
_RECORD_KEYS = dict.fromkeys(("cell", "platform", "content"))
_RUN_KEYS = dict.fromkeys(("cell", "versions", "record", "fresh", "environment_seconds"))
_ROUND_KEYS = dict.fromkeys(("platform", "baseline", "candidate"))
_Read = TypeVar("_Read")


class StateFileError(MatrixError):
    """A file of a qualification's state that is damaged, or of a newer form."""


@dataclass(frozen=True, kw_only=True)
class MadeRun:
    """One run that a qualification made.

    `versions` are those of `matrix.qualify.seconds.key_of`, `record` the name of its file. `fresh`:
    its environment was made for it. `environment_seconds` are those of making it, None if it was
    there before.
    """

    cell: str
    versions: str
    record: str
    fresh: bool
    environment_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class MadeRound:
    """One round of timings: the names of the two records, which are of that platform."""

    platform: Platform
    baseline: str
    candidate: str


def history_path(folder: Path, candidate: str) -> Path:
    """Return the file of a candidate's findings. Raises CellError for what is not a name."""
    candidate_project(candidate)
    return folder / f"{candidate}.json"


def read_history(folder: Path, candidate: str) -> WatchHistory:
    """Return what became of a candidate's findings; an empty history where the file does not exist.

    Raises StateFileError for a file that is damaged, or is of another candidate.
    """
    path = history_path(folder, candidate)
    data = _read(path)
    if data is None:
        return WatchHistory(candidate=candidate)
    found = _checked(path, lambda: _history(JsonValue(str(path), data)))
    if found.candidate != candidate:
        raise StateFileError(f"{path}: candidate: is {found.candidate}, not {candidate}; rename it")
    return found


def write_history(folder: Path, history: WatchHistory) -> Path:
    """Write what became of a candidate's findings; return the file."""
    path = history_path(folder, history.candidate)
    content = {
        "schema": _SCHEMA,
        "candidate": history.candidate,
        "builds": [
            {
                "identity": build.identity,
                "version": build.version,
                "day": build.day,
                "verdict": build.verdict,
            }
            for build in history.builds
        ],
        "findings": _finding_rows(history.findings),
    }
    _write(path, content)
    return path


def _finding_rows(findings: Iterable[Followed]) -> list[dict[str, object]]:
    """Return findings as a state file has them, by key."""
    return [
        {
            **finding.key.place._asdict(),
            "kind": finding.key.kind,
            "what": finding.key.what,
            "status": finding.status,
            "first": finding.first,
            "last": finding.last,
            "build": finding.build,
        }
        for finding in sorted(findings, key=lambda finding: finding.key)
    ]


def _findings_of(value: JsonValue) -> tuple[Followed, ...]:
    """Return the findings of a state file, the value of its key `findings`.

    Raises RecordError for what is not as `_finding_rows` makes it, and for a finding that is there
    twice.
    """
    findings = tuple(map(_finding, value.items("findings")))
    keys = [finding.key for finding in findings]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        value.member("findings").fail(f"has {twice.what!r} of {twice.place.case!r} twice")
    return findings


def read_table_watch(path: Path) -> WatchedTable | None:
    """Return what became of the findings of a table; None if the file does not exist.

    Raises StateFileError for a file that is damaged.
    """
    data = _read(path)
    return None if data is None else _checked(path, lambda: _table(JsonValue(str(path), data)))


def write_table_watch(path: Path, watched: WatchedTable) -> None:
    """Write what became of the findings of a table; raises FileError."""
    content = {
        "schema": _SCHEMA,
        "began": watched.began,
        "last": watched.last,
        "findings": _finding_rows(watched.findings),
        "records": [
            {**place._asdict(), "content": digest}
            for place, digest in sorted(watched.records.items())
        ],
    }
    _write(path, content)


def read_runs(folder: Path) -> tuple[MadeRun, ...]:
    """Return the runs that qualifications made, oldest first; none without a file.

    Raises StateFileError for a file that is damaged.
    """
    path = folder / _RUNS
    data = _read(path)
    return () if data is None else _checked(path, lambda: _runs(JsonValue(str(path), data)))


def add_run(folder: Path, run: MadeRun) -> None:
    """Note one more run; the oldest go where there are too many.

    Of two commands that do so at once both are noted. Raises StateFileError, and FileError if
    the disk refuses.
    """
    with _changing(folder):
        rows = [asdict(row) for row in (*read_runs(folder), run)[-_MOST_RUNS:]]
        _write(folder / _RUNS, {"schema": _SCHEMA, "runs": rows})


def read_rounds(folder: Path) -> tuple[MadeRound, ...]:
    """Return the rounds of timings that qualifications made, oldest first; none without a file.

    Raises StateFileError for a file that is damaged.
    """
    path = folder / _ROUNDS
    data = _read(path)
    return () if data is None else _checked(path, lambda: _rounds(JsonValue(str(path), data)))


def add_round(folder: Path, made: MadeRound) -> None:
    """Note one more round, as `add_run` does."""
    with _changing(folder):
        rows = [asdict(row) for row in (*read_rounds(folder), made)[-_MOST_RUNS:]]
        _write(folder / _ROUNDS, {"schema": _SCHEMA, "rounds": rows})


def environment_seconds(runs: Iterable[MadeRun]) -> Mapping[str, float]:
    """Return how long each environment took when it was made last, by its versions."""
    return {
        run.versions: run.environment_seconds for run in runs if run.environment_seconds is not None
    }


def _history(value: JsonValue) -> WatchHistory:
    _check_schema(value, _HISTORY_KEYS)
    return WatchHistory(
        candidate=value.text("candidate"),
        findings=_findings_of(value),
        builds=tuple(map(_build, value.items("builds"))),
    )


def _finding(value: JsonValue) -> Followed:
    value.has_keys(_FINDING_KEYS)
    place = CasePlace(
        cell=value.text("cell"),
        platform=value.one_of("platform", Platform),
        case=value.text("case"),
    )
    key = FindingKey(place, value.one_of("kind", FindingKind), value.text("what"))
    return Followed(
        key=key,
        status=value.one_of("status", Status),
        first=value.text("first"),
        last=value.text("last"),
        build=value.text("build"),
    )


def _table(value: JsonValue) -> WatchedTable:
    _check_schema(value, _TABLE_KEYS)
    records: dict[TablePlace, str] = {}
    for row in value.items("records"):
        row.has_keys(_RECORD_KEYS)
        place = TablePlace(row.text("cell"), row.one_of("platform", Platform))
        records[place] = row.text("content")
    return WatchedTable(
        findings=_findings_of(value),
        records=records,
        began=value.text("began"),
        last=value.text("last"),
    )


def _build(value: JsonValue) -> QualifiedBuild:
    value.has_keys(_BUILD_KEYS)
    return QualifiedBuild(
        identity=value.text("identity"),
        version=value.text("version"),
        day=value.text("day"),
        verdict=value.one_of("verdict", QualificationVerdict),
    )


def _runs(value: JsonValue) -> tuple[MadeRun, ...]:
    _check_schema(value, {"schema": None, "runs": None})
    return tuple(map(_run, value.items("runs")))


def _run(value: JsonValue) -> MadeRun:
    value.has_keys(_RUN_KEYS)
    unknown = value.member("environment_seconds").data is None
    return MadeRun(
        cell=value.text("cell"),
        versions=value.text("versions"),
        record=value.text("record"),
        fresh=value.boolean("fresh"),
        environment_seconds=None if unknown else value.seconds("environment_seconds"),
    )


def _rounds(value: JsonValue) -> tuple[MadeRound, ...]:
    _check_schema(value, {"schema": None, "rounds": None})
    return tuple(map(_round, value.items("rounds")))


def _round(value: JsonValue) -> MadeRound:
    value.has_keys(_ROUND_KEYS)
    for key in ("baseline", "candidate"):
        name = value.text(key)
        if name in {"", ".", ".."} or Path(name).name != name or "\0" in name:
            value.member(key).fail(f"is {name[:40]!r}, not the name of a record")
    return MadeRound(
        platform=value.one_of("platform", Platform),
        baseline=value.text("baseline"),
        candidate=value.text("candidate"),
    )


def _check_schema(value: JsonValue, keys: Mapping[str, object]) -> None:
    schema = value.mapping().get("schema")
    if schema != _SCHEMA:
        value.fail(f"schema: is {str(schema)[:20]}, and this version reads {_SCHEMA}; update it")
    value.has_keys(keys)


def _checked(path: Path, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except (RecordError, CellError) as error:
        raise StateFileError(f"{error}; move {path.name} away to begin again") from None


def _read(path: Path) -> object:
    try:
        found: object = json.loads(read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not JSON"
        raise StateFileError(f"{path}: {why}; move it away to begin again") from None
    if found is None:
        raise StateFileError(f"{path}: is null, not an object; move it away to begin again")
    return found


def _changing(folder: Path) -> AbstractContextManager[None]:
    """Return what lets nobody else change the files of a folder meanwhile."""
    return alone(folder / ".lock")


def _write(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
