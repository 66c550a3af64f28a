"""Real processes and real signals: a script stands in for pytest, and its record is read back."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from matrix.record.model import ErrorKind, RunError, Rung, RungResult
from matrix.record.reader import read as valid
from matrix.record.running import is_running
from matrix.report.run_progress import alone_words
from matrix.run import process as processes
from matrix.run.cell import (
    RunRequest,
    run_cell,
)
from matrix.run.stage import Stage
from pytest_stand_in import CELL, INSTALLED, ROOT, Run, runs_of, write_stand_in
from waiting import alive, wait_for

pytestmark = pytest.mark.programs


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runs_of(tmp_path, monkeypatch)


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """Where the stand-in writes its own process and its helper's, once it hangs."""
    return tmp_path / "pids"


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    return write_stand_in(tmp_path)


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


def test_no_phase_is_silent(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line says what goes on; the one that pytest has begun is printed again before its rest."""
    monkeypatch.setattr(processes, "SILENCE", 0.1)
    begun, rest = "  small_startup[dense]  cold", " 61.2 s  passed\n"
    phase = "[2/?] small_startup[dense] cold, 20 s"
    told: list[str] = []

    def words(stage: Stage, seconds: float) -> str:
        (log,) = (tmp_path / "records").glob("*/*.log")
        if log.read_text().endswith(begun):  # it is printed, or is about to be
            told.append(alone_words(stage, 20.0))
        if told.count(phase) > 4:
            (tmp_path / "heard").touch()
        return alone_words(stage, 20.0)

    path = run("silent", words=words)
    lines = capfd.readouterr().out.partition(f"{begun}\n")[2]
    # On a busy machine lines of what goes on before and at its end may stand around these.
    said = lines.splitlines()
    assert said.count(f"  {phase}") >= 2
    assert (begun + rest)[:-1] in said
    assert path.with_suffix(".log").read_text().endswith(f"{begun}{rest}")


def test_how_many_run_side_by_side_is_handed_on(run: Run) -> None:
    assert " --jobs 7 --junitxml" in run("good", jobs="7").with_suffix(".log").read_text()


def test_the_record_names_no_folder_of_the_machine(run: Run, tmp_path: Path) -> None:
    path = run("good")
    text = path.read_text()
    assert str(tmp_path) not in text and str(Path.home()) not in text


def test_a_default_that_names_a_folder_is_not_kept(run: Run) -> None:
    kept = {"fx_graph_cache": True, "backends": ["ATEN"]}
    assert valid(run("good")).defaults == {"torch._inductor.config": kept}


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


def test_a_record_that_the_run_destroyed_is_written_again(run: Run) -> None:
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


def test_killed_itself_it_leaves_nothing_but_a_record_that_says_running(
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
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temporary), "CXX": "true"},
    )
    try:
        wait_for(lambda: pids.exists() and pids.read_text())
        stand_in_pid, helper = (int(pid) for pid in pids.read_text().split())
        (path,) = (tmp_path / "records" / "cpu").glob("*.json")
        assert is_running(path, valid(path))
        child.kill()
        child.wait()
        wait_for(lambda: not alive(stand_in_pid) and not alive(helper))
        wait_for(lambda: not list(temporary.iterdir()))
    finally:
        child.kill()
    record = valid(path)
    assert not record.finished and not is_running(path, record)
    assert [case.outcome for case in record.cases] == ["passed", "running"]
