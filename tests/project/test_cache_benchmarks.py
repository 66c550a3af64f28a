"""Every cache of the package is in `benchmarks/caches.py`, which fails where one is useless."""

import ast
from collections.abc import Iterator

from matrix._util.paths import CHECKOUT

KEPT = {"cache", "cached_property", "lru_cache"}
ELSEWHERE = {"matrix.run.here:_distribution"}
"""What another benchmark defends: `benchmarks/unchanged.py`."""


def name_of(decorator: ast.expr) -> str:
    """Return the last part of a decorator's name."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")


def cached(node: ast.AST, prefix: str) -> Iterator[str]:
    """Yield the functions and properties below a node whose values are kept."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from cached(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and KEPT & set(map(name_of, child.decorator_list)):
            yield f"{prefix}{child.name}"


def defended() -> set[str]:
    """Return the caches that the benchmark takes out, one by one."""
    tree = ast.parse((CHECKOUT / "benchmarks" / "caches.py").read_text(encoding="utf-8"))
    (caches,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "_CACHES"
    )
    assert caches is not None
    return set(ast.literal_eval(caches))


def test_every_cache_has_a_benchmark() -> None:
    found = set()
    for path in (CHECKOUT / "matrix").rglob("*.py"):
        module = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= set(cached(tree, f"{module.removesuffix('.__init__')}:"))
    assert len(found) > 20
    assert found - defended() == ELSEWHERE
