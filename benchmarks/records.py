"""How many records several processes write into one folder, and whether one is lost.

    python benchmarks/records.py [--records N] [--processes N] [--folder DIR]

Every process writes its share as runs do: it begins a record under a name that no other run has,
while eight at once want the same name, and writes its end. Afterwards all files are counted and
read. Prints the records a second, and exits with 1 where a record is lost, is there twice or cannot
be read.
DIR is a new folder, on the disk that is to be measured; it is removed in the end. The records are
small (one case, no packages), so that files are measured and not the making of JSON.
"""

import argparse
import hashlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from matrix.record.model import Platform, Record
from matrix.record.provenance import timestamp
from matrix.record.reader import read
from matrix.record.running import begun
from matrix.record.writer import write

_RESULT = Path(__file__).resolve().parent.parent / "results/cpu/py311-torch210-vllm019.json"
_CELLS = 500
_ALIKE = 8  # so many records want the very same name
_BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def main() -> int:
    parser = argparse.ArgumentParser(description="Records a second of many processes.")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-records-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    try:
        return _measure(folder, options.records, options.processes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(folder: Path, records: int, processes: int) -> int:
    result = _small()
    shares = [(folder, range(first, records, processes)) for first in range(processes)]
    began = time.monotonic()
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        written = pool.starmap(_write_share, shares, chunksize=1)
    seconds = time.monotonic() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime
    names = {name for own in written for name in own}
    digest = hashlib.sha256(_content(result).encode()).hexdigest()
    with os.scandir(folder) as found, multiprocessing.get_context("fork").Pool() as pool:
        there = {entry.name for entry in found}
        whole = sum(pool.imap_unordered(_Reader(folder, digest), sorted(there), chunksize=500))
    lost = records - len(names & there)
    print(
        f"{records} records by {processes} processes into one folder: {seconds:.1f} s,"
        f" {records / seconds:.0f} a second, {cpu:.1f} CPU s; lost: {lost},"
        f" half-written: {len(there) - whole}, left over: {len(there - names)}"
    )
    return int(lost > 0 or whole != len(there) or there != names)


def _write_share(folder: Path, numbers: Sequence[int]) -> list[str]:
    """Write the records of these numbers; those of one second have one number for all processes."""
    result = _small()
    names = []
    for number in numbers:
        with begun(_tries(folder, result, number)) as (path, record):
            write(replace(result, cell=record.cell, provenance=record.provenance), path)
        names.append(path.name)
    return names


def _tries(folder: Path, result: Record, number: int) -> Iterator[tuple[Path, Record]]:
    turn, which = divmod(number // _ALIKE, _CELLS)
    cell = f"py311-torch2{which % 20}-vllm0{which // 20}"
    began = _BEGAN + timedelta(seconds=turn * _ALIKE)
    for second in range(1000):
        moment = began + timedelta(seconds=second)
        facts = {**result.provenance, "started": timestamp(moment), "torch": None, "vllm": None}
        record = Record(cell=cell, platform=Platform.CPU, finished=False, provenance=facts)
        yield folder / f"{cell}.{moment:%Y%m%dT%H%M%SZ}.json", record


def _small() -> Record:
    record = read(_RESULT)
    (first, *_) = record.cases
    cases = (replace(first, failure=None, flags={}, starts=()),)
    return replace(
        record, cases=cases, packages={}, departures=None, defaults=None, jit=None, rungs=()
    )


def _content(record: Record) -> str:
    """Return what is equal in every record of this benchmark."""
    return repr((record.packages, record.rungs, record.cases))


class _Reader:
    """Reads a record of the folder, and returns whether it is whole."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        self._digest = digest

    def __call__(self, name: str) -> bool:
        try:
            content = _content(read(self._folder / name))
        except Exception as error:  # noqa: BLE001 - whatever it is, the record is not whole
            print(f"{name}: {error}")
            return False
        return hashlib.sha256(content.encode()).hexdigest() == self._digest


if __name__ == "__main__":
    raise SystemExit(main())
