"""The value of an expression of a test, as far as it is known without a run.

Pure. Plain values (str, int, float, bool, None, lists, tuples, dicts) stand for themselves.
"""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from packaging.version import InvalidVersion, Version

from matrix._util.text import clean, clip
from matrix._util.versions import parse_version

Value = object
Scope = ChainMap[str, Value]
_DEEPEST = 8  # branches on torch inside each other; tests have one


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A name that the test imports or gets: `vllm.envs.VLLM_USE_AOT_COMPILE`, `vllm_runner`."""

    path: str

    @property
    def last(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Counter:
    """A counter of torch or vLLM, by the name that a record has for it."""

    name: str


@dataclass(frozen=True, kw_only=True)
class CounterGroup:
    """A group of torch's counters, such as `aot_autograd`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class CounterSnapshot:
    """The values of vLLM's counters before a start."""


@dataclass(frozen=True, kw_only=True)
class UnknownValue:
    """A value that only running the test would give, and the source of it."""

    node: ast.AST

    @property
    def line(self) -> int:
        """The line of its source."""
        return getattr(self.node, "lineno", 0)

    @property
    def text(self) -> str:
        """The beginning of its source; made only where it is shown."""
        try:
            return clip(clean(ast.unparse(self.node)), 60)
        except (RecursionError, ValueError):
            return "an expression"


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One value from this torch on, and another one before it."""

    version: str
    newer: Value
    older: Value


@dataclass(frozen=True, kw_only=True)
class Called:
    """A call of what is not defined in the test's file, such as `CompilationConfig(...)`."""

    name: str
    args: tuple[Value, ...] = ()
    keywords: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SpecType:
    """A class of the file that only holds values: its fields and their defaults."""

    name: str
    fields: tuple[str, ...]
    defaults: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One such object."""

    type: str
    fields: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function or lambda of the file, and what it sees around it."""

    node: ast.FunctionDef | ast.Lambda
    scope: Scope = field(repr=False, compare=False)


def unknown(node: ast.AST) -> UnknownValue:
    """Return the value of an expression that is not known."""
    return UnknownValue(node=node)


def is_plain(value: Value) -> bool:
    """Tell whether a value stands for itself."""
    return value is None or isinstance(value, (str, int, float, list, tuple, dict))


def lift(function: Callable[..., Value], *values: Value, depth: int = 0) -> Value:
    """Return a function of plain values, for each torch that the values tell apart.

    What is not known stays so.
    """
    for value in values:
        if isinstance(value, UnknownValue):
            return value
    for place, value in enumerate(values):
        if isinstance(value, Branch):
            if depth == _DEEPEST:
                return unknown(ast.Name(id="too many branches on torch", lineno=0))
            newer, older = list(values), list(values)
            newer[place], older[place] = value.newer, value.older
            return Branch(
                version=value.version,
                newer=lift(function, *newer, depth=depth + 1),
                older=lift(function, *older, depth=depth + 1),
            )
    return function(*values)


def torch_from(version: Value, node: ast.AST) -> Value:
    """Return what is true from this torch on."""
    if not isinstance(version, str):
        return unknown(node)
    try:
        parse_version(version)
    except InvalidVersion:
        return unknown(node)
    return Branch(version=version, newer=True, older=False)


def by_torch(value: Value) -> list[tuple[str, Value]]:
    """Return a value for each range of torch releases that it tells apart; "" is every torch.

    Neighbours with the same value are one range.

    >>> by_torch(Branch(version="2.12.0", newer=0, older=4))
    [('<2.12.0', 4), ('>=2.12.0', 0)]
    """
    bounds = sorted(_versions(value), key=parse_version)
    found: list[tuple[str | None, str | None, Value]] = []
    for low, high in zip([None, *bounds], [*bounds, None], strict=True):
        here = _at(value, None if low is None else parse_version(low))
        if found and found[-1][2] == here and type(found[-1][2]) is type(here):
            found[-1] = (found[-1][0], high, here)
        else:
            found.append((low, high, here))
    return [
        (",".join([*([f">={low}"] if low else []), *([f"<{high}"] if high else [])]), part)
        for low, high, part in found
    ]


def _versions(value: Value) -> set[str]:
    if not isinstance(value, Branch):
        return set()
    return {value.version} | _versions(value.newer) | _versions(value.older)


def _at(value: Value, torch: Version | None) -> Value:
    """Return the value under a torch; None is one before all that are named."""
    while isinstance(value, Branch):
        newer = torch is not None and torch >= parse_version(value.version)
        value = value.newer if newer else value.older
    return value
