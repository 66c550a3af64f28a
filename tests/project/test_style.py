"""How long a module and a function are, its arguments; names of loop variables and of types."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "matrix", "scripts", "tests")
MODULE_LINES = 500
FUNCTION_LINES = 60
POSITIONAL_ARGUMENTS = 5
NOT_NOUNS = {
    "each", "it", "one", "said", "some", "that", "these", "this", "those", "told", "which",
}  # fmt: skip
"""What a loop variable is not called: it says nothing of what the loop goes over."""

PRIVATE_WORDS = re.compile(r"\b(anew|mend|mended|said|told)\b", re.IGNORECASE)
"""Words of a private idiom: a reader asks who told whom. `docs/glossary.md` has better ones."""

MODULES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "toxfile.py",
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
    )
}


@cache
def found(source: str) -> tuple[list[tuple[int, str]], list[tuple[str, int, int]]]:
    """Give the loop variables and the functions of a module, which is parsed once for all tests."""
    variables, functions = [], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            names = (name for name in ast.walk(node.target) if isinstance(name, ast.Name))
            variables += [(name.lineno, name.id) for name in names]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            arguments = [*node.args.posonlyargs, *node.args.args]
            count = sum(argument.arg not in {"self", "cls"} for argument in arguments)
            functions.append((node.name, node.end_lineno - node.lineno + 1, count))
    return variables, functions


def loop_variables(source: str) -> list[tuple[int, str]]:
    """Every variable of a loop or a comprehension, with its line."""
    return found(source)[0]


def functions(source: str) -> list[tuple[str, int, int]]:
    """Every function, also within another one: its lines without decorators, its arguments.

    The arguments are those that may be given by position, without `self` and `cls`.
    """
    return found(source)[1]


def made_by_position(source: str) -> Iterator[tuple[int, str]]:
    """Every object that is made of too many values by position, with its line and class."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and len(node.args) > POSITIONAL_ARGUMENTS:
            name = ast.unparse(node.func).rpartition(".")[2].lstrip("_")
            if name[:1].isupper():
                yield node.lineno, name


def types(source: str) -> Iterator[str]:
    """Every class and alias of a type that a module defines for others.

    An alias is what is assigned to a name of capitalised words, such as `Key = tuple[str, str]`.
    """
    for node in ast.parse(source).body:
        match node:
            case ast.ClassDef(name=name):
                names = [name]
            case ast.Assign(targets=targets):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        yield from (name for name in names if name[0].isupper() and not name.isupper())


def homonyms(modules: Mapping[str, str]) -> list[str]:
    """Return the types of one name that several modules define, a line each."""
    homes: dict[str, list[str]] = {}
    for module, source in modules.items():
        for name in dict.fromkeys(types(source)):
            homes.setdefault(name, []).append(module)
    return [
        f"{name}: {', '.join(sorted(places))}"
        for name, places in sorted(homes.items())
        if len(places) > 1
    ]


def test_every_folder_is_read() -> None:
    assert {name.partition("/")[0] for name in MODULES} == {*FOLDERS, "toxfile.py"}
    assert len(MODULES) > 400


def test_a_loop_variable_is_a_noun() -> None:
    wrong = [
        f"{name}:{line}: {variable}"
        for name, source in MODULES.items()
        for line, variable in loop_variables(source)
        if variable in NOT_NOUNS
    ]
    assert wrong == []


def test_no_function_is_long() -> None:
    wrong = [
        f"{name}: {function}: {lines} lines"
        for name, source in MODULES.items()
        for function, lines, _ in functions(source)
        if lines > FUNCTION_LINES
    ]
    assert wrong == []


def test_no_module_is_long() -> None:
    wrong = [
        f"{name}: {lines} lines"
        for name, source in MODULES.items()
        if (lines := len(source.splitlines())) > MODULE_LINES
    ]
    assert wrong == []


def test_five_positional_arguments_are_the_most() -> None:
    """A test takes what it is parametrised with by name, so it may have more."""
    wrong = [
        f"{name}: {function}: {count} positional arguments"
        for name, source in MODULES.items()
        for function, _, count in functions(source)
        if count > POSITIONAL_ARGUMENTS
        and not (name.startswith("tests/") and function.startswith("test_"))
    ]
    assert wrong == []


def test_no_private_word_stands_in_the_package_or_its_docs() -> None:
    """Neither as a name in the code nor in what is printed or documented."""
    paths = [path for folder in ("docs", "matrix") for path in (ROOT / folder).rglob("*.md")]
    texts = {name: source for name, source in MODULES.items() if not name.startswith("tests/")}
    texts |= {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    texts |= {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
    wrong = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if PRIVATE_WORDS.search(line.replace("_", " "))
    ]
    assert wrong == []


def test_an_object_is_made_of_five_values_by_position_at_most() -> None:
    """A named tuple takes its fields in their order, and nobody sees two that are mixed up."""
    wrong = [
        f"{name}:{line}: {made}"
        for name, source in MODULES.items()
        if name.startswith("matrix/")
        for line, made in made_by_position(source)
    ]
    assert wrong == []


def test_an_object_made_by_position_is_found() -> None:
    source = "m._Row(1, 2, 3, 4, 5, 6)\nRow(1, 2, 3, 4, 5)\nrow(1, 2, 3, 4, 5, 6)"
    assert list(made_by_position(source)) == [(1, "Row")]


@pytest.mark.parametrize(
    "source",
    [
        "for each in (): pass",
        "for name, (each, _) in (): pass",
        "[each for each in ()]",
        "{key: 1 for key, each in ()}",
        "async def f():\n    async for each in (): pass",
        "def f():\n    return any(each for part in () for each in part)",
    ],
)
def test_a_loop_variable_is_found(source: str) -> None:
    assert "each" in {variable for _, variable in loop_variables(source)}


def test_a_function_is_measured() -> None:
    inner = "        def g(a, /, b, *, c):\n            pass\n"
    source = f"class C:\n    @property\n    def f(self):\n{inner}"
    assert functions(source) == [("f", 3, 0), ("g", 2, 2)]


def test_a_name_of_a_type_stands_once_in_the_package() -> None:
    """It says what it is: of two `Environment` nobody knows which one a line means."""
    package = {name: source for name, source in MODULES.items() if name.startswith("matrix/")}
    assert homonyms(package) == []


@pytest.mark.parametrize(
    "source", ["class Key: pass", "Key = tuple[str, str]", "Key: TypeAlias = 'str | None'"]
)
def test_a_second_type_of_a_name_is_found(source: str) -> None:
    found = homonyms({"a.py": source, "b.py": "class Key: pass", "c.py": "class Other: pass"})
    assert found == ["Key: a.py, b.py"]


@pytest.mark.parametrize(
    "source",
    ["class _Key: pass", "KEY = 1", "class Other:\n    class Key: pass", "from a import Key"],
)
def test_what_others_cannot_mix_up_is_not_a_second_type(source: str) -> None:
    assert homonyms({"a.py": source, "b.py": "class Key: pass"}) == []
