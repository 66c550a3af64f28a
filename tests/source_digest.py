"""A digest of what Python sources do: the same wherever they lie and however they are documented.

It follows the syntax trees without docstrings, comments, `__all__` and imports of own modules, and
without the order of a module's statements: to move a function to another module, to reformat it or
to document it changes nothing. What it uses of other packages counts: the same code does something
else with another function under the same name.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matrix.errors import MatrixError
from matrix.record.startup_tests import parse_startup_tests

_OWN_PATH = re.compile(r"matrix(\.\w+)+", re.ASCII)
_WORDS_OF_SCHEMA = ("description", "title")
_NOT_MEANT = ("ctx", "kind", "type_comment", "type_ignores", "type_params")


class SourceDigestError(MatrixError):
    """A source that is not there: names the pattern and the fix."""


def digest_of(root: Path, sources: Iterable[str], data: Iterable[str] = ()) -> str:
    """Return a SHA-256 over what these sources do and these data files hold.

    A source is a pattern of files below `root`, and after `::` the names of the only definitions of
    a file that count, parted by commas. A data file, or folder of them, counts by its bytes; a JSON
    Schema by its rules alone, the versions of the startup tests by the fingerprints alone.

    Raises SourceDigestError where a pattern or a name finds nothing.
    """
    found = {line for source in sources for line in _of_source(root, source)}
    found |= {line for name in data for line in _of_data(root, name)}
    digest = hashlib.sha256()
    for line in sorted(found):
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return f"sha256:{digest.hexdigest()}"


def statements(text: str, names: Sequence[str] = ()) -> Iterator[str]:
    """Yield each statement of a module that does something, as text without its place.

    With `names` only those that define one of them. Of what is imported from other packages the
    names that these statements use are yielded too.
    """
    imports: dict[str, str] = {}
    used: set[str] = set()
    for statement in ast.parse(text).body:
        imports.update(_imported(statement))
        if names and not _defined(statement) & set(names):
            continue
        if isinstance(statement, (ast.Import, ast.ImportFrom)) or "__all__" in _defined(statement):
            continue
        if isinstance(statement, ast.If) and _is_type_checking(statement) and not statement.orelse:
            continue
        if (told := _dump(statement)) is not None:
            used.update(node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
            yield json.dumps(told)
    yield from sorted(line for name, line in imports.items() if name in used)


def _imported(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the names that an import binds to what is of other packages, and what that is."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if not _is_own(alias.name):
                bound = alias.asname or alias.name.partition(".")[0]
                yield bound, json.dumps(["import", alias.name, alias.asname])
    elif isinstance(statement, ast.ImportFrom) and not statement.level:
        for alias in statement.names:
            if not _is_own(statement.module):
                bound = alias.asname or alias.name
                yield bound, json.dumps(["from", statement.module, alias.name, bound])


def _of_source(root: Path, source: str) -> Iterator[str]:
    pattern, _, wanted = source.partition("::")
    names = [name for name in wanted.split(",") if name]
    paths = [path for path in sorted(root.glob(pattern)) if path.is_file()]
    if not paths:
        raise SourceDigestError(f"{source}: does not exist; write its new path")
    defined: set[str] = set()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        defined.update(*map(_defined, ast.parse(text).body))
        yield from statements(text, names)
    for name in names:
        if name not in defined:
            raise SourceDigestError(f"{source}: {name} is not defined there; write where it is now")


def _of_data(root: Path, name: str) -> Iterator[str]:
    top = root / name
    paths = [path for path in sorted((top, *top.rglob("*"))) if path.is_file()]
    if not paths:
        raise SourceDigestError(f"{name}: does not exist; write its new path")
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if path.name.endswith(".schema.json"):
            text = json.dumps(_rules(json.loads(text)), sort_keys=True)
        elif path.name == "startup_tests.toml":
            text = json.dumps(dict(parse_startup_tests(text, name).of_fingerprint), sort_keys=True)
        yield json.dumps([path.relative_to(top.parent).as_posix(), text])


def _rules(schema: object) -> object:
    """Return a JSON Schema without the words for people."""
    if isinstance(schema, dict):
        return {
            key: _rules(value)
            for key, value in schema.items()
            if key not in _WORDS_OF_SCHEMA or not isinstance(value, str)
        }
    return [_rules(item) for item in schema] if isinstance(schema, list) else schema


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    return {
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    }


def _is_type_checking(statement: ast.If) -> bool:
    return isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"


def _dump(node: ast.AST) -> object:
    """Return a node as JSON's kinds, alike on every Python; None for one that does nothing."""
    if isinstance(node, ast.Pass):
        return None
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return None
    if isinstance(node, ast.ImportFrom) and (node.level or _is_own(node.module)):
        return None
    if isinstance(node, ast.Import) and all(_is_own(alias.name) for alias in node.names):
        return None
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr(list(_joined(node.values)))
    if isinstance(node, (ast.Attribute, ast.Subscript)) and _climbs(node):
        return _dump(node.value)  # from wherever this file is now
    fields = ((key, _field(value)) for key, value in ast.iter_fields(node) if key not in _NOT_MEANT)
    parts = [[key, value] for key, value in fields if value is not None and value != []]
    return [type(node).__name__, *parts]


def _field(value: object) -> object:
    """Return the value of a field as JSON's kinds, without the items that do nothing."""
    if isinstance(value, ast.AST):
        return _dump(value)
    if not isinstance(value, list):
        return value
    items = [(item, _dump(item) if isinstance(item, ast.AST) else item) for item in value]
    # A None that is not a statement has a meaning: the key of ** in a dictionary.
    return [dumped for item, dumped in items if item is None or dumped is not None]


def _joined(values: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """Yield the parts of an f-string; Pythons differ in how they part its constant text."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant):
            text += str(value.value)
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield value
    if text:
        yield ast.Constant(text)


def _climbs(node: ast.Attribute | ast.Subscript) -> bool:
    """Return whether it is a folder above the module's own file."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and _climbs(node.value)
    return node.attr in ("parent", "parents") and any(
        isinstance(inner, ast.Name) and inner.id == "__file__" for inner in ast.walk(node)
    )


def _is_own(module: str | None) -> bool:
    return module is not None and (module == "matrix" or module.startswith("matrix."))


def _constant(value: object) -> object:
    if isinstance(value, str) and _OWN_PATH.fullmatch(value):
        value = f"matrix.{value.rpartition('.')[2]}"  # wherever that module is now
    return ["Constant", type(value).__name__, repr(value)]
