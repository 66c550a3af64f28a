"""What the cases of a run are spared where it asks the classes of its models once, for all of them.

A run of the two small cases is made in this environment, one case after the other. The first one's
cold start asks its model itself, as users' starts do, and the second one's is given the answer of
the run. Prints the seconds of both, and fails where the second takes more than a share of the first
one's.

    python benchmarks/inspections.py PAIR [--limit 0.10]

PAIR is a cell's name without its Python, such as torch210-vllm019: this environment's counts.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from matrix.record.model import StartKind
from matrix.record.reader import read

_ROOT = Path(__file__).resolve().parent.parent
_ASKS, _IS_GIVEN = "small_startup[dense]", "small_startup[moe]"


def main() -> int:
    """Measure, print, and return 0 where the share is within the limit."""
    parser = argparse.ArgumentParser(description="What one inspection for all cases spares.")
    parser.add_argument("pair")
    parser.add_argument("--limit", type=float, default=0.10)
    options = parser.parse_args()
    cell = f"py{sys.version_info.major}{sys.version_info.minor}-{options.pair}"
    with tempfile.TemporaryDirectory(prefix="bench-") as records:
        inspected, total = _run(cell, records)
    if not inspected[_ASKS]:
        raise SystemExit(f"{_ASKS}: vLLM reports no seconds of inspection; nothing to compare")
    share = inspected[_IS_GIVEN] / inspected[_ASKS]
    print(f"{cell} on the CPU: seconds of inspection in a cold start, of its seconds in all")
    for case, seconds in inspected.items():
        print(f"{case:<21} {seconds:6.2f} of {total[case]:6.1f}")
    print(f"share {share:.3f}, limit {options.limit:.2f}")
    return 0 if share <= options.limit else 1


def _run(cell: str, records: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return by case the seconds of a cold start's inspection, and those of the whole start."""
    command = [sys.executable, "-m", "matrix", "run", cell, "--here", "--platform", "cpu"]
    command += ["--jobs", "1", "--records", records, "-k", "small_startup"]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.DEVNULL, check=False)
    cold = {
        case.case: start.seconds
        for path in Path(records).rglob("*.json")
        for case in read(path).cases
        for start in [case.started(StartKind.COLD)]
        if start is not None
    }
    if not {_ASKS, _IS_GIVEN} <= cold.keys():
        raise SystemExit(f"matrix run {cell} ended with {done.returncode}; nothing to compare")
    inspected = {case: seconds.get("inspect", 0.0) for case, seconds in cold.items()}
    return inspected, {case: seconds["total"] for case, seconds in cold.items()}


if __name__ == "__main__":
    raise SystemExit(main())
