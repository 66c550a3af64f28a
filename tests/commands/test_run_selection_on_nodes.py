"""`matrix run --engine ray`: what is asked of the nodes. No cluster runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from command import matrix
from fake_tox import ROOT, FakeTox
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.run import cluster as module
from matrix.run.cluster import Cluster, Node
from matrix.run.machine import Gpu, Machine
from programs import program

CELL = "py312-torch211-vllm026"
HELD = f"records hold: {CELL}"


def node(name: str, gpu: str | None, driver: str | None = None, processor: str = "x86_64") -> Node:
    gpus = () if gpu is None else (Gpu(device="0", name=gpu, total_mib=80_000, free_mib=80_000),)
    machine = Machine(name=name, cores=8, memory_mib=64_000, disk_mib=90_000, gpus=gpus)
    return Node(id=name, machine=machine, processor=processor, driver=driver)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what sets the nodes of the cluster that a run joins or starts."""

    @contextlib.contextmanager
    def joined(*_: object) -> Iterator[Cluster]:
        yield Cluster(ray=None)

    def use(*every: Node) -> None:
        monkeypatch.setattr(module, "joined", joined)
        monkeypatch.setattr(module, "nodes_of", lambda _: (list(every), []))

    return use


@pytest.fixture
def another_gpu_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake a GPU that no record ran on; who asks for it leaves a file."""
    body = 'touch "$0.asked"\necho "NVIDIA A10, 570.1"'
    path = program(tmp_path / "bin", "nvidia-smi", body)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return path.with_suffix(".asked")


@pytest.fixture
def ran(fake_tox: FakeTox) -> None:
    """Write a record of the cell on an H200, whose startup tests are the newest."""
    old = read(ROOT / f"results/cuda/{CELL}.json")
    now = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    about = {**old.provenance, "started": now}
    new = replace(old, provenance=about)
    folder = fake_tox.here / "records/cuda"
    folder.mkdir(parents=True)
    write(new, folder / f"{CELL}.20261129T000000Z.json")


H200 = node("b", "NVIDIA H200", "580.159")


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize(
    ("every", "why"),
    [
        ((H200,), None),
        ((node("a", None), H200), None),
        ((node("a", "NVIDIA A100", "580.159"), H200), None),
        ((node("a", "NVIDIA A100", "580.159"),), "ran on NVIDIA H200, now on NVIDIA A100"),
        ((node("a", "NVIDIA H200", "600.1"),), "ran with NVIDIA driver 580.159, now 600.1"),
        ((node("a", "NVIDIA H200", processor="aarch64"),), "ran on x86_64, now on aarch64"),
        # A node of before or after: which driver it would be is not known.
        ((node("a", "NVIDIA H200", "600.1"), H200), None),
    ],
)
def test_a_record_is_held_against_the_gpus_of_the_nodes(
    fake_tox: FakeTox,
    nodes: Callable[..., None],
    another_gpu_here: Path,
    every: tuple[Node, ...],
    why: str | None,
) -> None:
    nodes(*every)
    ended = matrix(fake_tox.here, "run", CELL, "--engine", "ray", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert (HELD in ended.stderr) is (why is None)
    assert why is None or f"4 min  {why}\n" in ended.stdout
    assert not another_gpu_here.exists()


@pytest.mark.usefixtures("ran", "another_gpu_here")
def test_nodes_without_a_gpu_run_cells_on_cpu(
    fake_tox: FakeTox, nodes: Callable[..., None]
) -> None:
    nodes(node("a", None))
    ended = matrix(fake_tox.here, "run", CELL, "--engine", "ray", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert f"{CELL}  cpu  " in ended.stdout
    refused = matrix(
        fake_tox.here, "run", CELL, "--engine", "ray", "--platform", "cuda", "--dry-run", "--force"
    )
    assert refused.returncode == 2
    line = refused.stderr.splitlines()[-1]
    assert "MiB of memory of a GPU, and 0 are available" in line
