"""Needs of cells on cuda: a GPU, its driver and memory, nvcc. Asks the driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion

from matrix._util.nvidia import DEVICES, dotted, is_hidden, present_gpus, visible_gpus
from matrix._util.versions import parse_version
from matrix.catalog.cells import Cell
from matrix.checks.vllm_build.compiler import Nvcc, find_nvcc
from matrix.record.jit_modules import ListedModule, load_jit_modules
from matrix.record.model import ErrorKind
from matrix.run.doctor.model import CheckState, FoundCode, MachineCheck, Need, Remedy
from matrix.run.nvidia import (
    ask_driver,
    gpu_need_mib,
    gpus_on_the_bus,
    least_driver,
    refused_by,
)
from matrix.run.nvidia_probe import DriverAnswer

_REMEDIES = {
    ErrorKind.NO_DRIVER: Remedy.INSTALL_DRIVER,
    ErrorKind.DRIVER_TOO_OLD: Remedy.UPDATE_DRIVER,
    ErrorKind.NO_GPU: Remedy.SEE_GPU,
    ErrorKind.GPU_FAULT: Remedy.SEE_GPU,
}


@dataclass(frozen=True, kw_only=True)
class FoundGpus:
    """The GPUs that CUDA would see, and what the driver answered; None if it does not.

    `code` says why none is seen.
    """

    names: tuple[str, ...] = ()
    answer: DriverAnswer | None = None
    code: FoundCode | None = None


def gpus_here(
    environ: Mapping[str, str] = os.environ,
    *,
    devices: Path = DEVICES,
    driver: Callable[[], DriverAnswer | None] = ask_driver,
    bus: Callable[[], tuple[str, ...]] = gpus_on_the_bus,
) -> FoundGpus:
    """Return the GPUs of this machine, or why there is none to see."""
    names = visible_gpus(environ, devices)
    if names:
        return FoundGpus(names=names, answer=driver())
    if is_hidden(environ) or present_gpus(devices):
        hides = bool(present_gpus(devices) or bus())
        return FoundGpus(code=FoundCode.HIDDEN if hides else FoundCode.ABSENT)
    return FoundGpus(code=FoundCode.NO_DRIVER if bus() else FoundCode.ABSENT)


def gpu_checks(found: FoundGpus, cuda: str | None) -> list[MachineCheck]:
    """Return whether a torch that is built for this CUDA can use the GPUs.

    `cuda` is such as 13.0; None if it is not known.
    """
    if not found.names:
        remedies = {
            FoundCode.HIDDEN: Remedy.UNHIDE_GPU,
            FoundCode.NO_DRIVER: Remedy.INSTALL_DRIVER,
        }
        code = found.code or FoundCode.ABSENT
        remedy = remedies.get(code, Remedy.USE_GPU)
        gpu = MachineCheck(need=Need.GPU, state=CheckState.LACKS, code=code, remedy=remedy)
        return [gpu, _driver(None, cuda)] if code is not FoundCode.NO_DRIVER else [gpu]
    driver = _driver(found.answer, cuda)
    return [_gpu(found), driver, *_memory(found.answer)]


def nvcc_check(
    cell: Cell,
    cuda: str | None,
    capability: str | None,
    *,
    nvcc: Nvcc | None = None,
    listed: tuple[ListedModule, ...] | None = None,
) -> MachineCheck | None:
    """Return whether there is an nvcc for the kernels that this vLLM builds just in time.

    None if no start of the release builds any. FlashInfer takes the nvcc of CUDA_HOME, of PATH
    or of /usr/local/cuda, and not the one that a package brings. Of another major release than the
    torch's CUDA nobody knows whether it does: what it compiles needs the runtime of its own, which
    that torch does not bring. `capability` is that of the GPU, if one is seen.
    """
    rules = load_jit_modules() if listed is None else listed
    needs = builds(rules, cell.vllm, capability)
    if needs is False:
        return None
    found = find_nvcc() if nvcc is None else nvcc
    bad = CheckState.LACKS if needs else CheckState.UNKNOWN
    if not found.path.is_file() and found.release is None:
        return MachineCheck(
            need=Need.NVCC,
            state=bad,
            subject=str(found.path),
            code=FoundCode.ABSENT,
            wanted=cuda,
            remedy=Remedy.INSTALL_NVCC,
        )
    if found.release is None:
        return MachineCheck(
            need=Need.NVCC,
            state=bad,
            subject=str(found.path),
            code=FoundCode.DOES_NOT_START,
            detail=found.says,
            wanted=cuda,
            remedy=Remedy.INSTALL_NVCC,
        )
    fits = cuda is None or _major(found.release) == _major(cuda)
    state = CheckState.OK if fits and cuda is not None else CheckState.UNKNOWN
    return MachineCheck(
        need=Need.NVCC,
        state=state,
        subject=str(found.path),
        found=found.release,
        code=None if fits else FoundCode.OTHER,
        wanted=cuda,
        remedy=None if fits else Remedy.SET_CUDA_HOME,
    )


def builds(listed: tuple[ListedModule, ...], vllm: str, capability: str | None) -> bool | None:
    """Tell whether starts of a vLLM build kernels just in time on a GPU; None if nobody knows.

    That is so of a release after those that are listed, and of a GPU of which none is.
    """
    rules = [rule for rule in listed if capability in (None, rule.capability)]
    try:
        version = parse_version(parse_version(vllm).public)
    except InvalidVersion:
        return None
    if any(rule.vllm.contains(version) for rule in rules):
        return True
    if not rules:
        return None
    # A newer release than all that are listed has no answer yet.
    return None if all(rule.vllm.ended_before(version) for rule in rules) else False


def _gpu(found: FoundGpus) -> MachineCheck:
    answer = found.answer
    if answer is None:
        return MachineCheck(
            need=Need.GPU,
            state=CheckState.LACKS,
            found=found.names[0],
            code=FoundCode.SILENT,
            remedy=Remedy.SEE_GPU,
        )
    count = answer.gpus or len(found.names)
    name = answer.name or found.names[0]
    return MachineCheck(
        need=Need.GPU,
        state=CheckState.OK if answer.gpus else CheckState.UNKNOWN,
        found=f"{name}{f' and {count - 1} more' if count > 1 else ''}",
    )


def _driver(answer: DriverAnswer | None, cuda: str | None) -> MachineCheck:
    """Return whether the driver serves that CUDA. Without an answer nobody knows."""
    wheel = _pair(cuda)
    least = least_driver(wheel) if wheel else None
    wanted = f"{cuda} (driver {least} or later)" if least else cuda
    if answer is None:
        return MachineCheck(
            need=Need.DRIVER, state=CheckState.UNKNOWN, code=FoundCode.NOT_KNOWN, wanted=wanted
        )
    refusal = refused_by(answer, wheel)
    if refusal is not None and refusal.kind not in _REMEDIES:
        refusal = None
    known = answer.cuda is not None and wheel is not None
    return MachineCheck(
        need=Need.DRIVER,
        state=CheckState.LACKS if refusal else CheckState.OK if known else CheckState.UNKNOWN,
        found=dotted(answer.cuda) if answer.cuda else None,
        code=None if answer.cuda else FoundCode.SILENT,
        detail=refusal.reason if refusal else "",
        wanted=wanted,
        remedy=_REMEDIES[refusal.kind] if refusal else None,
    )


def _memory(answer: DriverAnswer | None) -> list[MachineCheck]:
    if answer is None or answer.total_mib is None or answer.free_mib is None:
        return []
    need = gpu_need_mib(answer.total_mib)
    enough = answer.free_mib >= need
    return [
        MachineCheck(
            need=Need.GPU_MEMORY,
            state=CheckState.OK if enough else CheckState.LACKS,
            found=answer.free_mib,
            wanted=need,
            remedy=None if enough else Remedy.FREE_GPU,
        )
    ]


def _pair(cuda: str | None) -> tuple[int, int] | None:
    major, _, minor = (cuda or "").partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _major(release: str) -> str:
    return release.partition(".")[0]
