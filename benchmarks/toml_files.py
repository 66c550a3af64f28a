"""What the extra `fast` saves: the data files parsed by tomli's compiled parser, and by Python's.

    python benchmarks/toml_files.py [--runs N] [--least RATIO]

Parses all TOML files of the package by both in turn; prints the least CPU seconds of each. Exits
with 1 where Python's own parser takes less than RATIO (default 2) times as long: then the extra is
not worth its line. Needs Python 3.11.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli
import tomllib

_DATA = Path(__file__).resolve().parent.parent / "matrix" / "data"


def main() -> int:
    parser = argparse.ArgumentParser(description="The data files, parsed by tomli and by Python.")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--least", type=float, default=2.0)
    options = parser.parse_args()
    texts = [path.read_text(encoding="utf-8") for path in sorted(_DATA.glob("*.toml"))]
    ways = {"tomli": tomli.loads, "tomllib": tomllib.loads}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.runs):
        for way, loads in ways.items():
            seconds[way].append(_cpu_seconds(loads, texts))
    least = {way: min(runs) for way, runs in seconds.items()}
    for way, value in least.items():
        print(f"{way:8} {value * 1000:.1f} CPU ms for {len(texts)} files")
    ratio = least["tomllib"] / least["tomli"]
    print(f"Python's own parser takes {ratio:.1f} times as long")
    return 0 if ratio >= options.least else 1


def _cpu_seconds(loads: Callable[[str], dict[str, Any]], texts: list[str]) -> float:
    began = time.process_time()
    for text in texts:
        loads(text)
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
