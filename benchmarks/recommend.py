"""How long `matrix recommend` and `matrix upgrade` take, from the start of Python to the text.

    python benchmarks/recommend.py [--rounds N] [--most SECONDS]

Each command runs as a program of its own, in the root of the checkout, on the published records.
Prints the CPU seconds of each, the best of the rounds (what else runs on the machine does not
count), and next to them those of `matrix grid`, which climbs every cell. Exits with 1 where a
recommendation or an upgrade takes more than SECONDS (default 0.5).
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_COMMANDS = {
    "recommend": ("recommend",),
    "recommend, an old driver": ("recommend", "--driver", "570", "--gpu", "h100"),
    "recommend, nothing fits": ("recommend", "--driver", "520"),
    "recommend, another torch": ("recommend", "--torch", "<2.13"),
    "recommend, measured": ("recommend", "--gpu", "h200", "--evidence", "measured"),
    "upgrade": ("upgrade", "--from", "0.19.1", "--to", "0.26.0"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="The cost of a recommendation and an upgrade.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=float, default=0.5)
    options = parser.parse_args()
    slow = False
    for name, arguments in _COMMANDS.items():
        took = best(arguments, options.rounds)
        print(f"{name:<28}{took:7.3f} CPU s, may take {options.most:.3f}", flush=True)
        slow |= took > options.most
    print(f"{'grid, of the same data':<28}{best(('grid',), options.rounds):7.3f} CPU s")
    return int(slow)


def best(arguments: tuple[str, ...], rounds: int) -> float:
    """Return the CPU seconds of the fastest run of a command."""
    return min(seconds(arguments) for _ in range(rounds))


def seconds(arguments: tuple[str, ...]) -> float:
    """Return the CPU seconds of one run; its exit status may be 1, where no pair fits."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    ended = subprocess.run(
        [sys.executable, "-m", "matrix", *arguments],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    assert ended.returncode in (0, 1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
