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

from matrix._util.text import clean, clip
from matrix.record.model import STARTS
from matrix.rules.upstream.evaluate import Evaluator, TooLongError
from matrix.rules.upstream.follow import Follower, ReadFault
from matrix.rules.upstream.model import ByTorch, UpstreamCase, UpstreamFile, UpstreamStart
from matrix.rules.upstream.parameters import not_skipped, parametrize
from matrix.rules.upstream.values import (
    Branch,
    Called,
    Function,
    Scope,
    Spec,
    Symbol,
    Value,
    by_torch,
)

_SOURCE = 1 << 20  # characters; the largest file that is read, vllm/envs.py, has 120,000
_CASES = 100
_FAULTS = 20
_SETTINGS = 10_000  # characters, as JSON
_PLACES = ("monkeypatch", "vllm_runner")  # fixtures that are not settings


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
            if startup or found or any("literal number" in fault.text for fault in of_test):
                faults += of_test
        elif startup and (test := _test_within(node)):
            faults.append(
                ReadFault(line=test.lineno, text=f"`{test.name}` is not a plain function")
            )
    lines = list(dict.fromkeys(f"{fault.line}: {fault.text}" for fault in faults))[:_FAULTS]
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


def _test_within(node: ast.stmt) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return a test that is not followed: a method of a class, or asynchronous."""
    for child in ast.walk(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and child.name.startswith(
            "test_"
        ):
            return child
    return None


def _module(tree: ast.Module) -> tuple[Scope, list[ReadFault]]:
    """Return what the names at the top of a file stand for."""
    scope: Scope = ChainMap()
    follower = Follower()
    try:
        follower.execute(tree.body, scope)
    except (TooLongError, RecursionError):
        raise _UnreadableError("its top level is too long or too deep to follow") from None
    return scope, [fault for fault in follower.faults if fault.line]


def _cases(node: ast.FunctionDef, scope: Scope) -> tuple[list[UpstreamCase], list[ReadFault]]:
    """Return the cases of one test and what could not be read of it."""
    cases: list[UpstreamCase] = []
    faults: list[ReadFault] = []
    evaluator = Evaluator()
    try:
        marks = [
            (evaluator.value(decorator, scope), decorator) for decorator in node.decorator_list
        ]
        parameters = [
            parameter
            for mark, decorator in reversed(marks)  # the order in which pytest names them
            if (parameter := parametrize(mark, decorator, node.name, faults))
        ]
        for rows in itertools.islice(
            itertools.product(*(column.rows for column in parameters)), _CASES
        ):
            name = "-".join(row.identity for row in rows)
            values: dict[str, Value] = {}
            for parameter, row in zip(parameters, rows, strict=True):
                values |= dict(zip(parameter.names, row.values, strict=True))
            of_rows = [mark for row in rows for mark in row.marks]
            torch = not_skipped([*(mark for mark, _ in marks), *of_rows])
            case, of_case = _case(
                node, f"{node.name}[{name}]" if name else node.name, values, torch, scope
            )
            faults += of_case
            if case is not None:
                cases.append(case)
    except (TooLongError, RecursionError):
        faults.append(
            ReadFault(line=node.lineno, text=f"`{node.name}` is too long or deep to follow")
        )
    return cases, faults


def _case(
    node: ast.FunctionDef, name: str, values: Mapping[str, Value], torch: str, scope: Scope
) -> tuple[UpstreamCase | None, list[ReadFault]]:
    """Follow a test with these parameters; return None if it asserts no number of a start."""
    follower = Follower()
    fixtures = [argument.arg for argument in node.args.args if argument.arg not in values]
    inner = scope.new_child({**{fixture: Symbol(path=fixture) for fixture in fixtures}, **values})
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
        parameters={
            key: value for key, value in values.items() if isinstance(value, (str, int, float))
        },
        environment=environment,
        fixtures=tuple(fixture for fixture in fixtures if fixture not in _PLACES),
        engine=_engine(first.engine),
        starts=tuple(
            UpstreamStart(
                start=start,
                numbers={counter: _number(number) for counter, number in run.numbers.items()},
                environment={
                    key: setting
                    for key, setting in _environment(run.environment).items()
                    if environment.get(key, "") != setting or key not in environment
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


def _number(value: Value) -> ByTorch:
    return ByTorch(
        values={
            versions: number if isinstance(number, int) else None
            for versions, number in by_torch(value)
        }
    )


def _environment(found: Mapping[str, Value]) -> dict[str, str | None]:
    return {
        key: setting if isinstance(setting, str) else None for key, setting in sorted(found.items())
    }


def _engine(called: Called | None) -> dict[str, object]:
    if called is None:
        return {}
    named = {key: setting for key, setting in called.keywords.items() if key != "**"}
    if called.args:
        named["model"] = called.args[0]
    return {key: _shown(setting) for key, setting in sorted(named.items())}


def _shown(value: Value) -> object:
    """Return a setting as JSON has it; None if only a run of the test would show it."""
    if isinstance(value, Symbol):
        return ".".join(value.path.split(".")[-2:])
    if isinstance(value, Called):
        return dict(_items(value.keywords)) if not value.args else None
    if isinstance(value, Spec):
        return dict(_items(value.fields))
    if isinstance(value, Branch):
        return {versions or "any torch": _shown(part) for versions, part in by_torch(value)}
    if isinstance(value, dict):
        return dict(_items({str(key): part for key, part in value.items()}))
    if isinstance(value, (list, tuple)):
        return [_shown(part) for part in value]
    return value if value is None or isinstance(value, (str, int, float)) else None


def _items(values: Mapping[str, Value]) -> Iterator[tuple[str, object]]:
    return ((key, _shown(part)) for key, part in sorted(values.items()))
