"""Real processes and real signals: a script stands in for pytest, and its record is read back."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.checks.resolution.installs import why_install_failed
from matrix.errors import MatrixError
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
    read,
    to_json,
    validate,
)
from matrix.run import process as processes
from matrix.run.cell import RunRefused, RunRequest, record_unstarted, run_cell
from matrix.run.conclusion import conclude
from matrix.run.preflight import Refusal
from matrix.run.process import How, ProcessEnd

ROOT = Path(__file__).parents[2]
CELL = Cell(f"{sys.version_info.major}.{sys.version_info.minor}", "2.10.0", "0.19.1")
INSTALLED = {"torch": "2.10.0+cu128", "vllm": "0.19.1", "triton": "3.6.0"}
STAND_IN = """
import os, resource, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, {root!r})
from matrix.record.model import Case, Outcome, Rung, RungResult, RunError, Start, StartKind
from matrix.record.model import read, write

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
    Path(os.environ["TMPDIR"], "left").write_text("over")
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

Run = Callable[..., Path]


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """Where the stand-in writes its own process and its helper's, once it hangs."""
    return tmp_path / "pids"


@pytest.fixture
def stand_in(tmp_path: Path, pids: Path) -> Path:
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN.format(root=str(ROOT), pids=str(pids)))
    (tmp_path / "checkout" / "tests" / "startup").mkdir(parents=True)
    return path


@pytest.fixture
def run(tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CXX", "true")  # a real compiler is test_preflight's

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


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def valid(path: Path) -> Record:
    validate(json.loads(path.read_text(encoding="utf-8")), path.name)
    return read(path)


def test_a_good_run(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = run("good")
    record = valid(path)
    assert path.parent.name == "cpu" and path.name.startswith(f"{CELL.name}.2")
    assert record.finished and record.error is None
    assert [case.outcome for case in record.cases] == ["passed"]
    assert record.packages == INSTALLED
    assert record.provenance["torch"] == "2.10.0+cu128"
    assert float(str(record.provenance["seconds"])) > 0
    log, out = path.with_suffix(".log").read_text(), capfd.readouterr().out
    assert log == out
    startup = tmp_path / "checkout" / "tests" / "startup"
    # Without -c pytest may take another file, such as pyproject.toml where tox runs it.
    assert f"-p matrix.inside.pytest_plugin -c {startup / 'pytest.ini'} --rootdir" in log
    assert f"{startup.parents[1]} tests/startup --record" in log
    assert "--platform cpu --model-source data --case-timeout 60 --junitxml" in log
    assert log.splitlines()[0].endswith("-k good")
    assert "--jobs" not in log
    assert "CUDA_VISIBLE_DEVICES ''" in log and "MATRIX_PLATFORM 'cpu'" in log
    temporary = log.partition("TMPDIR '")[2].partition("'")[0]
    assert temporary and not Path(temporary).exists()


def test_how_many_run_side_by_side_is_handed_on(run: Run) -> None:
    assert " --jobs 7 --junitxml" in run("good", jobs="7").with_suffix(".log").read_text()


def test_the_record_names_no_folder_of_the_machine(run: Run, tmp_path: Path) -> None:
    path = run("good")
    text = path.read_text()
    assert str(tmp_path) not in text and str(Path.home()) not in text


def test_two_runs_in_one_second_are_two_records(run: Run) -> None:
    assert run("untested") != run("untested")


def test_named_tests_take_the_place_of_all(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checkout/tests/startup/test_small.py").write_text("")
    path = run("", pytest_args=["tests/startup/test_small.py::test_a", "good"])
    assert f"{tmp_path / 'checkout'} --record" in path.with_suffix(".log").read_text()


def test_nothing_judged_is_no_error(run: Run) -> None:
    record = valid(run("untested"))
    assert record.finished and record.error is None and record.cases == ()


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("SIGSEGV", "crashed"),
        ("SIGABRT", "crashed"),
        ("SIGKILL", "interrupted"),
        ("SIGTERM", "interrupted"),
        ("SIGHUP", "interrupted"),
    ],
)
def test_killed_while_a_case_ran(run: Run, name: str, outcome: str) -> None:
    record = valid(run(name))
    assert record.finished and record.error == RunError(
        kind=ErrorKind.CRASHED, reason=f"pytest was killed by {name}"
    )
    assert [case.outcome for case in record.cases] == ["passed", outcome]
    case = record.cases[1]
    assert case.reason == case.signature == f"pytest was killed by {name}"
    assert case.failure is not None and "about to die" in case.failure


def test_a_case_that_took_the_whole_process_along(run: Run) -> None:
    record = valid(run("exits early"))
    assert record.error == RunError(
        kind=ErrorKind.CRASHED, reason=record.error.reason if record.error else ""
    ) and "exit status 7" in (record.cases[1].reason or "")
    assert record.cases[1].outcome == "crashed"


def test_killed_after_the_last_case(run: Run) -> None:
    record = valid(run("dies at its end"))
    assert record.error == RunError(kind=ErrorKind.CRASHED, reason="pytest was killed by SIGABRT")
    assert record.cases[0].outcome == "passed"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("import segfault", "SIGSEGV"),
        ("import error", "undefined symbol: _ZN3c10"),
        ("import exits", "exit status 0"),
    ],
)
def test_the_import_ended_the_process(run: Run, behaviour: str, reason: str) -> None:
    record = valid(run(behaviour))
    assert record.error is not None and record.error.kind == "imports"
    assert reason in record.error.reason and str(ROOT) not in record.error.reason
    assert [(rung.rung, rung.ok) for rung in record.rungs] == [("imports", False)]


