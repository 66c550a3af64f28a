"""A program that stands for tox in runs of many cells: it makes folders, and copies records."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrix.commands import run_sites
from matrix.run import limits, rerun

ROOT = Path(__file__).parents[1]
TORCH210, TORCH29 = "py311-torch210-vllm019", "py311-torch29-vllm016"

TOX = """
import json, os, signal, sys, time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, {root!r})
from matrix.record.model import Case, ErrorKind, Outcome, RunError
from matrix.record.reader import read
from matrix.record.startup_tests import STARTUP_TESTS_VERSION
from matrix.record.running import marked_running
from matrix.record.writer import write

argv = sys.argv[1:]
name = argv[argv.index("-e") + 1]
platform = argv[argv.index("--platform") + 1]
records = Path(argv[argv.index("--records") + 1], platform)
here = Path({here!r})
with (here / "calls.jsonl").open("a") as file:
    seen = dict(gpus="CUDA_VISIBLE_DEVICES", order="CUDA_DEVICE_ORDER")
    call = {{key: os.environ.get(name) for key, name in seen.items()}}
    call |= dict(argv=argv, pid=os.getpid())
    file.write(json.dumps(call) + "\\n")
told = json.loads((here / "told.json").read_text()).get(name, {{}})
build, run = told.get("build", "good"), told.get("run", "good")
folder = Path(".tox", name)


def leave(**changes):
    records.mkdir(parents=True, exist_ok=True)
    now = datetime.now(timezone.utc)
    old = read(Path({root!r}, "results/cpu", name + ".json"))
    # The run is one of now, whatever startup tests the published record is of: it counts as the
    # same pair did on Python 3.12, where that ran with them.
    newer = Path({root!r}, "results/cpu", name.replace("py311", "py312") + ".json")
    if newer.exists():
        changes = {{"cases": read(newer).cases, **changes}}
    tests = dict(old.provenance["tests"], version=STARTUP_TESTS_VERSION)
    about = dict(old.provenance, started=f"{{now:%Y-%m-%dT%H:%M:%SZ}}", seconds=1.0, tests=tests)
    path = records / f"{{name}}.{{now:%Y%m%dT%H%M%S.%fZ}}.json"
    write(replace(old, platform=platform, provenance=about, **changes), path)
    return path


def runs_begun():
    calls = (here / "calls.jsonl").read_text().splitlines()
    return sum("--notest" not in line for line in calls)


def fail(text):
    print(text, flush=True)
    sys.exit(1)


if "--notest" in argv:
    if build == "no space":
        leave(error=RunError(kind=ErrorKind.NO_SPACE, reason="no room"), cases=(), rungs=())
    if build == "resolves":
        leave(error=RunError(kind=ErrorKind.RESOLVES, reason="no solution"), cases=(), rungs=())
    if build != "good":
        fail("error: no wheel of torch")
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin/python").write_bytes(b"x" * told.get("bytes", 1))
    (folder / "lib/python3.11/site-packages/vllm-0.0.dist-info").mkdir(parents=True, exist_ok=True)
    sys.exit(0)
if run == "good":
    until = time.monotonic() + 60
    while runs_begun() < told.get("together", 1) and time.monotonic() < until:
        time.sleep(0.02)
    leave()
elif run == "drift":
    old = read(Path({root!r}, "results/cpu", name + ".json"))
    case = old.cases[0]
    starts = tuple(
        replace(start, counters=dict(start.counters, num_compiled_artifacts_saved=77))
        for start in case.starts
    )
    leave(cases=(replace(case, starts=starts), *old.cases[1:]))
    sys.exit(1)
elif run == "killed":
    leave(finished=False, cases=())
    os.kill(os.getpid(), signal.SIGKILL)
elif run == "no driver":
    leave(error=RunError(kind=ErrorKind.NO_DRIVER, reason="no driver answers"), cases=())
    sys.exit(2)
elif run == "gpu fault" and told["gpu"] in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
    if "gone" in told:
        Path(told["gone"]).touch()
    leave(error=RunError(kind=ErrorKind.GPU_FAULT, reason="uncorrectable ECC error"), cases=())
    sys.exit(2)
elif run == "gpu fault":
    leave()
elif run == "no record":
    fail("tox: the disk is gone")
elif run == "hangs":
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    running = Case(case="moe_startup[mega_aot=1]", outcome=Outcome.RUNNING)
    path = leave(finished=False, cases=(running,), selected=9)
    with marked_running(path):
        if "signal" in told:
            while len(list(records.glob("*.json"))) < told.get("cells", 1):
                time.sleep(0.02)
            # Nobody may need to look for the parent: the engine started this.
            os.kill(os.getppid(), getattr(signal, told["signal"]))
        until = time.monotonic() + 60
        while not stopped and time.monotonic() < until and not (here / "go").exists():
            time.sleep(0.02)
    error = RunError(kind=ErrorKind.INTERRUPTED, reason="stopped by SIGINT") if stopped else None
    cases = (replace(running, outcome=Outcome.INTERRUPTED),)
    write(replace(read(path), finished=True, error=error, cases=cases), path)
    sys.exit(130)
"""


class FakeTox:
    """A checkout, in whose place of tox that program runs; `told` says what each cell does."""

    def __init__(self, here: Path) -> None:
        self.here = here
        (here / "tox.ini").write_text("[tox]\n")
        self.program = here / "fake_tox"
        self.program.write_text(TOX.format(root=str(ROOT), here=str(here)))
        self.told()

    def told(self, **by_name: Any) -> None:
        """Say what becomes of cells, by the last part of their names: vllm019={"run": "drift"}."""
        names = {name.rpartition("-")[2]: name for name in (TORCH210, TORCH29)}
        told = {names[short]: value for short, value in by_name.items()}
        (self.here / "told.json").write_text(json.dumps(told))

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(self.program)]

    def calls(self) -> list[dict[str, Any]]:
        """Return the calls of tox so far, each with its arguments and its GPUs."""
        path = self.here / "calls.jsonl"
        return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []

    def shown(self) -> list[str]:
        """Return which environments were made and run, in order."""
        found = []
        for call in self.calls():
            argv = call["argv"]
            what = "make" if "--notest" in argv else "run"
            found.append(f"{what} {argv[argv.index('-e') + 1]}")
        return found


@pytest.fixture
def fake_tox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTox:
    fake = FakeTox(tmp_path)
    monkeypatch.setattr(rerun, "tox_command", lambda: fake.command)
    monkeypatch.setattr(run_sites, "lacks_python", lambda minor, root: None)
    # What is free where the tests run is another matter.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
    monkeypatch.setattr(limits, "available_memory_mib", lambda _: 24 << 10)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    for name, version in (
        ("torch", "2.10.0"),
        ("torch", "2.9.1"),
        ("vllm", "0.19.1"),
        ("vllm", "0.16.0"),
    ):
        unpacked = tmp_path / "uv/archive-v0" / f"{name}{version}"
        (unpacked / name / "lib").mkdir(parents=True)
        (unpacked / f"{name}-{version}.dist-info").mkdir()
    return fake
