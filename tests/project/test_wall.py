"""The wall between what runs inside a cell and what judges cells, read from the sources."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = {
    "matrix._util",
    "matrix.catalog.cells",
    "matrix.errors",
    "matrix.rules.expectations",
    "matrix.record.model",
    "matrix.record.signatures",
}
# tomli stands for tomllib on Python 3.10, where a cell may run too.
ANYWHERE = {*sys.stdlib_module_names, "packaging", "tomli"}
INSIDE = {*ANYWHERE, "pytest", "_pytest", "torch", "vllm"}
ONLY_INSIDE = {"torch", "torchaudio", "torchvision", "transformers", "triton", "vllm"}


PACKAGES = {
    ".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("matrix/**/__init__.py")
}


def imports(source: str, module: str) -> Iterator[str]:
    """Every module that the source imports, at its top or later, by its full name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from matrix.record import model` names a module, `from matrix.record.model
            # import read` does not.
            yield from (
                f"{base}.{alias.name}" if base in PACKAGES or not node.module else base
                for alias in node.names
            )
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            argument = node.args[0]
            if name in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield str(argument.value)


def within(name: str, modules: set[str]) -> bool:
    """Whether the module is one of these, or below one of them."""
    return any(name == each or name.startswith(f"{each}.") for each in modules)


def forbidden(source: str, module: str) -> list[str]:
    """The imports of a module that go through the wall."""
    found = sorted(set(imports(source, module)))
    if within(module, PURE):
        lazily = {"jsonschema"} if module == "matrix.record.model" else set()
        return [each for each in found if not within(each, ANYWHERE | PURE | lazily)]
    if within(module, {"matrix.inside", "tests.startup"}):
        allowed = INSIDE | PURE | {"matrix.inside", "conftest"}
        return [each for each in found if not within(each, allowed)]
    return [each for each in found if within(each, ONLY_INSIDE | {"matrix.inside"})]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(
    [
        *(ROOT / "matrix").rglob("*.py"),
        *(ROOT / "scripts").rglob("*.py"),
        *(ROOT / "tests" / "startup").rglob("*.py"),
        ROOT / "toxfile.py",
    ]
)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_import_goes_through_the_wall(path: Path) -> None:
    assert forbidden(path.read_text(encoding="utf-8"), module_of(path)) == []


def test_the_wall_has_two_sides() -> None:
    modules = {module_of(path) for path in SOURCES}
    assert all(any(within(module, {pure}) for module in modules) for pure in PURE)
    assert {each for each in modules if each.startswith("matrix.inside.")}
    assert "matrix.verdict.judge" in modules


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("matrix.verdict.judge", "import torch"),
        ("matrix.verdict.judge", "def f():\n    from vllm.config import VllmConfig"),
        ("matrix.verdict.judge", "from matrix.inside import journal"),
        ("matrix.verdict.judge", "from ..inside.journal import read"),
        ("matrix.cli", "import importlib\nimportlib.import_module('matrix.inside.vllm_compat')"),
        ("matrix.catalog.cells", "import jsonschema"),
        ("matrix.catalog.cells", "from matrix import verdicts"),
        ("matrix.inside.pytest_plugin.plugin", "import jsonschema"),
        ("matrix.inside.pytest_plugin.plugin", "from matrix.verdict.judge import judge"),
        ("matrix.inside.pytest_plugin.plugin", "from matrix import provenance"),
        ("tests.startup.test_small", "import numpy"),
    ],
)
def test_a_hole_in_the_wall_is_seen(module: str, source: str) -> None:
    assert len(forbidden(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("matrix.verdict.judge", "from matrix.record.model import read\nimport jsonschema"),
        (
            "matrix.inside.pytest_plugin.plugin",
            "import torch\nfrom matrix.record import model, signatures",
        ),
        ("matrix.inside.pytest_plugin.plugin", "from . import journal\nfrom .journal import read"),
        ("matrix.record.model", "def f():\n    import jsonschema"),
        ("tests.startup.test_small", "from matrix.inside.models import small\nimport vllm.config"),
    ],
)
def test_what_the_wall_lets_through(module: str, source: str) -> None:
    assert forbidden(source, module) == []