def test_killed_from_outside_while_importing_is_no_verdict_on_the_import(run: Run) -> None:
    record = valid(run("import killed"))
    assert record.error is not None and record.error.kind in ("crashed", "no_memory")
    assert record.rungs == ()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("collection", "could not collect"),
        ("no pytest", "before the import of vLLM pytest ended with exit status 1: No module"),
    ],
)
def test_pytest_itself_failed(run: Run, behaviour: str, reason: str) -> None:
    record = valid(run(behaviour))
    assert record.error is not None and record.error.kind == "internal"
    assert reason in record.error.reason
    assert record.rungs in ((), (RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),))


@pytest.mark.parametrize(("behaviour", "status"), [("help", 0), ("nothing to list", 5)])
def test_what_is_no_run_leaves_no_record(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, status: int
) -> None:
    monkeypatch.setenv("CXX", "true")
    request = RunRequest(
        cell=CELL,
        platform="cpu",
        records=tmp_path / "records",
        pytest_args=[behaviour],
        root=tmp_path / "checkout",
        python=(sys.executable, str(stand_in)),
        installed=INSTALLED,
        least_free_mib=1,
        least_memory_mib=1,
    )
    ended = run_cell(request)
    assert ended == status
    assert list((tmp_path / "records" / "cpu").iterdir()) == []


def test_a_record_that_the_run_destroyed_is_made_anew(run: Run) -> None:
    path = run("garbage")
    record = valid(path)
    assert record.error is not None and record.error.kind == "internal"
    assert record.error.reason.startswith(f"pytest ended with exit status 0; {path.name}: not")
    assert record.packages == INSTALLED


def test_a_hang_ends_with_all_that_it_started(run: Run, pids: Path) -> None:
    record = valid(run("hang", timeout=2.0))
    assert record.error is not None and record.error.kind == "timed_out"
    assert [case.outcome for case in record.cases] == ["passed", "interrupted"]
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


@pytest.mark.parametrize("behaviour", ["hang", "hang deaf"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    run: Run,
    pids: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    number: signal.Signals,
) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.5)

    def interrupt() -> None:
        wait_for(pids.exists)
        # Under tox, a terminal's Ctrl-C comes twice.
        for _ in range(2 if behaviour == "hang deaf" else 1):
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    threading.Thread(target=interrupt).start()
    record = valid(run(behaviour))
    assert record.error == RunError(
        kind=ErrorKind.INTERRUPTED, reason=f"interrupted by {number.name}"
    )
    assert [case.outcome for case in record.cases] == ["passed", "interrupted"]
    assert not any(alive(int(pid)) for pid in pids.read_text().split())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_killed_itself_it_leaves_no_child_and_a_record_that_says_running(
    tmp_path: Path, stand_in: Path, pids: Path
) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from matrix.catalog.cells import Cell
        from matrix.run.cell import RunRequest, run_cell
        run_cell(RunRequest(
            cell={CELL!r}, platform="cpu", records=Path({str(tmp_path / "records")!r}),
            pytest_args=["hang"], root=Path({str(tmp_path / "checkout")!r}),
            installed={INSTALLED!r}, python=(sys.executable, {str(stand_in)!r}),
            least_free_mib=1, least_memory_mib=1,
        ))
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: pids.exists() and pids.read_text())
        stand_in_pid, helper = (int(pid) for pid in pids.read_text().split())
        child.kill()
        child.wait()
        wait_for(lambda: not alive(stand_in_pid))
    finally:
        child.kill()
    os.kill(helper, signal.SIGKILL)  # only a living engine can find what its child started
    (path,) = (tmp_path / "records" / "cpu").glob("*.json")
    record = valid(path)
    assert not record.finished
    assert [case.outcome for case in record.cases] == ["passed", "running"]


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        ({"torch": "2.9.1", "vllm": "0.19.1"}, "torch 2.9.1, not 2.10.0"),
        ({"torch": "2.10.0"}, "vllm none, not 0.19.1"),
    ],
)
def test_another_cells_environment_is_refused(
    run: Run, tmp_path: Path, installed: dict[str, str], reason: str
) -> None:
    with pytest.raises(RunRefused, match=reason) as caught:
        run("good", installed=installed)
    record = valid(caught.value.path)
    assert record.error is not None and record.error.kind == "wrong_cell"
    assert f"tox -e {CELL.name}" in record.error.reason
    assert "\n" not in str(caught.value)


