import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from matrix._util.nvidia import gpu_visible
from matrix.inside import cpu_platform
from matrix.inside.cpu_platform import PLATFORM_VARIABLE, activate

Kind = TypeVar("Kind")
OURS = "matrix.inside.cpu.platform.CompilingCpuPlatform"


def nothing() -> str | None:
    return None


def rocm() -> str | None:
    return "vllm.platforms.rocm.RocmPlatform"


def broken() -> str | None:
    raise RuntimeError("no library")


def vllm_with(monkeypatch: pytest.MonkeyPatch, *plugins: Callable[[], str | None]) -> None:
    platforms = types.ModuleType("vllm.platforms")
    vars(platforms)["builtin_platform_plugins"] = {plugin.__name__: plugin for plugin in plugins}
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)


@pytest.mark.parametrize(
    ("asked", "gpu", "plugins", "answer"),
    [
        ("cpu", False, [nothing], OURS),
        ("cpu", True, [rocm], OURS),
        ("cuda", False, [nothing], None),
        ("cuda", True, [nothing], None),
        ("", True, [nothing], None),
        ("", False, [nothing], OURS),
        ("", False, [nothing, broken], OURS),
        ("", False, [broken, rocm], None),
    ],
)
def test_it_is_offered_on_request_or_where_there_is_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    gpu: bool,
    plugins: list[Callable[[], str | None]],
    answer: str | None,
) -> None:
    vllm_with(monkeypatch, *plugins)
    monkeypatch.setenv(PLATFORM_VARIABLE, asked)
    monkeypatch.setattr(cpu_platform, "gpu_visible", lambda environ: gpu)
    assert activate() == answer


def smi(folder: Path, says: str, status: int = 0) -> str:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    tool.chmod(0o755)
    return str(tool)


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has a GPU")
def test_a_gpu_is_seen_through_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not gpu_visible({})
    smi(tmp_path, "GPU 0: NVIDIA H100")
    assert gpu_visible({})
    assert gpu_visible({"CUDA_VISIBLE_DEVICES": "0"})
    assert not gpu_visible({"CUDA_VISIBLE_DEVICES": ""})
    assert not gpu_visible({"CUDA_VISIBLE_DEVICES": "-1"})
    smi(tmp_path, "No devices were found", 6)
    assert not gpu_visible({})


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], types.ModuleType]:
    """Return what imports a module of the platform on a bare torch and vLLM."""

    class Backend:
        pass

    class Builder(Generic[Kind]):
        pass

    class Impl(Generic[Kind]):
        is_sparse = False

    library = types.SimpleNamespace(Library=type("Library", (), {}))
    modules: dict[str, dict[str, object]] = {
        "torch": {"Tensor": type("Tensor", (), {}), "library": library},
        "vllm": {},
        "vllm.v1": {},
        "vllm.v1.attention": {},
        "vllm.v1.attention.backend": {
            "AttentionBackend": Backend,
            "AttentionMetadataBuilder": Builder,
            "MLAAttentionImpl": Impl,
        },
    }
    for name, held in modules.items():
        module = types.ModuleType(name)
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, leaf = name.rpartition(".")
        if parent:
            vars(sys.modules[parent])[leaf] = module

    def load(name: str) -> types.ModuleType:
        whole = f"matrix.inside.cpu.{name}"
        monkeypatch.setitem(sys.modules, whole, types.ModuleType(whole))  # so that it goes again
        del sys.modules[whole]
        return importlib.import_module(whole)

    return load


def test_sparse_kernels_say_so_where_vllm_has_no_class_for_them(
    ours: Callable[[str], types.ModuleType],
) -> None:
    attention = ours("attention")
    assert attention.SparseMLABackend.get_impl_cls()().is_sparse
    assert not attention.MLABackend.get_impl_cls()().is_sparse


@pytest.mark.parametrize("chooses", [True, False])
def test_kernels_for_prompts_are_made_of_nothing(
    monkeypatch: pytest.MonkeyPatch, ours: Callable[[str], types.ModuleType], chooses: bool
) -> None:
    attention = ours("attention")
    layer = types.ModuleType("vllm.model_executor.layers.attention.mla_attention")
    if chooses:
        vars(layer)["get_mla_prefill_backend"] = broken
    monkeypatch.setitem(sys.modules, layer.__name__, layer)
    for _ in range(2):
        attention.install_prefill()
    if not chooses:
        assert not hasattr(layer, "get_mla_prefill_backend")
        return
    kernels = layer.get_mla_prefill_backend("config")(num_heads=8, vllm_config=None)
    assert not kernels.supports_quant_output("fp8")
    assert kernels.get_name() == "CPU_MLA_PREFILL"


def test_a_release_without_that_module_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, ours: Callable[[str], types.ModuleType]
) -> None:
    """vLLM 0.14 has MLA's layers elsewhere, and chooses no kernels for prompts."""
    attention = ours("attention")
    for name in (
        "vllm.model_executor",
        "vllm.model_executor.layers",
        "vllm.model_executor.layers.attention",
    ):
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    attention.install_prefill()


@pytest.mark.parametrize("rotates", [True, False])
def test_the_vision_tower_runs_no_triton_kernel(
    monkeypatch: pytest.MonkeyPatch, ours: Callable[[str], types.ModuleType], rotates: bool
) -> None:
    tower = types.ModuleType("vllm.model_executor.models.kimi_k25_vit")
    if rotates:
        vars(tower)["packed_qk_rope_"] = broken
    monkeypatch.setitem(sys.modules, tower.__name__, tower)
    for _ in range(2):
        ours("vision").silence_vision_kernels()
    assert hasattr(tower, "packed_qk_rope_") is rotates
    if rotates:
        assert tower.packed_qk_rope_("queries and keys", "frequencies") is None


def test_one_medium_goes_through_the_vision_tower(
    ours: Callable[[str], types.ModuleType],
) -> None:
    """The numbers are those of tokens, of which vLLM takes at least what one medium has."""
    scheduler = types.SimpleNamespace(max_num_encoder_input_tokens=8192, encoder_cache_size=8192)
    ours("vision").send_one_medium(scheduler)
    assert vars(scheduler) == {"max_num_encoder_input_tokens": 1, "encoder_cache_size": 1}
