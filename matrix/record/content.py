"""The digest of what a record says, whatever the name and the layout of its file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from matrix.record.model import LEFT_OUT


def content_hash(value: object) -> str:
    """Return the SHA-256 of a value made of JSON's types and dataclasses, as hex.

    The order of keys makes no difference.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: object) -> dict[str, object]:
    """Return a mapping or dataclass as a dict, without what is None if a record leaves it out.

    Raises TypeError for any other value: JSON has no form for it.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value):
        named = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            name: member for name, member in named if member is not None or name not in LEFT_OUT
        }
    raise TypeError(f"{type(value).__name__} is not JSON")
