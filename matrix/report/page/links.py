"""Which parts of a text of the page are links: issues and pull requests upstream, and nothing else.

Pure. The page's script has the same rule, for what it shows itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

REPOSITORIES = {
    "vllm": "vllm-project/vllm",
    "pytorch": "pytorch/pytorch",
    "flashinfer": "flashinfer-ai/flashinfer",
    "triton": "triton-lang/triton",
}
"""The repositories that `vllm#38051` and the like are short for."""

_LINK = re.compile(
    r"(?P<url>https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+)"
    rf"|(?<![\w/#])(?P<name>{'|'.join(REPOSITORIES)})#(?P<number>\d+)\b",
    re.ASCII,
)


class TextPart(NamedTuple):
    """A part of a text, and where it leads; "" if it is plain."""

    text: str
    link: str = ""


def linked(text: str) -> Iterator[TextPart]:
    """Yield the text in parts: what names an issue upstream with its address, and all else.

    >>> [part.link for part in linked("see vllm#38051.")]
    ['', 'https://github.com/vllm-project/vllm/issues/38051', '']
    """
    at = 0
    for found in _LINK.finditer(text):
        if found.start() > at:
            yield TextPart(text[at : found.start()])
        yield TextPart(found[0], found["url"] or _address(found["name"], found["number"]))
        at = found.end()
    if at < len(text):
        yield TextPart(text[at:])


def _address(name: str, number: str) -> str:
    return f"https://github.com/{REPOSITORIES[name]}/issues/{number}"
