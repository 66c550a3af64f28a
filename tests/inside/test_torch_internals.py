"""Numbers and defaults of torch's compiler, from modules that look like torch's."""

import sys
import types
from typing import Any

import pytest

from matrix.inside import torch_internals
from matrix.inside.torch_internals import defaults, metrics


def install(monkeypatch: pytest.MonkeyPatch, name: str, /, **members: Any) -> types.ModuleType:
    """Make a module that imports under this name, with its packages."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        package = ".".join(parts[:end])
        if package not in sys.modules:
            monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*torch_internals.CONFIGS, "torch._inductor.metrics"):
        monkeypatch.setitem(sys.modules, name, None)


class Entry:
    """An entry of a config as torch 2.7 to 2.15 keep it (`torch/utils/_config_module.py`)."""

    def __init__(self, default: object, alias: str | None = None) -> None:
        self.default, self.alias = default, alias
        self.user_override = "what vLLM has set"


def test_the_numbers_are_the_integers_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        "torch._inductor.metrics",
        generated_kernel_count=12,
        ir_nodes_pre_fusion=40,
        nodes_num_elem=[],
        enabled=True,
        _private=3,
        negative=-1,
        ratio=1.5,
        reset=lambda: None,
    )
    assert metrics() == {"generated_kernel_count": 12, "ir_nodes_pre_fusion": 40}


def test_a_torch_without_them_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics() is None
    assert defaults() is None
    install(monkeypatch, "torch._inductor.metrics", name="x")
    install(monkeypatch, "torch._inductor.config", _config=[1, 2])
    install(monkeypatch, "torch._dynamo.config", _config={"x": 3})
    assert metrics() is None
    assert defaults() is None


def test_defaults_are_torchs_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "fx_graph_cache": Entry(True),
        "triton.cudagraphs": Entry(False),
        "autotune_fallback": Entry(None),
        "max_fusion_size": Entry(64),
        "unroll_factor": Entry(0.5),
        "max_autotune_gemm_backends": Entry("ATEN,TRITON"),
        "cpp.simdlens": Entry((8, None)),
        "lists": Entry(["a", "b"]),
    }
    others = {
        "compile_threads": Entry(2),
        "cpp.threads": Entry(-1),
        "cpp.cxx": Entry((None, "g++")),
        "cuda.cutlass_dir": Entry("x"),
        "debug_dir_root": Entry("x"),
        "worker_start_method": Entry("fork"),
        "somewhere": Entry("/home/ann/x"),
        "places": Entry(["~ann"]),
        "of_nothing": Entry(float("nan")),
        "huge": Entry(2**64),
        "table": Entry({"a": 1}),
        "nested": Entry([[1]]),
        "long": Entry("x" * 1000),
        "many": Entry(list(range(100))),
        "another": Entry(object(), alias="torch._inductor.config.fx_graph_cache"),
        "n" * 1000: Entry(1),
    }
    install(monkeypatch, "torch._inductor.config", _config={**entries, **others})
    install(monkeypatch, "torch._functorch.config", _config={"x": Entry(1)})
    assert defaults() == {
        "torch._functorch.config": {"x": 1},
        "torch._inductor.config": {
            "autotune_fallback": None,
            "cpp.simdlens": [8, None],
            "fx_graph_cache": True,
            "lists": ["a", "b"],
            "max_autotune_gemm_backends": "ATEN,TRITON",
            "max_fusion_size": 64,
            "triton.cudagraphs": False,
            "unroll_factor": 0.5,
        },
    }


def test_a_config_with_too_many_names_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"n{number}": Entry(number) for number in range(5000)}
    install(monkeypatch, "torch._inductor.config", _config=many)
    assert defaults() is None
