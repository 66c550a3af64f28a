"""`matrix run` of cells on GPUs that a made-up nvidia-smi lists, with a program in place of tox."""

import os
from pathlib import Path
from typing import Any

import pytest

from command import matrix
from fake_tox import TORCH29, TORCH210, FakeTox
from programs import program


@pytest.fixture(autouse=True)
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, each with memory for four cases of one cell."""
    lines = "0, NVIDIA H100, 81559, 50000\\n1, NVIDIA H100, 81559, 50000\\n"
    path = program(tmp_path / "bin", "nvidia-smi", f"printf '{lines}'")
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def runs(fake: FakeTox) -> list[dict[str, Any]]:
    return [call for call in fake.calls() if "--notest" not in call["argv"]]


def devices(fake: FakeTox) -> list[str | None]:
    return sorted(call["gpus"] for call in runs(fake))


def test_each_cell_sees_two_gpus_by_numbers_that_every_vllm_takes(fake_tox: FakeTox) -> None:
    ended = matrix(fake_tox.here, "run", TORCH210, TORCH29, "--platform", "cuda")
    assert devices(fake_tox) == ["0,1", "0,1"], ended.stderr
    assert {call["order"] for call in runs(fake_tox)} == {"PCI_BUS_ID"}


def test_one_gpu_a_cell_spreads_them(fake_tox: FakeTox) -> None:
    arguments = ("--platform", "cuda", "--cell-gpus", "1")
    ended = matrix(fake_tox.here, "run", TORCH210, TORCH29, *arguments)
    assert len(devices(fake_tox)) == 2, ended.stderr
    assert set(devices(fake_tox)) <= {"0", "1"}


def test_two_gpus_a_cell_are_missing_where_one_is_allowed(fake_tox: FakeTox) -> None:
    arguments = ("--platform", "cuda", "--cell-gpus", "2", "--gpus", "1")
    refused = matrix(fake_tox.here, "run", TORCH210, *arguments)
    assert refused.returncode == 2
    assert "needs 2 GPUs of that memory, and 1 is available" in refused.stderr


def test_a_limit_leaves_gpus_alone(fake_tox: FakeTox) -> None:
    ended = matrix(fake_tox.here, "run", TORCH210, "--platform", "cuda", "--gpus", "1")
    assert devices(fake_tox) == ["0"], ended.stderr
    refused = matrix(fake_tox.here, "run", TORCH29, "--platform", "cuda", "--gpus", "0")
    assert refused.returncode == 2
    assert "MiB of memory of a GPU, and 0 are available" in refused.stderr


def test_on_a_hidden_gpu_nothing_runs(fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refused = matrix(fake_tox.here, "run", TORCH210, "--platform", "cuda")
    assert refused.returncode == 2
    assert devices(fake_tox) == []
