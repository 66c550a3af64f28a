"""How DeepSeek's indexer looks on the CPU platform, which never calls its kernels."""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from stub_modules import stub_module

MODULE = "matrix.inside.cpu.attention"
SCALE = 128**-0.5


class Library:
    """The operators of a platform: the schema of each by its name."""

    def __init__(self, *_: str) -> None:
        self.schemas: dict[str, str] = {}

    def define(self, schema: str) -> None:
        self.schemas[schema.partition("(")[0]] = schema

    def impl(self, name: str, _kernel: Any, _device: str) -> None:
        assert name in self.schemas


class Indexer:
    """An indexer as vLLM 0.26 makes one; on a platform other than CUDA it fuses nothing."""

    def __init__(self, layer: int, *, head_dim: int = 128, scale_fmt: str | None = "ue8m0") -> None:
        self.prefix = f"model.layers.{layer}.self_attn.indexer"
        self.quant_block_size, self.head_dim, self.rope_dim = 128, head_dim, 64
        self.scale_fmt = scale_fmt
        self.softmax_scale = SCALE
        self.use_fused_indexer_q = False


class Subscriptable:
    """A class of vLLM that takes a type in brackets."""

    def __class_getitem__(cls, _: object) -> type[Subscriptable]:
        return cls


class Vllm:
    """A torch and a vLLM with what the module takes of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.launched: list[tuple[Any, ...]] = []
        launch = types.SimpleNamespace(fused_indexer_q=lambda *given: self.launched.append(given))
        stub_module(monkeypatch, "torch").update(
            library=types.SimpleNamespace(Library=Library),
            empty_like=lambda like, dtype: f"{like} as {dtype}",
            float8_e4m3fn="fp8",
            float32="float32",
            Tensor=object,
            ops=types.SimpleNamespace(matrix=launch),
        )
        names = ("AttentionBackend", "AttentionMetadataBuilder", "MLAAttentionImpl")
        classes = dict.fromkeys(names, Subscriptable)
        stub_module(monkeypatch, "vllm.v1.attention.backend").update(classes)
        vars(sys.modules["vllm.v1.attention"])["backend"] = sys.modules["vllm.v1.attention.backend"]
        layer = type("SparseAttnIndexer", (), {"forward_cuda": "as on CUDA"})
        stub_module(monkeypatch, "vllm.model_executor.layers.sparse_attn_indexer")[
            "SparseAttnIndexer"
        ] = layer
        self.model = stub_module(monkeypatch, "vllm.model_executor.models.deepseek_v2")
        self.model["Indexer"] = type("Indexer", (Indexer,), {"__init__": Indexer.__init__})
        self.model["DeepseekV32IndexerCache"] = type("DeepseekV32IndexerCache", (), {})
        stub_module(monkeypatch, "vllm.model_executor.models.utils")["extract_layer_index"] = (
            lambda name: int(re.findall(r"\d+", name)[0])
        )

    def install(self) -> Library:
        self._monkeypatch.delitem(sys.modules, MODULE, raising=False)
        module: Any = importlib.import_module(MODULE)
        module.install_indexer()
        module.install_indexer()  # again, which does nothing
        found: Library = module._library
        return found


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vllm]:
    yield Vllm(monkeypatch)
    sys.modules.pop(MODULE, None)


def test_no_two_indexers_that_fuse_have_the_same_scale(vllm: Vllm) -> None:
    vllm.model["fused_indexer_q_rope_quant"] = "vLLM's, for CUDA alone"
    library = vllm.install()
    made = [vllm.model["Indexer"](layer) for layer in range(61)]
    assert all(indexer.use_fused_indexer_q for indexer in made)
    assert len({indexer.softmax_scale for indexer in made}) == 61
    assert all(indexer.softmax_scale == pytest.approx(SCALE) for indexer in made)
    # The scale is the layer's, whatever was made before: a warm start finds what a cold one saved.
    assert vllm.model["Indexer"](7).softmax_scale == made[7].softmax_scale
    queries = vllm.model["fused_indexer_q_rope_quant"]("at", "q", "cos", "w", 0.5, 0.25, True)
    assert queries == ("q as fp8", "w as float32")
    assert vllm.launched == [("at", "q", "cos", "w", "q as fp8", "w as float32", 0.5, 0.25)]
    assert "Tensor! quantized, Tensor! scaled" in library.schemas["fused_indexer_q"]


@pytest.mark.parametrize("facts", [{"head_dim": 64}, {"scale_fmt": None}])
def test_an_indexer_of_another_shape_fuses_nothing(vllm: Vllm, facts: dict[str, Any]) -> None:
    vllm.model["fused_indexer_q_rope_quant"] = "vLLM's, for CUDA alone"
    vllm.install()
    assert not vllm.model["Indexer"](0, **facts).use_fused_indexer_q


def test_a_vllm_that_fuses_nothing_on_cuda_is_left_as_it_is(vllm: Vllm) -> None:
    assert vllm.install().schemas.keys() == {"group_quant_fp8"}
    indexer = vllm.model["Indexer"](3)
    assert (indexer.softmax_scale, indexer.use_fused_indexer_q) == (SCALE, False)
    assert "fused_indexer_q_rope_quant" not in vllm.model
