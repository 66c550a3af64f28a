"""What it costs to hold the packages of many records against what their vLLM requires.

    python benchmarks/departures.py [--environments N]

Prints the CPU seconds for the published records, each in N environments that differ, with the
requirements remembered as they are (`matrix.record.stock.parsed`) and parsed each time. Exits with
1 where that is less than twice as slow: then the cache is not worth its line.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from matrix.record import stock
from matrix.record.reader import read_many
from matrix.verdict.stock import departures_of

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
    half = len(records) // 2
    seconds = {}
    for name, part, clear in (
        ("parsed", records[half:], True),
        ("remembered", records[:half], False),
    ):
        began = time.process_time()
        for record in part:
            if clear:
                stock.parsed.cache_clear()
            departures_of(record)
        seconds[name] = time.process_time() - began
        print(f"{name:10} {seconds[name]:.3f} CPU s for {len(part)} environments")
    return int(seconds["parsed"] < 2 * seconds["remembered"])


if __name__ == "__main__":
    raise SystemExit(main())
