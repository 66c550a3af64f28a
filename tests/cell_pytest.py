"""A pytest of its own with the plugin of cells, fakes of torch and vllm, and real forks."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from made import provenance
from matrix.record import reader, writer
from matrix.record.model import Case, Platform, Record
from waiting import STUBBORN

ROOT = Path(__file__).resolve().parents[1]
CELL = "py311-torch210-vllm019"

TORCH = """
import os
from types import SimpleNamespace
__version__ = "2.10.0+cu128"
version = SimpleNamespace(cuda="12.8")
cuda = SimpleNamespace(is_initialized=lambda: bool(os.environ.get("FAKE_CUDA_IS_UP")))
"""
VLLM = """
import torch
__version__ = "0.19.1"
"""
FAKES = """
import os, sys, types
from matrix.inside.pytest_plugin import cases
cases.CASE_TIMEOUT = float(os.environ.get("FAKE_LIMIT", cases.CASE_TIMEOUT))
compat = types.ModuleType("matrix.inside.vllm_compat")
compat.effective_flags = lambda: {"VLLM_USE_AOT_COMPILE": int(os.environ.get("FAKE_FLAG", "1")) > 0}
compat.preload = lambda platform: None
compat.STARTED = ()
compat.engine_arguments = lambda: frozenset()
compat.compute_capability = lambda: (7, 0)
compat.cuda_spoilt_by_fork = lambda: "FAKE_TOUCH" in os.environ
compat.torch_architectures = lambda: tuple(os.environ.get("FAKE_CODE", "sm_70").split())
compat.chosen_platform = lambda: os.environ.get("FAKE_CHOICE", os.environ["MATRIX_PLATFORM"])
sys.modules[compat.__name__] = compat
"""
HEAD = """
import ctypes, os, resource, signal, subprocess, sys, time
from pathlib import Path
import pytest
from matrix.inside.journal import Journal

def note(event, **fields):
    Journal(os.environ["MATRIX_JOURNAL"]).write(event, **fields)

def start(name, seconds=1.25):
    note("starting", start=name)
    note("started", start=name, seconds={"total": seconds}, counters={"saved": 3})

def both():
    start("cold")
    start("warm")

def leave_grandchild():
    file = os.environ["FOLDER"] + "/grandchild"
    subprocess.Popen([sys.executable, "-I", "-S", "-c", STUBBORN, file])
