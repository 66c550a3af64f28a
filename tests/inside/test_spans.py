"""Hooks on modules that a start imports: fakes stand in for vLLM's."""

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from matrix.inside import vllm_compat
from matrix.inside.spans import Hooks, following
from matrix.inside.timeline import Timeline

WORKER = """
from clock import NOW

class Worker:
    def init_device(self): NOW[0] += 1
    def load_model(self): NOW[0] += 2
    def determine_available_memory(self): NOW[0] += 4; return 7
    def compile_or_warm_up_model(self): NOW[0] += 8

class WorkerWrapperBase:
    def init_worker(self, all_kwargs):
        NOW[0] += 16
        self.worker = Worker()
"""
CORE = """
from clock import NOW
NOW[0] += 32

class EngineCore:
    def __init__(self, wrapper):
        NOW[0] += 64
        wrapper.init_worker(all_kwargs=[{}])
        for name in ("init_device", "load_model", "compile_or_warm_up_model"):
            getattr(wrapper.worker, name)()
        self.memory = wrapper.worker.determine_available_memory()
"""


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Give a clock, and a vLLM of its own on the path; nothing of it is left afterwards."""
    engine, worker = tmp_path / "vllm" / "v1" / "engine", tmp_path / "vllm" / "v1" / "worker"
    for folder in (engine, worker):
        folder.mkdir(parents=True)
    (worker / "worker_base.py").write_text(WORKER)
    (engine / "core.py").write_text(CORE)
    monkeypatch.syspath_prepend(tmp_path)
    held = ModuleType("clock")
    held.NOW = [0.0]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "clock", held)
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    yield held.NOW
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        del sys.modules[name]


def modules() -> tuple[Any, Any]:
    names = ("vllm.v1.engine.core", "vllm.v1.worker.worker_base")
    core, worker = map(importlib.import_module, names)
    return core, worker


@pytest.mark.parametrize("early", [True, False])
def test_the_steps_of_a_start_are_timed_whenever_they_are_imported(
    clock: list[float], early: bool
) -> None:
    if early:
        modules()
        clock[0] = 0.0
    timeline = Timeline(clock=lambda: clock[0])
    finders = list(sys.meta_path)
    with following(timeline, vllm_compat.startup_steps()):
        core, worker = modules()
        wrapper = worker.WorkerWrapperBase()
        assert core.EngineCore(wrapper).memory == 7
    found = {"engine": 64, "device": 17, "load": 2, "profile": 4, "warmup": 8}
    assert timeline.parts() == found | ({} if early else {"import": 32})
    # Afterwards all is as before.
    assert sys.meta_path == finders
    for holder, name in ((worker.WorkerWrapperBase, "init_worker"), (core.EngineCore, "__init__")):
        assert not hasattr(getattr(holder, name), "__wrapped__")
    assert vars(wrapper.worker) == {}
    assert type(core.__spec__.loader).__name__ == "SourceFileLoader"
    assert set(vars(core.__spec__.loader)) == {"name", "path"}


def test_a_step_that_fails_is_timed_and_fails_as_it_did(clock: list[float]) -> None:
    core, _ = modules()
    timeline = Timeline(clock=lambda: clock[0])
    began = clock[0]
    with (
        pytest.raises(AttributeError, match="init_worker"),
        following(timeline, vllm_compat.startup_steps()),
    ):
        core.EngineCore(None)
    assert timeline.parts() == {"engine": clock[0] - began}


def test_what_a_release_lacks_is_not_timed(clock: list[float]) -> None:
    core, worker = modules()
    del core.EngineCore, worker.WorkerWrapperBase.init_worker
    with following(Timeline(), vllm_compat.startup_steps()):
        assert worker.WorkerWrapperBase()


def test_a_module_that_fails_to_import_fails_as_it_did(clock: list[float], tmp_path: Path) -> None:
    (tmp_path / "vllm" / "broken.py").write_text(
        "from clock import NOW\nNOW[0] += 1\nraise OSError(5)"
    )
    timeline = Timeline(clock=lambda: clock[0])
    with following(timeline, {}):
        with pytest.raises(OSError, match="5"):
            importlib.import_module("vllm.broken")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("vllm.absent")
    assert timeline.parts() == {"import": 1}


def test_other_threads_are_not_timed() -> None:
    now = [0.0]
    timeline = Timeline(clock=lambda: now[0])
    hooks = Hooks(timeline)

    def work() -> None:
        with hooks.span("load"):
            now[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with hooks.span("load"):
        now[0] += 2
    assert timeline.parts() == {"load": 2}


def test_what_cannot_be_replaced_stays() -> None:
    hooks = Hooks(Timeline())
    hooks.time(int, "bit_length", "load")
    hooks.time(object(), "no.such.name", "load")
    hooks.undo()
    assert (5).bit_length() == 3
