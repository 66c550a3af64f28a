"""What a command says beside its answer: one line on stderr, safe to show."""

from __future__ import annotations

import sys

from matrix._util.text import clean

__all__ = ["say"]


def say(line: str) -> None:
    """Tell a person one line at once, under the command's name; it may hold text of a record."""
    print(f"matrix: {clean(line)}", file=sys.stderr, flush=True)