"""
HEAD += f"STUBBORN = {STUBBORN!r}\n"
# Sessions of pytest one after another in one process: what costs most is the start of a Python.
_SESSIONS = """
import importlib, json, os, sys
import pytest
environ, path = dict(os.environ), list(sys.path)
for session in json.loads(sys.argv[1]):
    for name in [module for module in sys.modules if module.partition(".")[0] in ("torch", "vllm")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    os.environ.update(session["environ"])
    sys.path[:0] = session["fakes"]
    status = pytest.main(session["arguments"])
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path
    print(f"\\n<<status {int(status)}>>", flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A session that has ended."""

    status: int
    output: str
    record: Record
    folder: Path

    def case(self, name: str) -> Case:
        return next(case for case in self.record.cases if case.case == name)

    @property
    def error(self) -> tuple[str, str] | None:
        """The kind of the run's error, and its reason."""
        error = self.record.error
        return None if error is None else (error.kind, error.reason)


@dataclass(frozen=True, kw_only=True)
class Session:
    """A session to run: pytest's arguments, variables, and a folder with a torch or vllm.

    `recorded`: it has a record to fill.
    """

    arguments: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    fakes: str | None = None
    target: Sequence[str] = ("tests",)
    recorded: bool = True


class Place:
    """A folder with fakes, startup tests and unfinished records."""

    def __init__(self, folder: Path, platform: Platform = Platform.CPU) -> None:
        self.folder = folder
        self.platform = platform
        self.processes: list[subprocess.Popen[str]] = []
        self.record = self.new_record("main")
        self.file("fake/torch/__init__.py", TORCH)
        self.file("fake/vllm/__init__.py", VLLM)
        self.file("fake/fakes.py", FAKES)
        self.file("pytest.ini", "[pytest]\n")

    def new_record(self, name: str) -> Path:
        path = self.folder / name / f"{CELL}.20261122T180000Z.json"
        facts = provenance(None, None)
        record = Record(cell=CELL, platform=self.platform, finished=False, provenance=facts)
        writer.write(record, path)
        return path

    def file(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def tests(self, text: str, name: str = "tests/startup/test_cases.py") -> None:
        self.file(name, HEAD + textwrap.dedent(text))

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """Start a session over all tests, in a process of its own."""
        command = ["-m", "pytest", *self._arguments(self.record, Session(arguments=arguments))]
        return self._start(command, environment or {})

    def ended(self, process: "subprocess.Popen[str]") -> Ran:
        output, _ = process.communicate(timeout=120)
        return self._ran(process.returncode, output, self.record)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
        return self.ended(self.start(*arguments, environment=environment))

    def run_all(self, *sessions: Session) -> list[Ran]:
        """Run sessions one after another in one process."""
        records = [self.new_record(f"session{number}") for number in range(len(sessions))]
        asked = [
            {
                "arguments": self._arguments(record, session),
                "environ": dict(session.environ),
                "fakes": [] if session.fakes is None else [str(self.folder / session.fakes)],
            }
            for session, record in zip(sessions, records, strict=True)
        ]
        process = self._start(["-c", _SESSIONS, json.dumps(asked)], {})
        output, _ = process.communicate(timeout=300)
        parts = re.split(r"\n<<status (\d+)>>\n", output)
        assert len(parts) == 2 * len(sessions) + 1, output
        return [
            self._ran(int(status), text, record)
            for text, status, record in zip(parts[::2], parts[1::2], records, strict=False)
        ]

    def close(self) -> None:
        for process in self.processes:
            with process:
                process.kill()

    def _jobs(self, session: Session) -> tuple[str, ...]:
        """Return one case at a time on the CPU where a session does not say otherwise."""
        named = any(argument.partition("=")[0] == "--jobs" for argument in session.arguments)
        return () if named or self.platform is Platform.CUDA else ("--jobs", "1")

    def _arguments(self, record: Path, session: Session) -> list[str]:
        plugins = ("matrix.inside.pytest_plugin", "fakes", "no:cacheprovider")
        return [
            *session.target,
            *(part for plugin in plugins for part in ("-p", plugin)),
            *(("--record", str(record)) if session.recorded else ()),
            *self._jobs(session),
            *session.arguments,
        ]

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> "subprocess.Popen[str]":
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MATRIX"))}
        # A session that is killed leaves its folders.
        temporary = self.folder / "temporary"
        temporary.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder / 'fake'}",
                "FOLDER": str(self.folder),
                "TMPDIR": str(temporary),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.processes.append(process)
        return process

    def _ran(self, status: int, output: str, record: Path) -> Ran:
        return Ran(status=status, output=output, record=reader.read(record), folder=self.folder)


def gpu_place(folder: Path) -> Place:
    """Return a place on a machine with a GPU: nvidia-smi and the kernel's log are fakes."""
    place = Place(folder, Platform.CUDA)
    log = folder / "kernel.log"
    log.write_text("[1.0] NVRM: Xid (PCI:0000:3b:00): 79, of an earlier run\n")
    for name, body in (
        ("nvidia-smi", "case $1 in *bus_id*) echo 00000000:3B:00.0;; *) exit 9;; esac"),
        ("dmesg", f"cat {log}"),
    ):
        place.file(f"bin/{name}", f"#!/bin/sh\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    return place


def on_gpu(place: Place, **environ: str) -> dict[str, str]:
    """Return the variables of a session on that machine."""
    path = f"{place.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "CUDA_VISIBLE_DEVICES": "0", **environ}
