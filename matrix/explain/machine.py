"""Answers to what a machine lacks: a newer driver, a newer glibc, code for its GPU."""

from __future__ import annotations

from matrix.catalog.hardware import capability_of
from matrix.catalog.hardware_file import load_hardware
from matrix.explain.choice import Choice, major_of
from matrix.explain.evidence import Evidence, without
from matrix.explain.model import (
    Fault,
    FaultAnswer,
    KnownReleases,
    Meaning,
    Remedy,
    RemedyCode,
    TextVersions,
)


def driver_answer(fault: Fault, versions: TextVersions, choice: Choice) -> FaultAnswer:
    """Return which releases a driver is too old for, which it runs, and the driver to have.

    Programs of one major release of CUDA share the oldest driver that runs them.
    """
    torch = choice.torches.get(versions.torch or "")
    # Where the text does not say what the driver has: one major less than what is installed.
    newest = next((row.cuda for row in reversed(list(choice.torches.values())) if row.cuda), None)
    needs = torch.cuda if torch is not None and torch.cuda else newest
    most = major_of(fault.has) if fault.has else (major_of(needs) or 1) - 1
    too_new = tuple(
        version
        for version, row in choice.torches.items()
        if (major_of(row.cuda) or 0) > (most or 0)
    )
    vllms = tuple(row.version for row in choice.vllms if (major_of(row.cuda) or 0) > (most or 0))
    older = choice.newest(
        lambda row: (
            row.torch not in too_new
            and row.version not in vllms
            and row.torch in choice.torches
            and bool(row.cuda and choice.torches[row.torch].cuda)
        )
    )
    wanted = next((row.cuda for row in choice.torches.values() if row.version in too_new), needs)
    driver = load_hardware().least_driver(wanted) if wanted else None
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
                ("has", fault.has),
            )
            if value
        },
        remedies=(*choice.install(older), Remedy(code=RemedyCode.NEWER_DRIVER, what=driver)),
    )


def kernel_answer(fault: Fault, choice: Choice) -> FaultAnswer:
    """Return which releases are of a CUDA that knows a GPU, and what to install for it."""
    architecture = fault.has
    if architecture is None:
        asking = (Remedy(code=RemedyCode.NAME_GPU), *choice.install(choice.newest()))
        return FaultAnswer(fault=fault, meaning=Meaning.UNNAMED_GPU, remedies=asking)
    hardware, capability = load_hardware(), capability_of(architecture)
    since = capability and hardware.known_since(capability)
    until = capability and hardware.known_until(capability)

    def knows(cuda: str | None) -> bool:
        return bool(cuda and capability and hardware.knows(cuda, capability))

    fits = {version for version, row in choice.torches.items() if knows(row.cuda)}
    newest = choice.newest(lambda row: row.torch in fits and knows(row.cuda))
    operands = {"architecture": architecture}
    operands |= {key: value for key, value in (("since", since), ("until", until)) if value}
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.OLD_ASSEMBLER if fault.subject == "ptxas" else Meaning.ARCHITECTURE,
        torch=KnownReleases(
            holds=tuple(version for version in choice.torches if version in fits),
            asked=tuple(choice.torches),
        ),
        vllm=KnownReleases(
            holds=tuple(
                row.version for row in choice.vllms if row.torch in fits and knows(row.cuda)
            ),
            asked=tuple(row.version for row in choice.vllms),
        ),
        operands=operands,
        remedies=choice.install(newest),
    )


def old_library_answer(fault: Fault, choice: Choice, evidence: Evidence) -> FaultAnswer:
    """Return which vLLM needs a version of glibc or libstdc++, and the newest that needs less."""
    uses = evidence.asking_for(fault.subject or "")
    less = set(without(uses.releases, uses.releases.holds))
    newest = choice.newest(lambda row: row.version in less)
    operands = {"file": fault.file} if fault.file else {}
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.OLD_SYSTEM,
        vllm=uses.releases,
        files=uses.files,
        operands=operands,
        remedies=(
            *choice.install(newest),
            Remedy(code=RemedyCode.NEWER_SYSTEM, what=fault.subject),
        ),
    )
