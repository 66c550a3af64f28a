"""Messages in lines of logrus and slog, as programs in Go write them: `time="..." msg="..."`."""

from __future__ import annotations

import re

_QUOTED = r"(?:[^\"\\\n]|\\.)*"
# Its fields are sorted, and follow the message; one may say why.
_LINE = re.compile(
    r"(?m)\btime=(?:\"[^\"\n]{1,60}\"|[\d:.TZ+-]{10,60}) level=[A-Za-z]{4,9}"
    r"(?: source=\S{1,120})? msg="
    rf"(?:\"(?P<quoted>{_QUOTED})(?:\"(?= |$)(?P<fields>.*))?|(?P<plain>[^\"\s]\S*)(?P<more> .*)?)$"
)
_ERROR = re.compile(rf" err(?:or)?=(?:\"(?P<quoted>{_QUOTED})\"|(?P<plain>[^\"\s]\S*))")
_ESCAPED = re.compile(r"\\(?:x(?P<byte>[0-9a-f]{2})|(?P<mark>.))")
_MARKS = {"n": "\n", "t": "\t", "r": "\r"}


def without_logrus(text: str) -> str:
    r"""Return the text with the message, and the error, alone of each line of logrus.

    >>> without_logrus('time="2026-11-28T12:00:00Z" level=error msg="a \\"b\\"" component=vllm')
    'a "b"'
    """
    if "level=" not in text:
        return text
    return _LINE.sub(_message, "\n".join(text.splitlines()))  # a terminal's end of a line is \r


def _message(found: re.Match[str]) -> str:
    parts = [_plain(found)]
    if error := _ERROR.search(found["fields"] or found["more"] or ""):
        parts.append(_plain(error))
    return "\n".join(parts)


def _plain(found: re.Match[str]) -> str:
    if found["quoted"] is None:
        return found["plain"]
    return _ESCAPED.sub(_unescaped, found["quoted"])


def _unescaped(found: re.Match[str]) -> str:
    if found["byte"]:
        return chr(int(found["byte"], 16))
    return _MARKS.get(found["mark"], found["mark"])
