"""The cache check in real forked processes, with a module that keeps its caches as torch does."""

import os
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from matrix.inside.cache_check import check
from matrix.record.model import CheckedCompile

Counters = defaultdict[str, dict[str, int]]


def look_up(folder: Path, group: str, cache: str, counters: Counters) -> bool:
    """Ask a cache that is a file; a miss makes it."""
    path = folder / cache
    found = path.exists()
    name = f"{cache}_{'hit' if found else 'miss'}"
    counters[group][name] = counters[group].get(name, 0) + 1
    path.touch()
    return found


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Make a torch whose AOTAutograd answers for Inductor's cache, unless it is off."""
    counters: Counters = defaultdict(dict)
    config = types.SimpleNamespace(enable_autograd_cache=True)

    @contextmanager
    def patch(**values: Any) -> Iterator[None]:
        vars(config).update(values)
        yield
        config.enable_autograd_cache = True

    def compiled(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
            folder.mkdir(parents=True, exist_ok=True)
            if not config.enable_autograd_cache or not look_up(
                folder, "aot_autograd", "autograd_cache", counters
            ):
                look_up(folder, "inductor", "fxgraph_cache", counters)
            return function(*arguments)

        return call

    def module(name: str, **members: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    utils = module("torch._dynamo.utils", counters=counters)
    dynamo = module("torch._dynamo", reset=lambda: None, utils=utils)
    configs = module("torch._functorch.config", patch=patch)
    functorch = module("torch._functorch", config=configs)
    return module(
        "torch",
        _dynamo=dynamo,
        _functorch=functorch,
        compile=compiled,
        mm=lambda left, right: (left, right),
        no_grad=nullcontext,
        ones=lambda *shape: shape,
    )


@pytest.mark.usefixtures("torch")
def test_each_cache_is_asked_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "kept")
    assert check() == {
        CheckedCompile.COLD: {
            "aot_autograd.autograd_cache_miss": 1,
            "inductor.fxgraph_cache_miss": 1,
        },
        CheckedCompile.WARM: {"aot_autograd.autograd_cache_hit": 1},
        CheckedCompile.GRAPHS: {"inductor.fxgraph_cache_hit": 1},
    }
    assert not sys.modules["torch._dynamo.utils"].counters
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "kept" and not Path("kept").exists()


def test_a_torch_that_cannot_compile_says_nothing(torch: types.ModuleType) -> None:
    def refuse(function: object) -> None:
        raise AssertionError("buffer buf0 is freed before its last use")

    torch.compile = refuse  # type: ignore[attr-defined]
    assert check() is None


def test_no_torch_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert check() is None
