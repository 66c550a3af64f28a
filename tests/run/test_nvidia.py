"""Which GPUs a cell would see, and why the NVIDIA GPU of a machine cannot run one."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from matrix._util.nvidia import visible_gpus
from matrix.record.model import ErrorKind, Platform
from matrix.run.nvidia import gpu_need_mib, unusable_gpu, wheel_cuda, why_not_cuda
from matrix.run.nvidia_probe import DriverAnswer
from matrix.run.preflight import PreflightError, choose_platform
from programs import program

LISTED = "GPU 0: NVIDIA H100 (UUID: GPU-aa11)\nGPU 1: NVIDIA H100 (UUID: GPU-bb22)\n"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake a machine of two GPUs, as `nvidia-smi -L` has it."""
    found = program(tmp_path / "bin", "nvidia-smi", f"printf '{LISTED}'")
    monkeypatch.setenv("PATH", f"{found.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


@pytest.fixture
def no_devices(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    return tmp_path / "dev"


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        (None, ("GPU 0", "GPU 1")),
        ("", ()),
        ("-1", ()),
        ("1", ("GPU 1",)),
        ("1,0", ("GPU 1", "GPU 0")),
        ("0,7,1", ("GPU 0",)),
        ("7", ()),
        ("GPU-bb22", ("GPU 1",)),
        ("MIG-cc33", ("MIG-cc33",)),
    ],
)
def test_visible_gpus(
    smi: Path, no_devices: Path, asked: str | None, seen: tuple[str, ...]
) -> None:
    environ = {} if asked is None else {"CUDA_VISIBLE_DEVICES": asked}
    found = visible_gpus(environ, no_devices)
    assert tuple(gpu.partition(":")[0] for gpu in found) == seen


@pytest.mark.parametrize("body", ["exit 9", "echo NVIDIA-SMI has failed"])
def test_device_files_count_where_smi_does_not_answer(
    smi: Path, no_devices: Path, body: str
) -> None:
    program(smi.parent, smi.name, body)
    assert visible_gpus({}, no_devices) == ()
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (no_devices / name).touch()
    assert visible_gpus({}, no_devices) == ("nvidia0",)


def test_auto_is_cuda_only_where_a_gpu_is_visible(
    smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_platform("auto") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_platform("auto") == "cpu"
    assert choose_platform("cuda") == "cuda"


def test_another_platform_is_an_error() -> None:
    with pytest.raises(PreflightError, match="choose auto, cpu or cuda"):
        choose_platform("tpu")


GOOD = DriverAnswer(
    cuda=(12, 8),
    gpus=2,
    name="NVIDIA H100",
    capability=(9, 0),
    used_mib=559,
    free_mib=81000,
    total_mib=81559,
)
PACKAGES = {"torch": "2.10.0", "nvidia-cuda-runtime-cu12": "12.8.90"}
NEWER = {"torch": "2.11.0", "cuda-toolkit": "13.0.2"}


@pytest.mark.parametrize(
    ("answer", "packages", "kind", "said"),
    [
        (GOOD, PACKAGES, None, ""),
        (GOOD, {}, None, ""),
        (dataclasses.replace(GOOD, cuda=(12, 2)), PACKAGES, None, ""),
        (dataclasses.replace(GOOD, cuda=(13, 1)), PACKAGES, None, ""),
        (dataclasses.replace(GOOD, cuda=None), PACKAGES, None, ""),
        (dataclasses.replace(GOOD, used_mib=None, free_mib=None, total_mib=None), {}, None, ""),
        (
            GOOD,
            NEWER,
            "driver_too_old",
            "built with CUDA 13.0, and .* CUDA 12.8 at most: .* needs 580.65.06 or later",
        ),
        (
            dataclasses.replace(GOOD, used_mib=70000, free_mib=11559),
            PACKAGES,
            "gpu_full",
            "11559 MiB free of 81559 MiB, 70000 MiB are in use, and a start needs 11776 MiB: end",
        ),
        (None, {}, "gpu_fault", "hung or crashed.* reboot"),
        (
            DriverAnswer(missing="libcuda.so.1: no such file"),
            {},
            "no_driver",
            "install NVIDIA's driver",
        ),
        (DriverAnswer(error="CUDA_ERROR_NO_DEVICE"), {}, "no_gpu", "CUDA_VISIBLE_DEVICES"),
        (DriverAnswer(gpus=0), {}, "no_gpu", "CUDA_VISIBLE_DEVICES"),
        (DriverAnswer(error="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"), {}, "no_driver", "in version"),
        (
            DriverAnswer(error="CUDA_ERROR_SYSTEM_NOT_READY"),
            {},
            "no_driver",
            "nvidia-fabricmanager",
        ),
        (DriverAnswer(error="CUDA_ERROR_STUB_LIBRARY"), {}, "no_driver", "LD_LIBRARY_PATH"),
        (
            DriverAnswer(error="CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"),
            {},
            "driver_too_old",
            "update the NVIDIA driver",
        ),
        (DriverAnswer(error="CUDA_ERROR_UNKNOWN"), {}, "gpu_fault", "cuInit: CUDA_ERROR_UNKNOWN"),
    ],
)
def test_what_the_driver_answers_decides(
    smi: Path, answer: DriverAnswer | None, packages: dict[str, str], kind: str | None, said: str
) -> None:
    refusal = unusable_gpu(Platform.CUDA, packages, driver=lambda: answer)
    assert (refusal and refusal.kind) == kind
    if refusal is not None:
        assert refusal.kind in tuple(ErrorKind)
        assert re.search(said, refusal.reason) and "\n" not in refusal.reason


def never() -> DriverAnswer | None:
    raise AssertionError("the driver is asked for no reason")


def bus_of(folder: Path) -> Path:
    """Fake a machine that has an NVIDIA GPU, whatever its driver does."""
    gpu = folder / "bus" / "0000:3b:00.0"
    gpu.mkdir(parents=True)
    (gpu / "vendor").write_text("0x10de\n")
    (gpu / "class").write_text("0x030200\n")
    return gpu.parent


def test_no_gpu_at_all(smi: Path, no_devices: Path, tmp_path: Path) -> None:
    program(smi.parent, smi.name, "echo No devices were found; exit 6")
    refusal = unusable_gpu(Platform.CUDA, {}, devices=no_devices, bus=tmp_path, driver=never)
    assert refusal is not None and refusal.kind == "no_gpu"
    assert unusable_gpu(Platform.CPU, {}, devices=no_devices, bus=tmp_path, driver=never) is None


@pytest.mark.parametrize("hidden", ["", "-1", "7"])
def test_a_hidden_gpu_is_no_missing_driver(
    smi: Path, no_devices: Path, tmp_path: Path, hidden: str
) -> None:
    environ, bus = {"CUDA_VISIBLE_DEVICES": hidden}, bus_of(tmp_path)
    refusal = unusable_gpu(
        Platform.CUDA, {}, environ=environ, devices=no_devices, bus=bus, driver=never
    )
    assert refusal is not None and refusal.kind == "no_gpu"


FAILED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that"
    " the latest NVIDIA driver is installed and running."
)


