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
    first, second = (f"printf '{number}, NVIDIA H100, 81559, 50000\\n'" for number in (0, 1))
    gone = tmp_path / "bin/gone"
    path = program(tmp_path / "bin", "nvidia-smi", f"{first}\n[ -e {gone} ] || {second}")
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


def test_a_gpu_that_failed_takes_no_other_cell_and_is_named_once(fake_tox: FakeTox) -> None:
    fault = {"run": "gpu fault", "gpu": "0"}
    fake_tox.told(vllm019=fault, vllm016=fault)
    arguments = ("--platform", "cuda", "--cell-gpus", "1", "--cores", "1")
    ended = matrix(fake_tox.here, "run", TORCH210, TORCH29, *arguments)
    assert [call["gpus"] for call in runs(fake_tox)] == ["0", "1"], ended.stderr
    line = "GPU 0, or the driver, failed ("
    for text in (ended.stdout, ended.stderr):
        (named,) = (found for found in text.splitlines() if line in found)
        assert "on cuda: uncorrectable ECC error); other cells get other GPUs" in named


def test_of_two_gpus_the_one_that_does_not_answer_is_named(
    fake_tox: FakeTox, tmp_path: Path
) -> None:
    fake_tox.told(vllm019={"run": "gpu fault", "gpu": "1", "gone": str(tmp_path / "bin/gone")})
    ended = matrix(fake_tox.here, "run", TORCH210, "--platform", "cuda")
    assert devices(fake_tox) == ["0,1"]
    assert "GPU 1, or the driver, failed" in ended.stdout, ended.stderr


def test_the_only_gpu_is_tried_again(fake_tox: FakeTox) -> None:
    fault = {"run": "gpu fault", "gpu": "0"}
    fake_tox.told(vllm019=fault, vllm016=fault)
    arguments = ("--platform", "cuda", "--gpus", "1", "--cores", "1")
    ended = matrix(fake_tox.here, "run", TORCH210, TORCH29, *arguments)
    assert devices(fake_tox) == ["0", "0"] and ended.returncode == 5
    assert ended.stdout.count("GPU 0, or the driver, failed") == 1


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
