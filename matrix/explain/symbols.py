"""Answers to an undefined symbol and to a library that is missing, from the symbol tables."""

from __future__ import annotations

import re
from dataclasses import replace

from matrix._util.versions import parse_version
from matrix.catalog.release import COMPANIONS
from matrix.checks.linkage.link import feature_of
from matrix.explain.choice import InstallChoice, package_of, rebuild
from matrix.explain.evidence import SymbolEvidence, Uses, stem_of, without
from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultRemedy,
    KnownReleases,
    Meaning,
    RemedyCode,
    TextVersions,
)
from matrix.explain.names import (
    has_old_string,
    is_of_extension,
    is_torchs,
    library_of,
    nearest_name,
    readable,
    whose,
)

_OF_DRIVER = ("libcuda.so", "libnvidia-ml.so")
_COMPANION = re.compile(r"(?:lib|_)torch(?:audio|vision)\w*")
_OF_TORCH = (
    "libtorch",
    "libc10",
    "libtorch_cpu",
    "libtorch_cuda",
    "libc10_cuda",
    "libtorch_python",
)


def symbol_answer(
    fault: Fault, versions: TextVersions, choice: InstallChoice, evidence: SymbolEvidence
) -> FaultAnswer:
    """Return which torch exports a symbol, which vLLM needs it, and what to install."""
    symbol = fault.subject or ""
    exporting, uses = evidence.exporting(symbol), evidence.needing(symbol)
    meaning = _meaning(symbol, exporting, uses, evidence)
    pairs = choice.pinned(uses.releases.holds, exporting.holds)
    nearest = None
    operands: dict[str, str] = {}
    if meaning in (Meaning.NOWHERE, Meaning.UNKNOWN) and not uses.releases.holds:
        names = evidence.names()
        near = nearest_name(symbol, names)
        nearest = names[near] if near else None
    if meaning is Meaning.CUDA and (library := library_of(symbol)):
        operands["library"] = library
    if fault.file:
        operands["file"] = fault.file
    return FaultAnswer(
        fault=fault,
        meaning=meaning,
        name=readable(symbol, uses.name),
        torch=exporting,
        vllm=uses.releases,
        files=uses.files,
        pairs=pairs,
        operands=operands,
        remedies=_symbol_remedies(fault, meaning, (exporting, uses), (versions, choice, evidence)),
        nearest=nearest,
    )


def _meaning(
    symbol: str, exporting: KnownReleases, uses: Uses, evidence: SymbolEvidence
) -> Meaning:
    # Torch's libraries hold some of the C++ runtime's, too.
    if (owner := whose(symbol)) is not None:
        return owner
    if exporting.holds:
        return Meaning.OTHER_TORCH if uses.releases.holds else Meaning.THIRD
    if has_old_string(symbol):
        return Meaning.OLD_STRING
    if is_of_extension(symbol) or evidence.defining(symbol).releases.holds:
        return Meaning.OWN
    if uses.releases.holds or is_torchs(symbol):
        return Meaning.NOWHERE
    return Meaning.UNKNOWN


def _symbol_remedies(
    fault: Fault,
    meaning: Meaning,
    known: tuple[KnownReleases, Uses],
    data: tuple[TextVersions, InstallChoice, SymbolEvidence],
) -> tuple[FaultRemedy, ...]:
    (exporting, uses), (versions, choice, evidence) = known, data
    third = _third(fault, evidence)
    again = _again(fault, versions, choice) if third else ()
    if meaning is Meaning.DRIVER:
        return (FaultRemedy(code=RemedyCode.NEWER_DRIVER),)
    if meaning is Meaning.CUDA:
        return (FaultRemedy(code=RemedyCode.LOADED_FIRST, what=library_of(fault.subject or "")),)
    if meaning in (Meaning.OTHER_TORCH, Meaning.THIRD):
        exported, needed = set(exporting.holds), set(uses.releases.holds)
        if third or not needed:
            return (*again, *choice.installs(lambda row: row.torch in exported, versions))
        # What a person has may need another symbol instead, and then its pin is as good.
        return choice.installs(
            lambda row: row.torch in exported and row.version in needed, versions
        )
    if meaning not in (Meaning.OLD_STRING, Meaning.OWN, Meaning.NOWHERE):
        return ()
    if _is_vllms(fault, evidence):
        # A release's own wheel is built for its pin.
        return choice.installs(lambda _: True, versions)
    # Where no file is named, nobody knows which package to install.
    return again