def test_a_machine_that_cannot_is_refused_with_a_record(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    with pytest.raises(RunRefused, match=r"does not run.*record") as caught:
        run("good")
    record = valid(caught.value.path)
    assert record.finished and record.error is not None and record.error.kind == "no_compiler"
    assert not caught.value.path.with_suffix(".log").exists()


def test_cuda_without_a_gpu_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RunRefused, match="no GPU is visible") as caught:
        run("good", platform="cuda")
    record = valid(caught.value.path)
    assert record.platform == "cuda"
    assert record.error is not None and record.error.kind == "no_gpu"


@pytest.mark.parametrize("kind", ["no_driver", "driver_too_old", "gpu_full", "gpu_fault"])
def test_a_gpu_that_does_not_do_is_refused_before_anything_starts(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    told = []

    def refuse(platform: str, packages: dict[str, str]) -> Refusal:
        told.append((platform, packages))
        return Refusal(kind=ErrorKind(kind), reason="so it is: mend it")

    monkeypatch.setattr("matrix.run.cell.unusable_gpu", refuse)
    with pytest.raises(RunRefused, match=r"so it is: mend it \(record: ") as caught:
        run("good", platform="cuda")
    assert told == [("cuda", INSTALLED)]
    record = valid(caught.value.path)
    assert record.finished and record.cases == () and record.platform == "cuda"
    assert record.error == RunError(kind=ErrorKind(kind), reason="so it is: mend it")
    assert not caught.value.path.with_suffix(".log").exists()


@pytest.mark.parametrize("kind", ["no_gpu", "no_driver", "driver_too_old", "gpu_unsupported"])
def test_what_only_the_import_can_tell_of_a_gpu_is_a_refusal_too(run: Run, kind: str) -> None:
    with pytest.raises(RunRefused, match="why it does not do") as caught:
        run(f"unfit {kind}")
    record = valid(caught.value.path)
    assert record.finished and record.error == RunError(
        kind=ErrorKind(kind), reason="why it does not do"
    )


def test_without_startup_tests_there_is_nothing_to_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="run from a checkout"):
        run("good", root=tmp_path / "elsewhere")


def test_a_records_folder_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MatrixError, match="cannot be written"):
        run("good", records=tmp_path / "file")


def test_a_cell_that_does_not_resolve_has_a_record(tmp_path: Path) -> None:
    error = RunError(kind=ErrorKind.RESOLVES, reason="Because there is no such torch")
    path = record_unstarted(CELL, error, platform="cpu", records=tmp_path)
    record = valid(path)
    assert record.error == error and record.finished
    assert record.rungs == (
        RungResult(rung=Rung.RESOLVES, ok=False, seconds=0.0, reason=error.reason),
    )
    assert record.packages == {} and record.provenance["torch"] is None
    assert record.provenance["python"] == CELL.python


