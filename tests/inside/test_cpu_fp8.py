"""What the CPU platform compiles for weights in blocks of fp8, which it does not have itself."""

import importlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from matrix.inside.models import LEFT_OUT
from stub_modules import stub_module

MODULE = "matrix.inside.cpu.fp8"
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 64]}
VLLM = """
import functools

class Here:
    @classmethod
    def is_cuda(cls):
        return False

    @classmethod
    def support_deep_gemm(cls):
        return False

    @classmethod
    def is_device_capability(cls, capability):
        return False

current_platform = Here

@functools.cache
def is_deep_gemm_supported():
    return INSTALLED and {question}
"""


class OnePlatform:
    """A platform as vLLM has one: an instance, of which older releases ask what it is."""

    _enum: str

    def is_cuda(self) -> bool:
        return self._enum == "cuda"


class Seen:
    """A vLLM that has DeepGEMM, or has not, and what it was asked to scale."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scaled: list[tuple[Any, ...]] = []
        self._monkeypatch = monkeypatch
        torch = stub_module(monkeypatch, "torch")
        torch.update(
            float8_e4m3fn="fp8",
            zeros=lambda shape, dtype: (tuple(shape), dtype),
            ones=tuple,
            no_grad=__import__("contextlib").nullcontext,
        )
        stub_module(monkeypatch, "vllm.platforms.interface").update(
            Platform=OnePlatform, PlatformEnum=types.SimpleNamespace(CUDA="cuda")
        )
        self.envs = stub_module(monkeypatch, "vllm.envs")
        self.envs["VLLM_USE_DEEP_GEMM_E8M0"] = True
        stub_module(monkeypatch, "vllm.model_executor.layers.quantization.utils.fp8_utils").update(
            requant_weight_ue8m0_inplace=lambda *given: self.scaled.append(given)
        )
        self.deep_gemm = stub_module(monkeypatch, "vllm.utils.deep_gemm")
        self.installs(True)

    def installs(self, there: bool, question: str = "current_platform.support_deep_gemm()") -> None:
        self.deep_gemm["INSTALLED"] = there
        exec(VLLM.format(question=question), self.deep_gemm)  # noqa: S102 - of this test

    def loads(self, left_out: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
        self._monkeypatch.delitem(sys.modules, MODULE, raising=False)
        config = types.SimpleNamespace()
        if left_out is not None:
            setattr(config, LEFT_OUT, left_out)
        importlib.import_module(MODULE).cast_blocks(config)
        return self.scaled


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    yield Seen(monkeypatch)
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize(
    "question",
    [
        "current_platform.support_deep_gemm()",
        "current_platform.is_cuda() and current_platform.is_device_capability(90)",
    ],
)
def test_blocks_are_scaled_as_cuda_does_and_the_platform_stays(vllm: Seen, question: str) -> None:
    vllm.installs(True, question)
    here = vllm.deep_gemm["current_platform"]
    assert vllm.loads({"quantization_config": FP8}) == [(((256, 128), "fp8"), (2, 2), [128, 64])]
    assert vllm.deep_gemm["current_platform"] is here
    assert not vllm.deep_gemm["is_deep_gemm_supported"]()  # the answer was not kept


def test_without_deep_gemm_nothing_is_scaled(vllm: Seen) -> None:
    vllm.installs(False)
    assert vllm.loads({"quantization_config": FP8}) == []


@pytest.mark.parametrize("value", [False, None])
def test_nor_where_scales_may_be_any_number(vllm: Seen, value: bool | None) -> None:
    if value is None:
        del vllm.envs["VLLM_USE_DEEP_GEMM_E8M0"]
    else:
        vllm.envs["VLLM_USE_DEEP_GEMM_E8M0"] = value
    assert vllm.loads({"quantization_config": FP8}) == []


@pytest.mark.parametrize(
    "left_out",
    [
        None,
        {},
        {"quantization_config": {"quant_method": "mxfp4"}},
        {"quantization_config": {"quant_method": "fp8"}},
        {"quantization_config": "fp8"},
    ],
)
def test_nor_for_other_weights(vllm: Seen, left_out: Mapping[str, Any] | None) -> None:
    assert vllm.loads(left_out) == []
