"""What is ordered from a node, what it leaves and what is asked of Ray; no cluster is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_tox import ROOT, TORCH29, TORCH210, FakeTox
from matrix.catalog.releases_file import load_releases
from matrix.record.model import Platform, StartKind
from matrix.record.reader import read
from matrix.run import node_work
from matrix.run.cluster import Node, short
from matrix.run.environments import Environments
from matrix.run.job import Job, JobEstimate
from matrix.run.machine import Demand, Gpu, Machine
from matrix.run.node_work import Left, NodeInventory, Order
from matrix.run.ray_engine import gpu_share
from matrix.run.stage import Stage
from matrix.run.task import Finish, Present, Task, TaskKind

TEXTS = st.text(max_size=20)
NUMBERS = st.integers(0, 10**6)
RELEASES = load_releases()
GPU = Gpu(device="GPU-1", name="NVIDIA H200", total_mib=143_000, free_mib=140_000)


def job(name: str = TORCH210, platform: Platform = Platform.CPU, **demand: Any) -> Job:
    return Job(
        cell=RELEASES.resolve(name),
        environment=name,
        platform=platform,
        estimate=JobEstimate(build_seconds=1, run_seconds=2),
        demand=Demand(**{"cores": 1, "memory_mib": 100, "disk_mib": 10, **demand}),
    )


def task(of: Job, kind: TaskKind = TaskKind.RUN, gpus: tuple[str, ...] = ()) -> Task:
    return Task(
        number=7,
        kind=kind,
        machine="10.0.0.1-abc",
        environment=of.environment,
        demand=of.demand,
        job=of.key if kind is TaskKind.RUN else None,
        gpus=gpus,
    )


@given(
    kind=st.sampled_from(TaskKind),
    gpus=st.lists(TEXTS, max_size=2).map(tuple),
    options=st.lists(TEXTS, max_size=3).map(tuple),
    made=st.booleans(),
    threads=st.none() | TEXTS,
)
def test_an_order_is_read_as_it_was_written(
    kind: TaskKind,
    gpus: tuple[str, ...],
    options: tuple[str, ...],
    made: bool,
    threads: str | None,
) -> None:
    of = job()
    order = Order(
        task=task(of, kind, gpus),
        jobs=(of, job(TORCH29)),
        options=options,
        made=made,
        tox=("python", "-m", "tox"),
        threads=threads,
    )
    assert Order.of(order.text()) == order


@given(
    works=st.booleans(),
    seconds=st.none() | st.floats(0, 1e6),
    records=st.dictionaries(TEXTS, TEXTS, max_size=2),
    detail=TEXTS,
    content=st.binary(max_size=20),
    gpus=st.lists(TEXTS, max_size=2).map(tuple),
)
def test_what_is_left_is_read_as_it_was_written(
    *,
    works: bool,
    seconds: float | None,
    records: dict[str, str],
    detail: str,
    content: bytes,
    gpus: tuple[str, ...],
) -> None:
    finish = Finish(works=works, seconds=seconds, records=records, detail=detail, failed_gpus=gpus)
    left = Left(finish=finish, files={"log": content})
    assert Left.of(left.text(), left.files) == left


@given(cores=NUMBERS, mib=NUMBERS, usable=st.booleans(), tox=st.booleans())
def test_what_a_node_has_is_read_as_it_was_written(
    cores: int, mib: int, usable: bool, tox: bool
) -> None:
    machine = Machine(name="n", cores=cores, memory_mib=mib, disk_mib=mib, gpus=(GPU,))
    present = (Present(environment=TORCH210, disk_mib=mib, usable=usable),)
    seen = NodeInventory(
        machine=machine, present=present, tox=tox, processor="x86_64", driver="580.1"
    )
    assert NodeInventory.of(seen.text()) == seen


@given(
    total=st.none() | NUMBERS,
    cases=st.lists(TEXTS, max_size=2).map(tuple),
    start=st.none() | st.sampled_from(StartKind),
    imported=st.booleans(),
)
def test_a_stage_is_read_as_it_was_written(
    total: int | None, cases: tuple[str, ...], start: StartKind | None, imported: bool
) -> None:
    stage = Stage(
        ended=3,
        ran=2,
        total=total,
        cases=cases,
        start=start,
        imported=imported,
        before=2.5,
        taken=61.0,
    )
    assert node_work.stage_from(node_work.stage_text(stage)) == stage
    assert node_work.stage_from(node_work.stage_text(None)) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "RuntimeError"),
        ("Task was killed due to the node running low on memory.", "Task was killed due to the"),
        (
            "\x1b[36mray::_carry_out()\x1b[39m (pid=1)\n  File 'x.py', line 1\nOSError: no",
            "OSError",
        ),
        ("The actor died.\n\tactor_id: 1", "RuntimeError"),
    ],
)
def test_an_error_of_ray_is_one_line(text: str, line: str) -> None:
    found = short(RuntimeError(text))
    assert "\n" not in found and "\x1b" not in found and len(found) <= 300
    assert line in found or found in text


def node(*gpus: Gpu, accelerator: str | None = None) -> Node:
    machine = Machine(name="n", cores=8, memory_mib=1, disk_mib=1, gpus=gpus)
    return Node(id="0", machine=machine, present=(), accelerator=accelerator)


def test_a_cell_gets_the_share_of_a_gpu_that_its_memory_is() -> None:
    half = job(platform=Platform.CUDA, gpu_mib=71_500)
    assert gpu_share(task(half), node(GPU)) == {}
    asked = gpu_share(task(half, gpus=("GPU-1",)), node(GPU, accelerator="H200"))
    assert asked == {"num_gpus": 0.5, "accelerator_type": "H200"}
    # Ray takes four digits: a share is rounded up, and two of a half fit still.
    third = job(platform=Platform.CUDA, gpu_mib=47_667)
    assert gpu_share(task(third, gpus=("GPU-1",)), node(GPU)) == {"num_gpus": 0.3334}
    more = job(platform=Platform.CUDA, gpu_mib=150_000)
    assert gpu_share(task(more, gpus=("GPU-1",)), node(GPU)) == {"num_gpus": 1}


def test_two_gpus_are_whole_ones() -> None:
    both = job(platform=Platform.CUDA, gpu_mib=1_000, gpus=2)
    assert gpu_share(task(both, gpus=("GPU-1", "GPU-2")), node(GPU)) == {"num_gpus": 2}


def carried_out(
    fake: FakeTox, kind: TaskKind, stops: Callable[[Stage | None], bool] = lambda _: False
) -> Left:
    of = job()
    order = Order(task=task(of, kind), jobs=(of,), tox=tuple(fake.command))
    return node_work.carry_out(order, lambda text: stops(node_work.stage_from(text)), fake.here)


def test_a_node_makes_an_environment_and_leaves_a_record(fake_tox: FakeTox) -> None:
    assert carried_out(fake_tox, TaskKind.BUILD).finish.works
    left = carried_out(fake_tox, TaskKind.RUN)
    ((key, name),) = left.finish.records.items()
    assert key == job().key and name in left.files and "log" in left.files
    path = fake_tox.here / Path(name).name
    path.write_bytes(left.files[name])
    assert read(path).finished
    # Nothing stays in the checkout's place of records: what is left goes back.
    assert not (fake_tox.here / "records").exists()


@pytest.mark.parametrize(("build", "machine_fault"), [("no space", True), ("resolves", False)])
def test_a_build_that_fails_for_its_machine_says_so(
    fake_tox: FakeTox, build: str, machine_fault: bool
) -> None:
    fake_tox.told(vllm019={"build": build})
    finish = carried_out(fake_tox, TaskKind.BUILD).finish
    assert (finish.works, finish.machine_fault, len(finish.records)) == (False, machine_fault, 1)


@pytest.mark.parametrize(("run", "machine_fault"), [("no driver", True), ("drift", False)])
def test_a_run_that_fails_for_its_machine_says_so(
    fake_tox: FakeTox, run: str, machine_fault: bool
) -> None:
    assert carried_out(fake_tox, TaskKind.BUILD).finish.works
    fake_tox.told(vllm019={"run": run})
    finish = carried_out(fake_tox, TaskKind.RUN).finish
    assert (finish.works, finish.machine_fault, len(finish.records)) == (False, machine_fault, 1)
    assert finish.detail == ("no driver answers" if machine_fault else "")


def test_a_run_that_is_to_stop_leaves_the_record_of_its_cell(fake_tox: FakeTox) -> None:
    fake_tox.told(vllm019={"run": "hangs"})
    left = carried_out(fake_tox, TaskKind.RUN, lambda stage: stage is not None)
    (name,) = left.finish.records.values()
    assert b"stopped by SIGINT" in left.files[name]


def test_what_a_killed_run_left_in_an_environment_ends_before(
    fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two of tox would make one environment."""
    monkeypatch.setattr(node_work, "_EVERY", 0.0)
    answers = [True, True, False]
    monkeypatch.setattr(Environments, "in_use", lambda *_: answers.pop(0))
    assert carried_out(fake_tox, TaskKind.BUILD).finish.works
    assert answers == [] and fake_tox.shown() == [f"make {TORCH210}"]
    monkeypatch.setattr(Environments, "in_use", lambda *_: True)
    left = carried_out(fake_tox, TaskKind.BUILD, lambda stage: True)
    assert left.finish.detail == "its environment is in use there" and not left.finish.works
    assert fake_tox.shown() == [f"make {TORCH210}"]
    monkeypatch.setattr(node_work, "_ENDS", 0.0)
    assert carried_out(fake_tox, TaskKind.BUILD).finish.works


def test_ray_is_imported_only_by_who_has_a_cluster() -> None:
    code = "import sys, matrix.run.cluster, matrix.run.ray_engine; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert Path(node_work.__file__).read_text().count("import ray") == 0
