"""Where costly things are kept."""

from pathlib import Path

import pytest

from matrix._util.caches import CacheFolderError, cache_folder


def test_the_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder({"MATRIX_CACHE": "/m", "XDG_CACHE_HOME": "/c"}) == Path("/m")
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/torch-vllm-matrix")
    monkeypatch.setenv("HOME", str(tmp_path))
    for environ in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert cache_folder(environ) == tmp_path / ".cache/torch-vllm-matrix"


def test_without_a_home_a_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/torch-vllm-matrix")
    with pytest.raises(CacheFolderError, match="no home folder for caches; set it to a folder"):
        cache_folder({})
