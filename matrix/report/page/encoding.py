"""How the page's data is written down: numbers as text, and each value once.

Pure. The page's script reads it back.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable

ALPHABET = "".join(chr(code) for code in range(33, 127) if chr(code) not in "\"&'<>\\")
"""The 88 characters of `coded`: none of them ends a string, or means anything to HTML."""

_ONE, _TWO = 60, 27
"""How many of the alphabet are a number by themselves, and how many begin one of two characters."""

_LEVEL = 9
"""How hard zlib tries."""

_NUMBER = re.compile(r"(?<!\w)(0|[1-9][0-9]{0,8})(?!\w)", re.ASCII)


def embedded(content: object) -> str:
    """Return JSON as letters that may stand inside a script element: deflated, in base 64.

    A page of thousands of results is so less than half as long. The same content gives the same
    letters with the same zlib.
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    # A lone surrogate, which JSON may hold, is not valid UTF-8; `clean` leaves none of them.
    return base64.b64encode(zlib.compress(text.encode(), _LEVEL)).decode()


def unembedded(text: str) -> object:
    """Return what `embedded` was given, as the page's script does.

    >>> unembedded(embedded({"a": ["</script>"]}))
    {'a': ['</script>']}
    """
    content: object = json.loads(zlib.decompress(base64.b64decode(text)))
    return content


def coded(numbers: Iterable[int]) -> str:
    """Return whole numbers from 0 up as text, most of them in one or two characters.

    The first 60 of the alphabet are themselves; the next 27 begin one of two digits; the last says
    that the number of digits follows, and then the digits, in base 88.

    >>> coded([0, 59, 60, 2435, 2436])
    '!bc!}~~#!'
    """
    found = list(numbers)
    try:
        return "".join(map(_SHORT.__getitem__, found))
    except IndexError:
        return "".join([_SHORT[number] if number < _LONG else _long(number) for number in found])


def _long(number: int) -> str:
    number -= _LONG
    digits: list[str] = []
    while number or not digits:
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return ALPHABET[-1] + ALPHABET[len(digits)] + "".join(reversed(digits))


_SHORT = (
    *ALPHABET[:_ONE],
    *(first + second for first in ALPHABET[_ONE : _ONE + _TWO] for second in ALPHABET),
)

_LONG = len(_SHORT)


class Pool:
    """Values, each held once, by their place in a list; place 0 means none."""

    def __init__(self) -> None:
        self.held: list[object] = [0]
        self.places: dict[object, int] = {}

    def place(self, key: object, value: object) -> int:
        """Return the place of the value; values with the same `key` are held once."""
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = len(self.held)
            self.held.append(value)
        return place

    def known(self, key: object) -> int:
        """Return the place of the value with this key; 0 if it is not held."""
        return self.places.get(key, 0)

    def packed(self, numbers: tuple[int, ...]) -> int:
        """Return the place of these numbers, which are held as text."""
        place = self.places.get(numbers)
        return self.place(numbers, coded(numbers)) if place is None else place


def split_numbers(line: str) -> tuple[str, list[int]]:
    r"""Return the line with a mark for each number, and the numbers: of a trace, its line numbers.

    >>> split_numbers('File "a.py", line 12, in f')
    ('File "a.py", line \x00, in f', [12])
    """
    parts = _NUMBER.split(line)
    return "\0".join(parts[::2]), [int(digits) for digits in parts[1::2]]
