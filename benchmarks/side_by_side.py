"""The cases of a cell side by side against one after another: both walls, and equal counters.

    python benchmarks/side_by_side.py CELL [--jobs N|auto] [--platform cuda] [PYTEST ARGS]
    python benchmarks/side_by_side.py --records ALONE.json TOGETHER.json

The first runs the cell twice in this environment, through `matrix run`: one case after another,
then side by side. The second compares two records that there are. Both print the wall time of each
(also without its imports, which the first run may have had to read from the disk), the ratio, and
where an outcome or a counter differs. Exit status: 0 identical, 1 not, 2 nothing to compare.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from matrix.errors import MatrixError
from matrix.record.model import Record
from matrix.record.reader import read

_ROOT = Path(__file__).resolve().parent.parent
_JUDGED = (0, 1, 5)  # the statuses of `matrix run` that leave a whole record


def main() -> int:
    """Run or read, print, and return the exit status."""
    parser = argparse.ArgumentParser(description="A cell's cases side by side.", usage=__doc__)
    parser.add_argument("cell", nargs="?")
    parser.add_argument("--jobs", default="auto")
    parser.add_argument("--platform", default="auto")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the records there")
    parser.add_argument("--records", nargs=2, type=Path, metavar="RECORD")
    options, pytest_args = parser.parse_known_args()
    if (options.cell is None) == (options.records is None):
        parser.error("name a cell to run, or --records with two records")
    try:
        if options.records:
            alone, together = map(read, options.records)
        else:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                kept = options.keep or Path(folder)
                asked = [options.cell, "--platform", options.platform]
                alone = _run(kept / "alone", [*asked, "--jobs", "1", *pytest_args])
                together = _run(kept / "together", [*asked, "--jobs", options.jobs, *pytest_args])
        return _compare(alone, together)
    except MatrixError as error:
        print(error, file=sys.stderr)
        return 2


def _run(folder: Path, arguments: list[str]) -> Record:
    before = set(folder.rglob("*.json"))
    command = [
        sys.executable,
        "-m",
        "matrix",
        "run",
        "--here",
        *arguments,
        "--records",
        str(folder),
    ]
    done = subprocess.run(command, cwd=_ROOT, check=False)
    if done.returncode not in _JUDGED:
        raise MatrixError(f"matrix run ended with {done.returncode}; nothing to compare")
    [path] = set(folder.rglob("*.json")) - before
    return read(path)


def _compare(alone: Record, together: Record) -> int:
    for key in ("cell", "platform"):
        if getattr(alone, key) != getattr(together, key):
            raise MatrixError(
                f"{key}: {getattr(alone, key)} and {getattr(together, key)}; compare two records of"
                f" one {key}"
            )
    (wall, bare), (wall_together, bare_together) = _walls(alone), _walls(together)
    print(f"{alone.cell} on {alone.platform}, {_device(alone)}, {len(alone.cases)} cases")
    print(f"one by one  {alone.jobs} at once  {wall:7.1f} s  without imports {bare:7.1f} s")
    print(
        f"together    {together.jobs} at once  {wall_together:7.1f} s"
        f"  without imports {bare_together:7.1f} s"
    )
    print(f"ratio       {wall_together / wall:.2f}, without imports {bare_together / bare:.2f}")
    differing = list(_differences(alone, together))
    counted = sum(len(start.counters) for case in alone.cases for start in case.starts)
    print(f"counters    {counted} compared, {'identical' if not differing else 'they differ:'}")
    for line in differing:
        print(f"  {line}")
    return 1 if differing else 0


def _walls(record: Record) -> tuple[float, float]:
    """Return the seconds of the whole run, and those without its imports."""
    seconds = record.provenance.get("seconds")
    imports = sum(rung.seconds for rung in record.rungs if rung.rung == "imports")
    if not isinstance(seconds, (int, float)) or seconds <= imports:
        raise MatrixError(f"{record.cell}: provenance.seconds: is {seconds}; the run did not end")
    return float(seconds), seconds - imports


def _device(record: Record) -> str:
    device = record.provenance.get("gpu") or record.provenance.get("cpu")
    found = (device.get("name") or device.get("model")) if isinstance(device, dict) else None
    return str(found or "an unknown device")


def _differences(alone: Record, together: Record) -> Iterator[str]:
    """Where the two are not the same: cases, their outcomes, their starts, their counters."""
    before, after = ({case.case: case for case in record.cases} for record in (alone, together))
    for name in sorted(before.keys() ^ after.keys()):
        yield f"{name}: only in one of them"
    for name in sorted(before.keys() & after.keys()):
        ours, theirs = before[name], after[name]
        if ours.outcome != theirs.outcome:
            yield f"{name}: {ours.outcome} alone, {theirs.outcome} together"
        for start in ("cold", "warm"):
            counted = [case.started(start) for case in (ours, theirs)]
            one, other = (dict(observed.counters) if observed else {} for observed in counted)
            for counter in sorted(one.keys() | other.keys()):
                if one.get(counter) != other.get(counter):
                    yield (
                        f"{name} {start} {counter}: {one.get(counter)} alone,"
                        f" {other.get(counter)} together"
                    )


if __name__ == "__main__":
    raise SystemExit(main())
