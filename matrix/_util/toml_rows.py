"""A data file that people edit: TOML that is a list of rows of one kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matrix._util import files
from matrix._util.enums import StrEnum
from matrix._util.nearest import suggestion
from matrix._util.versions import VersionRange, VersionRangeError
from matrix.errors import MatrixError

try:
    # Its parser is compiled: Python's own takes several times as long (`benchmarks/toml_files.py`).
    import tomli as tomllib
except ModuleNotFoundError:
    import tomllib  # type: ignore[import-not-found,no-redef]


_Choice = TypeVar("_Choice", bound=StrEnum)
_CASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[.+\])?")


def read_text(path: Path, error: type[MatrixError]) -> str:
    """Return the text of a data file. Raises `error`, which names the file and the fix."""
    try:
        return files.read_text(path)
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror}); name another file") from fault
    except UnicodeDecodeError as fault:
        raise error(f"{path}: is not UTF-8; save it as UTF-8") from fault


def rows(text: str, name: str, kind: str, error: type[MatrixError]) -> list[dict[str, Any]]:
    """Return the rows of a TOML text, each of which begins with [[kind]].

    Raises `error`, which calls the text `name`, for all else.
    """
    return rows_of_kinds(text, name, (kind,), error)[kind]


def rows_of_kinds(
    text: str, name: str, kinds: Sequence[str], error: type[MatrixError]
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a TOML text by kind, each of which begins with the kind in [[ ]].

    Raises `error`, which calls the text `name`, for all else.
    """
    begin = f"begin each with {' or '.join(f'[[{kind}]]' for kind in kinds)}"
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as fault:
        # A ValueError that is not a TOMLDecodeError: a date such as 2026-02-30.
        raise error(f"{name}: is not TOML ({fault}); correct it there") from fault
    for key in data:
        if key not in kinds:
            raise error(f"{name}: {key}: unknown key; {begin}")
    every: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds:
        found = data.get(kind, [])
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise error(f"{name}: {kind}: is not a list; {begin}")
        every[kind] = found
    return every


def version_range(
    row: Mapping[str, object], key: str, where: str, error: type[MatrixError]
) -> VersionRange:
    """Return the releases that a row names under a key, all of them without the key.

    Raises `error`, which names the row (`where`), the key and the fix.
    """
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise error(f'{where}: {key}: {value!r} is not a string; write ">=2.12"')
    try:
        return VersionRange(value)
    except VersionRangeError as fault:
        raise error(f"{where}: {key}: {fault}") from fault


def name_of(row: Mapping[str, object], where: str, error: type[MatrixError]) -> str:
    """Return the id of a row. Raises `error` where it has none."""
    named = row.get("id")
    if not isinstance(named, str) or not named.strip():
        raise error(f"{where}: id: is missing or empty; name it")
    return named


def check_ids(ids: Sequence[str], where: str, error: type[MatrixError]) -> None:
    """Refuse an id that is there twice: raise `error`; `where` is as `waivers.toml: waiver`."""
    for name in ids:
        if ids.count(name) > 1:
            raise error(f"{where} {name!r}: id: appears twice; give each its own")


def choice_of(
    row: Mapping[str, object],
    key: str,
    choices: type[_Choice],
    where: str,
    error: type[MatrixError],
) -> _Choice | None:
    """Return the choice that a row names under a key, None if it names none.

    Raises `error`, which names the row (`where`), the key and the choices, for anything else.
    """
    value = row.get(key)
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError:
        quoted = " or ".join(f'"{choice}"' for choice in choices)
        raise error(f"{where}: {key}: {value!r} is unknown; write {quoted}") from None


def case_of(row: Mapping[str, object], where: str, error: type[MatrixError]) -> str | None:
    """Return the case that a row names, with or without its parameters; None if it names none.

    Raises `error` for what cannot be a case.
    """
    case = row.get("case")
    if case is not None and not (isinstance(case, str) and _CASE.fullmatch(case)):
        raise error(
            f"{where}: case: {case!r} is not a case; write moe_startup or moe_startup[mega_aot=1]"
        )
    return case


def text_of(
    row: Mapping[str, object], key: str, where: str, fix: str, error: type[MatrixError]
) -> str:
    """Return the text that a row has under a key, in one line. Raises `error` where it is none."""
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise error(f"{where}: {key}: {value!r} is empty; {fix}")
    return " ".join(value.split())


def texts_of(
    row: Mapping[str, object], key: str, where: str, what: str, error: type[MatrixError]
) -> tuple[str, ...]:
    """Return the list of texts that a row has under a key; `what` says what they are.

    Raises `error` for what is not a list, is empty or has an empty text.
    """
    value = row[key]
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(text, str) and text.strip() for text in value)
    ):
        raise error(f"{where}: {key}: is not a list of {what}; name at least one")
    return tuple(value)


def check_keys(
    row: Mapping[str, object],
    where: str,
    known: Sequence[str],
    needed: Iterable[str],
    error: type[MatrixError],
) -> None:
    """Raise `error` for a key that is not known, with the one that may be meant, or is missing."""
    for key in row:
        if key not in known:
            fix = suggestion(key, known) or f"known are {', '.join(known)}"
            raise error(f"{where}: {key}: unknown key; {fix}")
    for key in needed:
        if key not in row:
            raise error(f"{where}: {key}: is missing; add it")
