import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from matrix._util.process import (
    Process,
    adopting_orphans,
    below,
    is_subreaper,
    processes,
    set_subreaper,
    signal_name,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")


def made(pid: int, parent: int) -> Process:
    return Process(pid=pid, parent=parent, session=1, started=pid)


def test_proc_shows_this_process_and_its_child() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = {process.pid: process for process in processes()}
        assert found[os.getpid()].session == os.getsid(0)
        assert child.pid in {process.pid for process in below([os.getpid()], found.values())}
        assert found[child.pid].parent == os.getpid()
        assert found[child.pid].identity == (child.pid, found[child.pid].started)
    finally:
        child.communicate(b"\n")


def test_a_name_in_parentheses_does_not_confuse_the_reader(tmp_path: Path) -> None:
    program = tmp_path / ") 1 2 (x"
    program.symlink_to(sys.executable)
    child = subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert {process.pid: process.parent for process in processes()}[child.pid] == os.getpid()
    finally:
        child.communicate(b"\n")


def test_descendants_are_all_below_and_a_loop_ends() -> None:
    every = [made(2, 1), made(3, 2), made(4, 3), made(9, 8), made(10, 11), made(11, 10)]
    assert {process.pid for process in below([2], every)} == {3, 4}
    assert {process.pid for process in below([1, 8], every)} == {2, 3, 4, 9}
    assert {process.pid for process in below([10], every)} == {10, 11}
    assert below([4], every) == []


def test_without_proc_there_are_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert processes() == []


def test_a_process_that_ends_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda path: ["self", str(os.getpid()), "999999999"])
    assert [process.pid for process in processes()] == [os.getpid()]


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (2, "SIGINT"), (99, "signal 99")]
)
def test_the_name_of_a_signal(number: int, name: str) -> None:
    assert signal_name(number) == name


def test_orphans_come_to_this_process_meanwhile() -> None:
    assert not is_subreaper()
    with adopting_orphans():
        assert is_subreaper()
        with adopting_orphans():
            assert is_subreaper()
        assert is_subreaper()
    assert not is_subreaper()
    set_subreaper(False)
    assert not is_subreaper()


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = """
import os, signal, subprocess, sys
from matrix._util.process import die_with_parent
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=die_with_parent
)
print(child.pid, flush=True)
os._exit(0)
"""
    with adopting_orphans():
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        _, status = os.waitpid(int(done.stdout), 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
