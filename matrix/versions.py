"""Versions, read once: the same few hundred texts are compared all over a large matrix."""

from __future__ import annotations

from functools import lru_cache

from packaging.version import InvalidVersion, Version

__all__ = ["version"]


@lru_cache(maxsize=4096)
def version(text: str) -> Version:
    """The version that the text names; raises packaging's InvalidVersion where it is none.

    >>> version("2.9.1") < version("2.10")
    True
    """
    try:
        return Version(text)
    except InvalidVersion:
        raise
    except ValueError:  # of more digits than Python reads
        raise InvalidVersion(f"Invalid version: {text[:40]!r}…") from None
