import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.inside.ended import out_of_memory
from matrix.inside.machine_faults import HARDWARE_XIDS, KernelLog, Xid, built_for, explained, xids
from matrix.record.machine_marks import machine_fault
from matrix.record.model import OUTCOMES, Case, ErrorKind, Outcome

FULL = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total"
    " capacity of 79.11 GiB of which 18.62 MiB is free. Process 12 has 78.00 GiB memory in use."
    " Including non-PyTorch memory, this process has {own} memory in use. Of the allocated memory"
    " 520.00 MiB is allocated by PyTorch."
)
ACCESS = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
DEVICE_ASSERT = "torch.AcceleratorError: CUDA error: device-side assert triggered"


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("OSError: [Errno 28] No space left on device", "no_space"),
        (
            (
                "ValueError: Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than"
                " desired GPU memory utilization (0.25, 19.8 GiB)."
            ),
            "gpu_full",
        ),
        (
            (
                "ValueError: Available memory on node 0 (1.2/24.0 GiB) on startup is less than"
                " desired CPU memory utilization (0.9, 21.6 GiB)."
            ),
            "no_memory",
        ),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).",
            "driver_too_old",
        ),
        (
            (
                "AcceleratorError: CUDA error: CUDA driver version is insufficient for CUDA runtime"
                " version"
            ),
            "driver_too_old",
        ),
        (
            (
                "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward"
                " compatibility was attempted on non supported HW"
            ),
            "driver_too_old",
        ),
        (
            "CUDA error: the provided PTX was compiled with an unsupported toolchain.",
            "driver_too_old",
        ),
        ("ImportError: /x/_C.abi3.so: undefined symbol: cuTensorMapEncodeTiled", "driver_too_old"),
        ("ImportError: /x/_C.abi3.so: undefined symbol: cudaGetDriverEntryPointByVersion", None),
        ("ImportError: /x/_C.abi3.so: undefined symbol: _ZN3c104cuda29c10_cuda_check", None),
        ("RuntimeError: Found no NVIDIA driver on your system. Please check", "no_driver"),
        ("ImportError: libcuda.so.1: cannot open shared object file: No such file", "no_driver"),
        ("pynvml.NVMLError_DriverNotLoaded: Driver Not Loaded", "no_driver"),
        ("RuntimeError: No CUDA GPUs are available", "no_gpu"),
        ("CUDA error: no CUDA-capable device is detected", "no_gpu"),
        (
            "CUDA error: no kernel image is available for execution on the device",
            "gpu_unsupported",
        ),
        ("CUDA error: uncorrectable ECC error encountered", "gpu_fault"),
        ("CUDA error: uncorrectable NVLink error detected during the execution", "gpu_fault"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "gpu_fault"),
        ("CUDA error: unknown error", "gpu_fault"),
        ("pynvml.NVMLError_GpuIsLost: GPU is lost", "gpu_fault"),
        (FULL.format(own="1.09 GiB"), "gpu_full"),
        (FULL.format(own="79.10 GiB"), None),
        ("torch.OutOfMemoryError: CUDA out of memory.", None),
        (ACCESS, None),
        (DEVICE_ASSERT, None),
        ("CUDA error: unspecified launch failure", None),
        ("ValueError: unknown error", None),
        ("OSError: We couldn't connect to the hub", "internal"),
        ("IsolationError: x", "internal"),
        ("DistNetworkError: ... code: -98, name: EADDRINUSE, message: in use", "port_taken"),
        ("OSError: [Errno 98] Address already in use", "port_taken"),
        ("ValueError: the address is unused", None),
        ("RuntimeError: operator torchvision::nms does not exist", None),
    ],
)
def test_whose_a_failure_is(failure: str, kind: str | None) -> None:
    text = f"Traceback\n  a line\n{failure}\nSearch for `cudaErrorX' in the documentation"
    assert machine_fault(text) == kind
    assert kind is None or kind in tuple(ErrorKind)


