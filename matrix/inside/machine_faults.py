"""Who causes a failure in a cell: what its text says, and what the kernel logs of the GPU."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from matrix.record.machine_marks import machine_fault
from matrix.record.model import Case, ErrorKind, Outcome
from matrix.record.signature import FAILURES

HARDWARE_XIDS = {
    48: "an uncorrectable ECC error",
    62: "a halt of the GPU's own micro-controller",
    63: "a memory row marked for remapping",
    64: "a memory row that could not be remapped",
    74: "an NVLink error",
    79: "the GPU has fallen off the bus",
    94: "a contained ECC error",
    95: "an uncontained ECC error",
    119: "a GSP timeout",
    120: "a GSP error",
    140: "an unrecovered ECC error",
}
"""The Xids that the hardware or the driver causes and no program, and what they mean.

From NVIDIA's catalogue, https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html. What
a program can cause (13, 31, 43, 45 and others) is not here.
"""

_OF_CUDA = re.compile(
    r"\bCUDA error\b|\bCUDA driver error\b|AcceleratorError|CU(?:BLAS|DNN)_STATUS|NCCL error"
    r"|\[CUDA\]|\bNVML"
)
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)[^)]*\): (\d+)")
_KERNEL_LOGS = (
    ("dmesg",),
    ("journalctl", "--dmesg", "--boot", "--quiet", "--no-pager", "--output=short-monotonic"),
)
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Xid:
    """An Xid of the kernel's log: its number, and the PCI bus of its GPU as `0000:3b:00`."""

    number: int
    bus: str


def explained(case: Case, found: Sequence[int]) -> tuple[Case, ErrorKind | None]:
    """Return the case with the Xids of its time in its reason, and the kind of error that it shows.

    An Xid explains a crash, a hang and a CUDA error, but no other failure. The signature stays:
    not every machine lets its kernel's log be read.
    """
    if case.outcome not in FAILURES:
        return case, None
    failure = case.failure or ""
    # What a test wrote before it hung may name an error that it survived.
    kind = None if case.outcome is Outcome.TIMED_OUT else machine_fault(failure)
    if case.outcome is Outcome.OUT_OF_MEMORY and kind is not ErrorKind.GPU_FULL:
        kind = None
    of_the_gpu = case.outcome in (Outcome.CRASHED, Outcome.TIMED_OUT) or _OF_CUDA.search(failure)
    if not found or not of_the_gpu:
        return case, kind
    logged = ", ".join(
        f"Xid {number} ({HARDWARE_XIDS[number]})" if number in HARDWARE_XIDS else f"Xid {number}"
        for number in dict.fromkeys(found)
    )
    case = replace(case, reason=f"{case.reason or case.outcome}; the kernel logged {logged}")
    return case, kind if HARDWARE_XIDS.keys().isdisjoint(found) else ErrorKind.GPU_FAULT


def xids(log: str) -> tuple[Xid, ...]:
    """Return the Xids in a kernel's log, in its order.

    >>> xids("[12.3] NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus.")
    (Xid(number=79, bus='0000:3b:00'),)
    """
    return tuple(Xid(number=int(found[2]), bus=found[1].lower()) for found in _XID.finditer(log))


class KernelLog:
    """The kernel's log of the GPUs from now on; empty if it cannot be read.

    `gpus` are the PCI addresses that count, as nvidia-smi writes them; without any, all count.
    """

    def __init__(self, gpus: Iterable[str] = ()) -> None:
        self._buses = {_bus(address) for address in gpus}
        self._before = _xid_lines()

    def since(self) -> tuple[int, ...]:
        """Return the numbers of the Xids that were logged after this object was made."""
        new = _xid_lines() - self._before
        return tuple(
            found.number
            for found in xids("\n".join(new.elements()))
            if not self._buses or _bus(found.bus) in self._buses
        )


def built_for(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Return whether code of these architectures has something that this GPU can run.

    Machine code (`sm_`) runs from its own minor version on within its major; `compute_` is compiled
    for any later GPU; a suffix ties it to one GPU (a) or to a family (f). If the answer is not
    understood, the code counts as present: a start then shows the truth.

    >>> built_for(["sm_80", "sm_90"], (8, 9)), built_for(["sm_80", "sm_90"], (7, 5))
    (True, False)
    """
    parsed = [_ARCHITECTURE.fullmatch(name) for name in architectures]
    if not parsed:
        return True
    for found in parsed:
        if found is None:
            return True
        code = int(found[2]), int(found[3])
        if found[4] == "a":
            runs = capability == code
        elif found[1] == "compute" and not found[4]:
            runs = capability >= code
        else:
            runs = capability[0] == code[0] and capability >= code
        if runs:
            return True
    return False


def _xid_lines() -> Counter[str]:
    for command in _KERNEL_LOGS:
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=True,
            )
            return Counter(line for line in done.stdout.splitlines() if _XID.search(line))
    return Counter()


def _bus(address: str) -> tuple[int, ...]:
    """Return domain, bus and device, however many digits and whether or not with a function."""
    parts = re.split(r":", address.partition(".")[0])
    return tuple(int(part, 16) for part in parts if part)
