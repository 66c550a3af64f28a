"""The nodes of a cluster as the place of a selection; no cluster is needed to choose among them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.commands import run_sites
from matrix.commands.run_sites import OnRay
from matrix.errors import MatrixError
from matrix.record.model import Platform
from matrix.run.cluster import Cluster, Node
from matrix.run.job import Job, JobEstimate
from matrix.run.machine import Demand, Machine, lacks
from matrix.run.task import Present

TORCH, VLLM = ("torch", "2.10.0"), ("vllm", "0.19.1")


def node(name: str, *, disk: int = 20_000, **more: object) -> Node:
    machine = Machine(name=name, cores=4, memory_mib=16_000, disk_mib=disk)
    return Node(id=name, machine=machine, **more)  # type: ignore[arg-type]


def site(*nodes: Node) -> OnRay:
    return OnRay(cluster=Cluster(ray=None), nodes=nodes)


def job(python: str = "3.11", disk: int = 10_000) -> Job:
    cell = Cell(python, "2.10.0", "0.19.1")
    return Job(
        cell=cell,
        environment=cell.name,
        platform=Platform.CPU,
        estimate=JobEstimate(build_seconds=1, run_seconds=1),
        demand=Demand(cores=1, memory_mib=4096, disk_mib=disk),
    )


def test_an_environment_takes_little_where_every_node_links_it() -> None:
    both, one = frozenset({TORCH, VLLM}), frozenset({TORCH})
    assert site(node("a", linked=both), node("b", linked=one)).linked() == one


def test_nodes_that_can_run_none_of_the_jobs_are_named_and_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    present = (Present(environment=job().environment, disk_mib=600),)
    nodes = (
        node("good", pythons=frozenset({"3.11", "3.12"}), present=present),
        node("small", disk=300),
        node("old", pythons=frozenset({"3.9"})),
    )
    found = site(*nodes).machines([job(), job(disk=12_000)])
    assert [machine.name for machine in found.every] == ["good"]
    assert found.present == {"good": present}
    said = capsys.readouterr().err
    assert "old: has no Python 3.11; `uv python install 3.11` there; it gets no work" in said
    assert "10000 MiB of disk, and 300 are available; it gets no work" in said


def test_where_no_node_can_run_a_job_the_error_has_all_reasons() -> None:
    nodes = (node("small", disk=300), node("old", pythons=frozenset()))
    with pytest.raises(MatrixError, match=r"small: lacks for .*; old: has no Python") as raised:
        site(*nodes).machines([job()])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("whole", [True, False])
def test_an_environment_that_is_here_needs_no_more_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Nobody looks at its size where the disk does for all others."""
    small = Machine(name="here", cores=2, memory_mib=16_000, disk_mib=9000)
    monkeypatch.setattr(run_sites, "machine_here", lambda folder, limits: small)
    monkeypatch.setattr(run_sites, "tox_of", lambda root: ("tox",))
    made = tmp_path / ".tox" / job().environment
    (made / "bin").mkdir(parents=True)
    if whole:
        (made / "bin/python").touch()
        (made / "lib/python3.11/site-packages/vllm-0.19.1.dist-info").mkdir(parents=True)
    options = Namespace(engine="local", address=None, cores=None, memory=None, gpus=None, disk=None)
    with run_sites.site_of(options, tmp_path) as here:
        found = here.machines([job()])
    (machine,) = found.every
    assert (lacks(machine, [job().demand]) == ()) is whole
    free = machine.disk_mib - sum(item.disk_mib for item in found.present["here"])
    assert free == 9000
