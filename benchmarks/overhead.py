"""The harness's overhead: a cell's wall time over the bare starts of the same cases.

Both sides run in this environment, one after the other, in turns: a plain script that starts each
model cold and then warm, a process a start; and `matrix run` of the same cases. Prints both times
and their ratio, and fails where the ratios' median is above the limit.

The plain script imports torch and vLLM once a start and the cell once in all, so the ratio can be
below 1. What the harness itself takes is printed too: the cell's time less the imports and the
starts that its record holds.

    python benchmarks/overhead.py PAIR [--rounds N] [--limit 1.10]

PAIR is a cell's name without its Python, such as torch210-vllm019: this environment's counts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from matrix.record.reader import read

_ROOT = Path(__file__).resolve().parent.parent
_CASES = {"small_startup[dense]": "small-dense", "small_startup[moe]": "small-moe"}


def main() -> int:
    """Measure, print, and return 0 where the median ratio is within the limit."""
    parser = argparse.ArgumentParser(description="The harness's overhead over bare starts.")
    parser.add_argument("pair")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=1.10)
    options = parser.parse_args()
    cell = f"py{sys.version_info.major}{sys.version_info.minor}-{options.pair}"
    ratios: list[float] = []
    print(f"{cell} on the CPU, {len(_CASES)} cases, {options.rounds} rounds", flush=True)
    for number in range(1, options.rounds + 1):
        bare = _timed(_bare)
        with tempfile.TemporaryDirectory(prefix="bench-") as records:
            harness = _timed(lambda: _harness(cell, records))
            known = _in_record(records)
        ratios.append(harness / bare)
        print(
            f"round {number}  bare {bare:6.1f} s  cell {harness:6.1f} s  ratio {ratios[-1]:.2f}"
            f"  (the harness itself {harness - known:.1f} s, {1 - known / harness:.0%})",
            flush=True,
        )
    median = statistics.median(ratios)
    print(f"median ratio {median:.2f}, limit {options.limit:.2f}")
    return 0 if median <= options.limit else 1


def _timed(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _bare() -> None:
    environ = {**os.environ, "MATRIX_PLATFORM": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    for model in _CASES.values():
        with tempfile.TemporaryDirectory(prefix="bench-") as cache:
            command = [sys.executable, str(_ROOT / "benchmarks/bare_start.py"), model, cache]
            for _ in ("cold", "warm"):
                subprocess.run(
                    command,
                    env={**environ, "TMPDIR": cache},
                    cwd=_ROOT,
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )


def _harness(cell: str, records: str) -> None:
    command = [sys.executable, "-m", "matrix", "run", cell, "--here", "--platform", "cpu"]
    command += ["--jobs", "1"]  # as the bare starts: one after another
    done = subprocess.run(
        [*command, "--records", records, "-k", " or ".join(_keywords())],
        cwd=_ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"matrix run {cell} ended with {done.returncode}; nothing to compare")


def _in_record(records: str) -> float:
    """Return the seconds of the imports and of all starts, from the record of the run."""
    [path] = Path(records).rglob("*.json")
    record = read(path)
    starts = (start.seconds["total"] for case in record.cases for start in case.starts)
    return sum(starts) + sum(rung.seconds or 0.0 for rung in record.rungs)


def _keywords() -> list[str]:
    return sorted({case.partition("[")[0] for case in _CASES})


if __name__ == "__main__":
    raise SystemExit(main())