def _again(fault: Fault, versions: TextVersions, choice: InstallChoice) -> tuple[FaultRemedy, ...]:
    """Return how to get another package for the installed torch: build it, or its own release."""
    if fault.package in COMPANIONS or _COMPANION.fullmatch(stem_of(fault.file or "")):
        row = choice.row(versions.vllm or "")
        torch = choice.torches.get(versions.torch or (row.torch if row else ""))
        if torch is None:
            return ()  # a pair that is installed has its own
        return (FaultRemedy(code=RemedyCode.INSTALL, requirements=choice.companions(torch)),)
    return (rebuild(package_of(fault.file, fault.package)),)


def _third(fault: Fault, evidence: SymbolEvidence) -> bool:
    """Tell whether the file that needs a symbol is neither vLLM's nor torch's."""
    if fault.package is not None:
        return fault.package not in ("vllm", "torch")
    if fault.file is None:
        return False
    return stem_of(fault.file) not in evidence.files()


def _is_vllms(fault: Fault, evidence: SymbolEvidence) -> bool:
    """Tell whether the file that needs a symbol is known to be vLLM's own."""
    if fault.package is not None:
        return fault.package == "vllm"
    return fault.file is not None and stem_of(fault.file) in evidence.files()


def library_answer(
    fault: Fault, versions: TextVersions, choice: InstallChoice, evidence: SymbolEvidence
) -> FaultAnswer:
    """Return which torch brings a library, which vLLM needs it, and what to install."""
    library = fault.subject or ""
    bringing, uses = evidence.bringing(library), evidence.needing_library(library)
    needed, brought = set(uses.releases.holds), set(bringing.holds)
    operands: dict[str, str] = {}
    cudas = {row.cuda for version, row in choice.torches.items() if version in brought and row.cuda}
    others = without(bringing, bringing.holds)
    remedies: tuple[FaultRemedy, ...] = ()
    if library.startswith(_OF_DRIVER):
        # A table has it among what torch needs, but only a driver brings it.
        meaning, bringing, brought = Meaning.DRIVER, replace(bringing, holds=()), set()
        remedies = (FaultRemedy(code=RemedyCode.SOME_DRIVER),)
    elif library.partition(".so")[0] in _OF_TORCH:
        meaning = Meaning.NO_CUDA_TORCH
        remedies = choice.installs(lambda _: True, versions)
    elif brought or needed:
        # All that torch brings it brings since its first release here, or with one CUDA alone.
        meaning = Meaning.OTHER_CUDA if others or not brought else Meaning.NOT_BROUGHT
        operands["cuda"] = ", ".join(sorted(cudas, key=parse_version)) if others else ""
        remedies = _installs_library(library, versions, choice, (bringing, uses))
        if not remedies:
            # None of vLLM's files that were read needs it: torch's own, or another package, does.
            remedies = choice.installs(lambda row: row.torch in brought, versions)[:1]
    else:
        near = nearest_name(library, _libraries(evidence))
        return FaultAnswer(
            fault=fault,
            meaning=Meaning.UNKNOWN,
            torch=bringing,
            vllm=uses.releases,
            nearest=near,
        )
    return FaultAnswer(
        fault=fault,
        meaning=meaning,
        torch=bringing,
        vllm=uses.releases,
        files=tuple(name for name in uses.files if feature_of(name) is None) or uses.files,
        pairs=choice.pinned(needed, brought),
        operands=operands,
        remedies=remedies,
    )


def _installs_library(
    library: str, versions: TextVersions, choice: InstallChoice, known: tuple[KnownReleases, Uses]
) -> tuple[FaultRemedy, ...]:
    """Return a pair of which both have the library and, of CUDA's runtime, one without it."""
    brought, needed = set(known[0].holds), set(known[1].releases.holds)
    read = set(known[1].releases.asked)
    both = choice.installs(lambda row: row.version in needed and row.torch in brought, versions)
    if "cudart" not in library:
        return both[:1]
    neither = choice.newest(lambda row: row.version in read - needed and row.torch not in brought)
    return tuple(dict.fromkeys((*both[:1], *choice.install(neither))))


def _libraries(evidence: SymbolEvidence) -> set[str]:
    return {
        name
        for table in evidence.torches()
        for library in table.libraries
        for name in (library.name, *library.needed)
    }