HELPER = "import time; time.sleep(600)"
CASES = f"""
import os, subprocess, sys, time
from pathlib import Path

def test_a():
    pass

def test_slow():
    helper = subprocess.Popen([sys.executable, "-c", {HELPER!r}], start_new_session=True)
    Path(os.environ["PIDS"]).write_text(f"{{os.getpid()}} {{helper.pid}}")
    time.sleep(600)
"""
FEATURES = """
import os, sys, types
features = types.ModuleType("matrix.inside.vllm_compat")
features.effective_flags = dict
features.preload = lambda platform: None
features.chosen_platform = lambda: os.environ["MATRIX_PLATFORM"]
sys.modules[features.__name__] = features
"""
ENGINE = """
import sys
from pathlib import Path
from matrix.catalog.cells import Cell
from matrix.run.cell import RunRefused, RunRequest, run_cell
try:
    done = run_cell(RunRequest(
        cell={cell!r}, platform="cpu", pytest_args=["-p", "features", *sys.argv[1:]],
        root=Path.cwd(), installed={installed!r}, least_free_mib=1, least_memory_mib=1,
    ))
except RunRefused as refusal:
    sys.exit(f"refused: {{refusal}}")
sys.exit(done if isinstance(done, int) else 0)
"""


@dataclasses.dataclass(frozen=True)
class Checkout:
    """A checkout with the real plugin, fakes of torch and vLLM, and startup tests of its own."""

    root: Path
    pids: Path

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", ENGINE.format(cell=CELL, installed=INSTALLED), *arguments],
            cwd=self.root,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MATRIX"))},
                "PYTHONPATH": f"{ROOT}{os.pathsep}{self.root}",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PIDS": str(self.pids),
                "CXX": "true",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def left(self) -> list[Path]:
        return sorted((self.root / "records" / "cpu").iterdir())

    def record(self) -> Record:
        (path,) = (each for each in self.left() if each.suffix == ".json")
        return valid(path)


@pytest.fixture
def checkout(tmp_path: Path, pids: Path) -> Checkout:
    root = tmp_path / "real"
    for name, text in {
        "tests/startup/pytest.ini": "[pytest]\naddopts = -p no:cacheprovider\n",
        "tests/startup/test_cases.py": CASES,
        "features.py": FEATURES,
        "torch.py": "import types\n__version__ = '2.10.0'\n"
        "version = types.SimpleNamespace(cuda=None)\n",
        "vllm/__init__.py": "__version__ = '0.19.1'\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Checkout(root, pids)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--help", "--case-timeout=SECONDS"),
        ("--version", "pytest "),
        ("--markers", "isolated: "),
        ("--collect-only", "test_slow"),
    ],
)
def test_a_person_who_asks_pytest_gets_the_answer(
    checkout: Checkout, argument: str, said: str
) -> None:
    process = checkout.start(argument)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert said in output
    assert checkout.left() == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--wrong"], "unrecognized arguments: --wrong"),
        (["-k", "a and"], "Wrong expression passed to '-k': a and: "),
        (["tests/startup/test_cases.py::test_b"], "not found: tests/startup/test_cases.py::test_b"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    checkout: Checkout, arguments: list[str], reason: str
) -> None:
    process = checkout.start(*arguments)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith(f"refused: {reason}"), output
    record = checkout.record()
    assert record.error is not None and record.error.kind == "internal"
    assert record.error.reason.startswith(reason)


def test_killed_itself_its_pytest_ends_what_the_case_started(checkout: Checkout) -> None:
    engine = checkout.start("-k", "slow")
    with engine:
        wait_for(lambda: checkout.pids.exists() and checkout.pids.read_text())
        engine.kill()
    pids = [int(pid) for pid in checkout.pids.read_text().split()]
    try:
        wait_for(lambda: not any(alive(pid) for pid in pids))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[1], signal.SIGKILL)
    wait_for(lambda: checkout.record().finished)
    record = checkout.record()
    assert record.error == RunError(kind=ErrorKind.INTERRUPTED, reason="stopped by a signal")
    assert [case.outcome for case in record.cases] == ["interrupted"]
    assert record.deselected == 1


RUNNING = Case(
    case="moe_startup[mega_aot=1]",
    outcome=Outcome.RUNNING,
    starts=(Start(start=StartKind.COLD, seconds={"total": 2.0}),),
)
LEFT = Record(
    cell=CELL.name,
    platform=Platform.CPU,
    finished=False,
    provenance={"started": "2026-11-22T18:00:00Z"},
    rungs=(RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),),
    cases=(RUNNING,),
)


def test_the_kernels_out_of_memory_killer() -> None:
    ended = ProcessEnd(how=How.SIGNALLED, signal="SIGKILL", seconds=9.0, oom_kill=True)
    record = conclude(LEFT, ended, "")
    assert record.error is not None and record.error.kind == "no_memory"
    assert record.cases[0].outcome == "out_of_memory"
    assert record.cases[0].starts == RUNNING.starts


