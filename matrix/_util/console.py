"""What a command reports while it works, apart from its result: one line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys

from matrix._util.addresses import without_logins
from matrix._util.text import clean, shorten


def print_status(line: str) -> None:
    """Print one line to stderr at once, under the command's name; it may hold text of a record.

    What is too long to read in it is left out, and so is what may be the password of an address.
    Where stderr takes nothing, such as a log on a full disk, the line is lost and the work goes on.
    """
    with contextlib.suppress(OSError):
        print(f"matrix: {shorten(clean(without_logins(line)))}", file=sys.stderr, flush=True)


def open_streams() -> None:
    """Let what a shell closed (`>&-`) lead nowhere; no file that is opened later takes its place.

    Call it before anything is opened: a record would get what is printed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
