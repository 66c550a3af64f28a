"""Whether the wheels of a pair fit a machine: driver, GPU code, processor, glibc. Pure.

A fact that was not read, or is not in a table, excludes no pair; `matrix.advice.recommend` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from matrix._util.versions import parse_version, specifier_text
from matrix.advice.pairs import Pair
from matrix.advice.reasons import MisfitCode, Reason
from matrix.advice.wish import Wish
from matrix.catalog.hardware import (
    NO_BRANCHES,
    Capability,
    CudaRelease,
    DriverBranches,
    HardwareTable,
    ModelNeed,
)
from matrix.catalog.platform_tags import MACHINES, is_for_linux, wheel_glibc
from matrix.catalog.release import Torch, Vllm
from matrix.checks.gpu_code.fits import CodeFit, WheelCode, code_for
from matrix.checks.gpu_code.wheels import ReadWheels

_OF_CUDA = (MisfitCode.OTHER_CUDA, MisfitCode.OLD_DRIVER, MisfitCode.OLD_DRIVER_FOR_PTX)


@dataclass(frozen=True, kw_only=True)
class WheelNeeds:
    """The needs of one wheel of a pair; None is unknown.

    `cuda` was read in wheels for x86_64, and holds for those for another processor that were read
    and have GPU code. `driver` are the drivers that its CUDA needs. `wheel_glibc` is that of its
    tag, which installers ask for, and `glibc` the newest that its libraries need. `archs` are those
    of its code, and `code` what of it the GPU that was asked for can run. `is_read`: its files were
    read. `is_for_cpu`: it is a torch without any code for GPUs, as those for some processors are.
    """

    project: str
    version: str
    machine: str
    cuda: str | None
    driver: CudaRelease | None
    wheel_glibc: str | None
    glibc: str | None
    archs: tuple[str, ...]
    code: WheelCode | None
    is_read: bool
    is_for_cpu: bool = False

    @property
    def is_cuda_unread(self) -> bool:
        """Whether its CUDA is unknown because the wheel for its processor was not read."""
        return not self.is_read and self.machine != MACHINES[0]


@dataclass(frozen=True, kw_only=True)
class MachineTables:
    """The known facts about hardware and about the wheels that were read."""

    hardware: HardwareTable
    wheels: ReadWheels


def needs_of(
    release: Torch | Vllm, tables: MachineTables, machine: str, capability: Capability | None = None
) -> WheelNeeds:
    """Return what the wheel of a release needs of a machine with this processor."""
    project = "torch" if isinstance(release, Torch) else "vllm"
    read = tables.wheels.of(project, release.version, machine)
    # Any capability tells the architectures: they are those of what decides.
    code = code_for(read, capability or Capability(0, 0)) if read is not None else None
    is_for_cpu = project == "torch" and read is not None and not read.code
    is_known = (read is not None or machine == MACHINES[0]) and not is_for_cpu
    cuda = release.cuda if is_known else None
    return WheelNeeds(
        project=project,
        version=release.version,
        machine=machine,
        cuda=cuda,
        driver=tables.hardware.needs(cuda) if cuda else None,
        wheel_glibc=wheel_glibc(release.wheels, machine),
        glibc=read.glibc if read is not None else None,
        archs=code.archs if code is not None else (),
        code=code if capability is not None else None,
        is_read=read is not None,
        is_for_cpu=is_for_cpu,
    )


def misfit(pair: Pair, wish: Wish, tables: MachineTables) -> Reason | None:
    """Return the first thing about its wheels for which a pair does not fit; None if it does."""
    return next(_misfits(pair, wish, tables), None)


def fits_but_for_cuda(pair: Pair, wish: Wish, tables: MachineTables) -> bool:
    """Tell whether only the CUDA of its wheels, and what that asks of a driver, excludes a pair."""
    return all(reason.code in _OF_CUDA for reason in _misfits(pair, wish, tables))


def _misfits(pair: Pair, wish: Wish, tables: MachineTables) -> Iterator[Reason]:
    yield from _of_machine(wish, tables.hardware)
    for project, release in (("vllm", pair.vllm), ("torch", pair.torch)):
        if release.yanked is not None:
            yield Reason(
                code=MisfitCode.YANKED,
                project=project,
                version=release.version,
                wanted=release.yanked,
            )
    if wish.torch is not None and not wish.torch.contains(pair.torch.version, prereleases=True):
        yield Reason(
            code=MisfitCode.PINS_TORCH, version=pair.vllm.version, wanted=pair.torch.version
        )
    capability = None if wish.gpu is None else wish.gpu.capability
    for release in (pair.vllm, pair.torch):
        needs = needs_of(release, tables, wish.machine, capability)
        if release is pair.vllm:
            yield from _of_cuda(needs, wish)
        if release is pair.torch:
            needs = _with_flavour(pair, needs, tables.hardware)
        yield from _of_driver(needs, wish)
        yield from _of_gpu(needs, wish)
        if release.wheels and not any(is_for_linux(tag, wish.machine) for tag in release.wheels):
            yield _reason(MisfitCode.NO_WHEEL, needs, given=wish.machine)
        yield from _of_glibc(needs, wish)
    yield from _of_model(pair, wish, tables.hardware)


def _of_model(pair: Pair, wish: Wish, hardware: HardwareTable) -> Iterator[Reason]:
    need = refused(wish, hardware)
    if need is not None and wish.gpu and need.versions.contains(pair.vllm.version):
        given = str(wish.gpu.capability)
        wanted = str(need.least)
        code = MisfitCode.MODEL_REFUSES_GPU
        yield Reason(code=code, wanted=wanted, given=given, archs=(need.case,))


def refused(wish: Wish, hardware: HardwareTable) -> ModelNeed | None:
    """Return why some vLLM refuses the model on the GPU; None if none is known to."""
    if wish.gpu is None or wish.model is None:
        return None
    return hardware.refuses(wish.model, wish.gpu.capability)


def branches_of(wish: Wish, hardware: HardwareTable) -> DriverBranches:
    """Return the branches of the driver that know the GPU that was asked for."""
    if wish.gpu is None:
        return NO_BRANCHES
    return hardware.branches(wish.gpu.capability)


def _of_machine(wish: Wish, hardware: HardwareTable) -> Iterator[Reason]:
    if wish.without_gpu:
        yield Reason(code=MisfitCode.WITHOUT_GPU)
    if wish.gpu is None:
        return
    machine = hardware.processor_of(wish.gpu)
    if machine is not None and machine != wish.machine:
        yield Reason(
            code=MisfitCode.OTHER_PROCESSOR,
            wanted=machine,
            given=wish.machine,
            archs=(wish.gpu.name or "",),
        )
    if wish.driver is None:
        return
    branches = branches_of(wish, hardware)
    for code, is_so, wanted in (
        (MisfitCode.DRIVER_BEFORE_GPU, branches.is_before(wish.driver), branches.first),
        (MisfitCode.DRIVER_AFTER_GPU, branches.is_after(wish.driver), branches.last),
    ):
        if is_so:
            arch = str(wish.gpu.capability)
            yield Reason(code=code, wanted=wanted, given=wish.driver.text, archs=(arch,))


def _of_cuda(needs: WheelNeeds, wish: Wish) -> Iterator[Reason]:
    if wish.cuda is not None and needs.cuda is not None and not wish.cuda.contains(needs.cuda):
        yield _reason(MisfitCode.OTHER_CUDA, needs, given=specifier_text(wish.cuda))


def _of_driver(needs: WheelNeeds, wish: Wish) -> Iterator[Reason]:
    if wish.driver is None or needs.driver is None:
        return
    given = wish.driver.text
    if wish.driver.is_older(needs.driver.least):
        yield _reason(MisfitCode.OLD_DRIVER, needs, wanted=needs.driver.least, given=given)
    is_ptx = needs.code is not None and needs.code.fit is CodeFit.PTX
    if is_ptx and wish.driver.is_older(needs.driver.own):
        yield _reason(MisfitCode.OLD_DRIVER_FOR_PTX, needs, wanted=needs.driver.own, given=given)


def _with_flavour(pair: Pair, torch: WheelNeeds, hardware: HardwareTable) -> WheelNeeds:
    """Return what is known of torch's wheel, with the CUDA of the flavour that is installed."""
    cuda = None if torch.driver is not None else cuda_to_name(pair, torch, hardware)
    return torch if cuda is None else replace(torch, cuda=cuda, driver=hardware.needs(cuda))


