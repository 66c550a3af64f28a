"""Evaluate the expressions of a test by its syntax tree. Nothing of the test is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from matrix.errors import MatrixError
from matrix.rules.upstream.values import (
    Branch,
    Called,
    Counter,
    CounterGroup,
    CounterSnapshot,
    Function,
    Scope,
    Spec,
    SpecType,
    Symbol,
    UnknownValue,
    Value,
    is_plain,
    lift,
    torch_from,
    unknown,
)

_STEPS = 100_000  # expressions and statements of one case; those of 26 releases take up to 1,600
_LARGEST = 2**63  # a larger number is not a count, and JSON or Python may not write it
_TORCH_COUNTERS = "torch._dynamo.utils.counters"
_VLLM_COUNTERS = "compilation_counter"
_ENVIRONMENT = ("os.environ.get", "os.getenv", "environ.get", "getenv")
_VERSION = ("Version", "parse")
_TORCH_VERSION = ("torch.__version__", "torch.version.__version__")


class TooLongError(MatrixError):
    """A test that takes more steps than any real one."""


class Evaluator:
    """Evaluates expressions, given the environment variables that the test has set by then."""

    def __init__(self, environment: Mapping[str, Value] | None = None) -> None:
        self.environment: dict[str, Value] = dict(environment or {})
        self._steps = 0

    def step(self) -> None:
        """Count one expression or statement. Raises TooLongError for too many of them."""
        self._steps += 1
        if self._steps > _STEPS:
            raise TooLongError("takes too many steps to follow")

    def value(self, node: ast.expr, scope: Scope) -> Value:
        """Return what an expression stands for; Unknown if only a run would show it."""
        self.step()
        kind = self._kinds.get(type(node))
        return unknown(node) if kind is None else kind(self, node, scope)

    def inline(
        self, function: Function, args: tuple[Value, ...], keywords: Mapping[str, Value]
    ) -> Value:
        """Return what a function of the file returns; an evaluator alone knows lambdas only."""
        if isinstance(function.node, ast.Lambda):
            return self.value(function.node.body, bound(function, args, keywords, self))
        return unknown(function.node)

    def effect(self, called: Called, node: ast.Call) -> Value:
        """Take note of a call of what is not defined in the file, and return its value."""
        del node
        return called

    def _constant(self, node: ast.Constant, scope: Scope) -> Value:
        del scope
        value = node.value
        if isinstance(value, (int, float)) and not abs(value) <= _LARGEST:  # or no number at all
            return unknown(node)
        return value if value is None or isinstance(value, (str, int, float)) else unknown(node)

    def _name(self, node: ast.Name, scope: Scope) -> Value:
        return scope.get(node.id, Symbol(path=node.id))

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Value:
        def of(base: Value) -> Value:
            if isinstance(base, Symbol):
                if base.last == _VLLM_COUNTERS:
                    return Counter(name=node.attr)
                if base.path == "vllm.envs" and node.attr in self.environment:
                    return lift(lambda text: _flag(text, node), self.environment[node.attr])
                return Symbol(path=f"{base.path}.{node.attr}")
            if isinstance(base, CounterSnapshot):
                return Counter(name=node.attr)
            if isinstance(base, Spec) and node.attr in base.fields:
                return base.fields[node.attr]
            return unknown(node)

        return lift(of, self.value(node.value, scope))

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Value:
        def of(base: Value, key: Value) -> Value:
            if isinstance(base, Symbol) and base.path == _TORCH_COUNTERS and isinstance(key, str):
                return CounterGroup(name=key)
            if isinstance(base, CounterGroup) and isinstance(key, str):
                return Counter(name=f"{base.name}.{key}")
            try:
                if isinstance(base, (list, tuple, dict)):
                    item: Value = base[key]  # type: ignore[call-overload]
                    return item
            except (LookupError, TypeError):
                pass
            return unknown(node)

        return lift(of, self.value(node.value, scope), self.value(node.slice, scope))

    def _sequence(self, node: ast.List | ast.Tuple, scope: Scope) -> Value:
        items = [self.value(item, scope) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)

    def _dict(self, node: ast.Dict, scope: Scope) -> Value:
        found: dict[object, Value] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.value(item, scope)
            if key is None:
                if not isinstance(value, dict):
                    return unknown(node)
                found.update(value)
                continue
            name = self.value(key, scope)
            if not isinstance(name, (str, int)):
                return unknown(node)
            found[name] = value
        return found

    def _choice(self, node: ast.IfExp, scope: Scope) -> Value:
        test = truth(self.value(node.test, scope), node.test)
        newer, older = self.value(node.body, scope), self.value(node.orelse, scope)
        if isinstance(test, UnknownValue) and newer == older:
            return newer
        return unknown(node) if isinstance(test, UnknownValue) else _choose(test, newer, older)

    def _not(self, node: ast.UnaryOp, scope: Scope) -> Value:
        value = self.value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return lift(lambda one: not one, truth(value, node.operand))
        if isinstance(node.op, ast.USub) and type(value) in (int, float):
            return -value  # type: ignore[operator]
        return unknown(node)

    def _and_or(self, node: ast.BoolOp, scope: Scope) -> Value:
        stop = isinstance(node.op, ast.Or)
        found: Value = not stop
        for operand in node.values:
            value = truth(self.value(operand, scope), operand)
            if isinstance(value, UnknownValue):
                return unknown(node)
            if found is (not stop):
                found = value
            elif found is not stop:
                found = lift(
                    lambda left, right: left or right if stop else left and right, found, value
                )
        return found

    def _difference(self, node: ast.BinOp, scope: Scope) -> Value:
        """Return a counter for the difference of a counter and what it was before; else Unknown."""
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        if isinstance(node.op, ast.Sub) and isinstance(left, Counter) and left == right:
            return left
        return unknown(node)

    def _compare(self, node: ast.Compare, scope: Scope) -> Value:
        if len(node.ops) != 1:
            return unknown(node)
        left, right = self.value(node.left, scope), self.value(node.comparators[0], scope)
        if _is_torch(left):
            return _from_torch(node, right)
        test = _COMPARED.get(type(node.ops[0]))
        if test is None:
            return unknown(node)

        def compared(one: Value, other: Value) -> Value:
            if not (is_plain(one) and is_plain(other)):
                return unknown(node)
            try:
                return test(one, other)
            except TypeError:
                return unknown(node)

        return lift(compared, left, right)

    def _lambda(self, node: ast.Lambda, scope: Scope) -> Value:
        return Function(node=node, scope=scope)

    def _call(self, node: ast.Call, scope: Scope) -> Value:
        function = self.value(node.func, scope)
        args = tuple(
            unknown(argument) if isinstance(argument, ast.Starred) else self.value(argument, scope)
            for argument in node.args
        )
        keywords = {
            keyword.arg or "**": self.value(keyword.value, scope)
            if keyword.arg
            else unknown(keyword.value)
            for keyword in node.keywords
        }
        if isinstance(function, Function):
            return self.inline(function, args, keywords)
        if isinstance(function, SpecType):
            return _spec(function, args, keywords, node)
        if isinstance(function, Counter):
            if function.name == "clone":
                return CounterSnapshot()
            name = f"{_VLLM_COUNTERS}.{function.name}"
        elif isinstance(function, Symbol):
            name = function.path
        else:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        return self._known(name, args, keywords, node)

    def _known(
        self, name: str, args: tuple[Value, ...], keywords: Mapping[str, Value], node: ast.Call
    ) -> Value:
        """Return what a call of a known function gives; else the call itself."""
        last = name.rpartition(".")[2]
        if last == "is_torch_equal_or_newer" and len(args) == 1 and not keywords:
            return torch_from(args[0], node)
        if name in _ENVIRONMENT and args and isinstance(args[0], str):
            return self.environment.get(args[0], args[1] if len(args) > 1 else None)
        if name in ("int", "bool") and len(args) == 1:
            return lift(lambda one: _converted(name, one, node), args[0])
        return self.effect(Called(name=name, args=args, keywords=keywords), node)

    _kinds: ClassVar[Mapping[type[ast.expr], Callable[..., Value]]] = {
        ast.Constant: _constant,
        ast.Name: _name,
        ast.Attribute: _attribute,
        ast.Subscript: _subscript,
        ast.List: _sequence,
        ast.Tuple: _sequence,
        ast.Dict: _dict,
        ast.IfExp: _choice,
        ast.UnaryOp: _not,
        ast.BoolOp: _and_or,
        ast.BinOp: _difference,
        ast.Compare: _compare,
        ast.Lambda: _lambda,
        ast.Call: _call,
    }


_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda one, other: one == other,
    ast.NotEq: lambda one, other: one != other,
    ast.Is: lambda one, other: one is other,
    ast.IsNot: lambda one, other: one is not other,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
}


def truth(value: Value, node: ast.AST) -> Value:
    """Return whether a value is true: a bool, a Branch of bools, or Unknown."""
    return lift(lambda one: bool(one) if is_plain(one) else unknown(node), value)


def bound(
    function: Function,
    args: tuple[Value, ...],
    keywords: Mapping[str, Value],
    evaluator: Evaluator,
) -> Scope:
    """Return the scope of a call: the function's parameters over what it sees around it."""
    given = function.node.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    inner: dict[str, Value] = {
        name: unknown(ast.Name(id=name, lineno=function.node.lineno))
        for name in (*names, *(argument.arg for argument in given.kwonlyargs))
    }
    defaults = dict(zip(reversed(names), reversed(given.defaults), strict=False))
    defaults |= {
        argument.arg: default
        for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        if default is not None
    }
    inner |= {name: evaluator.value(node, function.scope) for name, node in defaults.items()}
    inner |= dict(zip(names, args, strict=False))
    inner |= {name: value for name, value in keywords.items() if name in inner}
    return function.scope.new_child(inner)


