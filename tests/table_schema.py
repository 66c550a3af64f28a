"""The schema of results/compatibility.json, for tests that make many tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from matrix._util.paths import DATA

SCHEMA = json.loads((DATA / "table.schema.json").read_text(encoding="utf-8"))
_VALIDATOR = Draft202012Validator(SCHEMA)


def validate(table: Mapping[str, Any]) -> None:
    """Raise where a table breaks its schema.

    Of the squares of the grid those with a run, and a tenth of the others, which are all alike:
    tests/commands/test_aggregate.py holds every square of a table against the schema.
    """
    squares = table["grid"]["squares"]
    ran = [square for square in squares if any(row["ran"] for row in square["results"])]
    grid = {**table["grid"], "squares": [*ran, *squares[::10]]}
    _VALIDATOR.validate({**table, "grid": grid})