def cuda_to_name(pair: Pair, torch: WheelNeeds, hardware: HardwareTable) -> str | None:
    """Return the CUDA of the flavour to name, of those that the table has of this torch.

    None if the index's own wheel is of vLLM's CUDA, or where the table has none that is.

    What the data has of CUDA was read in wheels for x86_64: for another processor it is named,
    unless that wheel was read too, and has code for GPUs.
    """
    own, cuda = pair.torch.cuda, pair.vllm.cuda
    if own is None or cuda is None:
        return None
    major = cuda.partition(".")[0]
    is_sure = torch.is_read or torch.machine == MACHINES[0]
    if own.partition(".")[0] == major and is_sure and not torch.is_for_cpu:
        return None
    flavours = [found for found, _ in hardware.others("torch", pair.torch.version)]
    # That of torch's own CUDA first, then vLLM's, then the newest of the same major release.
    fits = [found for found in flavours if found.partition(".")[0] == major]
    return max(
        fits, key=lambda found: (found == own, found == cuda, parse_version(found)), default=None
    )


def _of_gpu(needs: WheelNeeds, wish: Wish) -> Iterator[Reason]:
    if wish.gpu is not None and needs.code is not None and needs.code.fit is CodeFit.NONE:
        arch = f"sm_{wish.gpu.capability.arch}"
        yield _reason(MisfitCode.NO_GPU_CODE, needs, given=arch, archs=needs.archs)


def _of_glibc(needs: WheelNeeds, wish: Wish) -> Iterator[Reason]:
    if wish.glibc is None:
        return
    for code, wanted in (
        (MisfitCode.GLIBC_OF_WHEEL, needs.wheel_glibc),
        (MisfitCode.GLIBC_OF_LIBRARY, needs.glibc),
    ):
        if wanted is not None and parse_version(wanted) > parse_version(wish.glibc):
            yield _reason(code, needs, wanted=wanted, given=wish.glibc)


def _reason(
    code: MisfitCode,
    needs: WheelNeeds,
    *,
    wanted: str | None = None,
    given: str | None = None,
    archs: tuple[str, ...] = (),
) -> Reason:
    return Reason(
        code=code,
        project=needs.project,
        version=needs.version,
        cuda=needs.cuda,
        wanted=wanted,
        given=given,
        archs=archs,
    )
