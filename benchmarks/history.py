"""How long many records take: nightlies of a year, to the whole table, with an index and without.

    python benchmarks/history.py [--records N] [--keep DIR]

The records are made up: `results/` has real ones, and each is written again under other cells and
nights with other seconds, some of them failing, cut short, in part, damaged or twice, through the
Record dataclass and in a real one's size (of one cell's nights only the times differ). They lie in
a temporary folder, deleted at the end (`--keep` leaves them); 100,000 take 3.3 GB. Each step runs
as a process of its own, from start to exit; printed are its wall and CPU seconds (of its helpers
too) and its own peak memory. Needs the extras `history` and `table`.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from multiprocessing import get_context
from pathlib import Path

from matrix.catalog.cells import cell_of
from matrix.catalog.releases import newest
from matrix.catalog.releases_file import load_releases
from matrix.record.model import PLATFORMS, Case, Record, RunError
from matrix.record.reader import read
from matrix.record.writer import to_json
from matrix.report.page import PAGE_FILE

_ROOT = Path(__file__).resolve().parent.parent
_FIRST = datetime(2025, 11, 1, 1, tzinfo=timezone.utc)
_SAMPLE = 1000
_STARTED = "2000-01-01T00:00:00Z"
_TOTAL = re.compile(r'("total": )([0-9.]+)')
_KINDS = (
    ("good", 92),
    ("failing", 3),
    ("part", 2),
    ("no_space", 2),
    ("imports", 1),
)
_TRACE = "\n".join(
    line
    for index in range(20)
    for line in (
        f'  File "/x/vllm/part_{index}.py", line {index * 7 + 3}, in step',
        f"    go({index})",
    )
)


def main() -> int:
    """Measure and print; nothing here fails for being slow."""
    parser = argparse.ArgumentParser(description="A year of nightlies, to the whole table.")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--keep", metavar="DIR", type=Path)
    options = parser.parse_args()
    place = options.keep or Path(tempfile.mkdtemp(prefix="matrix-bench-"))
    try:
        _measure(place.resolve(), options.records)
    finally:
        if not options.keep:
            shutil.rmtree(place)
    return 0


def _measure(place: Path, count: int) -> None:
    names = cells()
    nights = -(-count // len(names))
    folder = place / "records"
    print(
        f"{count} records: {nights} nights of {len(names) // 2} cells on {len(PLATFORMS)}"
        f" platforms; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    if not folder.exists():
        began = time.monotonic()
        make(folder, names, nights, count)
        print(f"made in {time.monotonic() - began:.0f} s: {_size(folder)}", flush=True)
    plain = place / "plain"
    if not plain.exists():
        plain.mkdir()
        for path in sorted((folder / "cpu").iterdir())[:_SAMPLE]:
            shutil.copy2(path, plain)
    print(f"{'step':<46}{'wall s':>8}{'CPU s':>8}{'MiB':>6}")
    out = ("--out", str(place / "docs"))
    without = (
        "-c",
        "import sys; sys.modules['duckdb'] = None; from matrix.cli import main; main()",
    )
    step(f"table of {_SAMPLE}, the plain way (no DuckDB)", [*without, "table", str(plain), *out])
    matrix = ["-m", "matrix"]
    index = folder / ".matrix-index.parquet"
    index.unlink(missing_ok=True)
    step("table, no index yet: it is made", [*matrix, "table", str(folder), *out])
    first = _outputs(place)
    print(f"  the index: {index.stat().st_size / 1e6:.1f} MB")
    step("table, index fresh", [*matrix, "table", str(folder), *out])
    assert _outputs(place) == first
    make(folder, names, 1, len(names), skip=nights)
    step("table, one night more", [*matrix, "table", str(folder), *out])
    second = _outputs(place)
    listing = [*matrix, "results", "list", str(folder)]
    step("list --verdict incompatible", [*listing, "--verdict", "incompatible"])
    step(
        "list --cell of one, since a day",
        [*listing, "--cell", names[7][0], "--since", "2026-02-01"],
    )
    step(
        "prune --keep 30, of the files, nothing deleted",
        [*matrix, "results", "prune", str(folder), "--keep", "30"],
    )
    step("results pack --yes", [*matrix, "results", "pack", str(folder), "--all", "--yes"])
    print(f"  the archives: {_size(folder)}")
    step("table of the archives, no index", [*matrix, "table", str(folder), *out])
    print(f"  the table is the same: {_outputs(place) == second}")
    step("list --verdict incompatible, of the archives", [*listing, "--verdict", "incompatible"])
    step(
        "prune --keep 30 --yes, of the archives",
        [*matrix, "results", "prune", str(folder), "--keep", "30", "--yes"],
    )
    step("table of what is left", [*matrix, "table", str(folder), *out])
    third = _outputs(place)
    # The page draws the seconds of as many nights as there are.
    page = str(place / "docs" / PAGE_FILE)
    print(f"  all but the page is the same: {third | {page: b''} == second | {page: b''}}")


def cells() -> list[tuple[str, str, str, str]]:
    """Cell, platform, torch and vLLM: the newest patch of every minor release with every other."""
    releases = load_releases()
    torches = [release.version for release in newest(releases.torch)]
    vllms = [release.version for release in newest(releases.vllm)]
    return [
        (cell_of("3.12", torch, vllm).name, platform, torch, vllm)
        for torch in torches
        for vllm in vllms
        for platform in PLATFORMS
    ]


def make(
    folder: Path, names: Sequence[tuple[str, str, str, str]], nights: int, count: int, skip: int = 0
) -> None:
    """Write the records of so many nights after the first `skip`, `count` in all."""
    for platform in PLATFORMS:
        (folder / platform).mkdir(parents=True, exist_ok=True)
    tasks = [(night, index) for night in range(skip, skip + nights) for index in range(len(names))][
        :count
    ]
    size = 2000
    parts = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for _ in pool.map(_write, [folder] * len(parts), [names] * len(parts), parts):
            pass


def _write(
    folder: Path, names: Sequence[tuple[str, str, str, str]], tasks: Iterable[tuple[int, int]]
) -> None:
    real = {
        platform: [read(path) for path in sorted((_ROOT / "results" / platform).iterdir())]
        for platform in PLATFORMS
    }
    texts: dict[tuple[int, str], str] = {}
    for night, index in tasks:
        cell, platform, torch, vllm = names[index]
        chance = random.Random(night * 1_000_003 + index)
        kind = "broken" if index % 11 == 0 else chance.choices(*zip(*_KINDS, strict=True))[0]
        if (index, kind) not in texts:
            model = real[platform][index % len(real[platform])]
            texts[index, kind] = to_json(record_of(model, cell, torch, vllm, kind))
        started = _FIRST + timedelta(days=night, seconds=index * 37)
        text = texts[index, kind].replace(_STARTED, f"{started:%Y-%m-%dT%H:%M:%SZ}")
        text = _TOTAL.sub(lambda seen, go=chance: f"{seen[1]}{slower(seen[2], go)}", text)
        path = folder / platform / f"{cell}.{started:%Y%m%dT%H%M%SZ}.json"
        if chance.random() < 0.0002:
            text = text[: len(text) // 2]
        path.write_text(text, encoding="utf-8")
        if chance.random() < 0.0005:
            path.with_suffix(".again.json").write_text(text, encoding="utf-8")


def record_of(model: Record, cell: str, torch: str, vllm: str, kind: str) -> Record:
    """Return a cell's record: the real one with other releases and other failures."""
    cases = model.cases
    versions = {"torch": torch, "vllm": vllm, "python": "3.12.3"}
    provenance = {**model.provenance, "started": _STARTED, **versions}
    record = replace(model, cell=cell, provenance=provenance)
    if kind == "broken":  # This cell fails every night in the same way.
        return replace(record, cases=(_failed(cases[0]), *cases[1:]))
    if kind == "failing":
        return replace(record, cases=(*cases[:2], _failed(cases[2]), *cases[3:]))
    if kind == "part":
        return replace(record, cases=cases[:3], deselected=len(cases) - 3)
    if kind == "no_space":
        return replace(
            record, cases=cases[:4], error=RunError(kind="no_space", reason="no space left")
        )
    if kind == "imports":
        return replace(
            record, cases=(), error=RunError(kind="imports", reason="undefined symbol: x")
        )
    return record


