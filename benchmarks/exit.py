"""What the collection at Python's exit would cost a command, if `matrix.cli.main` left it on.

    python benchmarks/exit.py [--runs N] [--least SHARE]

Runs `matrix qualify` of the published records as a program, which leaves that collection out, and
by a call of `main` with arguments, which does not, in turn; prints the median CPU seconds of both.
Exits with 1 where the difference is less than SHARE (default 0.01): then `gc.freeze` is not worth
its line.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_COMMAND = ["qualify", "--torch", "2.12.1", "--baseline", "2.11.0"]
_WAYS = {
    "frozen": f"import sys; sys.argv[1:] = {_COMMAND}; from matrix.cli import main; main()",
    "collected": f"from matrix.cli import main; main({_COMMAND})",
}


def main() -> int:
    parser = argparse.ArgumentParser(description="The cost of the collection at Python's exit.")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--least", type=float, default=0.01)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(options.runs):
        for way, program in _WAYS.items():
            seconds[way].append(_cpu_seconds(program))
    medians = {way: statistics.median(runs) for way, runs in seconds.items()}
    for way, median in medians.items():
        print(f"{way:10} {median:.3f} CPU s")
    share = 1 - medians["frozen"] / medians["collected"]
    print(f"the collection at exit takes {share:.1%}")
    return 0 if share >= options.least else 1


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
