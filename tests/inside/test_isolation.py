"""Children that end in every way that there is, and what is known of how each ended."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrix.inside import isolation
from matrix.inside.ended import TAIL_BYTES, out_of_memory, tail
from matrix.inside.isolation import Background, IsolationError, run_forked
from waiting import alive, pids_in, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")

# No child takes as long: seconds.
LONG = 120


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


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


def test_a_child_is_at_work_while_its_parent_goes_on(output: Path, tmp_path: Path) -> None:
    def function() -> str:
        print("built")
        wait_for((tmp_path / "parent").exists)
        return "done"

    child = Background(function, output)
    (tmp_path / "parent").touch()
    seen: list[int] = []
    ended = child.join(timeout=LONG, watch=lambda: seen.append(1))
    assert (ended.kind, ended.value, ended.output.strip()) == ("returned", "done", "built")
    assert seen
    child.close()
    with pytest.raises(IsolationError, match="join it once"):
        child.join(timeout=LONG)


def test_a_fork_meanwhile_leaves_the_child_alone(output: Path, tmp_path: Path) -> None:
    def function() -> str:
        wait_for((tmp_path / "other").exists)
        return "done"

    child = Background(function, output)
    assert run_forked(lambda: 3, timeout=LONG).value == 3
    (tmp_path / "other").touch()
    assert child.join(timeout=LONG).value == "done"


@pytest.mark.parametrize("end", ["close", "timeout"])
def test_what_works_in_the_background_is_ended_with_all_that_it_started(
    output: Path, tmp_path: Path, end: str
) -> None:
    def function() -> None:
        with subprocess.Popen(["sleep", str(LONG)], start_new_session=True) as process:
            (tmp_path / "pids").write_text(f"{os.getpid()} {process.pid}")

    child = Background(function, output)
    pids = pids_in(tmp_path / "pids", 2)
    if end == "close":
        child.close()
    else:
        assert child.join(timeout=0.0).kind == "timed_out"
    assert not any(map(alive, pids))
