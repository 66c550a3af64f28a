"""What is asked of nvidia-smi, and what is made of its answers."""

from typing import Any

import pytest

from matrix._util import nvidia
from matrix.inside import gpus


@pytest.fixture
def nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let nvidia-smi print a text; gives the commands that it was called with."""
    asked: list[list[str]] = []

    def says(said: str) -> list[list[str]]:
        def capture(command: list[str], *_limits: float, **_options: Any) -> tuple[int, str]:
            asked.append(command)
            return 0, said

        monkeypatch.setattr(nvidia, "capture", capture)
        return asked

    return says


@pytest.mark.parametrize(
    ("visible", "said", "free"),
    [("", "80000\n", 80000), ("2,3", "80000\n", 80000), ("", "[N/A]\n", None), ("", "", None)],
)
def test_free_memory(
    monkeypatch: pytest.MonkeyPatch, nvidia_smi: Any, visible: str, said: str, free: int | None
) -> None:
    asked = nvidia_smi(said)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.free_mib() == free
    assert asked[0][-2:] == ["-i", "2"] if visible else "-i" not in asked[0]


def test_the_first_gpu_by_its_last_four_fields(nvidia_smi: Any) -> None:
    nvidia_smi("NVIDIA H100, 80GB HBM3, 9.0, 580.95.05, 81559\nNVIDIA T4, 7.5, 580.95.05, 15360\n")
    assert gpus.first_gpu() == {
        "name": "NVIDIA H100, 80GB HBM3",
        "capability": "9.0",
        "driver": "580.95.05",
        "memory_mib": 81559,
    }


@pytest.mark.parametrize("said", ["", "\n", "No devices were found\n", "T4, 7.5, 580.9, [N/A]\n"])
def test_no_gpu_of_an_answer_that_names_none(nvidia_smi: Any, said: str) -> None:
    nvidia_smi(said)
    assert gpus.first_gpu() is None


def test_the_addresses_of_all_that_cuda_may_use(
    monkeypatch: pytest.MonkeyPatch, nvidia_smi: Any
) -> None:
    asked = nvidia_smi("00000000:3B:00.0\n00000000:5E:00.0\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpus.buses() == ["00000000:3B:00.0", "00000000:5E:00.0"]
    assert asked[0][-2:] == ["-i", "0,1"]


def test_without_nvidia_smi_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert (gpus.first_gpu(), gpus.free_mib(), gpus.buses()) == (None, None, [])


def test_nvml_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_NVML", "libnone-of-this-name.so.1")
    assert gpus.nvml_fault() == "libnone-of-this-name.so.1, the driver's library, does not load"


@pytest.mark.parametrize(("status", "why"), [(0, None), (9, "NVML says: Driver Not Loaded")])
def test_what_nvml_says(monkeypatch: pytest.MonkeyPatch, status: int, why: str | None) -> None:
    class Library:
        def __init__(self, name: str) -> None:
            self.nvmlErrorString = type("F", (), {"__call__": lambda *_: b"Driver Not Loaded"})()

        def nvmlInit_v2(self) -> int:
            return status

        def nvmlShutdown(self) -> int:
            return 0

    monkeypatch.setattr("ctypes.CDLL", Library)
    assert gpus.nvml_fault() == why