def slower(seconds: str, chance: random.Random) -> str:
    """As many seconds as another night would take."""
    return f"{float(seconds) * chance.uniform(0.95, 1.05):.3f}"


def _failed(case: Case) -> Case:
    return replace(
        case,
        outcome="failed",
        reason="RuntimeError: it broke",
        signature="RuntimeError: it broke",
        failure=f"{_TRACE}\nRuntimeError: it broke",
        starts=case.starts[:1],
    )


def step(name: str, arguments: Sequence[str]) -> None:
    """Run and print one line."""
    began, before = time.monotonic(), os.times()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        took, after = time.monotonic() - began, os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])
        peak = used.ru_maxrss / 1024
        print(f"{name:<46}{took:8.1f}{cpu:8.1f}{peak:6.0f}", flush=True)
        errors.seek(0)
        lines = errors.read().decode().splitlines()
    wanted = [line for line in lines if "not a record: truncated" not in line]
    for line in wanted[-3:] if child.returncode not in (0, 2) else []:
        print(f"  {line}")


def _outputs(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (place / "docs").rglob("*") if path.is_file()}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _size(folder: Path) -> str:
    sizes = [path.stat().st_size for path in _files(folder)]
    return f"{len(sizes)} files, {sum(sizes) / 1e6:.0f} MB"


if __name__ == "__main__":
    raise SystemExit(main())
