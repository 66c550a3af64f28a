"""JSON in lines that a person can compare: an object of a long list is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

LineShape: TypeAlias = "Mapping[str, LineShape] | list[LineShape] | None"
"""What is broken into lines: an object has one for each key, a list one for each item."""

# `json.dumps` makes an encoder of its own for each of the thousands of lines.
_encoded = json.JSONEncoder(sort_keys=True).encode


def in_lines(content: Mapping[str, object], lines: LineShape) -> str:
    """Return JSON, always ASCII, with the lines that `lines` asks for.

    Python breaks no more lines than it must, which is slow.
    """
    return _broken(content, lines, "\n") + "\n"


def _broken(value: object, lines: LineShape, margin: str) -> str:
    """Return JSON with the lines that `lines` asks for, each after the margin."""
    if lines is None or not value:
        return _encoded(value)
    inner = f"{margin} "
    if isinstance(value, list) and isinstance(lines, list):
        below = lines[0] if lines else None
        items = [_broken(item, below, inner) for item in value]
        first, last = "[]"
    else:
        assert isinstance(value, dict) and isinstance(lines, Mapping)
        items = [
            f"{_encoded(key)}: {_broken(value[key], lines.get(key), inner)}"
            for key in sorted(value)
        ]
        first, last = "{}"
    return first + inner + f",{inner}".join(items) + margin + last
