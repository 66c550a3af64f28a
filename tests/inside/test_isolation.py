"""Children that end in every way that there is, and what is left of them: nothing."""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrix._util.process import is_subreaper
from matrix.inside import descendants, isolation
from matrix.inside.ended import TAIL_BYTES, out_of_memory, tail
from matrix.inside.isolation import IsolationError, run_forked
from waiting import alive, pids_in, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")

HERE = Path(__file__).resolve().parents[2]

# No child that ends by itself takes as long, and what is to be killed sleeps for longer.
LONG = 120

# Ignores SIGTERM, in a session of its own, its parent gone: nothing but a walk over /proc finds it.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def start_stubborn(pids: Path) -> None:
    subprocess.Popen([sys.executable, "-I", "-S", "-c", STUBBORN, str(pids)]).wait()
    pids_in(pids)


def test_a_value_comes_back_as_json(output: Path) -> None:
    ended = run_forked(lambda: {"a": [1, 2.5, None]}, timeout=LONG, output=output)
    assert (ended.kind, ended.value, ended.outcome) == ("returned", {"a": [1, 2.5, None]}, "passed")


def test_output_goes_to_the_file_whoever_writes_it(output: Path) -> None:
    def function() -> None:
        print("from print")
        os.write(2, b"from the descriptor\n")
        subprocess.run(["echo", "from a program"], check=True)

    ended = run_forked(function, timeout=LONG, output=output)
    assert sorted(ended.output.splitlines()) == [
        "from a program",
        "from print",
        "from the descriptor",
    ]


def test_without_a_file_the_output_is_the_callers(capfd: pytest.CaptureFixture[str]) -> None:
    ended = run_forked(lambda: os.write(1, b"hello\n"), timeout=LONG)
    assert ended.output == ""
    assert capfd.readouterr().out == "hello\n"


def test_an_exception_comes_back_with_its_traceback(output: Path) -> None:
    ended = run_forked(lambda: 1 / 0, timeout=LONG, output=output)
    assert (ended.kind, ended.outcome) == ("raised", "failed")
    assert ended.reason == "ZeroDivisionError: division by zero"
    assert "Traceback" in ended.failure


def test_an_assertion(output: Path) -> None:
    def function() -> None:
        raise AssertionError("three is not four")

    assert run_forked(function, timeout=LONG, output=output).reason.endswith("three is not four")


def test_a_value_that_is_not_json_is_an_error(output: Path) -> None:
    ended = run_forked(object, timeout=LONG, output=output)
    assert ended.kind == "raised"
    assert "not JSON serializable" in ended.reason


@pytest.mark.parametrize("stop", [sys.exit, lambda: (_ for _ in ()).throw(KeyboardInterrupt)])
def test_system_exit_and_interrupts_are_not_a_return(output: Path, stop: Callable[[], Any]) -> None:
    def function() -> None:
        next(iter(stop() or ()))

    assert run_forked(function, timeout=LONG, output=output).kind == "raised"


@pytest.mark.parametrize("status", [0, 3])
def test_os_exit_in_the_middle_is_not_a_return(output: Path, status: int) -> None:
    ended = run_forked(lambda: os._exit(status), timeout=LONG, output=output)
    assert (ended.kind, ended.exit_code, ended.outcome) == ("exited", status, "crashed")
    assert ended.reason == f"the process exited with status {status} before the test ended"


@pytest.mark.parametrize(
    ("crash", "number"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), signal.SIGSEGV),
        (lambda: ctypes.string_at(0), signal.SIGSEGV),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), signal.SIGBUS),
        (lambda: os.kill(os.getpid(), signal.SIGILL), signal.SIGILL),
        (os.abort, signal.SIGABRT),
    ],
)
def test_death_by_a_signal(output: Path, crash: Callable[[], Any], number: signal.Signals) -> None:
    ended = run_forked(crash, timeout=LONG, output=output)
    assert (ended.kind, ended.signal, ended.outcome) == ("signalled", number, "crashed")
    assert ended.reason == f"killed by {number.name}"
    if number in (signal.SIGSEGV, signal.SIGABRT):
        assert "most recent call first" in ended.output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU])
def test_death_by_a_signal_from_outside(output: Path, number: signal.Signals) -> None:
    ended = run_forked(lambda: os.kill(os.getpid(), number), timeout=LONG, output=output)
    assert (ended.kind, ended.signal, ended.outcome) == ("signalled", number, "interrupted")
    assert ended.reason == f"killed from outside by {number.name}"


def _stopped_helper() -> None:
    helper = os.fork()
    if not helper:
        os.kill(os.getpid(), signal.SIGSTOP)
    _busy()
    time.sleep(60)


def _busy() -> None:
    while time.process_time() < 0.1:
        pass


def _hang() -> None:
    _busy()
    time.sleep(60)


@pytest.mark.parametrize(
    ("function", "idle"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSTOP), "one of its processes was stopped from out"),
        (_stopped_helper, "one of its processes was stopped from outside"),
        (_hang, None),
    ],
)
def test_a_stopped_child_is_not_one_that_hangs(
    output: Path, function: Callable[[], Any], idle: str | None
) -> None:
    ended = run_forked(function, timeout=1, output=output)
    assert ended.kind == "timed_out"
    assert (ended.idle or "").startswith(idle or "") and bool(ended.idle) == bool(idle)


