"""The driver's script as a process, with libraries compiled here in the place of NVIDIA's."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from matrix._util.nvidia import capture
from matrix.run.nvidia import ask_driver, gpus_on_the_bus
from matrix.run.nvidia_probe import DriverAnswer

CUDA = """
#include <stdlib.h>
#include <string.h>
int cuDriverGetVersion(int *v) { *v = 12080; return 0; }
int cuInit(unsigned f) { BEFORE; return STATUS; }
int cuGetErrorName(int s, const char **n) { *n = "CUDA_ERROR_NO_DEVICE"; return s != 100; }
int cuDeviceGetCount(int *n) { *n = GPUS; return 0; }
int cuDeviceGet(int *d, int at) { *d = at; return 0; }
int cuDeviceGetName(char *name, int size, int d) {
    const char *seen = getenv("CUDA_VISIBLE_DEVICES");
    strcpy(name, seen && seen[0] == 'M' ? seen : "NVIDIA H100");
    return 0;
}
int cuDeviceGetAttribute(int *v, int which, int d) { *v = which == 75 ? 9 : 0; return 0; }
int cuDeviceGetUuid_v2(unsigned char *id, int d) {
    for (int at = 0; at < 16; at++) id[at] = at;
    return 0;
}
"""
NVML = """
#include <string.h>
int nvmlInit_v2(void) { return NVML_STATUS; }
int nvmlDeviceGetHandleByUUID(const char *id, void **h) {
    *h = (void *)0x7fff00000001;
    return strcmp(id, PREFIX "-00010203-0405-0607-0809-0a0b0c0d0e0f");
}
int nvmlDeviceGetMemoryInfo(void *h, unsigned long long *m) {
    m[0] = 81559ull << 20; m[1] = 80000ull << 20; m[2] = 1559ull << 20;
    return h != (void *)0x7fff00000001;
}
"""


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    return tmp_path


def build(folder: Path, **values: object) -> None:
    """Make a libcuda and a libnvidia-ml that answer so."""
    given = {"BEFORE": "", "STATUS": 0, "GPUS": 2, "NVML_STATUS": 0, "PREFIX": '"GPU"', **values}
    for name, source in (("libcuda.so.1", CUDA), ("libnvidia-ml.so.1", NVML)):
        command = ["gcc", "-x", "c", "-", "-w", "-shared", "-fPIC", "-o", str(folder / name)]
        command += [f"-D{key}={value}" for key, value in given.items()]
        subprocess.run(command, input=source, text=True, check=True)


WITHOUT_NVML = DriverAnswer(cuda=(12, 8), gpus=2, name="NVIDIA H100", capability=(9, 0))
H100 = replace(WITHOUT_NVML, used_mib=1559, free_mib=80000, total_mib=81559)


@pytest.mark.parametrize("prefix", ['"GPU"', '"MIG"'])
def test_a_good_driver_tells_all_of_the_gpu_that_cuda_names_0(libraries: Path, prefix: str) -> None:
    build(libraries, PREFIX=prefix)
    assert ask_driver() == H100


@pytest.mark.parametrize(
    "values", [{"NVML_STATUS": 9}, {"PREFIX": '"XXX"'}], ids=["no NVML", "not known to it"]
)
def test_without_nvml_only_the_memory_is_not_known(
    libraries: Path, values: dict[str, object]
) -> None:
    build(libraries, **values)
    assert ask_driver() == WITHOUT_NVML


def test_what_the_driver_does_not_come_to(libraries: Path) -> None:
    build(libraries, GPUS=0)
    assert ask_driver() == DriverAnswer(cuda=(12, 8), gpus=0)
    build(libraries, STATUS=100)
    assert ask_driver() == DriverAnswer(cuda=(12, 8), error="CUDA_ERROR_NO_DEVICE")
    build(libraries, STATUS=7777)
    assert ask_driver() == DriverAnswer(cuda=(12, 8), error="CUDA error 7777")


def test_a_library_that_does_not_load_is_named(libraries: Path) -> None:
    (libraries / "libcuda.so.1").write_text("no library")
    answer = ask_driver()
    assert answer is not None and "libcuda.so.1" in str(answer.missing)
    assert answer.cuda is None and answer.error is None


def test_a_driver_that_takes_its_caller_along_gives_no_answer(libraries: Path) -> None:
    build(libraries, BEFORE="*(volatile int *)0 = 1")
    assert ask_driver() is None


def test_a_driver_that_hangs_is_left_behind(libraries: Path) -> None:
    build(libraries, BEFORE="for (;;) pause()")
    assert ask_driver(seconds=0.5) is None


def test_what_a_program_says() -> None:
    assert capture(["sh", "-c", "echo a; echo b >&2; exit 9"]) == (9, "a\nb\n")
    assert capture([os.devnull]) is None


def test_gpus_on_the_bus_need_no_driver_to_be_seen(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("0000:3b:00.0", "0x10de", "0x030200"),
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # the sound of its HDMI
        ("0000:00:02.0", "0x8086", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "0000:ff:00.0").mkdir()
    assert gpus_on_the_bus(tmp_path) == ("0000:01:00.0", "0000:3b:00.0")
    assert gpus_on_the_bus(tmp_path / "none") == ()


def test_it_answers_for_the_device_that_is_asked_about(libraries: Path) -> None:
    build(libraries)
    found = ask_driver(device="MIG-cc33")
    assert found is not None
    assert found.name == "MIG-cc33"
