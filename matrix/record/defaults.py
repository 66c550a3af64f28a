"""The defaults of torch's configs in two records: which of them changed.

Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from matrix.record.model import Defaults, DefaultValue


class DefaultChange(NamedTuple):
    """A default of one of torch's configs that both sides have, with another value."""

    config: str
    name: str
    before: DefaultValue
    after: DefaultValue


class DefaultsCompared(NamedTuple):
    """The defaults that changed, and how many names one side alone has."""

    changed: tuple[DefaultChange, ...]
    added: int
    removed: int


def compare_defaults(before: Defaults | None, after: Defaults | None) -> DefaultsCompared | None:
    """Return how the defaults changed; None if a side does not know its own.

    A config that one side does not know is left out.
    """
    if before is None or after is None:
        return None
    changed: list[DefaultChange] = []
    added = removed = 0
    for config in sorted(before.keys() & after.keys()):
        old, new = before[config], after[config]
        added += len(new.keys() - old.keys())
        removed += len(old.keys() - new.keys())
        changed += (
            DefaultChange(config=config, name=name, before=old[name], after=new[name])
            for name in sorted(old.keys() & new.keys())
            if not _equal(old[name], new[name])
        )
    return DefaultsCompared(changed=tuple(changed), added=added, removed=removed)


def _equal(one: object, other: object) -> bool:
    """Return whether two values are the same; true is not 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
