"""Which records cannot count, by the rules of `matrix.verdict.precedence`, as SQL for DuckDB.

Nothing of a rule is written here: the SQL is made of `RUN_ORDER` and `SUPERSESSIONS`, which the
Python applies too. Here is only which column has a value. Statements that use it have the columns
of `matrix.store.ingest.SUMMARY`, and the parameters that the rule names (`$late`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix.verdict.precedence import RUN_ORDER, SUPERSESSIONS, Column, Minimum, Supersession

CELL = "cell, platform, builds"
"""What the competing records have in common, to partition by."""

_VALUES: Mapping[str, str] = {"is_stock": "coalesce(stock, true)::INTEGER", "evidence": "evidence"}
"""The SQL of the values of a `Contender` that tests name."""


def _expression(column: Column) -> str:
    """Return the SQL of one key.

    >>> _expression(Column("started", at_most="late"))
    'coalesce(started <= $late, true)'
    """
    if column.at_most is not None:
        return f"coalesce({column.name} <= ${column.at_most}, true)"
    return column.name


def last_first(keys: Iterable[Column]) -> str:
    """Return the terms of an ORDER BY that puts the last of these keys first."""
    return ", ".join(f"{_expression(key)} DESC" for key in keys)


def struct(keys: Iterable[Column]) -> str:
    """Return the keys as one value that compares as they do, one by one."""
    return "row(" + ", ".join(map(_expression, keys)) + ")"


ORDER = struct(RUN_ORDER)
"""What sorts the runs of a cell from old to new, as one value."""


def condition(tests: Iterable[Minimum]) -> str:
    """Return the SQL of whether a row passes all of some tests.

    >>> condition([Minimum("evidence", least=2)])
    'evidence >= 2'
    """
    return " AND ".join(f"{_VALUES[test.value]} >= {int(test.least)}" for test in tests)


def without_superseded(rows: str, supersessions: Sequence[Supersession]) -> str:
    """Return the SELECT of rows without those that others of the cell supersede.

    `rows` is a SELECT, or a table in parentheses. Each supersession is of what those before it
    leave.
    """
    for by, keeps, older in supersessions:
        if older:
            superseding, stays = f"max({ORDER}) FILTER ({condition(by)})", f"{ORDER} >= superseding"
            stays = f"superseding IS NULL OR {stays}"
        else:
            superseding = f"bool_or({condition(by)})"
            stays = f"NOT superseding OR ({condition(keeps)})"
        rows = (
            f"SELECT * EXCLUDE (superseding) FROM ("
            f"SELECT *, {superseding} OVER (PARTITION BY {CELL}) AS superseding FROM ({rows})"
            f") WHERE {stays}"
        )
    return rows


CONTENDERS = without_superseded("SELECT * FROM rows WHERE fault IS NULL", SUPERSESSIONS)
"""The records that no other one supersedes."""
