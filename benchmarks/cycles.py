"""What Python's search for cycles would cost a command, if `matrix.cli.main` left it as it is.

    python benchmarks/cycles.py [--runs N] [--least SHARE]

Runs `matrix qualify` of the published records as it is, with Python's own threshold, and with the
search at the exit, in turn; prints the least CPU seconds of each. Exits with 1 where a line of
`matrix.cli` saves less than SHARE (default 0.01): then it is not worth having.
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_COMMAND = ["qualify", "--torch", "2.12.1", "--baseline", "2.11.0"]
_PROGRAM = f"""
import gc, sys
sys.argv[1:] = {_COMMAND}
{{}}
from matrix.cli import main
main()
"""
_WAYS = {
    "as it is": "",
    "own threshold": "gc.set_threshold = lambda *counts: None",
    "with the exit": "gc.freeze = lambda: None",
}


def main() -> int:
    parser = argparse.ArgumentParser(description="The cost of Python's search for cycles.")
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--least", type=float, default=0.01)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(options.runs):
        for way, line in _WAYS.items():
            seconds[way].append(_cpu_seconds(_PROGRAM.format(line)))
    least = {way: min(runs) for way, runs in seconds.items()}
    own = least.pop("as it is")
    print(f"as it is       {own:.3f} CPU s")
    for way, value in least.items():
        print(f"{way:14} {value:.3f} CPU s; its line saves {1 - own / value:.1%}")
    return 0 if all(1 - own / value >= options.least for value in least.values()) else 1


def _cpu_seconds(program: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environ = {**os.environ, "PYTHONPATH": str(_ROOT)}
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=_ROOT,
        env=environ,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
