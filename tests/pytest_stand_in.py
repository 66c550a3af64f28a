"""A script that stands in for pytest in a cell: it writes a record, and ends as it is asked to.

Its last argument names the end. `STAND_IN` is a template: `root` is the checkout, `pids` the file
for the process ids of one that hangs.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.run.cell import RunRequest, run_cell

ROOT = Path(__file__).parents[1]
CELL = Cell(f"{sys.version_info.major}.{sys.version_info.minor}", "2.10.0", "0.19.1")
INSTALLED = {"torch": "2.10.0+cu128", "vllm": "0.19.1", "triton": "3.6.0"}
Run = Callable[..., Path]
"""Run a cell that ends as the behaviour of this name does, and return its record's path."""

STAND_IN = """
import os, resource, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, {root!r})
from matrix.record.model import Case, Outcome, Rung, RungResult, RunError, Start, StartKind
from matrix.record.reader import read
from matrix.record.writer import write

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
argv = sys.argv[1:]
path = Path(argv[argv.index("--record") + 1])
importing = Path(os.environ["MATRIX_IMPORTING"])
behaviour = argv[-1]
print("arguments", *argv, flush=True)
for name in ("CUDA_VISIBLE_DEVICES", "MATRIX_PLATFORM", "TMPDIR"):
    print(name, repr(os.environ.get(name)), flush=True)


def put(*cases, finished=False):
    rungs = (RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),)
    write(replace(read(path), rungs=rungs, cases=cases, finished=finished), path)


def die(number):
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_DFL)  # `nohup` before the tests has it ignored
    os.kill(os.getpid(), number)
    time.sleep(60)


running = Case(case="small_startup[dense]", outcome=Outcome.RUNNING, model="dense")
passed = Case(
    case="small_startup[moe]",
    outcome=Outcome.PASSED,
    starts=(Start(start=StartKind.COLD), Start(start=StartKind.WARM)),
)
if behaviour == "good":
    put(passed, finished=True)
    defaults = {{"fx_graph_cache": True, "backends": ["ATEN"], "kept_in": os.environ["TMPDIR"]}}
    write(replace(read(path), defaults={{"torch._inductor.config": defaults}}), path)
    Path(os.environ["TMPDIR"], "left").write_text("over")
elif behaviour.startswith("loses"):
    installed = Path({pids!r}).with_name("site") / "torch/libtorch.so"
    installed.unlink() if behaviour.endswith("gone") else installed.write_bytes(b"x")
    failed = replace(passed, case="small_startup[dense]", outcome=Outcome.FAILED, reason="dlopen")
    if "import" in behaviour:
        importing.touch()
        print("OSError: libtorch.so: file too short")
        sys.exit(1)
    put(passed, *(() if "nothing" in behaviour else (failed,)), finished=True)
elif behaviour == "silent":
    print("  small_startup[dense]  cold", end="", flush=True)
    put(passed, running)
    heard = Path({pids!r}).with_name("heard")
    while not heard.exists():
        time.sleep(0.02)
    print(" 61.2 s  passed", flush=True)
    put(passed, finished=True)
elif behaviour == "untested":
    put(finished=True)
    sys.exit(5)
elif behaviour == "import segfault":
    importing.touch()
    die(signal.SIGSEGV)
elif behaviour == "import exits":
    importing.touch()
    os._exit(0)
elif behaviour == "help":
    path.with_suffix(".junit.xml").touch()
    sys.exit(0)
elif behaviour == "nothing to list":
    sys.exit(5)
elif behaviour == "no pytest":
    print("No module named pytest")
    sys.exit(1)
elif behaviour == "import error":
    importing.touch()
    print("ImportError: " + {root!r} + "/_C.so: undefined symbol: _ZN3c10")
    sys.exit(1)
elif behaviour == "import killed":
    importing.touch()
    die(signal.SIGKILL)
elif behaviour.startswith("unfit"):
    kind = behaviour.split()[1]
    error = RunError(kind=kind, reason="why it does not do")
    rungs = (RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),)
    write(replace(read(path), error=error, rungs=rungs), path)
    sys.exit(1)
elif behaviour == "collection":
    put(finished=True)
    print("SyntaxError: invalid syntax")
    sys.exit(2)
elif behaviour == "exits early":
    put(passed, running)
    os._exit(7)
elif behaviour == "garbage":
    path.write_text('{{"schema": 1, "cel')
elif behaviour == "dies at its end":
    put(passed, finished=True)
    die(signal.SIGABRT)
elif behaviour.startswith("SIG"):
    put(passed, running)
    print("about to die", flush=True)
    die(getattr(signal, behaviour))
elif behaviour.startswith("hang"):
    if behaviour == "hang deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sleep = "import time; time.sleep(600)"
    helper = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
    put(passed, running)
    Path({pids!r}).write_text(f"{{os.getpid()}} {{helper.pid}}")
    time.sleep(600)
"""


def write_stand_in(folder: Path) -> Path:
    """Write the script, and a checkout with a folder of startup tests; `pids` is in the folder."""
    path = folder / "stand_in.py"
    path.write_text(STAND_IN.format(root=str(ROOT), pids=str(folder / "pids")))
    (folder / "checkout" / "tests" / "startup").mkdir(parents=True)
    return path


def runs_of(tmp_path: Path, patch: pytest.MonkeyPatch) -> Run:
    """Return what runs a cell with the script in the place of pytest."""
    stand_in = write_stand_in(tmp_path)
    patch.setenv("CXX", "true")  # a real compiler is test_preflight's

    def run(behaviour: str, timeout: float = 60.0, **changed: object) -> Path:
        arguments: dict[str, object] = {
            "platform": "cpu",
            "records": tmp_path / "records",
            "pytest_args": ["-k", behaviour],
            "timeout": timeout,
            "root": tmp_path / "checkout",
            "python": (sys.executable, str(stand_in)),
            "installed": INSTALLED,
            "least_free_mib": 1,
            "least_memory_mib": 1,
        }
        path = run_cell(RunRequest(cell=CELL, **{**arguments, **changed}))  # type: ignore[arg-type]
        assert isinstance(path, Path)
        return path

    return run
