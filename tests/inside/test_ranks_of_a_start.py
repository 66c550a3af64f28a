"""A start on several ranks: forked workers that vLLM would start, and what each says of itself."""

import contextlib
import importlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrix.inside import gpus, starts, torch_internals, vllm_compat
from matrix.inside.isolation import run_forked
from matrix.inside.journal import fold
from matrix.inside.models import MODELS
from matrix.inside.observing import inherited, observing
from matrix.inside.starts import Startup, StateError, cannot_run, cannot_start, observe
from matrix.record.model import Platform

TWO = Startup(model=MODELS["small-dense"], platform=Platform.CPU, ranks=2)
APART = Startup(model=MODELS["small-dense"], platform=Platform.CPU, own_process=True)
EXTENSION = "matrix.inside.rank_extension"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(vllm_compat, "clean_state", lambda: None)
    monkeypatch.setattr(vllm_compat, "counters", dict)
    monkeypatch.setattr(vllm_compat, "compiler_seconds", dict)
    monkeypatch.setattr(torch_internals, "metrics", lambda: None)
    monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
    return monkeypatch


def worker(rank: int, saved: int, *, compiled_before: str | None = None) -> dict[str, Any]:
    """Be a worker of vLLM, in a process of its own: import the extension, compile, be asked."""
    vllm_compat.clean_state = lambda: compiled_before
    extension = importlib.import_module(EXTENSION)
    vllm_compat.counters = lambda: {"num_compiled_artifacts_saved": saved}
    torch_internals.metrics = lambda: {"generated_kernel_count": rank + 1}
    log = logging.getLogger("vllm.compilation.backends")
    log.info("Dynamo bytecode transform time: %.2f s", 2.0 + rank)
    log.warning("Unable to save artifact of rank %d", rank)
    compilation = SimpleNamespace(compilation_time=3.0 + rank)
    own = SimpleNamespace(rank=rank, vllm_config=SimpleNamespace(compilation_config=compilation))
    seen: dict[str, Any] = extension.RankExtension.matrix_observed(own)
    return seen


class Engine:
    """A stand-in for vLLM's `LLM` that forks its workers."""

    def __init__(self, saved: tuple[int, ...], compiled_before: str | None = None) -> None:
        self._saved, self._before = saved, compiled_before

    def collective_rpc(self, method: str) -> list[dict[str, Any]]:
        assert method == "matrix_observed"
        found = []
        for rank, saved in reversed(list(enumerate(self._saved))):
            asked = partial(worker, rank, saved, compiled_before=self._before)
            ended = run_forked(asked, timeout=60)
            assert ended.kind == "returned", ended
            found.append(ended.value)
        return found


def runner(*saved: int, **more: Any) -> starts.Runner:
    @contextlib.contextmanager
    def run(startup: Startup) -> Iterator[Any]:
        logging.getLogger("vllm.compilation.backends").warning("Unable to load what is old")
        yield Engine(saved, **more)

    return run


def test_each_rank_says_what_it_observed_and_the_first_stands_for_the_start(
    clean: pytest.MonkeyPatch,
) -> None:
    seen = observe(TWO, runner(3, 4))
    first, second = seen["ranks"]
    assert (first["rank"], second["rank"]) == (0, 1)
    assert first["counters"] == seen["counters"] == {"num_compiled_artifacts_saved": 3}
    assert second["counters"] == {"num_compiled_artifacts_saved": 4}
    assert seen["metrics"] == first["metrics"] == {"generated_kernel_count": 1}
    # Nothing that the process of the start saw before the fork is a rank's.
    assert [event["text"] for event in second["events"]] == ["Unable to save artifact of rank 1"]
    assert [event["kind"] for event in seen["events"]] == ["load_failed", "save_failed"]
    assert (first["seconds"]["dynamo"], second["seconds"]["dynamo"]) == (2.0, 3.0)
    assert seen["seconds"]["compilation"] == second["seconds"]["compilation"] == 4.0
    assert "dynamo" not in seen["seconds"]


