"""What garbage collection would cost a table of many records, if the command did not pause it.

    python benchmarks/collection.py [FOLDER ...] [--least SHARE]

Makes the table of these folders (default: `results`), once as `matrix table` does and once with
garbage collection, and prints the CPU seconds of both and what of the second went into the
collections. Exits with 1 where that is less than SHARE (default 0.05) of it: then `matrix._util.gc`
is not worth its lines. Small folders say little; `benchmarks/history.py --keep DIR` makes large
ones.
"""

import argparse
import contextlib
import gc
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description="The cost of garbage collection in a table.")
    parser.add_argument("folders", nargs="*", default=[str(_ROOT / "results")])
    parser.add_argument("--least", type=float, default=0.05)
    # Each measurement is made by a process of its own.
    parser.add_argument("--measure", choices=("paused", "collecting"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return _measure(options.folders, collecting=options.measure == "collecting")
    share = 0.0
    for name in ("paused", "collecting"):
        command = [sys.executable, __file__, "--measure", name, *options.folders]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        total, collected, times = map(float, done.stdout.split())
        print(f"{name:10} {total:6.2f} CPU s, {collected:.2f} of them in {times:.0f} collections")
        share = collected / total
    print(f"collecting takes {share:.0%} of the time")
    return 0 if share >= options.least else 1


@contextlib.contextmanager
def _not_paused() -> Iterator[None]:
    yield


def _measure(folders: Sequence[str], *, collecting: bool) -> int:
    from matrix._util import gc as paused

    if collecting:
        paused.gc_paused = _not_paused  # before the command imports it
    collected, times, began = 0.0, 0, 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal collected, times, began
        if phase == "start":
            began = time.process_time()
        else:
            collected += time.process_time() - began
            times += 1

    from matrix import cli

    gc.callbacks.append(note)
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        cli.main(["table", "--out", out, *folders])
    print(time.process_time(), collected, times)
    return 0


if __name__ == "__main__":
    sys.exit(main())
