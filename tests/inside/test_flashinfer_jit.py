"""What FlashInfer builds just in time: before the cases, and in a start."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fake_flashinfer import write_flashinfer
from matrix.inside import flashinfer_jit
from matrix.inside.flashinfer_jit import build, watching
from matrix.inside.jit_caches import built, caches
from matrix.inside.spans import following
from matrix.inside.timeline import Timeline

SAMPLING = {
    "name": "sampling",
    "generator": "flashinfer.jit.sampling:gen_sampling_module",
    "arguments": {},
}


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("flashinfer", "torch")]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Fresh caches, a FlashInfer on the path, and a torch with types; nothing is left of them."""
    write_flashinfer(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("MAX_JOBS", raising=False)
    with caches() as place:
        yield place
    forget()


def fake_torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    class dtype:  # noqa: N801 - as torch names it
        def __str__(self) -> str:
            return "torch.bfloat16"

    dtype.__module__ = "torch"
    torch = ModuleType("torch")
    torch.bfloat16 = dtype()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def test_what_is_listed_is_built_once_and_a_start_takes_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flashinfer_jit, "available_cores", lambda: 6)
    monkeypatch.setattr(flashinfer_jit, "available_memory_mib", lambda: 16 * 1024)
    bridge, sampling = build([SAMPLING])
    assert (bridge["library"], sampling["library"]) == ("tvm_ffi", "flashinfer")
    assert sampling["name"] == "sampling" and 0 <= sampling["seconds"] < 60
    assert built(folder) == {"flashinfer": ("sampling",)}
    # As many compilers as the memory serves, and no more than cores.
    [log] = folder.rglob("cached_ops/sampling/built")
    assert log.read_text() == "4\n"
    monkeypatch.delenv("MAX_JOBS")
    build([SAMPLING, {**SAMPLING, "name": "brought"}])
    assert log.read_text() == "4\n2\n"
    found: list[dict[str, Any]] = []
    with following(Timeline(), {flashinfer_jit.MODULE: (watching(found),)}):
        sampling_module = importlib.import_module("flashinfer.jit.sampling")
        assert sampling_module.gen_sampling_module().build_and_load() == "sampling"
    assert found == []


@pytest.mark.parametrize(
    ("cores", "modules", "each"), [(1, 2, 1), (2, 2, 1), (4, 2, 2), (16, 2, 13), (32, 3, 26)]
)
def test_a_large_module_has_the_cores_that_small_ones_do_not_need(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int, modules: int, each: int
) -> None:
    monkeypatch.setattr(flashinfer_jit, "available_cores", lambda: cores)
    monkeypatch.setattr(flashinfer_jit, "available_memory_mib", lambda: None)
    build([SAMPLING, *({**SAMPLING, "name": "brought"} for _ in range(modules - 1))])
    assert next(folder.rglob("sampling/built")).read_text() == f"{each}\n"


def test_the_users_own_number_of_compilers_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_JOBS", "3")
    build([SAMPLING])
    assert next(folder.rglob("sampling/built")).read_text() == "3\n"


@pytest.mark.parametrize(
    ("generator", "arguments", "reason"),
    [
        ("flashinfer.jit.sampling:gen_broken_module", {}, "Ninja build failed"),
        ("flashinfer.jit.sampling:gen_brought_module", {}, "makes brought"),
        ("flashinfer.jit.sampling:gen_absent_module", {}, "has no attribute 'gen_absent_module'"),
        ("flashinfer.jit.absent:gen_x", {}, "No module named 'flashinfer.jit.absent'"),
        ("flashinfer.jit.sampling:gen_sampling_module", {"x": 1}, "unexpected keyword argument"),
    ],
)
def test_a_module_that_cannot_be_built_says_why_and_the_others_are_built(
    folder: Path, generator: str, arguments: dict[str, object], reason: str
) -> None:
    asked = [{"name": "broken", "generator": generator, "arguments": arguments}, SAMPLING]
    _, broken, sampling = build(asked)
    assert reason in broken["reason"] and "seconds" not in broken
    assert "seconds" in sampling and built(folder) == {"flashinfer": ("sampling",)}