def test_a_gpu_on_the_bus_without_a_driver(smi: Path, no_devices: Path, tmp_path: Path) -> None:
    program(smi.parent, smi.name, f'echo "{FAILED}"; exit 9')
    refusal = unusable_gpu(
        Platform.CUDA, {}, devices=no_devices, bus=bus_of(tmp_path), driver=never
    )
    assert refusal is not None and refusal.kind == "no_driver"
    for part in ("0000:3b:00.0 on the PCI bus", "couldn't communicate", "--platform cpu"):
        assert part in refusal.reason


def test_device_files_without_a_driver(smi: Path, no_devices: Path) -> None:
    program(smi.parent, smi.name, f'echo "{FAILED}"; exit 9')
    (no_devices / "nvidia0").touch()
    dead = DriverAnswer(cuda=(12, 8), error="CUDA_ERROR_NO_DEVICE")
    refusal = unusable_gpu(Platform.CUDA, {}, devices=no_devices, driver=lambda: dead)
    assert refusal is not None and refusal.kind == "no_driver"
    assert "(nvidia0)" in refusal.reason and "couldn't communicate" in refusal.reason


def test_auto_says_why_it_leaves_a_gpu_alone(
    smi: Path, no_devices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = bus_of(tmp_path)
    assert why_not_cuda("auto", devices=no_devices, bus=bus) is None  # it takes the GPU
    program(smi.parent, smi.name, f'echo "{FAILED}"; exit 9')
    said = why_not_cuda("auto", devices=no_devices, bus=bus)
    assert said is not None and "\n" not in said
    assert said.startswith("--platform auto takes cpu: ") and "couldn't communicate" in said
    assert why_not_cuda("cpu", bus=bus) is None
    assert why_not_cuda("auto", bus=tmp_path / "none") is None
    assert why_not_cuda("auto", {"CUDA_VISIBLE_DEVICES": ""}, bus=bus) is None
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "there is no nvidia-smi" in str(why_not_cuda("auto", devices=no_devices, bus=bus))


@pytest.mark.parametrize(
    ("packages", "cuda"),
    [
        ({"torch": "2.9.1", "nvidia-cuda-runtime-cu12": "12.8.90"}, (12, 8)),
        ({"torch": "2.11.0", "cuda-toolkit": "13.0.2", "nvidia-cuda-runtime": "13.0.96"}, (13, 0)),
        ({"torch": "2.10.0+cu130", "nvidia-cuda-runtime-cu12": "12.8.90"}, (13, 0)),
        ({"torch": "2.10.0+cpu"}, None),
        ({}, None),
    ],
)
def test_the_cuda_of_a_wheel(packages: dict[str, str], cuda: tuple[int, int] | None) -> None:
    assert wheel_cuda(packages) == cuda


@pytest.mark.parametrize(("total", "need"), [(24576, 6144 + 512), (81559, 11 * 1024 + 512)])
def test_a_gpu_needs_what_a_start_asks_for_and_a_context(total: int, need: int) -> None:
    assert gpu_need_mib(total) == need
