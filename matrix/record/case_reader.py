"""Read what a case and a test of upstream's have in common. Importable inside a cell."""

from collections.abc import Callable
from typing import TypeVar

from matrix._util.text import clip
from matrix.record.json_value import SHOWN, JsonValue
from matrix.record.model import FAILURE_LIMIT, REASON_LIMIT

_Case = TypeVar("_Case")


def cases_of(value: JsonValue, key: str, read: Callable[[JsonValue], _Case]) -> tuple[_Case, ...]:
    """Return the cases of a list; raises RecordError for two of one name."""
    cases: dict[str, _Case] = {}
    for item in value.items(key):
        case, name = read(item), name_of(item)
        if name in cases:
            item.fail(f"is the second case of the name {name[:SHOWN]!r}")
        cases[name] = case
    return tuple(cases.values())


def name_of(value: JsonValue) -> str:
    """Return the name of a case; raises RecordError if it is empty."""
    name = value.text("case")
    if not name:
        value.member("case").wrong("the name of a case")
    return name


def clipped(value: JsonValue, key: str) -> str | None:
    """Return at most so much of a text that every output repeats. A run never writes as much."""
    text = value.text_or_none(key)
    return text and clip(text, REASON_LIMIT)


def failure_of(value: JsonValue) -> str | None:
    """Return the end of a failure's text; raises RecordError if it is longer than a run's."""
    text = value.text_or_none("failure")
    if text is not None and len(text) > FAILURE_LIMIT:
        value.member("failure").fail(
            f"has {len(text)} characters, but at most {FAILURE_LIMIT} are kept, of its end"
        )
    return text
