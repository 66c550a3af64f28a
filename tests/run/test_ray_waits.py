"""What the engine of Ray shows while it waits whether a node is lost. No cluster runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrix.run import ray_engine
from matrix.run.cluster import Cluster, Node
from matrix.run.machine import Demand, Machine
from matrix.run.ray_engine import RayEngine, _Work
from matrix.run.task import Task, TaskKind
from matrix.run.watcher import Working
from watched_runs import Seen


class Ticks(Seen):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[list[str]] = []

    def tick(self, working: Sequence[Working]) -> None:
        self.shown.append([work.task.environment for work in working])


def test_a_task_shows_as_at_work_until_it_is_known_whether_its_node_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("_GONE", 0.4), ("_LOOK", 0.01), ("_TICK", 0.0)):
        monkeypatch.setattr(ray_engine, name, seconds)
    monkeypatch.setattr(Cluster, "on", lambda *_: None)
    alive, task = ["n"], object()

    def get(ref: object, **_: object) -> dict[int, str]:
        if ref is task:
            raise RuntimeError("the node died")
        return {}

    def wait(refs: list[object], **_: object) -> tuple[list[object], list[object]]:
        if len(watcher.shown) > 3:
            alive.clear()
        return [], refs

    ray = SimpleNamespace(
        nodes=lambda: [{"NodeID": name, "Alive": True} for name in alive],
        remote=lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=object)),
        wait=wait,
        get=get,
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )
    watcher = Ticks()
    machine = Machine(name="a", cores=1, memory_mib=1, disk_mib=1)
    other: Any = SimpleNamespace(
        note=lambda _: None,
        lost=lambda *names: names,
        take=SimpleNamespace(remote=lambda: None),
    )
    engine = RayEngine(
        jobs={},
        records=Path("records"),
        schedule=other,
        state=other,
        watcher=watcher,
        cluster=Cluster(ray=ray, asked={"n"}),
        nodes=(),
    )
    engine._desk, engine._by_name = other, {"a": Node(id="n", machine=machine)}
    at_work = Task(number=1, kind=TaskKind.RUN, machine="a", environment="e", demand=Demand())
    engine._work[task] = _Work(task=at_work, began=0.0)
    assert engine._ended(task) == [("a",)]  # type: ignore[comparison-overlap]
    assert watcher.shown[:3] == [["e"]] * 3
    assert not engine._is_busy()
