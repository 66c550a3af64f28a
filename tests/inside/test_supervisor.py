"""Real forks, side by side: that they overlap, and that the end of one is not that of another."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrix.inside import supervisor
from matrix.inside.ended import Ended
from waiting import alive, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")

# In a session of its own and its parent gone, so only who takes in orphans can find it.
ORPHAN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
with open(sys.argv[1] + ".part", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""


@dataclass(eq=False)
class Task:
    function: Callable[[], Any]
    output: Path
    on_watch: Callable[[], None] = lambda: None

    def run(self) -> Any:
        return self.function()

    def watch(self) -> None:
        self.on_watch()


@dataclass
class Bench:
    """Runs functions side by side and keeps what was heard of them, by their place."""

    folder: Path
    finished: dict[int, Ended] = field(default_factory=dict)
    cut_short: dict[int, bool] = field(default_factory=dict)
    begun: int = 0
    stopped: bool = False
    on_finish: Callable[[int], None] = lambda place: None
    on_watch: Callable[[], None] = lambda: None

    def run(self, *functions: Callable[[], Any], jobs: int = 2, timeout: float = 20.0) -> None:
        tasks: list[Task] = []

        def begin() -> Iterator[Task]:
            for place, function in enumerate(functions):
                self.begun += 1
                tasks.append(Task(function, self.folder / f"output{place}", self.on_watch))
                yield tasks[-1]

        def finished(task: Task, ended: Ended) -> None:
            self.finished[tasks.index(task)] = ended
            self.on_finish(tasks.index(task))

        def cut_short(task: Task, *, by_signal: bool) -> None:
            self.cut_short[tasks.index(task)] = by_signal

        supervisor.supervise(
            begin(),
            jobs,
            timeout=timeout,
            finished=finished,
            cut_short=cut_short,
            stopped=lambda: self.stopped,
        )

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def await_(self, name: str) -> str:
        wait_for((self.folder / name).exists, name)
        return (self.folder / name).read_text()

    def orphan(self, name: str) -> int:
        command = [sys.executable, "-I", "-S", "-c", ORPHAN, str(self.folder / name)]
        subprocess.run(command, check=True)
        return int(self.await_(name))

    def say(self, name: str, number: int) -> None:
        (self.folder / f"{name}.part").write_text(str(number))
        (self.folder / f"{name}.part").rename(self.folder / name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_two_run_at_once(bench: Bench) -> None:
    def meet(mine: str, other: str) -> str:
        bench.touch(mine)
        bench.await_(other)
        return "met"

    bench.run(lambda: meet("a", "b"), lambda: meet("b", "a"))
    assert {place: ended.value for place, ended in bench.finished.items()} == {0: "met", 1: "met"}
    assert not bench.cut_short


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_never_more_than_jobs_run_at_once(bench: Bench, jobs: int) -> None:
    def busy() -> int:
        mine = bench.folder / f"busy.{os.getpid()}"
        mine.touch()
        seen = len(list(bench.folder.glob("busy.*")))
        time.sleep(0.02)
        mine.unlink()
        return seen

    bench.run(*[busy] * 5, jobs=jobs)
    assert len(bench.finished) == 5
    assert all(1 <= ended.value <= jobs for ended in bench.finished.values())
    if jobs == 1:
        assert list(bench.finished) == [0, 1, 2, 3, 4]


def test_each_end_is_distinguished(bench: Bench) -> None:
    def segfault() -> None:
        print("before the end", flush=True)
        signal.raise_signal(signal.SIGSEGV)

    def fail() -> None:
        raise ValueError("no")

    def hang() -> None:
        bench.orphan("left")
        time.sleep(60)

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    bench.run(segfault, kill, hang, fail, lambda: [1], lambda: os._exit(3), jobs=6, timeout=6)
    ends = [bench.finished[place] for place in range(6)]
    assert [ended.kind for ended in ends] == [
        "signalled",
        "signalled",
        "timed_out",
        "raised",
        "returned",
        "exited",
    ]
    assert [ends[0].signal, ends[1].signal] == [signal.SIGSEGV, signal.SIGKILL]
    assert "before the end" in ends[0].output
    assert ends[3].reason == "ValueError: no"
    assert (ends[4].value, ends[4].survivors) == ([1], ())
    assert ends[5].exit_code == 3
    assert not alive(int(bench.await_("left")))


def test_a_supervisor_that_is_killed_takes_its_own_case_and_nothing_else(bench: Bench) -> None:
    def doomed() -> None:
        bench.await_("neighbour")
        print("last words", flush=True)
        bench.orphan("left")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)

    def neighbour() -> bool:
        orphan = bench.orphan("neighbour")
        bench.await_("over")
        return alive(orphan)

    bench.on_finish = lambda place: bench.touch("over")
    bench.run(doomed, neighbour)
    assert list(bench.finished) == [0, 1]
    assert (bench.finished[0].kind, bench.finished[0].signal) == ("signalled", signal.SIGKILL)
    assert "last words" in bench.finished[0].output
    assert bench.finished[1].value is True
    assert not alive(int(bench.await_("left"))) and not alive(int(bench.await_("neighbour")))


def test_a_supervisor_that_does_not_come_to_its_end_is_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_GRACE_SECONDS", 0.0)

    def stop() -> None:
        bench.say("pid", os.getpid())
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(60)

    bench.run(stop, timeout=1)
    assert bench.finished[0].kind == "timed_out"
    assert not alive(int(bench.await_("pid")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_then_takes_effect(bench: Bench, number: signal.Signals) -> None:
    def sleep(name: str) -> None:
        bench.orphan(name)
        time.sleep(60)

    def watch() -> None:
        if (bench.folder / "a").exists() and (bench.folder / "b").exists():
            os.kill(os.getpid(), number)

    heard: list[int] = []
    before = signal.signal(number, lambda caught, _: heard.append(caught))
    bench.on_watch = watch
    try:
        bench.run(lambda: sleep("a"), lambda: sleep("b"), lambda: sleep("c"))
    finally:
        signal.signal(number, before)
    assert heard == [number]
    assert bench.cut_short == {0: True, 1: True} and not bench.finished
    assert bench.begun == 2
    assert not alive(int(bench.await_("a"))) and not alive(int(bench.await_("b")))


def test_once_stopped_nothing_begins_and_what_runs_is_ended(bench: Bench) -> None:
    def sleep() -> None:
        bench.say("pid", os.getpid())
        time.sleep(60)

    def stop(place: int) -> None:
        bench.stopped = True

    bench.on_finish = stop
    bench.run(lambda: bench.await_("pid"), sleep, lambda: None)
    assert list(bench.finished) == [0]
    assert bench.cut_short == {1: False}
    assert bench.begun == 2
    assert not alive(int(bench.await_("pid")))


def test_an_error_of_the_listener_ends_all(bench: Bench) -> None:
    def sleep() -> None:
        bench.say("pid", os.getpid())
        time.sleep(60)

    def fail(place: int) -> None:
        raise OSError("the disk is gone")

    bench.on_finish = fail
    with pytest.raises(OSError, match="the disk is gone"):
        bench.run(lambda: bench.await_("pid"), sleep)
    assert bench.cut_short == {1: False}
    assert not alive(int(bench.await_("pid")))


def test_no_case_begins_where_cuda_is_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    bench.run(lambda: 1, lambda: 2)
    assert [ended.kind for ended in bench.finished.values()] == ["raised", "raised"]
    assert "CUDA was initialised" in str(bench.finished[0].error)


def test_a_large_answer_comes_back_whole(bench: Bench) -> None:
    bench.run(*[lambda: "x" * (1 << 20)] * 2)
    assert [len(ended.value) for ended in bench.finished.values()] == [1 << 20] * 2