def _choose(test: Value, newer: Value, older: Value) -> Value:
    if isinstance(test, Branch):
        return Branch(
            version=test.version,
            newer=_choose(test.newer, newer, older),
            older=_choose(test.older, newer, older),
        )
    return newer if test else older


def _flag(text: Value, node: ast.AST) -> Value:
    """Return what vLLM makes of an environment variable that is 0 or 1."""
    return {"0": False, "1": True}.get(str(text)) if text in ("0", "1") else unknown(node)


def _converted(name: str, value: Value, node: ast.AST) -> Value:
    if not isinstance(value, (str, int)) or (isinstance(value, str) and len(value) > 20):
        return unknown(node)
    try:
        return bool(value) if name == "bool" else int(value)
    except ValueError:
        return unknown(node)


def _is_torch(value: Value) -> bool:
    if isinstance(value, Called) and value.name.rpartition(".")[2] in _VERSION:
        return len(value.args) == 1 and _is_torch(value.args[0])
    return isinstance(value, Symbol) and value.path in _TORCH_VERSION


def _from_torch(node: ast.Compare, version: Value) -> Value:
    """Return what a comparison of torch's version with another one gives."""
    if isinstance(version, Called) and version.name.rpartition(".")[2] in _VERSION:
        version = version.args[0] if len(version.args) == 1 else None
    found = torch_from(version, node)
    if isinstance(node.ops[0], ast.GtE):
        return found
    if isinstance(node.ops[0], ast.Lt):
        return lift(lambda one: not one, found)
    return unknown(node)


def _spec(
    kind: SpecType, args: tuple[Value, ...], keywords: Mapping[str, Value], node: ast.Call
) -> Value:
    fields = {**kind.defaults, **dict(zip(kind.fields, args, strict=False)), **keywords}
    if len(args) > len(kind.fields) or fields.keys() != set(kind.fields):
        return unknown(node)
    return Spec(type=kind.name, fields=fields)
