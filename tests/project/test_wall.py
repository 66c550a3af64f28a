"""The wall around a cell, as far as the contracts of import-linter (pyproject.toml) cannot hold it.

import-linter reads the package `matrix` alone and has no list of what is allowed. So what code of a
cell imports from other projects is held here, and so are imports by name and the scripts beside the
package.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a cell imports of `matrix`, beside `matrix.inside`.
PURE = {
    "matrix._util",
    "matrix.catalog.cells",
    "matrix.errors",
    "matrix.record",
    "matrix.rules.counters",
    "matrix.rules.expectations",
    "matrix.rules.expectations_file",
    "matrix.rules.provisional",
}
# tomli stands for tomllib on Python 3.10, where a cell may run too.
ANYWHERE = {*sys.stdlib_module_names, "packaging", "tomli", "tomllib"}
INSIDE = {*ANYWHERE, "_pytest", "pytest", "torch", "vllm"}
ONLY_INSIDE = {
    "matrix.inside",
    "torch",
    "torchaudio",
    "torchvision",
    "transformers",
    "triton",
    "vllm",
}


def imports(source: str) -> Iterator[str]:
    """Every module that the source imports, at its top or later; relative imports are left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)
            if str(node.module).startswith("matrix"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
    yield from by_name(source)


def by_name(source: str) -> Iterator[str]:
    """Every module that the source imports by a name in quotes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def within(name: str, modules: set[str]) -> bool:
    """Whether the module is one of these, or below one of them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def foreign(source: str, module: str) -> list[str]:
    """Return what the source of a cell imports and may not."""
    names = {name for name in imports(source) if name != "matrix"}
    if within(module, PURE):
        # import-linter holds what these import of `matrix`.
        allowed = ANYWHERE | {"matrix"}
    elif within(module, {"matrix.inside"}):
        allowed = INSIDE | {"matrix"}
    else:
        # Names of a module of PURE come with that module.
        allowed = INSIDE | PURE | {"conftest", "matrix.inside"}
        names -= {name for name in names if any(pure.startswith(f"{name}.") for pure in PURE)}
    return sorted(name for name in names if not within(name, allowed))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in (ROOT / "matrix").rglob("*.py")}
STARTUP = {module_of(path): path for path in (ROOT / "tests" / "startup").rglob("*.py")}
IN_A_CELL = {
    name: path for name, path in MODULES.items() if within(name, PURE | {"matrix.inside"})
} | STARTUP
BESIDE = [*(ROOT / "scripts").rglob("*.py"), ROOT / "toxfile.py"]


def test_the_wall_has_two_sides() -> None:
    assert all(any(within(name, {pure}) for name in MODULES) for pure in PURE)
    assert len(STARTUP) >= 4
    assert len(IN_A_CELL) < len(MODULES) / 2


@pytest.mark.parametrize("name", sorted(IN_A_CELL))
def test_a_cell_imports_no_other_project(name: str) -> None:
    assert foreign(IN_A_CELL[name].read_text(encoding="utf-8"), name) == []


def test_no_import_by_name_or_of_a_script_goes_through_the_wall() -> None:
    judging = MODULES.keys() - IN_A_CELL.keys()
    names = {name for module in judging for name in by_name(MODULES[module].read_text())}
    names |= {name for path in BESIDE for name in imports(path.read_text(encoding="utf-8"))}
    assert {"duckdb", "matrix.errors"} <= names
    assert {name for name in names if within(name, ONLY_INSIDE)} == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("matrix.catalog.cells", "import jsonschema"),
        ("matrix.catalog.cells", "import torch"),
        ("matrix.record.signature", "import pytest"),
        ("matrix.inside.journal", "import jsonschema"),
        ("matrix.inside.journal", "def f():\n    from numpy.linalg import norm"),
        ("matrix.inside.journal", "import importlib\nimportlib.import_module('ray')"),
        ("tests.startup.test_small", "import numpy"),
        ("tests.startup.test_small", "from matrix.verdict.judge import judge"),
        ("tests.startup.test_small", "import matrix.catalog.releases"),
        ("tests.startup.test_small", "from matrix.catalog import releases"),
    ],
)
def test_what_a_cell_may_not_import_is_named(module: str, source: str) -> None:
    assert foreign(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("matrix.inside.journal", "import torch\nfrom matrix.record import model"),
        ("matrix.inside.journal", "from . import supervisor\nfrom vllm.config import VllmConfig"),
        ("tests.startup.test_small", "from matrix.inside.models import small\nimport vllm.config"),
        ("tests.startup.test_small", "from matrix.catalog import cells"),
    ],
)
def test_what_a_cell_may_import(module: str, source: str) -> None:
    assert foreign(source, module) == []


def test_a_module_that_is_imported_by_name_is_seen() -> None:
    source = "import importlib as i\ni.import_module('torch')\n__import__('vllm')\nimport json"
    assert list(by_name(source)) == ["torch", "vllm"]


HOLES = {
    "matrix.verdict.judge": ("import torch", "torch"),
    "matrix.record.provenance": ("def f():\n    import vllm.config", "vllm"),
    "matrix.report.markdown": ("from matrix.inside import journal", "matrix.inside.journal"),
    "matrix.rules.expectations": ("import matrix.rules.waivers", "matrix.rules.waivers"),
    "matrix.inside.journal": ("from matrix.verdict import judge", "matrix.verdict.judge"),
    "matrix.inside.timings": ("from matrix.catalog import releases", "matrix.catalog.releases"),
    "matrix.catalog.releases": ("import matrix.store", "matrix.store"),
    "matrix.verdict.plan": ("from matrix.report import grid", "matrix.report.grid"),
}


def test_import_linter_sees_a_hole(tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="tox -e lint has import-linter")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, path in MODULES.items():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        hole, _ = HOLES.get(name, ("", ""))
        copy.write_text(f"{path.read_text(encoding='utf-8')}\n{hole}\n", encoding="utf-8")
    code = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    for name, (_, imported) in HOLES.items():
        assert f"{name} -> {imported} (l." in done.stdout
    assert done.stdout.count(" BROKEN") == 4
