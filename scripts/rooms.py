"""Draw the rooms of the package, and who imports whom, into docs/architecture.md.

    python scripts/rooms.py            write the picture
    python scripts/rooms.py --check    exit with 1 where it is not that of the sources

An arrow points from a package to one that it imports. Those that follow from others are left out.
The order of the rooms is that of the contract in pyproject.toml, which import-linter holds.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- scripts/rooms.py draws this -->\n"
END = "<!-- end of the picture -->\n"
BESIDE = "inside"


def layers(root: Path) -> list[str]:
    """Return the rooms from the top down, as the contract names them."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "layers")
    return list(contract["layers"])


def imports(root: Path) -> dict[str, set[str]]:
    """Return, for each room, the other rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for path in sorted((root / "matrix").rglob("*.py")):
        room = path.relative_to(root / "matrix").with_suffix("").parts[0]
        rooms = found.setdefault(room, set())
        rooms |= {name for name in _imported(path.read_text(encoding="utf-8")) if name != room}
    return found


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("matrix."))


def arrows(found: Mapping[str, set[str]], rooms: Sequence[str]) -> list[tuple[str, str]]:
    """Return the imports that no others imply, in the order of the rooms."""
    kept = []
    for room in rooms:
        for other in sorted(found.get(room, ()), key=rooms.index):
            others = found[room] - {other}
            if not any(_reaches(found, between, other) for between in others):
                kept.append((room, other))
    return kept


def _reaches(found: Mapping[str, set[str]], start: str, end: str) -> bool:
    seen: set[str] = set()
    queue = [start]
    while queue:
        room = queue.pop()
        if room == end:
            return True
        if room not in seen:
            seen.add(room)
            queue.extend(found.get(room, ()))
    return False


def picture(root: Path) -> str:
    """Return the picture as a Mermaid flowchart."""
    rooms = [*layers(root), BESIDE]
    found = {room: others & set(rooms) for room, others in imports(root).items()}
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"    {room}" for room in rooms[:-1]]
    lines += ["    subgraph wall [behind the wall]", f"        {BESIDE}", "    end"]
    lines += [f"    {room} --> {other}" for room, other in arrows(found, rooms)]
    return "\n".join([*lines, "```"]) + "\n"


def drawn(page: str, root: Path) -> str:
    """Return the page with the picture of these sources in its place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE}: the lines around the picture are missing")
    return f"{before}{BEGIN}\n{picture(root)}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    new = drawn(page, ROOT)
    if new == page:
        return 0
    if options.check:
        print(f"{PAGE.relative_to(ROOT)}: not the picture of the sources; run {sys.argv[0]}")
        return 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