def test_the_record_has_each_rank(clean: pytest.MonkeyPatch) -> None:
    seen = json.loads(json.dumps(observe(TWO, runner(3, 4))))
    events = [{"event": "started", "start": "cold", **seen}]
    (start,) = fold("tensor_parallel_startup[dense]", events).starts
    assert start.ranks is not None
    assert [rank.counters["num_compiled_artifacts_saved"] for rank in start.ranks] == [3, 4]
    assert start.ranks[1].events is not None and start.counted.keys() == {0, 1}
    for bad in ("x", [], [7], [{"rank": 0, "no": 1}]):
        (start,) = fold("x", [{**events[0], "ranks": bad}]).starts
        assert start.ranks is None


def test_a_rank_that_compiled_before_is_no_start(clean: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match="rank 0 has compiled before the start: total=5"):
        observe(TWO, runner(3, 3, compiled_before="total=5"))


def test_a_worker_of_a_new_interpreter_follows_what_is_logged(clean: pytest.MonkeyPatch) -> None:
    assert inherited() is None
    ended = run_forked(lambda: worker(1, 2), timeout=60)
    assert ended.value["seconds"] == {"compilation": 4.0, "dynamo": 3.0}
    assert ended.value["counters"] == {"num_compiled_artifacts_saved": 2}


def test_what_is_followed_ends_with_the_start(clean: pytest.MonkeyPatch) -> None:
    with observing() as seen:
        assert inherited() is seen
    assert inherited() is None


@pytest.mark.parametrize(
    ("platform", "visible", "wanted", "why"),
    [
        (Platform.CUDA, ("GPU 0", "GPU 1"), 2, None),
        (Platform.CUDA, ("GPU 0",), 2, "needs two GPUs; one is visible"),
        (Platform.CUDA, ("GPU 0", "GPU 0"), 2, "needs two GPUs; one is visible"),
        (Platform.CUDA, (), 2, "needs two GPUs; none is visible"),
        (Platform.CUDA, ("GPU 0",), 1, None),
        (Platform.CUDA, ("GPU 0", "GPU 1"), 4, "needs 4 GPUs; two are visible"),
        (Platform.CUDA, ("GPU 0", "GPU 1", "GPU 2"), 4, "needs 4 GPUs; 3 are visible"),
        (Platform.CUDA, ("MIG-a", "MIG-b"), 2, "needs two GPUs; one is visible"),
        (Platform.CPU, ("GPU 0", "GPU 1"), 2, "needs two GPUs; none is visible"),
        (Platform.CPU, "2", 2, None),
        (Platform.CPU, "1", 2, "needs two GPUs; one is visible"),
        (Platform.CPU, "many", 2, "needs two GPUs; none is visible"),
    ],
)
def test_what_a_case_of_two_gpus_needs(
    monkeypatch: pytest.MonkeyPatch,
    *,
    platform: Platform,
    visible: tuple[str, ...] | str,
    wanted: int,
    why: str | None,
) -> None:
    monkeypatch.delenv(gpus.CPU_RANKS, raising=False)
    if isinstance(visible, str):
        monkeypatch.setenv(gpus.CPU_RANKS, visible)
    monkeypatch.setattr(gpus, "visible_gpus", lambda _: visible)
    monkeypatch.setattr(gpus, "smi_query", lambda *_: ["NVIDIA H200, 143771"] * 2)
    assert gpus.too_few(wanted, platform) == why


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["NVIDIA H200, 143771", "Tesla T4, 15360"], "of one kind; those that are visible are of"),
        (["NVIDIA A100, 40960", "NVIDIA A100, 81920"], "of one kind; those that are visible are"),
        ([], None),
    ],
)
def test_gpus_of_several_kinds_are_not_two(
    monkeypatch: pytest.MonkeyPatch, said: list[str], why: str | None
) -> None:
    monkeypatch.setattr(gpus, "visible_gpus", lambda _: ("GPU 0", "GPU 1"))
    monkeypatch.setattr(gpus, "smi_query", lambda *_: said)
    found = gpus.too_few(2, Platform.CUDA)
    assert found is why if why is None else why in str(found)


def test_a_release_whose_workers_cannot_be_asked_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    known = frozenset({MODELS["small-dense"].architecture})
    monkeypatch.setenv(gpus.CPU_RANKS, "2")
    monkeypatch.setattr(vllm_compat, "architectures", lambda: known)
    monkeypatch.setattr(
        vllm_compat, "engine_arguments", lambda: frozenset({"worker_extension_cls"})
    )
    assert cannot_run(TWO.model, Platform.CPU, 2) is None
    monkeypatch.setattr(vllm_compat, "engine_arguments", frozenset)
    assert str(cannot_run(TWO.model, Platform.CPU, 2)).startswith(
        "this vLLM has no worker_extension_cls"
    )
    assert cannot_run(TWO.model, Platform.CPU) is None