def test_what_the_run_said_of_itself_stands() -> None:
    said = RunError(kind=ErrorKind.NO_GPU, reason="the GPU fell off the bus")
    left = dataclasses.replace(LEFT, error=said, finished=True)
    assert conclude(left, ProcessEnd(how=How.EXITED, status=1, seconds=9.0), "x").error == said


def test_conclude_changes_nothing_of_a_finished_run_but_its_seconds() -> None:
    case = dataclasses.replace(RUNNING, outcome=Outcome.FAILED, reason="AssertionError")
    left = dataclasses.replace(LEFT, cases=(case,), finished=True)
    record = conclude(
        left, ProcessEnd(how=How.EXITED, status=1, seconds=9.04, oom_kill=True), "much output"
    )
    seconds = {**left.provenance, "seconds": 9.0}
    assert to_json(record) == to_json(dataclasses.replace(left, provenance=seconds))


NEW_UV = """Using Python 3.11.7 environment at: .tox/x
error: No solution found when resolving dependencies
  cause: Because only a<=1 is available and b>=3 depends on a>=2, we can conclude
         that b>=3 cannot be used.
         And because you require b==3, we can conclude that it is unsatisfiable.

hint: try something else
"""
OLD_UV = """\x1b[31m  \u00d7 No solution found when resolving dependencies:\x1b[0m
  \u2570\u2500\u25b6 Because there is no version of a==9 and you
      require a==9, it is unsatisfiable.
"""
OFFLINE = """error: No solution found
  cause: Because a was not found in the cache

hint: Packages were unavailable because the network was disabled.
"""
NO_NETWORK = """error: Request failed after 3 retries
  cause: Failed to fetch: `https://ann:secret@index.invalid/simple/a/`
  cause: dns error
"""
NOT_MADE = "the environment could not be made: "


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        (
            NEW_UV,
            "resolves",
            "Because only a<=1 is available and b>=3 depends on a>=2, we can conclude that b>=3"
            " cannot be used. And because you require b==3, we can conclude that it is"
            " unsatisfiable.",
        ),
        (
            OLD_UV,
            "resolves",
            "Because there is no version of a==9 and you require a==9, it is unsatisfiable.",
        ),
        (
            "ERROR: No matching distribution found for torch==9",
            "resolves",
            "ERROR: No matching distribution found for torch==9",
        ),
        (
            OFFLINE,
            "internal",
            f"{NOT_MADE}No solution found: Because a was not found in the cache",
        ),
        (
            NO_NETWORK,
            "internal",
            f"{NOT_MADE}Request failed after 3 retries: Failed to fetch: a",
        ),
        (
            "error: Failed to extract\n  cause: No space left on device (os error 28)",
            "no_space",
            "cause: No space left on device (os error 28)",
        ),
        ("", "internal", f"{NOT_MADE}the installer gave no reason"),
    ],
)
def test_why_an_install_failed(said: str, kind: str, reason: str) -> None:
    assert why_install_failed(said) == RunError(kind=ErrorKind(kind), reason=reason)


def test_an_import_that_takes_pytest_along_leaves_its_last_words(checkout: Checkout) -> None:
    (checkout.root / "vllm/__init__.py").write_text(
        "import os\nos.write(2, b'Tried to register an operator twice\\n')\nos.abort()\n"
    )
    process = checkout.start()
    process.communicate(timeout=60)
    record = checkout.record()
    assert record.error is not None and record.error.kind == "imports"
    (log,) = (each for each in checkout.left() if each.suffix == ".log")
    assert "Tried to register an operator twice" in log.read_text()


def test_the_junit_file_does_not_name_the_host(checkout: Checkout) -> None:
    process = checkout.start("-k", "test_a")
    process.communicate(timeout=60)
    (junit,) = (each for each in checkout.left() if each.suffix == ".xml")
    assert 'hostname=""' in junit.read_text() and "<testcase " in junit.read_text()


@pytest.fixture(autouse=True, scope="module")
def interruptible() -> Iterator[None]:
    """A job in the background starts with SIGINT ignored, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_why_an_index_was_not_reached_is_told_without_its_address() -> None:
    said = (
        "error: Failed to fetch: `https://index.example:8443/simple/torchvision/`\n"
        "  cause: error sending request for url (https://index.example:8443/simple/torchvision/)\n"
        "  cause: invalid peer certificate: UnknownIssuer\n"
    )
    for text in (said, said.replace("`", "")):
        error = why_install_failed(text)
        assert (error.kind, error.reason) == (
            "internal",
            "the environment could not be made: Failed to fetch: torchvision: "
            "error sending request for url (torchvision)",
        )
