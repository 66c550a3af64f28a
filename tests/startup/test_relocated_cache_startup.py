"""Caches that are elsewhere than where they were filled: moved, or in another home.

vLLM says that a cache may be copied to another machine, and its keys hold no path of it: a start
loads what it finds in the other place, and counts as one where nothing moved. Of a home they do
hold paths (0.26: VLLM_CONFIG_ROOT), so there a start may compile again.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from matrix.inside.laws import loads_or_compiles

_VARIABLES = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}


@pytest.mark.full
def test_relocated_cache_startup(
    monkeypatch: pytest.MonkeyPatch, startup: Callable[..., None]
) -> None:
    def move(folder: Path) -> None:
        other = folder / "moved"
        other.mkdir()
        for variable, name in _VARIABLES.items():
            monkeypatch.setenv(variable, str(other / name))
            if (folder / name).exists():
                shutil.move(folder / name, other / name)

    startup("small-dense", between=move, counts_as="small_startup[dense]")


@pytest.mark.full
def test_another_home_startup(
    monkeypatch: pytest.MonkeyPatch, fresh_vllm_cache: Path, startup: Callable[..., None]
) -> None:
    """Leave the caches where they are by default, below a home; then move that home."""
    for variable in (*_VARIABLES, "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(fresh_vllm_cache / "home"))

    def move(folder: Path) -> None:
        shutil.move(folder / "home", folder / "another")
        monkeypatch.setenv("HOME", str(folder / "another"))

    startup("small-dense", between=move, law=loads_or_compiles)
