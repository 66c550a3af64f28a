"""Follow one test through its statements: its starts, their settings, the numbers that it asserts.

Nothing of the test is imported or run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from matrix.rules.upstream.evaluate import Evaluator, bound, truth
from matrix.rules.upstream.values import (
    Branch,
    Called,
    Counter,
    Function,
    Scope,
    SpecType,
    Symbol,
    UnknownValue,
    Value,
    unknown,
)

_EXPECT = "compilation_counter.expect"
_RUNNERS = ("vllm_runner", "LLM")
_DEEPEST = 20  # calls inside each other
_COUNTERS = ("compilation_counter", "counters")


@dataclass(frozen=True, kw_only=True)
class ReadFault:
    """A part of the source that this reader does not understand, with its line."""

    line: int
    text: str


@dataclass(kw_only=True)
class FollowedStart:
    """One start of a test: the environment variables and options it has, the numbers asserted."""

    environment: dict[str, Value]
    engine: Called | None = None
    numbers: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Returned:
    """How a function ends before its last statement; `skipped`: it skips the test."""

    value: Value = None
    skipped: bool = False


class Follower(Evaluator):
    """Follows the statements of a file or of one test."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[FollowedStart] = []
        self.faults: list[ReadFault] = []
        self._depth = 0

    def execute(self, statements: Sequence[ast.stmt], scope: Scope) -> _Returned | None:
        """Follow statements; return what they return, None if they come to their end."""
        for number, statement in enumerate(statements):
            self.step()
            if isinstance(statement, ast.Return):
                value = None if statement.value is None else self.value(statement.value, scope)
                return _Returned(value=value)
            if isinstance(statement, ast.If):
                test = truth(self.value(statement.test, scope), statement.test)
                if isinstance(test, Branch):
                    rest = statements[number + 1 :]
                    return self._both(test, statement, rest, scope)
                if isinstance(test, UnknownValue):
                    self._either(statement, scope, test)
                    continue
                ended = self.execute(statement.body if test else statement.orelse, scope)
            else:
                ended = self._one(statement, scope)
            if ended is not None:
                return ended
        return None

    def inline(
        self, function: Function, args: tuple[Value, ...], keywords: Mapping[str, Value]
    ) -> Value:
        """Follow a call of a function of the file; return what it returns."""
        if isinstance(function.node, ast.Lambda):
            return super().inline(function, args, keywords)
        if self._depth == _DEEPEST:
            return unknown(function.node)
        self._depth += 1
        ended = self.execute(function.node.body, bound(function, args, keywords, self))
        self._depth -= 1
        if ended is not None and ended.skipped:
            self.fault(ast.Name(id="pytest.skip", lineno=function.node.lineno), "is in a helper")
        return None if ended is None else ended.value

    def effect(self, called: Called, node: ast.Call) -> Value:
        """Take note of a start, of an environment variable, of a child process."""
        last = called.name.rpartition(".")[2]
        if last in _RUNNERS:
            self.runs.append(FollowedStart(environment=dict(self.environment), engine=called))
        elif last == "setenv" and len(called.args) == 2 and isinstance(called.args[0], str):
            self.environment[called.args[0]] = called.args[1]
        elif last == "delenv" and called.args and isinstance(called.args[0], str):
            self.environment.pop(called.args[0], None)
        elif last == "Process" and isinstance(target := called.keywords.get("target"), Function):
            args = called.keywords.get("args", ())
            before = dict(self.environment)
            self.inline(target, args if isinstance(args, tuple) else (), {})
            self.environment = before
        elif called.name == _EXPECT:
            self.fault(node, "is not the head of a with statement")
        return called

    def fault(self, node: ast.AST, what: str) -> None:
        """Take note of what this reader does not understand."""
        found = unknown(node)
        fault = ReadFault(line=found.line, text=f"`{found.text}` {what}")
        if fault not in self.faults:
            self.faults.append(fault)

    def _one(self, statement: ast.stmt, scope: Scope) -> _Returned | None:
        """Follow one statement that is neither `return` nor `if`."""
        if isinstance(statement, ast.With):
            return self._with(statement, scope)
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            self._assign(statement, scope)
        elif isinstance(statement, ast.Expr):
            value = self.value(statement.value, scope)
            if isinstance(value, Called) and value.name == "pytest.skip":
                return _Returned(skipped=True)
        elif isinstance(statement, ast.Assert):
            self._assert(statement.test, scope)
        elif isinstance(statement, ast.FunctionDef):
            scope[statement.name] = Function(node=statement, scope=scope)
        elif isinstance(statement, ast.ClassDef):
            scope[statement.name] = self._class(statement, scope)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            _import(statement, scope)
        elif isinstance(statement, ast.Try):
            return self.execute([*statement.body, *statement.orelse, *statement.finalbody], scope)
        else:
            self._unread(statement, scope)
        return None

    def _unread(self, statement: ast.stmt, scope: Scope) -> None:
        """Take note of a statement that is not followed: what it assigns is not known."""
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        if names.intersection(_COUNTERS) and not isinstance(statement, ast.Delete):
            kind = type(statement).__name__.lower()
            self.fault(statement, f"is in a statement ({kind}) that is not followed")
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                scope[node.id] = unknown(node)

    def _assign(self, statement: ast.Assign | ast.AnnAssign, scope: Scope) -> None:
        if statement.value is None:
            return
        value = self.value(statement.value, scope)
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            if isinstance(target, ast.Name):
                scope[target.id] = value
                continue
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    scope[node.id] = unknown(node)

    def _with(self, statement: ast.With, scope: Scope) -> _Returned | None:
        expected: list[tuple[Called, ast.expr]] = []
        before = len(self.runs)
        environment = dict(self.environment)
        for item in statement.items:
            if _speaks_of_expect(item.context_expr):
                call = item.context_expr
                assert isinstance(call, ast.Call)
                keywords = {
                    keyword.arg or "**": self.value(keyword.value, scope)
                    if keyword.arg
                    else unknown(keyword.value)
                    for keyword in call.keywords
                }
                expected.append((Called(name=_EXPECT, keywords=keywords), call))
                continue
            value = self.value(item.context_expr, scope)
            if isinstance(item.optional_vars, ast.Name):
                name = item.optional_vars.id
                of_pytest = isinstance(value, Called) and value.name == "monkeypatch.context"
                scope[name] = (
                    Symbol(path="monkeypatch") if of_pytest else unknown(item.context_expr)
                )
        ended = self.execute(statement.body, scope)
        for called, node in expected:
            if len(self.runs) == before:  # a start of a part of vLLM, not of an engine
                self.runs.append(FollowedStart(environment=environment))
            if len(self.runs) > before + 1:
                self.fault(node, "counts more than one start")
                continue
            for counter, value in called.keywords.items():
                self._number(Counter(name=counter), value, node)
        return ended

    def _assert(self, test: ast.expr, scope: Scope) -> None:
        """Take note of a number that the test asserts of a counter."""
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            for part in test.values:
                self._assert(part, scope)
            return
        if not isinstance(test, ast.Compare):
            self.value(test, scope)
            return
        values = [self.value(side, scope) for side in (test.left, *test.comparators)]
        counted = [side for side in values if isinstance(side, Counter)]
        if len(counted) != 1:
            return  # two counters: no number
        if len(values) > 2 or not isinstance(test.ops[0], ast.Eq):
            self.fault(test, "is not one comparison with ==")
            return
        value = values[1] if values[0] is counted[0] else values[0]
        self._number(counted[0], value, test)

    def _number(self, counter: Counter, value: Value, node: ast.AST) -> None:
        numbers = [number for _, number in _leaves(value)]
        bad = [number for number in numbers if type(number) is not int or number < 0]
        if bad:
            text = bad[0].text if isinstance(bad[0], UnknownValue) else None
            why = "is not a literal number"
            self.fault(node, f"{why} of {counter.name}" + (f" (`{text}`)" if text else ""))
        elif not self.runs:
            self.fault(node, "stands before any start")
        elif self.runs[-1].numbers.setdefault(counter.name, value) != value:
            self.fault(node, f"contradicts another number of {counter.name}")

    def _both(
        self, test: Branch, statement: ast.If, rest: Sequence[ast.stmt], scope: Scope
    ) -> _Returned | None:
        """Follow both ways on from an `if` on torch, and put together what they come to."""
        start, environment = self._copied(), dict(self.environment)
        ends, runs, scopes, environments = [], [], [], []
        for taken in (test.newer, test.older):
            inner = type(scope)(dict(scope.maps[0]), *scope.maps[1:])
            self.runs, self.environment = start, dict(environment)
            start = self._copied()
            if isinstance(taken, Branch):
                ends.append(self._both(taken, statement, rest, inner))
            else:
                body = statement.body if taken else statement.orelse
                ends.append(self.execute([*body, *rest], inner))
            runs.append(self.runs)
            scopes.append(inner.maps[0])
            environments.append(self.environment)
        kept = [number for number, end in enumerate(ends) if end is None or not end.skipped]
        if len(kept) == 1:  # the test is skipped on the other side: there are no numbers there
            ends, environments = [ends[kept[0]]] * 2, [environments[kept[0]]] * 2
            scopes = [scopes[kept[0]]] * 2
            there = runs[kept[0]]
            runs = [there, there]
            runs[1 - kept[0]] = [replace(run, numbers={}) for run in there]
        if len(runs[0]) != len(runs[1]) or (ends[0] is None) is not (ends[1] is None):
            self.fault(statement.test, "decides about more than numbers")
            self.runs = runs[0]
            return ends[0]
        version = test.version
        scope.maps[0].update(_merged(version, *scopes))
        self.environment = _merged(version, *environments)
        self.runs = [
            replace(newer, numbers=_merged(version, newer.numbers, older.numbers))
            for newer, older in zip(*runs, strict=True)
        ]
        if ends[0] is None or ends[1] is None:
            return None
        return _Returned(
            value=_merge(version, ends[0].value, ends[1].value),
            skipped=ends[0].skipped and ends[1].skipped,
        )

    def _either(self, statement: ast.If, scope: Scope, test: UnknownValue) -> None:
        """Pass over an `if` that only running the test decides, unless it decides about numbers."""
        for body in (statement.body, statement.orelse):
            with self._undone():
                before = [dict(run.numbers) for run in self.runs]
                self.execute(body, scope.new_child())
                touched = [dict(run.numbers) for run in self.runs] != before
            if touched:
                self.fault(statement.test, "decides about numbers, and is not about torch")
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                scope[node.id] = test

    @contextmanager
    def _undone(self) -> Iterator[None]:
        runs, environment, faults = self._copied(), dict(self.environment), list(self.faults)
        yield
        self.runs, self.environment, self.faults = runs, environment, faults

    def _copied(self) -> list[FollowedStart]:
        return [replace(run, numbers=dict(run.numbers)) for run in self.runs]

    def _class(self, node: ast.ClassDef, scope: Scope) -> Value:
        """Return a class whose body has annotated fields; another class is not known."""
        fields: list[str] = []
        defaults: dict[str, Value] = {}
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                fields.append(statement.target.id)
                if statement.value is not None:
                    defaults[statement.target.id] = self.value(statement.value, scope)
        if not fields:
            return unknown(ast.Name(id=node.name, lineno=node.lineno))
        return SpecType(name=node.name, fields=tuple(fields), defaults=defaults)


def _speaks_of_expect(node: ast.expr) -> bool:
    """Tell whether an expression is `compilation_counter.expect(...)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "expect"
        and ast.unparse(node.func.value).rpartition(".")[2] == "compilation_counter"
    )


def _import(node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            path = f"{node.module or ''}.{alias.name}"
            scope[alias.asname or alias.name] = Symbol(path=path)
        elif alias.asname:
            scope[alias.asname] = Symbol(path=alias.name)
        else:
            head = alias.name.partition(".")[0]
            scope[head] = Symbol(path=head)


def _leaves(value: Value) -> list[tuple[str, Value]]:
    if isinstance(value, Branch):
        return [*_leaves(value.newer), *_leaves(value.older)]
    return [("", value)]


def _merged(
    version: str, newer: Mapping[str, Value], older: Mapping[str, Value]
) -> dict[str, Value]:
    """Return two states of names as one, with a branch where they differ; None: no number."""
    return {
        name: _merge(version, newer.get(name), older.get(name))
        for name in dict.fromkeys((*newer, *older))
    }


def _merge(version: str, newer: Value, older: Value) -> Value:
    return newer if newer == older else Branch(version=version, newer=newer, older=older)
