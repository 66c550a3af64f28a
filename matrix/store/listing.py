"""Lists of records: filters, and what a list shows of each record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from matrix._util.versions import chosen_specifier
from matrix.record.model import Platform
from matrix.rules.expectations import Expectations
from matrix.rules.provisional import Provisional
from matrix.store.query import History, KeyVerdict
from matrix.verdict.states import Verdict


@dataclass(frozen=True, kw_only=True)
class RecordFilter:
    """The filters of a list of records; None is no filter.

    `cells` and `cases` are shell patterns on names (a `[` in them stands for itself); `since` and
    `until` are days or times in UTC, `until` a day includes it. Releases are specifiers' texts,
    as `matrix plan` takes them.
    """

    cell: str | None = None
    torch: str | None = None
    vllm: str | None = None
    python: str | None = None
    platform: Platform | None = None
    verdict: Verdict | None = None
    since: str | None = None
    until: str | None = None
    case: str | None = None


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One record of a list. `paths` are all the files that hold it, the shown one first.

    All but the verdict is as the row has it, which an index or an archive may hold wrongly.
    """

    paths: tuple[str, ...]
    cell: str
    platform: str
    started: str
    torch: str
    vllm: str
    python: str
    verdict: Verdict
    complete: bool
    error: str | None
    cases: int
    deselected: int
    total_cases: int
    passed: int
    not_applicable: int
    seconds: float | None
    stock: bool | None
    content: str
    packed: bool
    provisional: Provisional | None = None
    """How it compares with the nearest expectations, where the verdict is provisional."""
    running: bool = False
    """Whether its run continues."""


def find(
    history: History,
    wanted: RecordFilter,
    expectations: Expectations,
    known: Mapping[str, Sequence[str]],
) -> list[Listed]:
    """Return the records that pass the filter, newest first; the same record in two files once.

    `known` are the releases of torch and of vLLM, of which a minor release means the newest patch.
    Raises MatrixError for a filter that means nothing.
    """
    where, values = _where(wanted)
    for column, text in (
        ("torch", wanted.torch),
        ("vllm", wanted.vllm),
        ("python", wanted.python),
    ):
        if text is not None:
            where.append(f"{column} IN (SELECT unnest($of_{column}))")
            values[f"of_{column}"] = _matching(history, column, text, known.get(column, ()))
    verdicts = history.verdicts(expectations, " AND ".join(where), values)
    if wanted.verdict is not None:
        where.append(
            "CASE WHEN running THEN $verdict = $untested"
            " ELSE verdict_key IN (SELECT unnest($of_verdict)) END"
        )
        values["of_verdict"] = [
            key for key, judged in verdicts.items() if judged.verdict == wanted.verdict
        ]
        values["verdict"], values["untested"] = str(wanted.verdict), str(Verdict.UNTESTED)
    cursor = history.rows.execute(
        f"""
        SELECT list(path ORDER BY string_split(path, '/')[-1] DESC, path) AS paths,
          any_value(cell) AS cell, any_value(platform) AS platform,
          any_value(started) AS started, any_value(torch) AS torch, any_value(vllm) AS vllm,
          any_value(python) AS python, any_value(verdict_key) AS verdict_key,
          any_value(complete) AS complete, any_value(error) AS error,
          any_value(len(cases)) AS cases, any_value(deselected) AS deselected,
          any_value(total_cases) AS total_cases,
          any_value(len(list_filter(cases, lambda x: x.outcome = 'passed'))) AS passed,
          any_value(len(list_filter(cases, lambda x: x.outcome = 'not_applicable')))
            AS not_applicable,
          any_value(seconds) AS seconds, any_value(stock) AS stock, content,
          bool_and(source IS NOT NULL) AS packed, bool_and(running) AS running
        FROM (
          SELECT *, false AS running FROM rows UNION ALL SELECT *, true FROM running
        )
        WHERE {" AND ".join(where)} GROUP BY content
        ORDER BY any_value(started) DESC, any_value(cell), any_value(platform), content
        """,
        values,
    )
    names = [column[0] for column in cursor.description]
    return [_listed(dict(zip(names, row, strict=True)), verdicts) for row in cursor.fetchall()]


def _matching(history: History, column: str, text: str, known: Sequence[str]) -> list[str]:
    wanted = chosen_specifier(text, known, f"--{column}")
    # `column` is one of three names of this module, never a person's.
    found = history.rows.execute(
        f"SELECT {column} FROM rows WHERE fault IS NULL UNION SELECT {column} FROM running"
    )
    held = []
    for (version,) in found.fetchall():
        with contextlib.suppress(InvalidVersion):
            if wanted.contains(Version(Version(version).public), prereleases=True):
                held.append(version)
    return held


def _listed(columns: Mapping[str, Any], verdicts: Mapping[str, KeyVerdict]) -> Listed:
    """Return a row of a list, from the columns by their names."""
    rest = {name: value for name, value in columns.items() if name not in ("paths", "verdict_key")}
    running = columns["running"]
    judged = KeyVerdict(Verdict.UNTESTED) if running else verdicts[columns["verdict_key"]]
    return Listed(paths=tuple(columns["paths"]), **judged._asdict(), **rest)


def _where(wanted: RecordFilter) -> tuple[list[str], dict[str, object]]:
    """Return SQL conditions of fixed text, and the values of their parameters."""
    where, values = ["fault IS NULL"], dict[str, object]()
    conditions: dict[str, tuple[str, Callable[[str], str]]] = {
        "cell": ("cell GLOB $cell", _glob),
        "platform": ("platform = $platform", str),
        "since": ("started >= $since", _since),
        "until": ("started <= $until", _until),
        "case": ('len(list_filter(cases, lambda x: x."case" GLOB $case)) > 0', _glob),
    }
    for key, (condition, convert) in conditions.items():
        value = getattr(wanted, key)
        if value is not None:
            where.append(condition)
            values[key] = convert(value)
    return where, values


def _glob(pattern: str) -> str:
    """Escape `[` in a pattern, since cases have it in their names."""
    return pattern.replace("[", "[[]")


def _since(text: str) -> str:
    return text if "T" in text else f"{text}T00:00:00Z"


def _until(text: str) -> str:
    return text if "T" in text else f"{text}T23:59:59Z"
