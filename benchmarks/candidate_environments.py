"""How long tox takes to make the environment of a torch candidate, beside that of a release.

    python benchmarks/candidate_environments.py RELEASE_CELL CANDIDATE_CELL [--rounds 3]

Run it in a checkout, with tox on PATH and both cells of the same vLLM and Python. Each round makes
three environments from nothing: the release's from the index, the candidate's from the index
(`tox -r`), and the candidate's with the packages of the release's, which is there by then. The
first environment of each is not counted: uv fetches and unpacks. Prints wall and CPU seconds with
the load of the machine, then the least and the median of each way and the ratio of the least to the
release's: other work on the machine makes nothing faster. Exit status 1 where the candidate's from
the index is above 1.5. The environments stay.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

_MOST = 1.5  # times the seconds of a release
_WAYS = ("release", "candidate, from the index", "candidate, as beside it")


def main() -> int:
    """Make the environments, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release")
    parser.add_argument("candidate")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for cell in (options.release, options.candidate):
        _make(cell)
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    for number in range(1, options.rounds + 1):
        for way, cell, more in zip(
            _WAYS,
            (options.release, options.candidate, options.candidate),
            ((), ("-r", "--no-recreate-provision"), ()),
            strict=True,
        ):
            wall, cpu = _make(cell, *more)
            seconds[way].append(wall)
            load = os.getloadavg()[0]
            print(
                f"round {number}  {way:26} {wall:6.1f} s, CPU {cpu:5.1f} s, load {load:.1f}",
                flush=True,
            )
    least = {way: min(walls) for way, walls in seconds.items()}
    for way, walls in seconds.items():
        print(
            f"least {least[way]:6.1f} s, median {statistics.median(walls):6.1f} s: {way};"
            f" {least[way] / least[_WAYS[0]]:.2f} of a release's least"
        )
    return int(least[_WAYS[1]] > _MOST * least[_WAYS[0]])


def _make(cell: str, *options: str) -> tuple[float, float]:
    """Make an environment from nothing; return wall and CPU seconds; exit where tox cannot."""
    shutil.rmtree(Path(".tox", cell), ignore_errors=True)
    began, before = time.monotonic(), _cpu()
    done = subprocess.run(
        ["tox", *options, "-e", cell, "--notest"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{cell}: tox ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began, _cpu() - before


def _cpu() -> float:
    """Return the CPU seconds of all that this process has started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
