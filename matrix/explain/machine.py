"""Answers to what a machine lacks: a newer driver, a newer glibc, code for its GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from matrix._util.versions import parse_version
from matrix.advice.fits import MachineTables
from matrix.advice.tables_file import load_tables
from matrix.advice.wish import Wish
from matrix.catalog.hardware import (
    Capability,
    GpuKind,
    HardwareTable,
    capability_of,
    driver_of,
)
from matrix.catalog.platform_tags import MACHINES
from matrix.explain.choice import InstallChoice, major_of
from matrix.explain.evidence import SymbolEvidence, without
from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultRemedy,
    KnownReleases,
    Meaning,
    ProcessorCode,
    RemedyCode,
    TextVersions,
)
from matrix.explain.wheels import (
    FittingPair,
    code_by_processor,
    has_code,
    needing_glibc,
    newest_fitting,
)

_OTHER_LIBRARY = {
    "two drivers": Meaning.TWO_DRIVERS,
    "forward": Meaning.NO_FORWARD,
    "NVML": Meaning.OTHER_MODULE,
}
_GLIBC = re.compile(r"GLIBC_(?P<version>2\.\d{1,3})")


def driver_answer(fault: Fault, versions: TextVersions, choice: InstallChoice) -> FaultAnswer:
    """Return which releases a driver is too old for, which it runs, and the driver to have.

    Programs of one major release of CUDA share the oldest driver that runs them.
    """
    tables = load_tables()
    hardware = tables.hardware
    if fault.subject == "PTX":
        return _ptx_answer(fault, versions, choice, hardware)
    if fault.subject in _OTHER_LIBRARY:
        return _library_answer(fault, versions, choice)
    torch = choice.torches.get(versions.torch or "")
    named = torch.cuda if torch is not None else None
    has, there = fault.has, {"has": fault.has} if fault.has else {}
    if has is None and versions.driver and (has := _cuda_of(versions.driver, hardware)):
        there = {"there": versions.driver}
    if has is None and named is None:
        asking = FaultRemedy(code=RemedyCode.NAME_DRIVER)
        newer = FaultRemedy(code=RemedyCode.NEWER_DRIVER)
        return FaultAnswer(fault=fault, meaning=Meaning.NEWER_CUDA, remedies=(asking, newer))
    # Where the text does not say what the driver has: one major less than what is installed.
    most = major_of(has) if has else (major_of(named) or 1) - 1
    needed = max(major_of(named) or 0, (most or 0) + 1)

    def is_too_new(cuda: str | None) -> bool:
        return (major_of(cuda) or 0) >= needed

    too_new = tuple(version for version, row in choice.torches.items() if is_too_new(row.cuda))
    vllms = tuple(row.version for row in choice.vllms if is_too_new(row.cuda))
    if has and (not too_new or (named and (major_of(named) or 0) <= (most or 0))):
        minor = _minor_answer(fault, has, named, choice, tables)
        return replace(minor, operands={**minor.operands, **there})
    older = _fitting_driver(has or f"{most}.0", choice, tables)
    # Where the text does not name what is installed, it may be of the next major or of the last.
    cudas = [named] if named else [choice.torches[version].cuda for version in too_new]
    wanted, last = cudas[0], cudas[-1]
    driver, least = (hardware.least_driver(cuda) if cuda else None for cuda in (wanted, last))
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.NEWER_CUDA,
        torch=KnownReleases(holds=too_new, asked=tuple(choice.torches)),
        vllm=KnownReleases(holds=vllms, asked=tuple(row.version for row in choice.vllms)),
        operands={
            key: value
            for key, value in (
                ("driver", driver),
                ("cuda", str(major_of(wanted)) if wanted else None),
                ("or cuda", str(major_of(last)) if least != driver else None),
                ("or driver", least if least != driver else None),
                *there.items(),
            )
            if value
        },
        remedies=(
            *_install(older, choice),
            FaultRemedy(code=RemedyCode.NEWER_DRIVER, what=least or driver),
        ),
    )


def _library_answer(fault: Fault, versions: TextVersions, choice: InstallChoice) -> FaultAnswer:
    """Return that another libcuda than the driver's is loaded, and what runs on the driver's.

    NVML's error 18 compares the driver's library with its kernel module
    (https://docs.nvidia.com/deploy/nvml-api/).
    """
    meaning = _OTHER_LIBRARY[fault.subject or ""]
    if meaning is Meaning.OTHER_MODULE:
        same = FaultRemedy(code=RemedyCode.SAME_DRIVER)
        return FaultAnswer(fault=fault, meaning=meaning, remedies=(same,))
    own = FaultRemedy(code=RemedyCode.OWN_DRIVER)
    fits = choice.install(choice.newest()) if versions.driver else ()
    asking = () if versions.driver else (FaultRemedy(code=RemedyCode.NAME_DRIVER),)
    remedies = (own,)
    if meaning is Meaning.NO_FORWARD:
        remedies = (*fits, *asking, FaultRemedy(code=RemedyCode.NEWER_DRIVER), own)
    return FaultAnswer(fault=fault, meaning=meaning, remedies=remedies)


def _ptx_answer(
    fault: Fault, versions: TextVersions, choice: InstallChoice, hardware: HardwareTable
) -> FaultAnswer:
    """Return which releases have PTX that a driver compiles: of no newer CUDA than its own."""
    rows = choice.row(versions.vllm or ""), choice.torches.get(versions.torch or "")
    cudas = [row.cuda for row in rows if row is not None and row.cuda]
    cuda = max(cudas, key=parse_version, default=None)
    release = hardware.needs(cuda) if cuda else None
    has = _cuda_of(versions.driver, hardware) if versions.driver else None
    facts = (
        ("cuda", cuda),
        ("driver", release.own if release else None),
        ("there", versions.driver if has else None),
    )
    operands = {key: value for key, value in facts if value}
    newer = FaultRemedy(code=RemedyCode.NEWER_DRIVER, what=operands.get("driver"))
    if has is None:
        asking = FaultRemedy(code=RemedyCode.NAME_DRIVER)
        return FaultAnswer(
            fault=fault, meaning=Meaning.NEWER_PTX, operands=operands, remedies=(asking, newer)
        )
    compiled = {
        version
        for version, row in choice.torches.items()
        if row.cuda and not _is_newer(row.cuda, has)
    }
    vllms = {row.version for row in choice.vllms if row.cuda and not _is_newer(row.cuda, has)}
    fits = choice.newest(lambda row: row.version in vllms and row.torch in compiled)
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.NEWER_PTX,
        torch=KnownReleases(
            holds=tuple(version for version in choice.torches if version in compiled),
            asked=tuple(choice.torches),
        ),
        vllm=KnownReleases(
            holds=tuple(row.version for row in choice.vllms if row.version in vllms),
            asked=tuple(row.version for row in choice.vllms),
        ),
        operands=operands,
        remedies=(*choice.install(fits), newer),
    )


def _minor_answer(
    fault: Fault, has: str, named: str | None, choice: InstallChoice, tables: MachineTables
) -> FaultAnswer:
    """Return what is of a newer minor release than the CUDA of a driver.

    For a text whose torch, or every release, is of the major that the driver runs. `named` is the
    CUDA of the torch that the text names.
    """
    known = [row.cuda for row in choice.torches.values() if row.cuda]
    newer = max((cuda for cuda in known if _is_newer(cuda, has)), key=parse_version, default=None)
    if named is not None:
        newer = named if _is_newer(named, has) else None
    release = tables.hardware.needs(newer) if newer else None
    driver = release.own if release is not None else None
    older = _fitting_driver(has, choice, tables)
    built_for = None if older is None else older.vllm.cuda
    is_older = built_for is not None and not _is_newer(built_for, has)

    def needs(cuda: str | None) -> bool:
        return bool(newer and cuda and not _is_newer(newer, cuda))

    least = tables.hardware.least_driver(newer) if newer else None
    facts = (("minor", newer or ""), ("driver", driver), ("least", least))
    operands = {key: value for key, value in facts if value is not None}
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.NEWER_CUDA,
        torch=KnownReleases(
            holds=tuple(version for version, row in choice.torches.items() if needs(row.cuda)),
            asked=tuple(choice.torches),
        ),
        vllm=KnownReleases(
            holds=tuple(row.version for row in choice.vllms if needs(row.cuda)),
            asked=tuple(row.version for row in choice.vllms),
        ),
        operands=operands,
        remedies=(
            *_install(older if is_older else None, choice),
            FaultRemedy(code=RemedyCode.NEWER_DRIVER, what=driver),
        ),
    )


def _cuda_of(driver: str, hardware: HardwareTable) -> str | None:
    """Return the newest CUDA in the table that a driver reports; None for an older driver."""
    known = driver_of(driver)
    found = (row.version for row in hardware.cuda.values() if not known.is_older(row.own))
    return max(found, key=parse_version, default=None)


def _is_newer(cuda: str, other: str) -> bool:
    return parse_version(cuda) > parse_version(other)


def _fitting_driver(cuda: str, choice: InstallChoice, tables: MachineTables) -> FittingPair | None:
    """Return the newest pair that the oldest driver of a CUDA runs; None if that is unknown."""
    there = _driver_of_cuda(cuda, tables.hardware)
    if there is None:
        return None
    wish = Wish(driver=driver_of(there))
    return newest_fitting(wish, choice, tables, lambda wheel: wheel.driver is not None)


def _driver_of_cuda(cuda: str, hardware: HardwareTable) -> str | None:
    """Return the oldest driver that reports this CUDA; None if that is not known."""
    known = hardware.needs(cuda)
    return known.own if known is not None else hardware.least_driver(cuda)


def _install(found: FittingPair | None, choice: InstallChoice) -> tuple[FaultRemedy, ...]:
    return choice.install(None if found is None else found.vllm)


def kernel_answer(fault: Fault, versions: TextVersions, choice: InstallChoice) -> FaultAnswer:
    """Return which releases have code for a GPU, and what to install for it.

    For a ptxas that does not know it: which are of a CUDA that does. An error without the GPU's
    number is of the GPU that the text names elsewhere.
    """
    tables, architecture = load_tables(), fault.has
    named = tables.hardware.capability_of(versions.gpu or "")
    if architecture is None and named is not None:
        architecture = f"sm_{named.arch}"
    if architecture is None:
        asking = FaultRemedy(code=RemedyCode.NAME_GPU)
        return FaultAnswer(fault=fault, meaning=Meaning.UNNAMED_GPU, remedies=(asking,))
    capability = capability_of(architecture)
    operands = {"architecture": architecture}
    if named is not None and named == capability:
        operands["gpu"] = versions.gpu or ""
    if capability is None:
        return FaultAnswer(fault=fault, meaning=Meaning.ARCHITECTURE, operands=operands)
    hardware = tables.hardware
    limits = (
        ("since", hardware.known_since(capability)),
        ("until", hardware.known_until(capability)),
    )
    operands |= {key: value for key, value in limits if value}
    if operands.get("since") == hardware.oldest_cuda:
        operands["earlier"] = "perhaps"  # the table does not tell which older CUDA knew it
    if fault.subject == "ptxas":
        return _assembler_answer(fault, choice, operands, tables)
    code = code_by_processor(capability, choice, tables)
    if fault.subject == "warning":
        return FaultAnswer(
            fault=fault,
            meaning=Meaning.LATER_MINOR,
            torch=code[0].torch,
            vllm=code[0].vllm,
            operands={**operands, "listed": fault.wants or ""},
            code=code,
        )
    if fault.subject == "triton":
        return _triton_answer(fault, operands, code)
    wishes = (Wish(gpu=GpuKind(capability=capability), machine=machine) for machine in MACHINES)
    fitting = (newest_fitting(wish, choice, tables, has_code) for wish in wishes)
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.ARCHITECTURE,
        torch=code[0].torch,
        vllm=code[0].vllm,
        operands=operands,
        remedies=(
            *_install(next(filter(None, fitting), None), choice),
            *_driver_for(capability, versions, hardware),
        ),
        code=code,
    )


def _triton_answer(
    fault: Fault, operands: Mapping[str, str], code: tuple[ProcessorCode, ...]
) -> FaultAnswer:
    """Return that Triton compiles for no GPU as old as this one.

    torch says so, and names the least one (`GPUTooOldForTriton` in torch/_inductor/exc.py).
    """
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.OLD_GPU,
        torch=code[0].torch,
        vllm=code[0].vllm,
        operands={**operands, "least": fault.wants or ""},
        remedies=(FaultRemedy(code=RemedyCode.NEWER_GPU, what=fault.wants),),
        code=code,
    )


def _driver_for(
    capability: Capability, versions: TextVersions, hardware: HardwareTable
) -> tuple[FaultRemedy, ...]:
    """Return the driver to install where the one of the text does not know the GPU."""
    branches = hardware.branches(capability)
    if versions.driver is None or not branches.is_before(driver_of(versions.driver)):
        return ()
    return (FaultRemedy(code=RemedyCode.NEWER_DRIVER, what=branches.first),)


def _assembler_answer(
    fault: Fault, choice: InstallChoice, operands: Mapping[str, str], tables: MachineTables
) -> FaultAnswer:
    """Return which releases are of a CUDA whose ptxas knows a GPU."""
    capability = capability_of(operands["architecture"])

    def knows(cuda: str | None) -> bool:
        return bool(cuda and capability and tables.hardware.knows(cuda, capability))

    fits = {version for version, row in choice.torches.items() if knows(row.cuda)}
    vllms = tuple(row.version for row in choice.vllms if row.torch in fits and knows(row.cuda))
    # Triton brings a ptxas of its own, and no table here has its CUDA.
    since = operands.get("since")
    other = (FaultRemedy(code=RemedyCode.OTHER_PTXAS, what=since),) if since else ()
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.OLD_ASSEMBLER,
        torch=KnownReleases(
            holds=tuple(version for version in choice.torches if version in fits),
            asked=tuple(choice.torches),
        ),
        vllm=KnownReleases(holds=vllms, asked=tuple(row.version for row in choice.vllms)),
        operands=operands,
        remedies=(*choice.install(choice.newest(lambda row: row.version in vllms)), *other),
    )


def old_library_answer(
    fault: Fault, choice: InstallChoice, evidence: SymbolEvidence
) -> FaultAnswer:
    """Return which releases need a version of glibc or libstdc++, and the newest that needs less.

    Of glibc the wheels that were read say it, of libstdc++ the tables of symbols; where an
    installer refused wheels for the glibc that there is, their tags. A library of CUDA names its
    symbols' version by its own name: another one of that name is loaded first.
    """
    uses = evidence.asking_for(fault.subject or "")
    operands = {"file": fault.file} if fault.file else {}
    if fault.subject is not None and fault.subject.startswith("lib"):
        return FaultAnswer(
            fault=fault,
            meaning=Meaning.CUDA,
            vllm=uses.releases,
            files=uses.files,
            operands=operands,
            remedies=(FaultRemedy(code=RemedyCode.LOADED_FIRST, what=fault.subject),),
        )
    newer = FaultRemedy(code=RemedyCode.NEWER_SYSTEM, what=fault.subject)
    torch, vllm = None, uses.releases
    glibc = _GLIBC.fullmatch(fault.subject or "")
    if glibc is None:
        less = set(without(vllm, vllm.holds)) if vllm.holds else set()
        remedies = choice.install(choice.newest(lambda row: row.version in less))
        if fault.has is not None:
            newer = FaultRemedy(code=RemedyCode.NEWER_RUNTIME, what=fault.subject)
            remedies, newer = (newer,), FaultRemedy(code=RemedyCode.SYSTEM_RUNTIME)
    else:
        tables, wanted = load_tables(), glibc["version"]
        torch, vllm = needing_glibc(wanted, choice, tables, by_tag=fault.has is not None)
        found = None
        # Where no wheel that was read needs that version, none of them is what fails.
        if torch.holds or vllm.holds:
            wish = Wish(glibc=fault.has or _older(wanted))
            found = newest_fitting(wish, choice, tables, lambda wheel: wheel.is_read)
        remedies = _install(found, choice)
        if found is not None and found.glibc is not None:
            pinned = {"vllm": found.vllm.version, "torch": found.vllm.torch}
            operands |= {**pinned, "glibc": found.glibc}
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.OLD_SYSTEM if glibc or fault.has is None else Meaning.OTHER_RUNTIME,
        torch=torch,
        vllm=vllm,
        files=uses.files,
        operands=operands,
        remedies=(*remedies, newer),
    )


def _older(glibc: str) -> str:
    """Return the glibc before one: what a system that lacks it has at most."""
    major, minor, *_ = parse_version(glibc).release
    return f"{major}.{max(minor - 1, 0)}"
