"""Which records cannot count, by the rule of `matrix.verdict.precedence`, as SQL for DuckDB.

Statements that use it have the columns of `matrix.store.ingest.SUMMARY`, and the parameters that
the rule names (`$late`).
"""

from __future__ import annotations

from collections.abc import Iterable

from matrix.verdict.precedence import RUN_ORDER, Column, Evidence

CELL = "cell, platform"
"""What the competing records have in common, to partition by."""


def expression(column: Column) -> str:
    """Return the SQL of one key.

    >>> expression(Column("started", at_most="late"))
    'coalesce(started <= $late, true)'
    """
    if column.at_most is not None:
        return f"coalesce({column.name} <= ${column.at_most}, true)"
    return column.name


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
