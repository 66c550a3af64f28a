"""What a command reports while it works, apart from its result: one line on stderr."""

from __future__ import annotations

import sys

from matrix._util.addresses import without_logins
from matrix._util.text import clean, shorten


def print_status(line: str) -> None:
    """Print one line to stderr at once, under the command's name; it may hold text of a record.

    What is too long to read in it is left out, and so is what may be the password of an address.
    """
    print(f"matrix: {shorten(clean(without_logins(line)))}", file=sys.stderr, flush=True)
