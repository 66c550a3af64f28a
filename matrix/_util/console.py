"""The streams of a command: status lines, one that is closed, a reader who leaves early."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

from matrix._util.addresses import without_logins
from matrix._util.text import clean, shorten

LEAST_WIDTH = 20
"""The columns in which output is shown at least, however narrow the terminal is."""

_EVERY = 8.0  # seconds
_TERMINAL_WIDTH = 80  # of one that does not say how wide it is
_PIPE_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """How output is shown: in colour or not, and in how many columns; None if all fits."""

    colour: bool = False
    width: int | None = None


def terminal_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Terminal:
    """Return how what is written to a stream is shown.

    In colour on a terminal only, unless NO_COLOR forbids or FORCE_COLOR demands it (empty ones do
    not count). COLUMNS names the width. Without it a terminal says how wide it is, and a pipe or a
    file has no width.
    """
    is_terminal = stream.isatty()
    colour = is_terminal and environ.get("TERM") != "dumb"
    if environ.get("FORCE_COLOR"):
        colour = True
    if environ.get("NO_COLOR"):
        colour = False
    return Terminal(colour=colour, width=_width(stream, environ, is_terminal=is_terminal))


def report_width(stream: TextIO, environ: Mapping[str, str] = os.environ) -> int:
    """Return in how many columns a report is written to a stream.

    Those of a terminal; of a pipe or a file, COLUMNS where it is set, else 100.
    """
    return terminal_of(stream, environ).width or _PIPE_WIDTH


def _width(stream: TextIO, environ: Mapping[str, str], *, is_terminal: bool) -> int | None:
    width = _named_width(environ)
    if not width and not is_terminal:
        return None
    if not width:
        with contextlib.suppress(OSError, ValueError):
            width = os.get_terminal_size(stream.fileno()).columns
    return max(width or _TERMINAL_WIDTH, LEAST_WIDTH)


def _named_width(environ: Mapping[str, str]) -> int:
    """Return the columns that COLUMNS names, else 0."""
    named = environ.get("COLUMNS", "")
    return int(named) if named.isascii() and named.isdigit() and len(named) < 6 else 0


def print_status(line: str, program: str = "matrix") -> None:
    """Print one line to stderr at once, under the program's name; it may hold text of a record.

    What is too long to read in it is left out, and so is what may be the password of an address.
    Where stderr takes nothing, such as a log on a full disk, the line is lost and the work
    continues.
    """
    with contextlib.suppress(OSError):
        print(f"{program}: {shorten(clean(without_logins(line)))}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def spoken(words: str) -> Iterator[None]:
    """Print a line after each eight seconds of the block: the words, and the seconds so far.

    Nobody waits for more than ten seconds without a line.
    """
    over, began = threading.Event(), time.monotonic()

    def speak() -> None:
        while not over.wait(_EVERY):
            print_status(f"{words}, {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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


class _Patient(io.TextIOWrapper):
    """An output whose reader may leave early (`| head`, a terminal): the rest goes nowhere.

    So the command comes to its end, and its exit status is that of the whole answer.
    """

    def write(self, text: str) -> int:
        """Write the text, as far as somebody reads it."""
        try:
            return super().write(text)
        except OSError as error:
            self._leave(error)
            return len(text)

    def flush(self) -> None:
        """Write what is held back, as far as somebody reads it."""
        try:
            super().flush()
        except OSError as error:
            self._leave(error)

    def _leave(self, error: OSError) -> None:
        """Write to nowhere from now on; raises the error where it is another one."""
        of_terminal = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
        if not (isinstance(error, BrokenPipeError) or of_terminal):
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def patient(stream: TextIO) -> TextIO:
    """Return an output of this process that does not mind a reader who leaves."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, errors = stream.encoding, stream.errors
    lines, through = stream.line_buffering, stream.write_through
    return _Patient(
        stream.detach(),
        encoding=encoding,
        errors=errors,
        line_buffering=lines,
        write_through=through,
    )