def test_a_module_that_comes_built_is_not_built(folder: Path) -> None:
    generator = "flashinfer.jit.sampling:gen_brought_module"
    _, brought = build([{"name": "brought", "generator": generator, "arguments": {}}])
    assert brought["reason"] == "comes built" and built(folder) == {}


def test_what_a_start_builds_has_its_seconds_and_how_it_is_built_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = fake_torch(monkeypatch)
    found: list[dict[str, Any]] = []
    timeline = Timeline()
    with following(timeline, {flashinfer_jit.MODULE: (watching(found),)}):
        moe = importlib.import_module("flashinfer.jit.fused_moe")
        for _ in range(2):  # the second time it is there
            moe.gen_cutlass_fused_moe_sm90_module().build_and_load()
        moe.gen_prefill_module("fa2", 64, dtype=torch.bfloat16).build_and_load()
        moe.gen_prefill_module("fa3", 64, dtype=SimpleNamespace()).build_and_load()
    modules = [(module["name"].partition("_names")[0], module["generator"]) for module in found]
    assert modules[:2] == [
        ("fused_moe_90", "flashinfer.jit.fused_moe:gen_cutlass_fused_moe_sm90_module"),
        ("prefill_fa2_64_torch.bfloat16", "flashinfer.jit.fused_moe:gen_prefill_module"),
    ]
    assert found[0]["arguments"] == {"use_fast_build": False}
    assert found[1]["arguments"] == {"backend": "fa2", "head_dim": 64, "dtype": "torch.bfloat16"}
    # What cannot be written cannot be given again.
    assert (found[2]["generator"], found[2]["arguments"]) == (None, {})
    assert "jit" in timeline.parts() and all(module["library"] == "flashinfer" for module in found)
    # Another run, with nothing built, builds the same from what was found.
    forget()
    fake_torch(monkeypatch)
    with caches() as other:
        answers = build(found[:2])
        assert [answer["name"] for answer in answers[1:]] == [
            module["name"] for module in found[:2]
        ]
        assert len(built(other)["flashinfer"]) == 2


def test_without_tvm_the_step_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm_ffi", None)
    [bridge] = build([])
    assert bridge["reason"].startswith("ModuleNotFoundError")


def test_what_an_earlier_run_built_is_found_in_a_kept_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_flashinfer(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for _ in range(2):
        with caches(tmp_path / "kept"):
            found.append(build([SAMPLING])[1])
        forget()
    assert [answer.get("found") for answer in found] == [None, True]
    assert built(tmp_path / "kept")["flashinfer"] == ("sampling",)


def test_the_caches_of_a_run_are_its_own_and_go_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHINFER_WORKSPACE_BASE", "/mine")
    monkeypatch.delenv("DG_JIT_CACHE_DIR", raising=False)
    with caches() as one, caches() as other:
        assert one != other
        kernel = Path(os.environ["DG_JIT_CACHE_DIR"], "cache", f"kernel.fp8_gemm.{'0a' * 16}")
        kernel.mkdir(parents=True)
        (kernel / "kernel.cubin").touch()
        bridge = Path(os.environ["TVM_FFI_CACHE_DIR"], "libtorch_c_dlpack_addon_torch211-cuda.so")
        bridge.touch()
        half = Path(os.environ["FLASHINFER_WORKSPACE_BASE"], ".cache/flashinfer/1/90a/cached_ops/x")
        half.mkdir(parents=True)
        (half / "x.o").touch()
        assert built(other) == {"deep_gemm": ("kernel.fp8_gemm",), "tvm_ffi": (bridge.name,)}
        assert built(one) == {}
    assert os.environ["FLASHINFER_WORKSPACE_BASE"] == "/mine"
    assert "DG_JIT_CACHE_DIR" not in os.environ
    assert not one.exists() and not other.exists()
