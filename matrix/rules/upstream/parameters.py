"""The marks of a test: its parameters, and the torch releases on which it is skipped. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matrix._util.text import clean, clip
from matrix.rules.upstream.follow import ReadFault
from matrix.rules.upstream.model import NEVER
from matrix.rules.upstream.values import (
    Branch,
    Called,
    Symbol,
    UnknownValue,
    Value,
    by_torch,
    lift,
    unknown,
)

_SKIP = "pytest.mark.skip"


@dataclass(frozen=True, kw_only=True)
class ParameterRow:
    """One row of a `parametrize`, with its part of pytest's name of the case and its marks."""

    identity: str
    values: tuple[Value, ...]
    marks: tuple[Value, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The names and the rows of one `parametrize`."""

    names: tuple[str, ...] = ()
    rows: tuple[ParameterRow, ...] = ()


def parametrize(
    mark: Value, node: ast.expr, test: str, faults: list[ReadFault]
) -> Parameter | None:
    """Return the rows of a `pytest.mark.parametrize`, None for another mark.

    A row that is not a literal is a fault and is left out. `node` is the source of the mark.
    """
    if not isinstance(mark, Called) or mark.name != "pytest.mark.parametrize":
        return None
    named = [mark.keywords[key] for key in ("argnames", "argvalues") if key in mark.keywords]
    names, rows = [*mark.args, *named, unknown(node), unknown(node)][:2]
    if isinstance(names, str):
        names = [part.strip() for part in names.split(",")]
    if not isinstance(names, (list, tuple)) or not isinstance(rows, (list, tuple)):
        text = (rows if isinstance(rows, UnknownValue) else unknown(node)).text
        what = f"the parameters of {test} are not literals: `{text}`"
        faults.append(ReadFault(line=node.lineno, text=what))
        return Parameter()
    words = tuple(map(str, names))
    found = []
    for number, value in enumerate(rows):
        row = _row(value, words, number)
        if row is None:
            what = f"a parameter of {test} is not a literal: `{_text(value, node)}`"
            faults.append(ReadFault(line=_line(value, node), text=what))
        else:
            found.append(row)
    return Parameter(names=words, rows=tuple(found))


def not_skipped(marks: Iterable[Value]) -> str:
    """Return the range of torch releases on which none of these marks skips a test.

    "" is every torch. A condition that is not about torch is passed over: upstream's CI decides it.
    """
    skipped: Value = False
    for mark in marks:
        name = mark.path if isinstance(mark, Symbol) else getattr(mark, "name", "")
        if name == _SKIP:
            return NEVER
        if name == f"{_SKIP}if" and isinstance(mark, Called) and mark.args:
            condition = mark.args[0]
            if isinstance(condition, (bool, Branch)):
                skipped = lift(lambda one, other: bool(one or other), skipped, condition)
    kept = [versions for versions, value in by_torch(skipped) if value is False]
    return kept[0] if kept else NEVER


def _row(value: Value, names: Sequence[str], number: int) -> ParameterRow | None:
    """Return one row; None if one of its values is not known (a field of one may be)."""
    cells: Value = value if len(names) > 1 else (value,)
    identity: Value = None
    marks: Value = ()
    if isinstance(value, Called) and value.name == "pytest.param":
        cells, identity = value.args, value.keywords.get("id")
        marks = value.keywords.get("marks", ())
    if not isinstance(cells, (list, tuple)) or len(cells) != len(names):
        return None
    if any(isinstance(cell, (UnknownValue, Called, Symbol)) for cell in cells):
        return None
    if not isinstance(identity, str):
        identity = "-".join(
            _identity(cell, f"{name}{number}") for name, cell in zip(names, cells, strict=True)
        )
    every = marks if isinstance(marks, (list, tuple)) else (marks,)
    return ParameterRow(identity=identity, values=tuple(cells), marks=tuple(every))


def _identity(value: Value, name: str) -> str:
    """Return pytest's name of a value without an id."""
    return str(value) if value is None or isinstance(value, (str, int, float)) else name


def _inner(value: Value) -> Value:
    """Return what is not a literal in a row: itself, or the value in `pytest.param`."""
    if isinstance(value, Called) and value.name == "pytest.param" and value.args:
        bad = [
            argument
            for argument in value.args
            if isinstance(argument, (UnknownValue, Called, Symbol))
        ]
        return bad[0] if bad else value
    return value


def _text(value: Value, node: ast.expr) -> str:
    inner = _inner(value)
    if isinstance(inner, UnknownValue):
        return inner.text
    if isinstance(inner, Called):
        return clip(clean(f"{inner.name}(...)"), 60)
    return clip(clean(inner.path), 60) if isinstance(inner, Symbol) else unknown(node).text


def _line(value: Value, node: ast.expr) -> int:
    inner = _inner(value)
    return inner.line if isinstance(inner, UnknownValue) else node.lineno
