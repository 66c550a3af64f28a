"""Make the printed examples of README, CONTRIBUTING and the guide again, or check them.

    python scripts/printed.py            run their commands and write what these print
    python scripts/printed.py --check    write nothing; exit with 1 where one prints something else

cog does it: the comments between `[[[cog` and `]]]` of a page are Python that prints what follows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_MARK = "[[[cog"


def pages(root: Path) -> list[Path]:
    """Return the pages with such a comment: those of the root, and of the guide."""
    every = (*root.glob("*.md"), *(root / "docs").rglob("*.md"))
    return sorted(path for path in every if _MARK in path.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cog on the pages and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; show what differs")
    options = parser.parse_args(arguments)
    found = [str(path.relative_to(ROOT)) for path in pages(ROOT)]
    if not found:
        print(f"no page has {_MARK}")
        return 0
    way = ["--check", "--diff"] if options.check else ["-r"]
    # -P: what Python prints is the output. cog finds `scripts.*`, since it runs in the root.
    line = [sys.executable, "-m", "cogapp", "-P", *way, *found]
    return subprocess.run(line, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
