"""What a machine has for runs, and the limits on it: made-up files and a made-up nvidia-smi."""

import os
import shutil
from pathlib import Path

import pytest

from matrix.run import limits
from matrix.run.limits import LimitError, Limits, machine_here, visible
from matrix.run.machine import Gpu
from matrix.run.nvidia_probe import DriverAnswer
from programs import program

_MEMINFO = "MemTotal: 16384000 kB\nMemAvailable: 8192000 kB\n"
_SMI = """
case "$*" in
  "-L") echo "GPU 0: NVIDIA H100 (UUID: GPU-aa11-0)"
     echo "GPU 1: NVIDIA H100 (UUID: GPU-bb22-0)" ;;
  *"-i 0,1") echo "0, NVIDIA H100, 81559, 1234"
     echo "1, NVIDIA H100, 81559, 80000" ;;
  *"-i 1,7" | *"-i GPU-bb" | *"-i 1,-1,0") echo "No devices were found"; exit 6 ;;
  *"-i 1"*) echo "1, NVIDIA H100, 81559, 80000" ;;
  *"-i 7"*) echo "No devices were found"; exit 6 ;;
  *) echo "0, NVIDIA H100, 81559, 1234"
     echo "1, NVIDIA H100, 81559, 80000"
     echo "2, NVIDIA GRID, [N/A], [N/A]" ;;
esac
"""
_AA = Gpu(device="0", name="NVIDIA H100", total_mib=81559, free_mib=1234)
_BB = Gpu(device="1", name="NVIDIA H100", total_mib=81559, free_mib=80000)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake 8 cores, 16,000 MiB of memory, half of it free, and 5,000 MiB of free disk."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(_MEMINFO)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    free = shutil._ntuple_diskusage(9000 << 20, 4000 << 20, 5000 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    return tmp_path


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path / "bin", "nvidia-smi", _SMI)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("at_most", "found"),
    [
        (Limits(), (8, 8000, 5000, 2)),
        (Limits(cores=2, memory_mib=4000, disk_mib=1000, gpus=1), (2, 4000, 1000, 1)),
        # More memory than is free now, though no more than there is.
        (Limits(cores=9, memory_mib=12000, disk_mib=9000, gpus=9), (8, 12000, 5000, 2)),
        (Limits(memory_mib=99000), (8, 16000, 5000, 2)),
        (Limits(cores=0, memory_mib=0, disk_mib=0, gpus=0), (0, 0, 0, 0)),
    ],
)
def test_a_limit_takes_no_more_than_there_is(
    root: Path, smi: None, at_most: Limits, found: tuple[int, int, int, int]
) -> None:
    here = machine_here(root / "not/there", at_most, environ={}, root=root)
    assert (here.cores, here.memory_mib, here.disk_mib, len(here.gpus)) == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, (_AA, _BB)),
        ("", ()),
        ("-1", ()),
        ("1", (_BB,)),
        ("7", ()),
        ("GPU-aa11-0,GPU-bb22-0,GPU-aa11-0", (_AA, _BB)),
        # CUDA takes those before the first name that it does not know, and the begin of a UUID.
        ("1,7", (_BB,)),
        ("1,-1,0", (_BB,)),
        ("GPU-bb", (_BB,)),
        ("7,1", ()),
    ],
)
def test_gpus_are_those_that_cuda_sees_and_that_tell_their_memory(
    smi: None, asked: str | None, found: tuple[Gpu, ...]
) -> None:
    environ = {} if asked is None else {"CUDA_VISIBLE_DEVICES": asked}
    assert visible(environ) == found


def test_of_a_slice_the_driver_tells_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*, device: str) -> DriverAnswer | None:
        whole = DriverAnswer(name="NVIDIA H100 MIG 1g", total_mib=9000, free_mib=8900)
        return {"MIG-a": whole, "MIG-b": DriverAnswer(missing="no libcuda")}.get(device)

    monkeypatch.setattr(limits, "ask_driver", answer)
    assert visible({"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b,MIG-c"}) == (
        Gpu(device="MIG-a", name="NVIDIA H100 MIG 1g", total_mib=9000, free_mib=8900),
    )


@pytest.mark.parametrize("name", ["cores", "memory_mib", "disk_mib", "gpus"])
def test_a_limit_below_nothing_is_named(name: str) -> None:
    with pytest.raises(LimitError, match=f"^--{name.removesuffix('_mib')} -1: is below 0"):
        Limits(**{name: -1})


def test_memory_that_nobody_knows_is_asked_for(root: Path) -> None:
    (root / "proc/meminfo").unlink()
    with pytest.raises(LimitError, match="give --memory MIB"):
        machine_here(root, environ={"CUDA_VISIBLE_DEVICES": ""}, root=root)
    here = machine_here(
        root, Limits(memory_mib=100), environ={"CUDA_VISIBLE_DEVICES": ""}, root=root
    )
    assert here.memory_mib == 100


def test_a_disk_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    with pytest.raises(LimitError, match="its disk cannot be read: Input/output error"):
        machine_here(root, environ={"CUDA_VISIBLE_DEVICES": ""}, root=root)
