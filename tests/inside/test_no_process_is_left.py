"""However a forked function ends, no process that it started lives on. The caller's do."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matrix._util.process import is_subreaper
from matrix.inside import descendants
from matrix.inside.isolation import run_forked
from waiting import STUBBORN, alive, pids_in, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")

HERE = Path(__file__).resolve().parents[2]

# No child that ends by itself takes as long, and what is to be killed sleeps for longer.
LONG = 120


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def start_stubborn(pids: Path) -> None:
    subprocess.Popen([sys.executable, "-I", "-S", "-c", STUBBORN, str(pids)]).wait()
    pids_in(pids)


def test_a_hang_shows_its_stack_and_leaves_no_process(tmp_path: Path, output: Path) -> None:
    pids = tmp_path / "pids"

    def waits_for_ever() -> None:
        start_stubborn(pids)
        time.sleep(600)

    ended = run_forked(waits_for_ever, timeout=1, output=output)
    assert (ended.kind, ended.outcome, ended.survivors) == ("timed_out", "timed_out", ())
    assert ended.reason.startswith("timed out after ")
    assert "waits_for_ever" in ended.failure
    assert not any(map(alive, pids_in(pids)))


@pytest.mark.parametrize(
    "end", [lambda: 7, lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(0)]
)
def test_no_descendant_outlives_the_child(
    tmp_path: Path, output: Path, end: Callable[[], Any]
) -> None:
    pids = tmp_path / "pids"

    def function() -> Any:
        start_stubborn(pids)
        return end()

    run_forked(function, timeout=LONG, output=output)
    assert not any(map(alive, pids_in(pids)))
    # Nobody is left to reap; a helper of other tests in this process may live on.
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)


def test_processes_of_the_caller_are_left_alone(output: Path) -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as before:
        assert run_forked(lambda: 1, timeout=LONG, output=output).kind == "returned"
        assert before.poll() is None
        before.kill()


def test_processes_that_the_caller_starts_meanwhile_are_left_alone(
    tmp_path: Path, output: Path
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def watch() -> None:
        if not started:
            started.append(subprocess.Popen(["sleep", "600"]))
            (tmp_path / "started").touch()

    run_forked(
        lambda: wait_for((tmp_path / "started").exists), timeout=LONG, output=output, watch=watch
    )
    with started[0] as meanwhile:
        assert meanwhile.poll() is None
        meanwhile.kill()


def test_orphans_are_adopted_only_meanwhile(tmp_path: Path, output: Path) -> None:
    seen: list[bool] = []

    def watch() -> None:
        seen.append(is_subreaper())
        (tmp_path / "seen").touch()

    run_forked(
        lambda: wait_for((tmp_path / "seen").exists), timeout=LONG, output=output, watch=watch
    )
    assert seen[0] is True
    assert is_subreaper() is False


def test_a_start_inside_a_case(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def start() -> None:
        start_stubborn(pids)
        time.sleep(600)

    def case() -> str:
        return run_forked(start, timeout=0.5, output=tmp_path / "inner").kind

    ended = run_forked(case, timeout=LONG, output=tmp_path / "outer")
    assert ended.value == "timed_out"
    assert not any(map(alive, pids_in(pids)))


def test_a_case_that_dies_takes_its_start_along(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def start() -> None:
        start_stubborn(pids)
        pids.open("a").write(f"{os.getpid()}\n")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)

    ended = run_forked(
        lambda: run_forked(start, timeout=LONG).kind, timeout=LONG, output=tmp_path / "outer"
    )
    assert ended.kind == "signalled"
    assert not any(map(alive, pids_in(pids, 2)))


def test_an_error_of_the_watch_kills_the_child(output: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def function() -> None:
        start_stubborn(pids)
        time.sleep(600)

    def watch() -> None:
        if pids.exists() and pids.read_text():
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        run_forked(function, timeout=LONG, output=output, watch=watch)
    assert not any(map(alive, pids_in(pids)))


def test_an_interrupt_first_kills_the_child(output: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def function() -> None:
        start_stubborn(pids)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(600)

    with pytest.raises(KeyboardInterrupt):
        run_forked(function, timeout=LONG, output=output)
    assert not any(map(alive, pids_in(pids)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_when_the_parent_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    pids = tmp_path / "pids"
    script = f"""
        import os, subprocess, sys, time
        from pathlib import Path
        from matrix.inside.isolation import run_forked

        def function():
            if {number == signal.SIGTERM}:
                subprocess.Popen([sys.executable, "-c", {STUBBORN!r}, {str(pids)!r}]).wait()
            with open({str(pids)!r}, "a") as file:
                file.write(f"{{os.getpid()}}\\n")
            time.sleep(600)

        run_forked(function, timeout=60, output=Path({str(tmp_path / "output")!r}))
    """
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, env=environment) as parent:
        found = pids_in(pids, 2 if number == signal.SIGTERM else 1)
        parent.send_signal(number)
        assert parent.wait(30) == -number
    wait_for(lambda: not any(map(alive, found)), "the end of all processes")


def test_without_proc_the_childs_group_is_killed(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descendants, "processes", list)
    assert run_forked(lambda: time.sleep(600), timeout=0.3, output=output).kind == "timed_out"
    assert run_forked(lambda: 1, timeout=LONG, output=output).value == 1
