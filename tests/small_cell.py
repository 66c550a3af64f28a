"""A small cell for faults: the real harness, pytest and plugin, with fakes of torch and vLLM.

Its cases start "vLLM" cold and warm: they write a compile cache and read it, and leave helpers in
sessions of their own. The environment variable `FAULT` has a case do something else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fault_table import Found
from matrix.catalog.cells import Cell
from matrix.record.model import Record
from matrix.record.reader import read_many
from matrix.rules.expectations import Expectations
from matrix.verdict.judge import judge
from matrix.verdict.states import Verdict

ROOT = Path(__file__).resolve().parents[1]
CELL = Cell(f"{sys.version_info.major}.{sys.version_info.minor}", "2.10.0", "0.19.1")
INSTALLED = {"torch": "2.10.0+cu128", "vllm": "0.19.1", "triton": "3.6.0"}
PATIENCE = 40.0
"""Seconds after which what a run left is not going to end by itself: twice the guardian's."""

_CASES = """
import os, signal, subprocess, sys, time
from pathlib import Path
import pytest
from matrix.inside.journal import Journal

FAULT = os.environ.get("FAULT", "")
SLEEP = "import time; time.sleep(600)"
LOST = "RuntimeError: CUDA error: GPU is lost. Reboot the system to recover this GPU"

@pytest.fixture
def caches(tmp_path):
    # As tests/startup does: below the run's own temporary folder, and removed with it.
    import tempfile
    with tempfile.TemporaryDirectory(prefix="matrix-cache-", ignore_cleanup_errors=True) as name:
        yield Path(name)

@pytest.mark.parametrize("number", range(3))
def test_small_startup(number, caches):
    journal = Journal(os.environ["MATRIX_JOURNAL"])
    subprocess.Popen([sys.executable, "-I", "-S", "-c", SLEEP], start_new_session=True)
    for name in ("cold", "warm"):
        journal.write("starting", start=name)
        compiled, loaded = start(caches / "aot" / "model")
        if number == 1:
            inject(name, caches)
        time.sleep(float(os.environ.get("PACE", "0.02")))
        counters = {"compiled": compiled, "loaded": loaded}
        journal.write("started", start=name, seconds={"total": 1.0}, counters=counters)

def start(model):
    try:
        whole = model.read_text() == "code" * 100
    except OSError:
        whole = False
    if not whole:
        try:
            model.parent.mkdir(parents=True, exist_ok=True)
            model.write_text("code" * 100)
        except OSError as error:
            if error.errno == 28:  # a full disk
                raise
    return int(not whole), int(whole)

def inject(name, caches):
    model = caches / "aot" / "model"
    if FAULT == "gpu" and name == "warm":
        raise RuntimeError(LOST)
    if FAULT == "fill":
        for number in range(100_000):
            (Path(os.environ["TMPDIR"]) / f"f{number}").write_bytes(os.urandom(1 << 20))
    if FAULT == "memory":
        held = []
        while True:
            held.append(b"x" * (8 << 20))
    if FAULT == "stop" and name == "warm":
        os.kill(os.getpid(), signal.SIGSTOP)
    if name != "cold":
        return
    if FAULT == "corrupt":
        model.write_text("c\\0rrupt")
    if FAULT == "empty":
        model.unlink()
        model.parent.rmdir()
    if FAULT == "read only":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", model.parent], check=True)
        subprocess.run(["mount", "-o", "remount,ro", model.parent], check=True)
"""
_FAKES = """
import os, sys, types
compat = types.ModuleType("matrix.inside.vllm_compat")
compat.effective_flags = dict
compat.preload = lambda platform: None
compat.chosen_platform = lambda: os.environ["MATRIX_PLATFORM"]
sys.modules[compat.__name__] = compat
"""
_HARNESS = """
import json, os, sys
from datetime import datetime, timedelta
from pathlib import Path
from matrix.catalog.cells import Cell
from matrix.errors import MatrixError
from matrix.run import cell
# A clock that jumps, at the place where a run asks for the time of day.
jump = timedelta(seconds=float(os.environ.get("CLOCK_JUMP", "0")))
frozen = os.environ.get("CLOCK_AT")
class Clock(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromisoformat(frozen) if frozen else datetime.now(tz) + jump
cell.datetime = Clock
try:
    print("record", cell.run_cell(cell.RunRequest(
        cell={cell!r}, platform="cpu", records=Path(os.environ["RECORDS"]),
        pytest_args=["-p", "fakes", *sys.argv[1:]], root=Path.cwd(), installed={installed!r},
        timeout=float(os.environ.get("RUN_TIMEOUT", "60")), jobs=os.environ.get("JOBS"),
        least_free_mib=0, least_memory_mib=1,
    )), flush=True)
except MatrixError as error:
    sys.exit(f"matrix: {{error}}")
"""
_FILES = {
    "tests/startup/pytest.ini": "[pytest]\naddopts = -p no:cacheprovider\n",
    "tests/startup/test_cases.py": _CASES,
    "fakes.py": _FAKES,
    "torch.py": "import types\n__version__ = '2.10.0'\n"
    "version = types.SimpleNamespace(cuda=None)\n",
    "vllm/__init__.py": "__version__ = '0.19.1'\n",
}
_OWN = (".json", ".log", ".xml")


