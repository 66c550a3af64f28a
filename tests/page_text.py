"""The page as a text in which its data can be read."""

from __future__ import annotations

import json
import re

from matrix.report.page.encoding import ALPHABET, unembedded

_DATA = re.compile(r'(<script type="text/plain" id="data">)([^<]*)(?=</script>)')


def data_of(page: str) -> object:
    """Return the data that stands in a page."""
    (found,) = _DATA.findall(page)
    return unembedded(found[1])


def readable(page: str) -> str:
    """Return the page with its data as JSON."""
    content = json.dumps(data_of(page), separators=(",", ":"), ensure_ascii=False)
    return _DATA.sub(lambda found: found[1] + content, page)


def decoded(text: str) -> list[int]:
    """Return what `coded` wrote, as the page's script reads it."""
    digits, found, place = ALPHABET, [], 0
    while place < len(text):
        digit = digits.index(text[place])
        place += 1
        if digit < 60:
            found.append(digit)
        elif digit < 87:
            found.append(60 + (digit - 60) * 88 + digits.index(text[place]))
            place += 1
        else:
            length, number = digits.index(text[place]), 0
            for item in text[place + 1 : place + 1 + length]:
                number = number * 88 + digits.index(item)
            found.append(60 + 27 * 88 + number)
            place += 1 + length
    return found
