"""Another torch, vLLM or GPU for one start, with stand-ins of both; files that nobody can read."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from matrix.inside.foreign_caches import ANOTHER, spoil
from matrix.record.model import CacheKind


class TorchVersion(str):
    """As torch's own: a text with a class."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class SystemInfo:
    gpu_name: str | None = None

    @classmethod
    def current(cls) -> "SystemInfo":
        return cls()


class CacheBase:
    @staticmethod
    def get_system() -> dict[str, Any]:
        return {"hash": "of this machine"}


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    remembered = ["a key"]

    def torch_key() -> bytes:
        if not remembered:
            remembered.append(f"key of {torch.__version__}")
        return remembered[0].encode()

    keyed: Any = torch_key
    keyed.clear = remembered.clear
    torch: Any = ModuleType("torch")
    torch.__version__ = TorchVersion("2.11.0+cu130")
    vllm: Any = ModuleType("vllm")
    vllm.__version__ = "0.26.0rc2"
    codecache: Any = ModuleType("torch._inductor.codecache")
    codecache.torch_key, codecache.CacheBase = torch_key, CacheBase
    package: Any = ModuleType("torch._dynamo.package")
    package.SystemInfo = SystemInfo
    for module in (torch, vllm, codecache, package):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(torch=torch, vllm=vllm, codecache=codecache, package=package)


def keys(modules: SimpleNamespace) -> dict[str, Any]:
    """Return what keys of caches are made of, with stand-ins of what torch and vLLM do."""
    info = modules.package.SystemInfo.current()
    return {
        "torch": (str(modules.torch.__version__), modules.codecache.torch_key()),
        "vllm": modules.vllm.__version__,
        "gpu": (modules.codecache.CacheBase.get_system()["hash"], info.gpu_name),
    }


@pytest.mark.parametrize("another", ANOTHER)
def test_one_thing_is_another_meanwhile(stand_ins: SimpleNamespace, another: str) -> None:
    stand_ins.codecache.torch_key.clear()
    before = keys(stand_ins)
    with ANOTHER[another]():
        meanwhile = keys(stand_ins)
    assert {name for name in before if meanwhile[name] != before[name]} == {another}
    assert keys(stand_ins) == before


def test_another_release_is_the_next_patch(stand_ins: SimpleNamespace) -> None:
    with ANOTHER["torch"](), ANOTHER["vllm"]():
        assert stand_ins.torch.__version__ == "2.11.1+cu130"
        assert type(stand_ins.torch.__version__) is TorchVersion
        assert stand_ins.codecache.torch_key() == b"key of 2.11.1+cu130"
        assert stand_ins.vllm.__version__ == "0.26.1"


@pytest.mark.parametrize("without", ["module", "class"])
def test_what_a_release_lacks_is_left_alone(
    stand_ins: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    if without == "module":
        monkeypatch.delitem(sys.modules, "torch._dynamo.package")
    else:
        del stand_ins.package.SystemInfo
    keyed: Callable[[], bytes] = lambda: b"a key"  # noqa: E731 - without `clear`
    stand_ins.codecache.torch_key = keyed
    with ANOTHER["torch"](), ANOTHER["gpu"]():
        assert stand_ins.codecache.CacheBase.get_system()["hash"] != "of this machine"


def test_artifacts_of_a_kind_are_spoilt(tmp_path: Path) -> None:
    cache = tmp_path / "vllm" / "torch_compile_cache"
    aot = cache / "torch_aot_compile" / "0123" / "rank_0_0" / "model"
    artifact = cache / "89ab" / "rank_0_0" / "backbone" / "artifact_of_0"
    listed = artifact.with_name("vllm_compile_cache.py")
    for path in (aot, artifact, listed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("whole")
    assert spoil(CacheKind.ARTIFACT, tmp_path) is None
    assert [path.read_text() == "whole" for path in (aot, artifact, listed)] == [True, False, True]
    spoil(CacheKind.AOT, tmp_path)
    assert [path.read_text() == "whole" for path in (aot, artifact, listed)] == [False, False, True]
    aot.unlink()
    assert spoil(CacheKind.AOT, tmp_path) == "the cold start left no file of the kind aot"
