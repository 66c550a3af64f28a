"""Read a text of any size as a stream, and keep the excerpts that may show a known fault.

Pure. A search for fixed bytes decides what is looked at: a log of 100 MB takes a second or two, and
what is kept has a limit (`MOST_EXCERPTS`, `BEFORE`, `AFTER`), whatever the text holds. A terminal's
escapes are left out.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

BEFORE = 16 << 10
"""Bytes before a mark that belong to its excerpt: a traceback with its heads."""
AFTER = 8 << 10
"""Bytes after a mark that belong to its excerpt."""
MOST_EXCERPTS = 32
"""How many excerpts with different facts are kept."""
HEAD = 128 << 10
"""Bytes from the start of a text that are kept: versions stand there."""
TAIL = 64 << 10
"""Bytes from the end of a text that are kept: its last error."""

_LINE = 4 << 10  # of a longer line only so much around the mark is read
_MOST_HITS = 20_000  # of one mark; each costs a look at its line
_TRACEBACK = b"Traceback (most recent call last)"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
# What no text has; a terminal's own marks are escapes, tabs, line ends, bells and backspaces.
_BINARY = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
# What a terminal acts on and does not show: colours, and links with their address.
_ESCAPE = re.compile(
    rb"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b\n]{0,2048}(?:\x07|\x1b\\)"
)
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|\][^\x07\x1b\n]{0,2048}\x1b?)?\Z")
_LONGEST_ESCAPE = 2100
_Key = TypeVar("_Key")


@dataclass(frozen=True, kw_only=True)
class Excerpt(Generic[_Key]):
    """A line that shows a fault, what was read in it, and the lines around it."""

    line: str
    found: _Key
    text: str


@dataclass(frozen=True, kw_only=True)
class Scanned(Generic[_Key]):
    """The kept parts of a text: excerpts in order, its begin and end, its last traceback.

    `more` counts the excerpts that were not kept. `size` is in bytes. `binary`: it is not text.
    """

    excerpts: tuple[Excerpt[_Key], ...]
    head: str
    tail: str
    traceback: str
    size: int
    more: int = 0
    binary: bool = False

    @property
    def whole(self) -> bool:
        """Tell whether `head` is all of the text."""
        return self.size <= HEAD


Reader = Callable[[str, str], _Key | None]
"""Returns what a line shows, by it and the text after it; None for nothing. Equal ones are one."""


@dataclass(kw_only=True)
class _Kept(Generic[_Key]):
    """The parts kept so far; `ends` is the position in the text of each mark."""

    excerpts: dict[_Key, tuple[int, Excerpt[_Key]]] = field(default_factory=dict)
    hits: dict[bytes, int] = field(default_factory=dict)
    ends: dict[bytes, int] = field(default_factory=dict)
    more: int = 0
    traceback: bytes = b""
    head: bytes = b""


def scan(chunks: Iterable[bytes], marks: Iterable[tuple[bytes, Reader[_Key]]]) -> Scanned[_Key]:
    """Return what is to be kept of a text that comes in chunks of bytes.

    `marks` are the bytes that a line must have, each with the function that reads the line then.
    """
    every = tuple(marks)
    kept: _Kept[_Key] = _Kept()
    data, start, offset, size, odd, looked = b"", 0, 0, 0, 0, 0
    for chunk, last in _with_last(_without_escapes(_utf8(chunks))):
        size += len(chunk)
        if len(kept.head) < HEAD:
            part = chunk[: HEAD - len(kept.head)]
            odd, looked = odd + len(_BINARY.findall(part)), looked + len(part)
            kept.head += part
        data += chunk
        # What follows a mark may come with the next chunk.
        end = len(data) if last else max(start, len(data) - AFTER)
        for mark, reader in every:
            _look(data, (start, end, offset), mark, reader, kept)
        if (place := data.rfind(_TRACEBACK, start, end)) >= 0:
            kept.traceback = _around(data, place)
        if not last:
            cut = max(0, min(end - BEFORE, len(data) - TAIL))
            data, start, offset = data[cut:], end - cut, offset + cut
    ordered = sorted(kept.excerpts.values(), key=lambda placed: placed[0])
    return Scanned(
        excerpts=tuple(excerpt for _, excerpt in ordered),
        head=_text(kept.head),
        tail=_text(data[-TAIL:]),
        traceback=_text(kept.traceback),
        size=size,
        more=kept.more,
        binary=odd * 20 > looked,
    )


def _look(
    data: bytes,
    span: tuple[int, int, int],
    mark: bytes,
    reader: Reader[_Key],
    kept: _Kept[_Key],
) -> None:
    """Keep an excerpt for each new thing that lines with this mark show."""
    start, end, offset = span
    seen: set[bytes] = set()
    # A mark may begin before the end of what is searched and go on behind it.
    while (place := data.find(mark, start, end + len(mark) - 1)) >= 0 and place < end:
        # A line may have the mark twice: a log as JSON.
        line, stop = _line(data, place, kept.ends.get(mark, 0) - offset)
        start = place + len(mark)
        kept.ends[mark] = offset + start
        kept.hits[mark] = kept.hits.get(mark, 0) + 1
        if kept.hits[mark] > _MOST_HITS:
            return
        if line in seen:
            continue
        seen.add(line)
        text = _text(line)
        found = reader(text, _text(data[stop : stop + AFTER]))
        if found is None or found in kept.excerpts:
            continue
        if len(kept.excerpts) >= MOST_EXCERPTS:
            kept.more += 1
            continue
        around = _text(_around(data, place))
        kept.excerpts[found] = offset + place, Excerpt(line=text, found=found, text=around)


def _line(data: bytes, place: int, least: int) -> tuple[bytes, int]:
    """Return the line of a place, or the part of a long one around it, and where it ends.

    Of a line that was read up to the place `least` before, what follows is returned.
    """
    begin = data.rfind(b"\n", max(0, place - _LINE), place) + 1 or max(0, place - _LINE)
    begin = max(begin, min(least, place))
    end = data.find(b"\n", place, place + _LINE)
    end = min(len(data), place + _LINE) if end < 0 else end
    return data[begin:end], end


def _around(data: bytes, place: int) -> bytes:
    """Return whole lines around a place."""
    begin = max(0, place - BEFORE)
    if begin:
        begin = data.find(b"\n", begin, place) + 1 or begin
    end = min(len(data), place + AFTER)
    if end < len(data):
        end = data.rfind(b"\n", place, end) + 1 or end
    return data[begin:end]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _with_last(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each chunk, and whether it is the last; one that is empty for an empty text."""
    before = b""
    for chunk in chunks:
        yield before, False
        before = chunk
    yield before, True


