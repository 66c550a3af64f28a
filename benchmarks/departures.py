"""What it costs to hold the packages of many records against what their vLLM requires.

    python benchmarks/departures.py [--environments N]

Prints the CPU seconds for the published records, each in N environments that differ in one package,
with the answers to each line of the requirements remembered (`matrix.verdict.stock._of_line`) and
found each time; the same for the names in the lines (`_named`). Exits with 1 where one of the two
saves less than half: then the cache is not worth its line.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from matrix.record.model import Record
from matrix.record.reader import read_many
from matrix.verdict import stock

_RESULTS = Path(__file__).resolve().parent.parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description="The cost of holding packages against vLLM's.")
    parser.add_argument("--environments", type=int, default=30)
    options = parser.parse_args()
    found, _ = read_many([_RESULTS / "cuda", _RESULTS / "cpu"])
    records = [
        replace(record, departures=None, packages={**record.packages, "numpy": f"{way}.{number}"})
        for way in (1, 2)
        for number in range(options.environments)
        for _, record in found
    ]
    _seconds(records)  # reads the data
    usual, slow = _seconds(records), []
    print(f"{'remembered':22}{usual:.3f} CPU s for {len(records)} environments")
    for cached in (stock._of_line, stock._named):  # noqa: SLF001 (they are measured)
        without = _seconds(records, cached.cache_clear)
        print(f"{'without ' + cached.__name__:22}{without:.3f}")
        if usual > without / 2:
            slow.append(cached.__name__)
    for name in slow:
        print(f"{name} saves less than half: take it out")
    return 1 if slow else 0


def _seconds(records: Sequence[Record], clear: Callable[[], None] = lambda: None) -> float:
    """Return the CPU seconds for these records, with a cache cleared before each."""
    began = time.process_time()
    for record in records:
        clear()
        stock.departures_of(record)
    return time.process_time() - began


if __name__ == "__main__":
    raise SystemExit(main())
