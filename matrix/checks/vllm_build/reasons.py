"""Why a build of vLLM failed: its own error, out of all that it printed. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from matrix._util.text import clean, clip

_REASON = 300
# The names of errors that Python prints last, and what tools print.
_ERROR = re.compile(r"(?:[\w.]*(?:Error|Exception)|error|fatal error)\b\s*:?\s*(?P<text>.*)")
_OF_UV = re.compile(r"^[\s\u00d7\u2500-\u25ff]*")
# uv begins its own report, which says less than the build, with `error:`.
_OF_UV_ALONE = re.compile(r"(?:error|Failed)\b.*(?:build|backend)")
# How uv says that the build itself ended, such as by a signal, without a word of why.
_ENDED = re.compile(r"(?:cause: |Caused by: )?(?P<text>Call to `[^`]+` failed \(.+\))")
# `x.cu(12): error: ...`, `x.cpp:12:3: fatal error: ...`, `nvcc fatal   : ...`, git, ninja, ld.
_OF_COMPILERS = re.compile(
    r"\S+?(?:\(\d+\)|:\d+(?::\d+)?): (?:catastrophic |fatal )?error\b"
    r"|(?:\S*(?:nvcc|cicc|ptxas|cudafe\+\+|ninja|cc1plus|c\+\+|g\+\+|gcc|clang|ld)\S*)\s+"
    r"(?:fatal|error)\s*:"
    r"|\S*(?:c\+\+|g\+\+|gcc|clang|collect2|ninja|ld): (?:fatal )?error: "
    r"|\S*ld(?:\.\w+)?: (?:cannot find|undefined reference)"
    r"|fatal: "
)
_OF_CMAKE = re.compile(
    r"CMake Error(?: at (?:\S*/)?(?P<place>[\w.-]+:\d+))?(?: \([^)]*\))?:\s*(?P<text>.*)"
)
_CMAKE_LINES = 6  # in which CMake breaks its text
# What says only that something before it failed.
_ECHO = re.compile(r"(?:subprocess\.)?CalledProcessError: Command|ninja: build stopped")


def reason_of(output: str, *, compiled: bool = False) -> str | None:
    r"""Return the error of a build in one line; None if it printed none.

    That is the last one, or where a compiler ran the first one of the compiler, since what follows
    it comes of it.

    >>> reason_of("running bdist_wheel\nModuleNotFoundError: No module named 'torch'\n")
    "ModuleNotFoundError: No module named 'torch'"
    >>> reason_of("[1/9] x\na.cu(3): error: no b\nCalledProcessError: Command c", compiled=True)
    'a.cu(3): error: no b'
    """
    lines = [clean(_OF_UV.sub("", line)) for line in output.splitlines()]
    if compiled and (found := _of_tools(lines)) is not None:
        return clip(found, _REASON)
    errors = [line for line in lines if (error := _ERROR.match(line)) and error["text"]]
    own = [line for line in errors if not _OF_UV_ALONE.match(line)]
    telling = [line for line in own if not _ECHO.match(line)] if compiled else own
    ended = [match["text"] for match in map(_ENDED.fullmatch, lines) if match]
    chosen = telling or own or ended or errors
    return clip(chosen[-1], _REASON) if chosen else None


def _of_tools(lines: Sequence[str]) -> str | None:
    """Return the first error of a compiler, of git or of CMake; None without one."""
    for place, line in enumerate(lines):
        if _OF_COMPILERS.match(line):
            return line
        if found := _OF_CMAKE.match(line):
            text = found["text"] or _text_below(lines[place + 1 :])
            there = f" at {found['place']}" if found["place"] else ""
            return f"CMake Error{there}: {text}"
    return None


def _text_below(lines: Sequence[str]) -> str:
    """Return the text that CMake writes below the place of an error, up to an empty line."""
    found = list(itertools.dropwhile(lambda line: not line, lines[: _CMAKE_LINES + 2]))
    text = itertools.takewhile(lambda line: line and not line.startswith("Call Stack"), found)
    return " ".join(itertools.islice(text, _CMAKE_LINES))
