import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from matrix.inside import cpu_platform
from matrix.inside.cpu_platform import PLATFORM_VARIABLE, activate, gpu_visible

OURS = "matrix.inside.cpu.platform.CompilingCpuPlatform"


def nothing() -> str | None:
    return None


def rocm() -> str | None:
    return "vllm.platforms.rocm.RocmPlatform"


def broken() -> str | None:
    raise RuntimeError("no library")


def vllm_with(monkeypatch: pytest.MonkeyPatch, *plugins: Callable[[], str | None]) -> None:
    platforms = types.ModuleType("vllm.platforms")
    vars(platforms)["builtin_platform_plugins"] = {each.__name__: each for each in plugins}
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
