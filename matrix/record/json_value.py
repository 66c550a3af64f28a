"""Values of decoded JSON that know the way to them: each fault names its file and its key."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NoReturn, TypeGuard, TypeVar, cast

from matrix._util.enums import StrEnum
from matrix.record.model import RecordError

NAME_RECORD = "name a record, the JSON file that a run of a cell wrote"
"""What to do about a file that is none."""
SHOWN = 80
"""The most characters of a key that a message shows."""
_LARGEST = 2**63 - 1
_NUMBERS: frozenset[type] = frozenset({int, float})
_PLAIN: frozenset[type] = frozenset({bool, int, str, type(None)})
TEXTS: frozenset[type] = frozenset({str})
"""The types whose every value is a string."""
_MOST_SECONDS = 1e12
SECONDS = "seconds (a number from 0 up, below 1e12)"

_Item = TypeVar("_Item")
_Member = TypeVar("_Member", bound=StrEnum)


def decode(text: str, name: str) -> "JsonValue":
    """Return the JSON that `text` holds. Raises RecordError, which calls the text `name`."""
    if not text.strip():
        raise RecordError(f"{name}: not a record: the file is empty; run the cell again")

    def constant(literal: str) -> NoReturn:
        raise RecordError(f"{name}: not a record: {literal} is not a finite number")

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            raise RecordError(f"{name}: not a record: the key {twice[:SHOWN]!r} stands there twice")
        return found

    # A run writes an object: what begins otherwise was never a record.
    fix = "run the cell again" if text.lstrip().startswith("{") else NAME_RECORD
    try:
        data: object = json.loads(text, object_pairs_hook=mapping, parse_constant=constant)
    except json.JSONDecodeError as error:
        whole = text.strip()
        cut = whole.startswith("{") and (not whole.endswith("}") or error.pos >= len(text.rstrip()))
        what = "truncated" if cut else "not JSON"
        raise RecordError(
            f"{name}: not a record: {what} at line {error.lineno}, column {error.colno}"
            f" ({error.msg}); {fix}"
        ) from None
    except (ValueError, RecursionError):
        raise RecordError(f"{name}: not a record: its JSON is too deep or too large") from None
    return JsonValue(name, data)


class JsonValue:
    """A value in the decoded JSON and the way to it, so that each fault names its file and key.

    The methods that take a key look at the member of that name, which this object must have.
    """

    __slots__ = ("_parent", "_step", "data", "name")

    def __init__(
        self, name: str, data: object, parent: "JsonValue | None" = None, step: str | int = ""
    ) -> None:
        self.data: Any = data
        self.name, self._parent, self._step = name, parent, step

    @property
    def key(self) -> str:
        """The way here, such as `cases[0].seconds`; "" for the record itself."""
        if self._parent is None:
            return ""
        above = self._parent.key
        if isinstance(self._step, int):
            return f"{above}[{self._step}]"
        step = self._step[:SHOWN]
        shown = step if step and step.isprintable() else repr(step)
        return f"{above}.{shown}" if above else shown

    def member(self, key: str) -> "JsonValue":
        """Return the member of that name with its way."""
        return JsonValue(self.name, self.data[key], self, key)

    def fail(self, fault: str) -> NoReturn:
        """Raise RecordError for this value."""
        where = f"{self.key}: " if self.key else ""
        raise RecordError(f"{self.name}: {where}{fault}")

    def wrong(self, wanted: str) -> NoReturn:
        """Raise RecordError, which shows this value and names what is wanted instead."""
        if _is_endless(self.data):
            self.fail("is not a finite number")
        try:
            shown = json.dumps(self.data)
        except RecursionError:
            self.fail(f"is nested too deep, but must be {wanted}")
        self.fail(f"is {shown if len(shown) <= 60 else shown[:60] + '…'}, but must be {wanted}")

    def mapping(self) -> dict[str, Any]:
        """Return this value, which must be an object."""
        if not isinstance(self.data, dict):
            self.wrong("an object")
        return self.data

    def has_keys(self, known: Mapping[str, object], optional: Collection[str] = ()) -> None:
        """Fail unless this is an object of these keys; the optional ones may be missing."""
        members = self.mapping()
        if members.keys() == known.keys():
            return
        for key in known:
            if key not in members and key not in optional:
                self.fail(f"has no key {key!r}")
        for key in members:
            if key not in known:
                self.fail(f"has an unknown key {key[:SHOWN]!r}; known are {', '.join(known)}")

    def values(
        self,
        key: str,
        fits: Callable[[object], TypeGuard[_Item]],
        wanted: str,
        *,
        sure: Collection[type] = (),
    ) -> dict[str, _Item]:
        """Return the object there, each value of which must fit.

        Every value of the types `sure` fits, and is not looked at one by one.
        """
        found = self.data[key]
        if not isinstance(found, dict):
            self.member(key).wrong("an object")
        some = [value for value in found.values() if type(value) not in sure]
        if not all(map(fits, some)):
            bad = next(name for name, value in found.items() if not fits(value))
            self.member(key).member(bad).wrong(wanted)
        return found

    def items(self, key: str) -> "Iterator[JsonValue]":
        """Return the items of the list there, with their ways."""
        found = self.data[key]
        if not isinstance(found, list):
            self.member(key).wrong("a list")
        parent = self.member(key)
        return (JsonValue(self.name, item, parent, index) for index, item in enumerate(found))

    def fitting(self, key: str, fits: Callable[[object], TypeGuard[_Item]], wanted: str) -> _Item:
        """Return the value there, which must fit."""
        found: object = self.data[key]
        if not fits(found):
            self.member(key).wrong(wanted)
        return found

    def text(self, key: str) -> str:
        """Return the string there."""
        return self.fitting(key, is_text, "a string")

    def whole_text(self) -> str:
        """Return this value, which must be a string."""
        if not is_text(self.data):
            self.wrong("a string")
        return self.data

    def text_or_none(self, key: str) -> str | None:
        """Return the string there, or None for null."""
        return None if self.data[key] is None else self.text(key)

    def one_of(self, key: str, known: type[_Member]) -> _Member:
        """Return the member of the enum whose value is there."""
        try:
            return known(self.data[key])
        except ValueError:
            self.member(key).wrong(f"one of {', '.join(known)}")

    def boolean(self, key: str) -> bool:
        """Return the true or false there."""
        return self.fitting(key, _is_boolean, "true or false")

    def count(self, key: str, least: int = 0) -> int:
        """Return the count there, at least `least`."""
        found: object = self.data[key]
        if not is_count(found) or found < least:
            self.member(key).wrong(count_from(least))
        return found

    def counts(self, key: str) -> dict[str, int]:
        """Return the object of counts there."""
        found = self.data[key]
        if isinstance(found, dict) and are_counts(found.values()):
            return found
        return self.values(key, is_count, count_from(0))

    def all_seconds(self, key: str) -> dict[str, float]:
        """Return the object of seconds there."""
        found = self.data[key]
        if isinstance(found, dict) and found and _NUMBERS.issuperset(map(type, found.values())):
            numbers = found.values()
            if min(numbers) >= 0 and max(numbers) < _MOST_SECONDS:
                return found
        return self.values(key, _are_seconds, SECONDS)

    def seconds(self, key: str) -> float:
        """Return the seconds there."""
        return float(self.fitting(key, _are_seconds, SECONDS))

    def scalars(self, key: str) -> dict[str, object]:
        """Return the object of plain values there."""
        wanted = "true, false, a number, a string or null"
        return self.values(key, is_plain, wanted, sure=_PLAIN)


def count_from(least: int) -> str:
    """Name a count in a message."""
    return f"a count (an integer from {least} up, of 64 bits)"


def is_text(value: object) -> TypeGuard[str]:
    """Return whether the value is a string."""
    return isinstance(value, str)


def _is_boolean(value: object) -> TypeGuard[bool]:
    return isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Return whether the value is an integer from 0 up that 64 bits hold."""
    return type(value) is int and 0 <= value <= _LARGEST


def are_counts(values: Collection[object]) -> TypeGuard[Collection[int]]:
    """Return whether there are values, and each is a count: a look at the least and the largest."""
    if set(map(type, values)) != {int}:
        return False
    numbers = cast("Collection[int]", values)
    return min(numbers) >= 0 and max(numbers) <= _LARGEST


def _are_seconds(value: object) -> TypeGuard[float]:
    """Return whether the value is a number from 0 up, below 1e12."""
    return (
        isinstance(value, (int, float))
        and 0 <= value < _MOST_SECONDS
        and not isinstance(value, bool)
    )


def is_amount(value: object) -> TypeGuard[float]:
    """Return whether the value is a finite number from 0 up."""
    return (
        isinstance(value, (int, float))
        and value >= 0
        and not isinstance(value, bool)
        and not _is_endless(value)
    )


def is_plain(value: object) -> TypeGuard[object]:
    """Return whether the value is true, false, a finite number, a string or null."""
    return not isinstance(value, (dict, list)) and not _is_endless(value)


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
