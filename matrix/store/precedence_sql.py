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

IS_STOCK = "coalesce(stock, true)"
"""Whether no package is known to depart from what the vLLM requires: `Contender.is_stock`."""

CONTENDERS = f"""
SELECT * EXCLUDE (last_conclusive) FROM (
  SELECT * EXCLUDE (stock_answers), {ORDER} AS run_order,
    max({ORDER}) FILTER (evidence = {int(Evidence.CONCLUSIVE)}) OVER (PARTITION BY {CELL})
      AS last_conclusive
  FROM (
    SELECT *,
      bool_or({IS_STOCK} AND evidence > {int(Evidence.NOTHING)}) OVER (PARTITION BY {CELL})
        AS stock_answers
    FROM rows WHERE fault IS NULL
  ) WHERE {IS_STOCK} OR NOT stock_answers
) WHERE last_conclusive IS NULL OR run_order >= last_conclusive
"""
"""The records of stock environments, or of others where none of those has an answer, that no
conclusive one supersedes, with their `run_order`."""