def test_an_engine_in_its_own_process_is_asked_as_a_rank_is(clean: pytest.MonkeyPatch) -> None:
    seen = observe(APART, runner(3))
    assert seen["counters"] == {"num_compiled_artifacts_saved": 3}
    assert [rank["rank"] for rank in seen["ranks"]] == [0]
    assert seen["metrics"] == {"generated_kernel_count": 1}
    clean.setattr(vllm_compat, "compilation_config", lambda _: None)
    clean.setattr(vllm_compat, "learn_model_type", lambda name: None)
    arguments = starts._arguments(APART)
    assert arguments["worker_extension_cls"] == f"{EXTENSION}.RankExtension"
    assert "tensor_parallel_size" not in arguments


def test_why_a_start_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    known = frozenset({APART.model.architecture})
    monkeypatch.setattr(vllm_compat, "architectures", lambda: known)
    monkeypatch.setattr(
        vllm_compat, "engine_arguments", lambda: frozenset({"worker_extension_cls"})
    )
    assert cannot_start(APART) is None
    graphs = replace(APART, own_process=False, cudagraphs="PIECEWISE")
    assert cannot_start(graphs) == "CUDA graphs are captured on a GPU only"
    seeing = replace(APART, encoder=True)
    drafting = replace(APART, arguments={"speculative_config": {}})
    monkeypatch.setattr(vllm_compat, "cpu_runner_drafts", lambda: True)
    for can in (True, False):
        monkeypatch.setattr(vllm_compat, "compiles_encoders", lambda can=can: can)
        monkeypatch.setattr(vllm_compat, "drafts_with_models", lambda can=can: can)
        assert cannot_start(seeing) == (None if can else "this vLLM does not compile encoders")
        assert cannot_start(drafting) == (None if can else "this vLLM has no draft models")
    monkeypatch.setattr(vllm_compat, "drafts_with_models", lambda: True)
    monkeypatch.setattr(vllm_compat, "cpu_runner_drafts", lambda: False)
    assert cannot_start(drafting) == "this vLLM's model runner for CPUs takes no draft"
    monkeypatch.setattr(gpus, "too_few", lambda *_: None)
    assert cannot_start(replace(graphs, platform=Platform.CUDA)) is None
    monkeypatch.setattr(vllm_compat, "engine_arguments", frozenset)
    assert str(cannot_start(APART)).startswith("this vLLM has no worker_extension_cls")
    assert cannot_start(replace(APART, own_process=False)) is None


def test_several_ranks_get_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_compat, "compilation_config", lambda _: None)
    monkeypatch.setattr(vllm_compat, "learn_model_type", lambda name: None)
    arguments = starts._arguments(TWO)
    assert arguments["tensor_parallel_size"] == 2
    module, _, name = arguments["worker_extension_cls"].rpartition(".")
    assert (module, name) == (EXTENSION, "RankExtension")
    alone = starts._arguments(Startup(model=TWO.model, platform=Platform.CPU))
    assert alone.keys() == arguments.keys() - vllm_compat.on_ranks(2).keys()


def test_the_worker_gets_no_attribute_but_the_method(clean: pytest.MonkeyPatch) -> None:
    # vLLM refuses an extension that has an attribute of its worker.
    def names() -> list[str]:
        extension = importlib.import_module(EXTENSION)
        return [name for name in dir(extension.RankExtension) if not name.startswith("__")]

    assert run_forked(names, timeout=60).value == ["matrix_observed"]


def test_sockets_of_ranks_have_short_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VLLM_RPC_BASE_PATH", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    with starts._short_sockets():
        folder = os.environ["VLLM_RPC_BASE_PATH"]
        assert Path(folder).is_dir() and len(folder) < 70
    assert not Path(folder).exists() and "VLLM_RPC_BASE_PATH" not in os.environ
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    with starts._short_sockets():
        assert "VLLM_RPC_BASE_PATH" not in os.environ