def test_a_memory_limit(output: Path) -> None:
    def function() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
        return len(bytearray(1 << 33))

    ended = run_forked(function, timeout=LONG, output=output)
    assert (ended.kind, ended.outcome, ended.reason) == ("raised", "out_of_memory", "MemoryError")


def test_a_memory_limit_that_leaves_nothing_for_the_report(output: Path) -> None:
    def function() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
        hoard: list[Any] = []
        size = 1 << 24
        while size > 64:
            try:
                hoard.append(bytearray(size))
            except MemoryError:
                size //= 2
        sys.hoard = hoard  # type: ignore[attr-defined]
        raise MemoryError

    ended = run_forked(function, timeout=LONG, output=output)
    assert ended.kind != "returned"
    assert ended.outcome in ("out_of_memory", "crashed")


def test_bad_alloc_is_out_of_memory_and_its_words_are_the_evidence(output: Path) -> None:
    def function() -> None:
        words = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::"
        os.write(2, f"ValueError: survived\n{words}bad_alloc\n".encode())
        os.abort()

    ended = run_forked(function, timeout=LONG, output=output)
    assert (ended.signal, ended.outcome) == (signal.SIGABRT, "out_of_memory")
    assert ended.evidence.startswith("terminate called")
    assert "survived" not in ended.evidence and "Fatal" not in ended.evidence


def test_an_oom_kill_differs_from_another_sigkill(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([4, 5])
    monkeypatch.setattr(isolation, "oom_kills", lambda: next(counts))
    ended = run_forked(lambda: os.kill(os.getpid(), signal.SIGKILL), timeout=LONG, output=output)
    assert (ended.outcome, ended.oom_killed) == ("out_of_memory", True)
    assert "out of memory" in ended.reason


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


def test_a_process_forked_by_the_function_does_not_answer_for_it(output: Path) -> None:
    def function() -> str:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            return "the child"
        return "its own child"

    assert run_forked(function, timeout=LONG, output=output).value == "the child"


def test_a_child_that_closes_its_outputs(output: Path) -> None:
    def function() -> str:
        sys.stdout.close()
        os.close(1)
        os.close(2)
        return "fine"

    assert run_forked(function, timeout=LONG, output=output).value == "fine"


def test_a_child_that_closes_every_descriptor_is_not_a_pass(output: Path) -> None:
    def function() -> str:
        os.closerange(0, 1000)
        return "lost"

    ended = run_forked(function, timeout=LONG, output=output)
    assert ended.kind == "exited"


def test_a_grandchild_that_holds_the_pipe_does_not_hold_us(output: Path) -> None:
    def function() -> str:
        if os.fork() == 0:
            time.sleep(600)
        return "done"

    ended = run_forked(function, timeout=LONG, output=output)
    assert (ended.kind, ended.value) == ("returned", "done")


def test_much_output_and_a_large_value(output: Path) -> None:
    def function() -> str:
        os.write(1, b"first line\n")
        for _ in range(64):
            os.write(1, b"x" * (1 << 20) + b"\n")
        print("last line")
        return "v" * (1 << 22)

    ended = run_forked(function, timeout=LONG, output=output)
    assert len(ended.value) == 1 << 22
    assert len(ended.output.encode()) <= TAIL_BYTES
    assert ended.output.endswith("last line\n")
    assert output.stat().st_size > 64 << 20


def test_the_watch_is_called_while_it_runs_and_after(tmp_path: Path, output: Path) -> None:
    seen: list[str] = []

    def function() -> None:
        print("one", flush=True)
        wait_for((tmp_path / "seen").exists)
        print("two", flush=True)

    def watch() -> None:
        seen.append(output.read_text())
        if seen[-1] == "one\n":
            (tmp_path / "seen").touch()

    run_forked(function, timeout=LONG, output=output, watch=watch)
    assert seen[-1] == "one\ntwo\n"
    assert "one\n" in seen


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


def test_threads_of_the_caller_do_not_matter(output: Path) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert run_forked(lambda: 5, timeout=LONG, output=output).value == 5
    finally:
        stop.set()
        thread.join()


def test_refuses_where_there_is_no_fork(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(IsolationError, match=r"os\.fork is missing"):
        run_forked(lambda: 1, timeout=LONG, output=output)


def test_refuses_after_cuda_was_initialised(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(IsolationError, match="CUDA was initialised"):
        run_forked(lambda: 1, timeout=LONG, output=output)


def test_a_failed_fork_is_an_error(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(IsolationError, match="fork failed: Resource"):
        run_forked(lambda: 1, timeout=LONG, output=output)


def test_descriptors_do_not_leak(output: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        run_forked(lambda: 1, timeout=LONG, output=output)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_proc_the_childs_group_is_killed(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descendants, "processes", list)
    assert run_forked(lambda: time.sleep(600), timeout=0.3, output=output).kind == "timed_out"
    assert run_forked(lambda: 1, timeout=LONG, output=output).value == 1


def test_the_tail_begins_with_a_whole_line() -> None:
    assert tail("one\ntwo\nthree\n", 9) == "three\n"
    assert tail("é" * 10, 5) == "éé"
    assert tail("short", 100) == "short"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MemoryError", True),
        ("E   MemoryError: 3 GiB", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", True),
        ("KeyError: 'MemoryError'", False),
        ("RuntimeError: no memory of it", False),
    ],
)
def test_out_of_memory(text: str, expected: bool) -> None:
    assert out_of_memory(text) is expected
