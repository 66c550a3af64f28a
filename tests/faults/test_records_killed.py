"""kill -9 of commands that write many records: `results pack`, `results merge`, an index."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from histories import CELLS, make
from matrix.record.writer import write
from matrix.store.layout import INDEX
from matrix.store.query import History
from small_cell import ROOT, Fault, SmallCell

pytest.importorskip("duckdb")

COUNT = 120
"""So many records lie in the folder, of some days."""


def fill(folder: Path) -> None:
    for number in range(COUNT):
        day, second = divmod(number, 30)
        started = f"2026-10-{day + 1:02}T00:00:{second:02}Z"
        write(make(started=started, total=float(number)), folder / f"{CELLS[0]}.{number:03}.json")


def every(folder: Path) -> list[str]:
    """Return the texts of all records of a folder, loose or packed, sorted; each once."""
    with History([folder], lambda _: None, index=False) as history:
        assert not history.rows.errors and not history.errors
        packed = history.rows.execute("SELECT DISTINCT source FROM rows").fetchall()
        texts = [path.read_text() for path in folder.rglob("*.json")]
        for (source,) in packed:
            if source is not None:
                found = history.rows.execute("SELECT text FROM read_parquet(?)", [source])
                texts += [text for (text,) in found.fetchall()]
    return sorted(set(texts))


def start(cell: SmallCell, words: tuple[str, ...]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "matrix", "results", *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(cell.temporary), "OF_FAULTS": str(cell.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    cell.started.append(process)
    return process


def killed_and_repeated(
    fault: Fault, seed: int, words: tuple[str, ...], places: tuple[Path, ...]
) -> None:
    """Kill the command at a moment; then nothing is lost, and it can be repeated to its end."""
    cell = fault.cell
    wanted = every(places[0])
    took = _seconds(cell)
    process = start(cell, words)
    time.sleep(random.Random(seed).uniform(0, took))
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = {text for place in places if place.exists() for text in every(place)}
    fault.lost += [text[:80] for text in wanted if text not in found]
    again = start(cell, words)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    found = {text for place in places for text in every(place)}
    fault.lost += [text[:80] for text in wanted if text not in found]
    fault.left += cell.left_running()
    fault.left += [
        path.name for place in places for path in place.rglob(".*") if path.name != INDEX
    ]
    assert not fault.lost and not fault.left


def _seconds(cell: SmallCell) -> float:
    """Return how long the command may take, by how long a list of the records takes."""
    began = time.monotonic()
    start(cell, ("list", str(cell.records))).communicate(timeout=120)
    return 2 * (time.monotonic() - began)


@pytest.mark.fault("kill -9 of `results pack --yes`")
def test_a_pack_is_killed(fault: Fault, cell: SmallCell, seed: int) -> None:
    fill(cell.records)
    words = ("pack", str(cell.records), "--all", "--yes")
    killed_and_repeated(fault, seed, words, (cell.records,))


@pytest.mark.fault("kill -9 of `results merge`")
def test_a_merge_is_killed(fault: Fault, cell: SmallCell, seed: int) -> None:
    fill(cell.records)
    into = cell.folder / "into"
    killed_and_repeated(
        fault, seed, ("merge", str(cell.records), "--into", str(into)), (cell.records, into)
    )


@pytest.mark.fault("kill -9 of `results index`")
def test_an_index_is_killed(fault: Fault, cell: SmallCell, seed: int) -> None:
    fill(cell.records)
    killed_and_repeated(fault, seed, ("index", str(cell.records)), (cell.records,))
