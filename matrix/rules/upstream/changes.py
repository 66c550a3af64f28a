"""The changes of upstream's startup tests from one release to the next. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matrix._util.enums import StrEnum
from matrix.record.model import StartKind
from matrix.rules.upstream.model import ByTorch, UpstreamCase, UpstreamRelease


class ChangeOf(StrEnum):
    """The kind of a change; UNREAD: the tests of one of the two releases could not be read."""

    FILE = "file"
    GONE = "case gone"
    NEW = "new case"
    NUMBER = "number"
    SETTING = "setting"
    FLAG = "flag"
    UNREAD = "unread"


@dataclass(frozen=True, kw_only=True)
class UpstreamChange:
    """One difference between two releases; `before` and `after` are JSON values.

    `what` is the file, the option, the variable or the counter; `case` is "", and
    `start` None, where the change is not of one.
    """

    kind: ChangeOf
    version: str
    before_version: str
    case: str = ""
    start: StartKind | None = None
    what: str = ""
    before: object = None
    after: object = None


def changes(older: UpstreamRelease, newer: UpstreamRelease) -> Iterator[UpstreamChange]:
    """Yield what differs in the tests of two releases, files first, then case by case."""

    def change(kind: ChangeOf, **facts: object) -> UpstreamChange:
        return UpstreamChange(
            kind=kind,
            version=newer.version,
            before_version=older.version,
            **facts,  # type: ignore[arg-type]
        )

    if not older.files or not newer.files:
        if older.files or newer.files:
            yield change(ChangeOf.UNREAD)
        return
    one, other = sorted(older.files), sorted(newer.files)
    if one != other:
        yield change(ChangeOf.FILE, before=one, after=other)
    for flag in sorted({*older.flags, *newer.flags}):
        states = [
            _number(flags[flag]) if flag in flags else None for flags in (older.flags, newer.flags)
        ]
        if states[0] != states[1]:
            yield change(ChangeOf.FLAG, what=flag, before=states[0], after=states[1])
    before, after = _cases(older), _cases(newer)
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            yield change(ChangeOf.GONE, case=name)
        elif name not in before:
            yield change(ChangeOf.NEW, case=name, after=_numbers(after[name]))
        else:
            for kind, start, what, was, now in _differences(before[name], after[name]):
                yield change(kind, case=name, start=start, what=what, before=was, after=now)


def _cases(release: UpstreamRelease) -> dict[str, UpstreamCase]:
    return {case.case: case for file in release.files.values() for case in file.cases}


def _differences(
    before: UpstreamCase, after: UpstreamCase
) -> Iterator[tuple[ChangeOf, StartKind | None, str, object, object]]:
    one, other = _numbers(before), _numbers(after)
    for start in dict.fromkeys((*one, *other)):
        was: dict[str, object] = one.get(start, {})
        now: dict[str, object] = other.get(start, {})
        for counter in dict.fromkeys((*was, *now)):
            if was.get(counter) != now.get(counter):
                yield ChangeOf.NUMBER, start, counter, was.get(counter), now.get(counter)
    settings, others = _settings(before), _settings(after)
    for key in dict.fromkeys((*settings, *others)):
        if settings.get(key) != others.get(key):
            yield ChangeOf.SETTING, *key, settings.get(key), others.get(key)


def _settings(case: UpstreamCase) -> dict[tuple[StartKind | None, str], object]:
    found: dict[tuple[StartKind | None, str], object] = {
        (None, "torch"): case.torch or None,
        (None, "fixtures"): list(case.fixtures),
    }
    found |= {(None, name): value for name, value in case.environment.items()}
    found |= {(None, name): value for name, value in case.engine.items()}
    for start in case.starts:
        found |= {(start.start, name): value for name, value in start.environment.items()}
    return found


def _numbers(case: UpstreamCase) -> dict[StartKind, dict[str, object]]:
    return {
        start.start: {counter: _number(number) for counter, number in start.numbers.items()}
        for start in case.starts
    }


def _number(number: ByTorch) -> object:
    """Return a number, or the numbers by their ranges of torch releases."""
    return number.values.get("", dict(number.values))