@pytest.mark.parametrize(
    "said",
    [
        FULL.format(own="1.09 GiB"),
        "torch.AcceleratorError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_every_way_in_which_a_gpus_memory_ends_is_one_outcome(said: str) -> None:
    assert out_of_memory(said)


@pytest.mark.parametrize(
    ("case", "found", "kind", "reason"),
    [
        (
            Case(
                case="x",
                outcome=Outcome.FAILED,
                reason="CUDA error: an illegal memory access",
                failure=ACCESS,
            ),
            (31,),
            None,
            "CUDA error: an illegal memory access; the kernel logged Xid 31",
        ),
        (
            Case(
                case="x",
                outcome=Outcome.FAILED,
                reason="CUDA error: unspecified launch failure",
                failure="CUDA error: u",
            ),
            (45, 79, 45),
            "gpu_fault",
            (
                "CUDA error: unspecified launch failure; the kernel logged Xid 45,"
                " Xid 79 (the GPU has fallen off the bus)"
            ),
        ),
        (
            Case(
                case="x",
                outcome=Outcome.TIMED_OUT,
                reason="timed out after 900 s",
                failure="CUDA error: unknown error",
            ),
            (119,),
            "gpu_fault",
            "timed out after 900 s; the kernel logged Xid 119 (a GSP timeout)",
        ),
        (
            Case(case="x", outcome=Outcome.TIMED_OUT, reason="timed out", failure="GPU is lost"),
            (),
            None,
            "timed out",
        ),
        (Case(case="x", outcome=Outcome.CRASHED), (13,), None, "crashed; the kernel logged Xid 13"),
        (
            Case(case="x", outcome=Outcome.FAILED, reason="KeyError", failure="KeyError: 3"),
            (79,),
            None,
            "KeyError",
        ),
        (Case(case="x", outcome=Outcome.PASSED), (79,), None, None),
        (Case(case="x", outcome=Outcome.NOT_APPLICABLE, reason="why"), (79,), None, "why"),
        (
            Case(
                case="x",
                outcome=Outcome.OUT_OF_MEMORY,
                reason="full",
                failure=FULL.format(own="1 GiB"),
            ),
            (),
            "gpu_full",
            "full",
        ),
        (
            Case(case="x", outcome=Outcome.OUT_OF_MEMORY, reason="full", failure="MemoryError"),
            (),
            None,
            "full",
        ),
    ],
)
def test_what_the_kernel_logged_explains_a_case(
    case: Case, found: tuple[int, ...], kind: str | None, reason: str | None
) -> None:
    told, shown = explained(case, found)
    assert (told.reason, shown) == (reason, kind)
    assert (told.outcome, told.signature, told.failure) == (
        case.outcome,
        case.signature,
        case.failure,
    )


@given(
    st.sampled_from(sorted({"passed", "not_applicable", "interrupted", "running"} & {*OUTCOMES})),
    st.lists(st.sampled_from(sorted(HARDWARE_XIDS))),
)
def test_no_xid_touches_a_case_that_did_not_fail(outcome: str, found: list[int]) -> None:
    case = Case(case="x", outcome=Outcome(outcome), failure=ACCESS)
    assert explained(case, found) == (case, None)


LOG = """\
[   10.1] NVRM: Xid (PCI:0000:3b:00): 31, pid=7, name=python, Ch 00000008, intr 00000000
[   11.0] usb 1-1: new device
[   12.5] NVRM: Xid (0000:5e:00): 79, GPU has fallen off the bus.
[   13.0] NVRM: Xid (PCI:0000:3B:00 GPU-I:05): 13, pid=9, Graphics Exception
"""


def test_xids_of_a_log() -> None:
    assert xids(LOG) == (
        Xid(number=31, bus="0000:3b:00"),
        Xid(number=79, bus="0000:5e:00"),
        Xid(number=13, bus="0000:3b:00"),
    )


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **bodies: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


@pytest.mark.parametrize(
    ("gpus", "found"),
    [
        ((), (79, 31)),
        (("00000000:5E:00.0",), (79,)),
        (("00000000:3B:00.0", "00000000:AF:00.0"), (31,)),
        (("00000000:AF:00.0",), ()),
    ],
)
@pytest.mark.parametrize("reader", ["dmesg", "journalctl"])
def test_only_what_is_new_in_the_kernels_log_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: tuple[str, ...],
    found: tuple[int, ...],
    reader: str,
) -> None:
    log = tmp_path / "log"
    refused = {"dmesg": "echo 'Operation not permitted' >&2; exit 1", "journalctl": "exit 1"}
    programs(tmp_path / "bin", monkeypatch, **{**refused, reader: f"cat {log}"})
    old, *new = [line for line in LOG.splitlines() if "Xid" in line]
    log.write_text(f"{old}\n")
    kernel = KernelLog(gpus)
    assert kernel.since() == ()
    log.write_text("\n".join([old, new[0], old.replace("10.1", "20.1")]))
    assert kernel.since() == found


def test_a_log_that_may_not_be_read_has_no_xids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path / "bin", monkeypatch, dmesg="exit 1", journalctl="exit 1")
    assert KernelLog().since() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert KernelLog().since() == ()


WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]  # torch 2.11.0's


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (WHEEL, (7, 0), False),
        (WHEEL, (7, 5), True),
        (WHEEL, (8, 9), True),
        (WHEEL, (9, 0), True),
        (WHEEL, (11, 0), False),
        (WHEEL, (10, 3), True),
        ([*WHEEL, "compute_120"], (13, 0), True),
        ([*WHEEL, "compute_120"], (7, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),
        (["sm_100f"], (10, 3), True),
        ([], (5, 0), True),
        (["gfx942"], (5, 0), True),
    ],
)
def test_what_a_wheel_was_built_for(
    built: list[str], capability: tuple[int, int], runs: bool
) -> None:
    assert built_for(built, capability) is runs
