"""What a start leaves in its compile caches."""

from pathlib import Path

import pytest

from matrix.inside import cache_files
from matrix.inside.cache_files import caches, held, kind_of, look

VLLM, INDUCTOR, TRITON = "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"
GRAPHS = "torch_compile_cache/1f2e/rank_0_0/backbone"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[tuple[str, Path], ...]:
    for name in (VLLM, INDUCTOR, TRITON):
        monkeypatch.setenv(name, str(tmp_path / name))
    return caches()


def put(folders: tuple[tuple[str, Path], ...], cache: str, name: str, size: int = 10) -> Path:
    path = dict(folders)[cache] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


@pytest.mark.parametrize(
    ("cache", "path", "kind"),
    [
        (VLLM, f"{GRAPHS}/artifact_compile_range_1_1024_subgraph_0", "artifact"),
        (VLLM, f"{GRAPHS}/artifact_shape_None_subgraph_0/fxgraph/ab/fabc/0", "fxgraph"),
        (VLLM, f"{GRAPHS}/artifact_shape_None_subgraph_0/ab/cabc.py", "generated"),
        (VLLM, f"{GRAPHS}/vllm_compile_cache.py", "other"),
        (VLLM, f"{GRAPHS}/inductor_cache/ab/cabc.py", "generated"),
        (VLLM, f"{GRAPHS}/inductor_cache/ab/cabc.main.cpp", "generated"),
        (VLLM, f"{GRAPHS}/inductor_cache/ab/cabc.so", "compiled"),
        (VLLM, f"{GRAPHS}/inductor_cache/aotautograd/aabc/entry", "aotautograd"),
        (VLLM, f"{GRAPHS}/triton_cache/ABC/kernel.cubin", "triton"),
        (VLLM, "torch_compile_cache/torch_aot_compile/1f/rank_0_0/model", "aot"),
        (VLLM, "torch_compile_cache/torch_aot_compile/1f/inductor_cache/a/b.so", "compiled"),
        (VLLM, "modelinfos/llama.json", "other"),
        (INDUCTOR, "ab/cabc.py", "generated"),
        (INDUCTOR, "ab/cabc.cubin", "compiled"),
        (INDUCTOR, "triton/0/ABC/kernel.json", "triton"),
        (INDUCTOR, "locks/cabc.lock", "other"),
        (INDUCTOR, "fxgraph/ab/fabc/.12.34.tmp", "other"),
        (INDUCTOR, "ab/cabc.best_config", "other"),
        (TRITON, "ABC/kernel.ptx", "triton"),
    ],
)
def test_a_file_has_its_kind(cache: str, path: str, kind: str) -> None:
    assert kind_of(cache, path.split("/")) == kind


def test_a_warm_start_is_compared_with_what_the_cold_one_left(
    folders: tuple[tuple[str, Path], ...],
) -> None:
    empty = look(folders)
    put(folders, INDUCTOR, "ab/cabc.so", 100)
    entry = put(folders, INDUCTOR, "fxgraph/ab/fabc/0", 7)
    cold = look(folders)
    assert held(empty, cold) == {
        "compiled": {"files": 1, "bytes": 100, "new_files": 1, "new_bytes": 100},
        "fxgraph": {"files": 1, "bytes": 7, "new_files": 1, "new_bytes": 7},
    }
    # What is loaded may be written again as it was.
    put(folders, INDUCTOR, "fxgraph/ab/fabc/next", 7).replace(entry)
    assert held(cold, look(folders)) == {
        "compiled": {"files": 1, "bytes": 100, "new_files": 0, "new_bytes": 0},
        "fxgraph": {"files": 1, "bytes": 7, "new_files": 0, "new_bytes": 0},
    }
    put(folders, INDUCTOR, "ab/cdef.so", 50)
    put(folders, INDUCTOR, "fxgraph/ab/fabc/0", 8)
    assert held(cold, look(folders)) == {
        "compiled": {"files": 2, "bytes": 150, "new_files": 1, "new_bytes": 50},
        "fxgraph": {"files": 1, "bytes": 8, "new_files": 1, "new_bytes": 8},
    }


def test_what_is_loaded_into_another_folder_is_not_new(
    folders: tuple[tuple[str, Path], ...],
) -> None:
    put(folders, VLLM, f"{GRAPHS}/inductor_cache/ab/cabc.so")
    put(folders, VLLM, f"{GRAPHS}/artifact_compile_range_1_1024_subgraph_0")
    cold = look(folders)
    put(folders, VLLM, "torch_compile_cache/torch_aot_compile/1f/inductor_cache/ab/cabc.so")
    put(folders, VLLM, f"{GRAPHS}2/artifact_compile_range_1_1024_subgraph_0")
    assert held(cold, look(folders)) == {
        "artifact": {"files": 2, "bytes": 20, "new_files": 1, "new_bytes": 10},
        "compiled": {"files": 2, "bytes": 20, "new_files": 0, "new_bytes": 0},
    }
    put(folders, VLLM, "torch_compile_cache/torch_aot_compile/1f/inductor_cache/cd/cabc.so")
    found = held(cold, look(folders))
    assert found is not None and found["compiled"]["new_files"] == 1


def test_links_are_not_followed(folders: tuple[tuple[str, Path], ...], tmp_path: Path) -> None:
    real = put(folders, INDUCTOR, "ab/cabc.so")
    (real.parent / "again.so").symlink_to(real)
    (real.parent / "around").symlink_to(tmp_path)
    found = held({}, look(folders))
    assert found is not None and found["compiled"]["files"] == 1 and list(found) == ["compiled"]


def test_nothing_is_known_of_a_process_without_caches_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (VLLM, INDUCTOR, TRITON):
        monkeypatch.delenv(name, raising=False)
    assert look(caches()) is None
    assert held(None, {}) is None and held({}, None) is None


@pytest.mark.parametrize(("limit", "value"), [("_FILES_LIMIT", 2), ("_DEPTH_LIMIT", 1)])
def test_nothing_is_known_beyond_the_limits(
    folders: tuple[tuple[str, Path], ...],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    put(folders, INDUCTOR, "a/b/c.so")
    assert look(folders)
    monkeypatch.setattr(cache_files, limit, value)
    assert look(folders) is None


def test_a_cache_that_is_not_a_folder_is_not_known(
    folders: tuple[tuple[str, Path], ...],
) -> None:
    dict(folders)[INDUCTOR].write_text("")
    assert look(folders) is None
