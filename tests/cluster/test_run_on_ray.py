"""`matrix run --engine ray`: what it prints, what it refuses, and what is left where it is killed.

A package `tox` before the real one on the nodes' path stands for tox.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import matrix
from fake_tox import ROOT, TORCH29, TORCH210, FakeTox
from fault_table import Found
from ray_nodes import Nodes
from waiting import alive

ray = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeTox:
    found = FakeTox(tmp_path_factory.mktemp("checkout"))
    package = found.here / "path/tox"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(found.program.read_text())
    return found


@pytest.fixture(scope="module")
def two(fake: FakeTox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("cluster"))
    for _ in range(2):
        add(nodes, fake)
    yield nodes
    nodes.close()


def add(nodes: Nodes, fake: FakeTox) -> None:
    """Start a node on which the stand-in is found as tox."""
    nodes.add(PYTHONPATH=str(fake.here / "path"), UV_PYTHON_DOWNLOADS="automatic")


@pytest.fixture(autouse=True)
def nothing_before(fake: FakeTox) -> None:
    fake.told()
    (fake.here / "calls.jsonl").unlink(missing_ok=True)


def run(fake: FakeTox, nodes: Nodes, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["--platform", "cpu", "--engine", "ray", "--address", nodes.address, "--force"]
    return matrix(fake.here, "run", *options, *arguments)


def test_a_selection_runs_on_the_nodes(fake: FakeTox, two: Nodes, tmp_path: Path) -> None:
    ended = run(fake, two, TORCH210, TORCH29, "--records", str(tmp_path), "--timeout", "60")
    assert ended.returncode == 0, ended.stderr
    assert "2 compatible" in ended.stdout
    assert len(list(tmp_path.glob("cpu/*.json"))) == 2
    assert "2 nodes of Ray with 2 cores" in ended.stderr
    assert f"{TORCH210} on cpu: runs on " in ended.stderr
    assert all("--timeout" in call["argv"] for call in fake.calls())
    again = matrix(fake.here, "run", "--resume", "--records", str(tmp_path), "--engine", "ray")
    assert again.returncode == 0 and "2 of 2 have a record already" in again.stderr


def test_a_dry_run_runs_nothing(fake: FakeTox, two: Nodes) -> None:
    ended = run(fake, two, TORCH210, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("1 cell, about")
    assert fake.calls() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cores", "0"], ": offers no core; "),
        (["--memory", "100"], "MiB of memory, and 100 are available"),
        (["--disk", "100"], "MiB of disk, and 100 are available"),
    ],
)
def test_nodes_that_cannot_run_a_cell_are_named(
    fake: FakeTox, two: Nodes, options: list[str], said: str
) -> None:
    ended = run(fake, two, TORCH210, *options)
    assert ended.returncode == 2 and fake.calls() == []
    line = ended.stderr.splitlines()[-1]
    assert "--engine ray: no node can run a cell" in line and said in line


def test_a_node_without_python_is_named_and_the_others_go_on(
    fake: FakeTox, two: Nodes, tmp_path: Path
) -> None:
    number = two.add(
        PYTHONPATH=str(fake.here / "path"), UV_PYTHON_DOWNLOADS="never", UV_PYTHON="3.2"
    )
    name = two.nodes[number].node_id[:6]
    cell = "py314-torch214-vllm033"
    ended = run(fake, two, cell, "--records", str(tmp_path))
    assert f"{name}: has no Python 3.14; `uv python install 3.14` there" in ended.stderr
    assert "it gets no work" in ended.stderr
    two.kill(number)


def test_another_ray_is_refused(fake: FakeTox, two: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.__version__", "2.1.0")
    ended = run(fake, two, TORCH210)
    assert ended.returncode == 2
    line = ended.stderr.splitlines()[-1]
    assert f"--address {two.address}: runs another Ray or Python" in line and "2.1.0" in line


def start(fake: FakeTox, nodes: Nodes, records: Path, *words: str) -> subprocess.Popen[str]:
    options = ["--engine", "ray", "--address", nodes.address, "--records", str(records)]
    return subprocess.Popen(
        [sys.executable, "-m", "matrix", "run", *words, *options],
        cwd=fake.here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def started(fake: FakeTox, nodes: Nodes, records: Path) -> subprocess.Popen[str]:
    """Start a run whose cell hangs, and wait until it does."""
    fake.told(vllm019={"run": "hangs"})
    driver = start(fake, nodes, records, TORCH210, "--platform", "cpu")
    until = time.monotonic() + 200
    while len(fake.calls()) < 2:
        assert driver.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    time.sleep(2)
    return driver


def wait_for_the_end(pids: list[int]) -> None:
    until = time.monotonic() + 60
    while any(map(alive, pids)):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_ctrl_c_brings_the_records_back(fake: FakeTox, two: Nodes, tmp_path: Path) -> None:
    driver = started(fake, two, tmp_path)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, out
    assert "SIGINT: no further cell begins" in out
    assert f"{TORCH210} on cpu: untested" in out
    (path,) = tmp_path.glob("cpu/*.json")
    assert "stopped by SIGINT" in path.read_text()


def test_a_second_ctrl_c_does_not_wait(fake: FakeTox, two: Nodes, tmp_path: Path) -> None:
    driver = started(fake, two, tmp_path)
    os.kill(fake.calls()[-1]["pid"], signal.SIGSTOP)
    driver.send_signal(signal.SIGINT)
    time.sleep(3)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=40)
    os.kill(fake.calls()[-1]["pid"], signal.SIGCONT)
    assert driver.returncode == 130, out
    assert not list(tmp_path.glob("cpu/*.json"))
    wait_for_the_end([call["pid"] for call in fake.calls()])


@pytest.mark.fault("kill -9 of `matrix run --engine ray`")
def test_of_a_run_that_is_killed_nothing_is_left_on_the_nodes(
    fake: FakeTox, two: Nodes, tmp_path: Path, found: Found
) -> None:
    driver = started(fake, two, tmp_path)
    driver.kill()
    driver.communicate(timeout=60)
    wait_for_the_end([call["pid"] for call in fake.calls()])
    found.left += [path.name for path in tmp_path.glob("cpu/*")]


def machines(records: Path, what: str) -> list[str]:
    """Return the machines of the events of this kind, so far."""
    (path,) = records.glob("runs/*/journal.jsonl")
    lines = map(json.loads, path.read_text().splitlines())
    return [line["machine"] for line in lines if line["what"] == what]


def wait_for(records: Path, what: str, count: int) -> str:
    """Wait for so many such events; return the machine of the last one."""
    until = time.monotonic() + 200
    while len(seen := machines(records, what)) < count:
        assert time.monotonic() < until, seen
        time.sleep(0.1)
    return seen[-1]


@pytest.mark.fault("a node of Ray before an interruption, and one after")
def test_what_was_lost_before_an_interruption_counts(
    fake: FakeTox, two: Nodes, tmp_path: Path, found: Found
) -> None:
    """The cell that kills a node, is interrupted, and kills another one is set aside."""
    for _ in range(2):
        add(two, fake)
    driver = started(fake, two, tmp_path)
    first = wait_for(tmp_path, "runs", 1)
    two.kill(two.number(first))
    wait_for(tmp_path, "runs", 2)
    assert machines(tmp_path, "lost") == [first]
    driver.kill()
    driver.communicate(timeout=60)
    wait_for_the_end([call["pid"] for call in fake.calls()])
    again = start(fake, two, tmp_path, "--resume")
    second = wait_for(tmp_path, "runs", 3)
    two.kill(two.number(second))
    out, _ = again.communicate(timeout=200)
    assert again.returncode == 5, out
    aside = f"set aside: the machines that ran it were lost ({first}, {second})"
    assert f"{TORCH210} on cpu: {aside}" in out.splitlines()
    wait_for_the_end([call["pid"] for call in fake.calls()])
    found.left += [path.name for path in tmp_path.glob("cpu/*")]