@dataclass(kw_only=True)
class SmallCell:
    """The cell in a folder: its checkout, its records, its home and its temporary folder."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write the checkout."""
        for name, text in _FILES.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for folder in (self.temporary, self.home):
            folder.mkdir()

    @property
    def root(self) -> Path:
        """The checkout."""
        return self.folder / "checkout"

    @property
    def temporary(self) -> Path:
        """The temporary folder of the run."""
        return self.folder / "temporary"

    @property
    def home(self) -> Path:
        """The user's home."""
        return self.folder / "home"

    @property
    def records(self) -> Path:
        """The folder of records."""
        return self.folder / "records"

    def start(self, wrapper: Sequence[str] = (), **environ: str) -> subprocess.Popen[str]:
        """Start the harness; `wrapper` is the beginning of its command line."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST", "MATRIX", "XDG_"))
        }
        code = _HARNESS.format(cell=CELL, installed=INSTALLED)
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", code],
            cwd=self.root,
            env={
                **kept,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{self.root}",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "CXX": "true",
                "HOME": str(self.home),
                "TMPDIR": str(self.temporary),
                "RECORDS": str(self.records),
                "OF_FAULTS": str(self.folder),
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, wrapper: Sequence[str] = (), **environ: str) -> tuple[int, str]:
        """Run the harness to its end; return its exit status and what it printed."""
        process = self.start(wrapper, **environ)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def close(self) -> None:
        """End what still runs."""
        for process in self.started:
            with process:
                process.kill()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Return the ids of the processes that a run here started and that live."""
        mark = f"OF_FAULTS={self.folder}\0".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def descendants(self) -> list[int]:
        """Return the ids of what the harness started, without the harness itself."""
        harness = {process.pid for process in self.started}
        return [pid for pid in self.processes() if pid not in harness]

    def left_running(self, patience: float = PATIENCE) -> list[str]:
        """Return the processes and temporary folders that are left after so many seconds."""
        until = time.monotonic() + patience
        while True:
            left = [f"process {pid}" for pid in self.processes()]
            left += [f"temporary {path.name}" for path in self.temporary.iterdir()]
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.05)

    def left_in_records(self) -> list[str]:
        """Return the files among the records that a run does not leave there by design."""
        return [
            str(path.relative_to(self.records))
            for path in self.records.rglob("*")
            if path.is_file() and (path.name.startswith(".") or path.suffix not in _OWN)
        ]

    def every(self) -> dict[str, Record]:
        """Return the records by their names; raises for one that is not whole."""
        if not self.records.exists():
            return {}
        records, errors = read_many([self.records])
        assert not errors, errors
        return {path.name: record for path, record in records}

    def newest(self) -> Record:
        """Return the record that began last."""
        every = self.every()
        return every[max(every)]


def is_whole(record: Record) -> bool:
    """Return whether the run came to its end as an undisturbed one does."""
    counted = [[dict(start.counters or {}) for start in case.starts] for case in record.cases]
    return (
        record.finished
        and record.error is None
        and [str(case.outcome) for case in record.cases] == ["passed"] * 3
        and counted == [[{"compiled": 1, "loaded": 0}, {"compiled": 0, "loaded": 1}]] * 3
    )


def verdict_of(record: Record) -> Verdict:
    """Return the verdict where nothing is expected: the pair is to blame for a failure alone."""
    return judge(record, Expectations(rules=())).verdict


@dataclass(kw_only=True)
class Fault(Found):
    """What a test of a small cell found: records that are lost or not whole, what was left over."""

    cell: SmallCell
    earlier: Path
    seconds: float = 0.0
    """How long an undisturbed run takes here."""
    before: dict[str, bytes] = field(default_factory=dict)

    def begin(self) -> None:
        """Have a record there already, which no fault may harm."""
        shutil.copytree(self.earlier, self.cell.records)
        self.note()

    def note(self) -> None:
        """Take note of all records that there are, as they are."""
        self.before = {path.name: path.read_bytes() for path in self._files()}

    def check(self, may_be_left: str | None = None) -> None:
        """Look for what was lost, and for what still runs.

        Something whose name begins so may be left, for the next run to remove.
        """
        now = {path.name: path.read_bytes() for path in self._files()}
        self.lost += [name for name, text in self.before.items() if now.get(name) != text]
        left = self.cell.left_running(PATIENCE if may_be_left is None else 5.0)
        self.left += [
            name for name in left if may_be_left is None or not name.startswith(may_be_left)
        ]
        self.cell.every()
        assert not self.lost and not self.left

    def run_again(self) -> None:
        """Run the cell again: it ends as if nothing had happened, and removes what was left."""
        before = set(self.cell.every())
        status, output = self.cell.run()
        (name,) = self.cell.every().keys() - before
        assert status == 0 and is_whole(self.cell.every()[name]), output
        self.left += [*self.cell.left_running(), *self.cell.left_in_records()]
        assert not self.left

    def _files(self) -> Sequence[Path]:
        return sorted(self.cell.records.rglob("*.json")) if self.cell.records.exists() else ()


def can_mount() -> bool:
    """Return whether this user may mount a disk in a namespace of its own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def on_disks(script: str) -> tuple[str, ...]:
    """Return what starts a command after a script that mounts disks, seen by that command alone."""
    return ("unshare", "-rm", "--propagation", "private", "sh", "-ec", f'{script}\n"$@"', "sh")
