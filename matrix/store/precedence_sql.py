"""The rule of which record counts (`matrix.verdict.precedence`), rendered as SQL for DuckDB.

Statements that use it have the columns of `matrix.store.ingest.SUMMARY`, and the parameters that
the rule names (`$late`).
"""

from __future__ import annotations

from collections.abc import Iterable

from matrix.verdict.precedence import PRECEDENCE, RUN_ORDER, TIES, Column, Evidence

CELL = "cell, platform"
"""What the competing records have in common, to partition by."""


def expression(column: Column) -> str:
    """Return the SQL of one key.

    >>> expression(Column("started", at_most="late"))
    'coalesce(started <= $late, true)'
    >>> expression(Column("evidence", unless="fault"))
    'CASE WHEN fault <> 0 THEN 0 ELSE evidence END'
    """
    key = column.name
    if column.at_most is not None:
        key = f"coalesce({key} <= ${column.at_most}, true)"
    if column.unless is not None:
        key = f"CASE WHEN {column.unless} <> 0 THEN 0 ELSE {key} END"
    return key


def last_first(keys: Iterable[Column]) -> str:
    """Return the terms of an ORDER BY that puts the last of these keys first."""
    return ", ".join(f"{expression(key)} DESC" for key in keys)


def struct(keys: Iterable[Column]) -> str:
    """Return the keys as one value that compares as they do, one by one."""
    return "row(" + ", ".join(map(expression, keys)) + ")"


ORDER = struct(RUN_ORDER)
"""What sorts the runs of a cell from old to new, as one value."""

CONTENDERS = f"""
SELECT * EXCLUDE (last_conclusive) FROM (
  SELECT *, {ORDER} AS run_order,
    max({ORDER}) FILTER (evidence = {int(Evidence.CONCLUSIVE)}) OVER (PARTITION BY {CELL})
      AS last_conclusive
  FROM rows WHERE fault IS NULL
) WHERE last_conclusive IS NULL OR run_order >= last_conclusive
"""
"""The records that no conclusive one supersedes, with their `run_order`."""

FIRST_OF_CELL = (
    f"row_number() OVER (PARTITION BY {CELL} ORDER BY {last_first((*PRECEDENCE, *TIES))}) = 1"
)
"""Whether a contender is the one that counts. The contenders have a column `fault`."""