def _without_escapes(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks without a terminal's escapes, which may stand within what is looked for."""
    begun = b""
    for chunk in chunks:
        data = begun + chunk
        found = _BEGUN.search(data, max(0, len(data) - _LONGEST_ESCAPE))
        end = found.start() if found else len(data)
        begun = data[end:]
        yield _ESCAPE.sub(b"", data[:end])
    yield begun


def _utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks as UTF-8, also where the text is UTF-16, as PowerShell writes it."""
    decoder: codecs.IncrementalDecoder | None = None
    first = b""
    decided = False
    for chunk in chunks:
        if not decided:
            first += chunk
            if len(first) < 4:
                continue
            chunk, decided = first, True  # noqa: PLW2901 - the first bytes decide, and are text too
            if encoding := _utf16(chunk):
                decoder = codecs.getincrementaldecoder(encoding)("replace")
        yield chunk if decoder is None else _again(decoder.decode(chunk))
    if not decided:
        yield first
    elif decoder is not None:
        yield _again(decoder.decode(b"", final=True))


def _utf16(begin: bytes) -> str | None:
    """Return the encoding of a text whose bytes begin so; None for UTF-8 and all else."""
    if found := _UTF16.get(begin[:2]):
        return found
    sample = begin[:4096]
    half = len(sample) // 2
    for name, odd, even in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        if half > 8 and sample[odd::2].count(0) * 10 > half * 9 and not sample[even::2].count(0):
            return name
    return None


def _again(text: str) -> bytes:
    return text.encode("utf-8", "replace")
