"""Items by a key of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


def group(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> Mapping[_Key, list[_Item]]:
    """Return the items by their key, in the order of the first item of each key.

    >>> group(["torch", "vllm", "triton"], lambda name: name[0])
    {'t': ['torch', 'triton'], 'v': ['vllm']}
    """
    found: dict[_Key, list[_Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
