"""How long `matrix plan --stale` takes where every record holds: nothing is to run.

    python benchmarks/unchanged.py [--rounds N] [--most SECONDS]

The records are made up: `results/` has real ones, and they are written again under other cells, as
made with the startup tests of now. Each cell has an environment of tox's with folders of packages
as its record names them, and without files. The command runs as a process of its own, from start to
exit; printed are the seconds of the first, which makes the index that a folder of many records
gets, and of the fastest round. Exits with 1 where that takes more than SECONDS (default 2), where a
record does not hold, or where a program was started, but for nvidia-smi.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from packaging.specifiers import SpecifierSet

from matrix.catalog.cells import Cell, is_meant
from matrix.catalog.releases_file import load_releases
from matrix.record.model import PLATFORMS, Platform, Record
from matrix.record.reader import read
from matrix.record.startup_tests import STARTUP_TESTS_VERSION
from matrix.record.writer import to_json
from matrix.verdict.grid import environments

_ROOT = Path(__file__).resolve().parent.parent
_STARTED = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
_PYTHONS = ("3.11", "3.12")
_RANGES = {"torch": ">=2.11,<2.16", "vllm": "<0.34"}
"""Five minor releases of torch and 25 of vLLM: with two Pythons and two platforms 500 cells."""
_OPTIONS = tuple(text for name, wanted in _RANGES.items() for text in (f"--{name}", wanted))
_PLAN = ("plan", "--stale", "--off-pin", "--python", ">=3.11,<3.13", *_OPTIONS)
# Prints the programs that the command starts, each on a line of stderr.
_WATCHED = """
import os, sys
def show(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        print("started:", os.path.basename(os.fsdecode(arguments[0])), file=sys.stderr)
sys.addaudithook(show)
from matrix.cli import main
sys.exit(main(sys.argv[1:]))
"""


def main() -> int:
    """Measure and print; return 1 where it takes too long or something would run."""
    parser = argparse.ArgumentParser(description="The plan of a matrix in which nothing changed.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="matrix-bench-") as name:
        place = Path(name)
        cells, packages = _fill(place)
        print(
            f"{cells} cells with a record, and {packages} folders of packages;"
            f" the best of {options.rounds} rounds, load {os.getloadavg()[0]:.1f}"
        )
        first, _, _ = _plan(place)
        print(f"the first, which makes the index{first:8.3f} s")
        took, cpu, summary = min(_plan(place) for _ in range(options.rounds))
        print(f"each after it{took:27.3f} s, {cpu:.3f} s of CPU; may take {options.most:.3f} s")
        print(summary)
        bad = took > options.most or f": {cells} records hold" not in summary
        started = _started(place)
        print(f"programs that it started: {', '.join(started) or 'none'}")
        return int(bad or not set(started) <= {"nvidia-smi"})


def _fill(place: Path) -> tuple[int, int]:
    """Write the records and make the environments; return how many, and how many packages."""
    folder = place / "results"
    folder.mkdir()
    (place / "tox.ini").touch()
    cells = made = 0
    for cell, record in _records():
        cells += 1
        (folder / f"{record.cell}.{record.platform}.json").write_text(to_json(record))
        site = place / ".tox" / record.cell / "lib" / f"python{cell.python}" / "site-packages"
        if not site.exists():
            site.mkdir(parents=True)
            for name, version in record.packages.items():
                (site / f"{name.replace('-', '_')}-{version}.dist-info").mkdir()
                made += 1
    return cells, made


def _records() -> Iterator[tuple[Cell, Record]]:
    """Yield a record that holds of each cell of the plan, on both platforms."""
    originals = [
        record
        for path in sorted((_ROOT / "results").glob("*/*.json"))
        if (record := read(path)).is_complete and record.departures == ()
    ]
    ranges = {name: SpecifierSet(text) for name, text in _RANGES.items()}
    cells = [
        cell
        for cell in environments(load_releases()).values()
        if not cell.builds
        and cell.python in _PYTHONS
        and all(is_meant(wanted, getattr(cell, name)) for name, wanted in ranges.items())
    ]
    for number, cell in enumerate(cells):
        for platform in PLATFORMS:
            yield cell, _record(originals[number % len(originals)], cell, platform)


def _record(original: Record, cell: Cell, platform: Platform) -> Record:
    packages = {**original.packages, "torch": cell.torch, "vllm": cell.vllm}
    provenance = {
        **original.provenance,
        "started": _STARTED,
        "python": f"{cell.python}.0",
        "torch": cell.torch,
        "vllm": cell.vllm,
        "machine": os.uname().machine,
        "tests": {"commit": None, "version": STARTUP_TESTS_VERSION},
    }
    return replace(
        original,
        cell=cell.name,
        platform=platform,
        provenance=provenance,
        packages=packages,
        departures=(),
        origins=None,
    )


def _plan(place: Path) -> tuple[float, float, str]:
    """Return the seconds that the plan took, those of its CPU, and its last line."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _run(place, "-m", "matrix", *_PLAN)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, cpu, done.stdout.splitlines()[-1]


def _started(place: Path) -> list[str]:
    """Return the names of the programs that the plan starts."""
    lines = _run(place, "-c", _WATCHED, *_PLAN).stderr.splitlines()
    return [line.removeprefix("started: ") for line in lines if line.startswith("started: ")]


def _run(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "TOX_WORK_DIR": str(place / ".tox"), "PYTHONPATH": str(_ROOT)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=place,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
