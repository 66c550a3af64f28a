"""Read the cases of a file of upstream's tests, and the default of a flag, by the syntax tree.

Pure. The source is untrusted: it is parsed, never imported or run, and all that is read is bounded.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import warnings
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from matrix._util.text import clean, clip
from matrix.rules.upstream.evaluate import Evaluator, TooLongError
from matrix.rules.upstream.follow import STARTS, Fault, Follower
from matrix.rules.upstream.model import ByTorch, UpstreamCase, UpstreamFile, UpstreamStart
from matrix.rules.upstream.values import (
    Branch,
    Called,
    Function,
    Scope,
    Spec,
    Symbol,
    Unknown,
    Value,
    by_torch,
    lift,
    unknown,
)

_SOURCE = 1 << 20  # characters; the largest of 26 releases has 45,000
_CASES = 100
_FAULTS = 20
_SETTINGS = 10_000  # characters, as JSON
_PLACES = ("monkeypatch", "vllm_runner")  # fixtures that are no setting


@dataclass(frozen=True, kw_only=True)
class _Parameter:
    """The values of one `parametrize`: each has its part of pytest's name of the case."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Value, ...]], ...]


def read_tests(source: str, *, startup: bool) -> UpstreamFile:
    """Return the cases of a file that assert numbers of a start, and what could not be read.

    With `startup` the file is one of the startup tests: a test in it that cannot be followed is a
    fault, and so is a file without a number.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()
    try:
        tree = _parsed(source)
        scope, top = _module(tree)
    except _UnreadableError as error:
        return UpstreamFile(sha256=digest, cases=(), faults=(f" {error}",))
    cases: list[UpstreamCase] = []
    faults = list(top) if startup else []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found, of_test = _cases(node, scope)
            cases += found
            if startup or found or any("literal number" in one.text for one in of_test):
                faults += of_test
    lines = list(dict.fromkeys(f"{one.line}: {one.text}" for one in faults))[:_FAULTS]
    if startup and not cases and not lines:
        lines = [" no number of a start was found in it"]
    return UpstreamFile(sha256=digest, cases=tuple(cases[:_CASES]), faults=tuple(lines))


def read_flag(source: str, name: str) -> ByTorch | None:
    """Return the default of a flag, 0 or 1, by the source of `vllm/envs.py`; None: not known."""
    try:
        scope, _ = _module(_parsed(source))
        table = scope.get("environment_variables")
        reader = table.get(name) if isinstance(table, dict) else None
        if not isinstance(reader, Function):
            return None
        found = by_torch(Follower().inline(reader, (), {}))
    except (_UnreadableError, TooLongError, RecursionError):
        return None
    if not all(isinstance(value, bool) for _, value in found):
        return None
    return ByTorch(values={versions: int(bool(value)) for versions, value in found})


class _UnreadableError(Exception):
    """A source that is not Python as this Python reads it."""


def _parsed(source: str) -> ast.Module:
    if len(source) > _SOURCE:
        raise _UnreadableError(f"is larger than {_SOURCE >> 20} MiB; it was not read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its escapes: they are upstream's
            return ast.parse(source)
    except SyntaxError as error:
        why = clip(clean(error.msg), 80)
        raise _UnreadableError(
            f"this Python does not read its syntax ({why}, line {error.lineno})"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise _UnreadableError(
            "this Python does not parse it; it is too deep or holds NUL"
        ) from None


def _module(tree: ast.Module) -> tuple[Scope, list[Fault]]:
    """Return what the names at the top of a file stand for."""
    scope: Scope = ChainMap()
    follower = Follower()
    try:
        follower.execute(tree.body, scope)
    except (TooLongError, RecursionError):
        raise _UnreadableError("its top level is too long or too deep to follow") from None
    return scope, [one for one in follower.faults if one.line]


def _cases(node: ast.FunctionDef, scope: Scope) -> tuple[list[UpstreamCase], list[Fault]]:
    """Return the cases of one test and what could not be read of it."""
    cases: list[UpstreamCase] = []
    faults: list[Fault] = []
    evaluator = Evaluator()
    try:
        parameters = [
            parameter
            for decorator in reversed(node.decorator_list)  # the order in which pytest names them
            if (parameter := _parametrize(decorator, evaluator, scope, node.name, faults))
        ]
        torch = _not_skipped(node, evaluator, scope)
        for rows in itertools.islice(itertools.product(*(one.rows for one in parameters)), _CASES):
            name = "-".join(identity for identity, _ in rows)
            values: dict[str, Value] = {}
            for parameter, (_, row) in zip(parameters, rows, strict=True):
                values |= dict(zip(parameter.names, row, strict=True))
            case, of_case = _case(
                node, f"{node.name}[{name}]" if name else node.name, values, torch, scope
            )
            faults += of_case
            if case is not None:
                cases.append(case)
    except (TooLongError, RecursionError):
        faults.append(Fault(line=node.lineno, text=f"`{node.name}` is too long or deep to follow"))
    return cases, faults


def _case(
    node: ast.FunctionDef, name: str, values: Mapping[str, Value], torch: str, scope: Scope
) -> tuple[UpstreamCase | None, list[Fault]]:
    """Follow a test with these parameters; return None where it asserts no number of a start."""
    follower = Follower()
    fixtures = [one.arg for one in node.args.args if one.arg not in values]
    inner = scope.new_child({**{one: Symbol(path=one) for one in fixtures}, **values})
    follower.execute(node.body, inner)
    runs = [run for run in follower.runs if run.numbers]
    if len(follower.runs) > len(STARTS) and runs:
        follower.fault(
            ast.Name(id=name, lineno=node.lineno), "has more starts than a cold and a warm one"
        )
        runs = []
    if not runs:
        return None, follower.faults
    first = follower.runs[0]
    environment = _environment(first.environment)
    case = UpstreamCase(
        case=clip(clean(name), 120),
        torch=torch,
        parameters={key: one for key, one in values.items() if isinstance(one, (str, int, float))},
        environment=environment,
        fixtures=tuple(one for one in fixtures if one not in _PLACES),
        engine=_engine(first.engine),
        starts=tuple(
            UpstreamStart(
                start=start,
                numbers={counter: _number(one) for counter, one in run.numbers.items()},
                environment={
                    key: one
                    for key, one in _environment(run.environment).items()
                    if environment.get(key, "") != one or key not in environment
                },
            )
            for start, run in zip(STARTS, follower.runs, strict=False)
            if run.numbers
        ),
    )
    if len(json.dumps([case.environment, case.engine, case.parameters])) > _SETTINGS:
        follower.fault(ast.Name(id=name, lineno=node.lineno), "has too many settings to keep")
        return None, follower.faults
    return case, follower.faults


def _parametrize(
    node: ast.expr, evaluator: Evaluator, scope: Scope, test: str, faults: list[Fault]
) -> _Parameter | None:
    """Return the values of a `pytest.mark.parametrize`; None for another decorator."""
    called = evaluator.value(node, scope) if isinstance(node, ast.Call) else None
    if not isinstance(called, Called) or called.name != "pytest.mark.parametrize":
        return None
    given = [
        *called.args,
        *(called.keywords[key] for key in ("argnames", "argvalues") if key in called.keywords),
    ]
    names = given[0] if given else None
    if isinstance(names, str):
        names = tuple(one.strip() for one in names.split(","))
    rows = given[1] if len(given) > 1 else unknown(node)
    if not isinstance(names, (list, tuple)) or not isinstance(rows, (list, tuple)):
        text = rows.text if isinstance(rows, Unknown) else unknown(node).text
        faults.append(
            Fault(line=node.lineno, text=f"the parameters of {test} are not literals: `{text}`")
        )
        return _Parameter(names=(), rows=())
    found = []
    for number, row in enumerate(rows):
        identity = None
        cells: Value = row
        if isinstance(row, Called) and row.name == "pytest.param":
            identity, cells = row.keywords.get("id"), row.args if len(names) > 1 else row.args[:1]
        elif len(names) == 1:
            cells = (row,)
        if not isinstance(cells, (list, tuple)) or len(cells) != len(names) or _has_unknown(cells):
            line, text = _place(row, node)
            faults.append(
                Fault(line=line, text=f"a parameter of {test} is not a literal: `{text}`")
            )
            continue
        if not isinstance(identity, str):
            identity = "-".join(
                _identity(one, f"{name}{number}") for name, one in zip(names, cells, strict=True)
            )
        found.append((identity, tuple(cells)))
    return _Parameter(names=tuple(map(str, names)), rows=tuple(found))


def _identity(value: Value, name: str) -> str:
    return str(value) if value is None or isinstance(value, (str, int, float)) else name


def _has_unknown(cells: Value) -> bool:
    """Tell whether a whole value of a test is not known; a field of one may be."""
    return (
        any(isinstance(one, (Unknown, Called, Symbol)) for one in cells)
        if isinstance(cells, (list, tuple))
        else True
    )


def _place(row: Value, node: ast.expr) -> tuple[int, str]:
    """Return the line and the text of a parameter that is not a literal."""
    inner = row.args[0] if isinstance(row, Called) and row.args else row
    for one in (row, inner):
        if isinstance(one, Unknown):
            return one.line, one.text
        if isinstance(one, Called) and one.name != "pytest.param":
            return node.lineno, clip(clean(f"{one.name}(...)"), 60)
        if isinstance(one, Symbol):
            return node.lineno, clip(clean(one.path), 60)
    return node.lineno, unknown(node).text


def _not_skipped(node: ast.FunctionDef, evaluator: Evaluator, scope: Scope) -> str:
    """Return the range of torch releases on which no `skipif` of the test holds; "" for all."""
    skipped: Value = False
    for decorator in node.decorator_list:
        called = evaluator.value(decorator, scope) if isinstance(decorator, ast.Call) else None
        if isinstance(called, Called) and called.name == "pytest.mark.skipif" and called.args:
            condition = called.args[0]
            if isinstance(condition, (bool, Branch)):
                skipped = lift(lambda one, other: bool(one or other), skipped, condition)
    kept = [versions for versions, value in by_torch(skipped) if value is False]
    return kept[0] if len(kept) == 1 else ""


def _number(value: Value) -> ByTorch:
    return ByTorch(
        values={
            versions: one if isinstance(one, int) else None for versions, one in by_torch(value)
        }
    )


def _environment(found: Mapping[str, Value]) -> dict[str, str | None]:
    return {key: one if isinstance(one, str) else None for key, one in sorted(found.items())}


def _engine(called: Called | None) -> dict[str, object]:
    if called is None:
        return {}
    named = {key: one for key, one in called.keywords.items() if key != "**"}
    if called.args:
        named["model"] = called.args[0]
    return {key: _shown(one) for key, one in sorted(named.items())}


def _shown(value: Value) -> object:
    """Return a setting as JSON has it; None where only running the test would tell."""
    if isinstance(value, Symbol):
        return ".".join(value.path.split(".")[-2:])
    if isinstance(value, Called):
        return dict(_items(value.keywords)) if not value.args else None
    if isinstance(value, Spec):
        return dict(_items(value.fields))
    if isinstance(value, Branch):
        return {versions or "any torch": _shown(one) for versions, one in by_torch(value)}
    if isinstance(value, dict):
        return dict(_items({str(key): one for key, one in value.items()}))
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float)) else None


def _items(values: Mapping[str, Value]) -> Iterator[tuple[str, object]]:
    return ((key, _shown(one)) for key, one in sorted(values.items()))
