"""The symbols that a third package's extensions need from torch, from its wheel or library.

It reads the files, by `matrix.checks.linkage.elf`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matrix.checks.linkage.elf import read_extensions
from matrix.checks.linkage.link import link
from matrix.checks.linkage.tables import VllmSymbols
from matrix.explain.choice import InstallChoice, package_of, package_of_wheel, rebuild
from matrix.explain.evidence import SymbolEvidence
from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultKind,
    FaultRemedy,
    KnownReleases,
    Meaning,
    TextVersions,
)
from matrix.explain.names import is_torchs, readable

_PYTHON = "3.12"  # for files of any Python


@dataclass(frozen=True, kw_only=True)
class ThirdWheel:
    """A wheel, or a library, of a package that is neither torch nor vLLM."""

    file: str
    symbols: VllmSymbols

    def needs(self, subject: str) -> bool:
        """Tell whether one of its files needs a symbol or a library."""
        return any(
            subject in file.imports or subject in file.needed for file in self.symbols.extensions
        )


def read_third(path: Path) -> ThirdWheel:
    """Read a wheel or a library. Raises MatrixError, which names the file and the fix."""
    return ThirdWheel(file=path.name, symbols=read_extensions(path))


def wheel_answer(wheel: ThirdWheel, choice: InstallChoice, evidence: SymbolEvidence) -> FaultAnswer:
    """Return which torch has all that a wheel needs, what another one lacks, what to install."""
    tags = [file.python for file in wheel.symbols.extensions if file.python]
    python = f"3.{tags[0].strip('t')[3:]}" if tags else _PYTHON
    holds: list[str] = []
    lacking: dict[str, str] = {}
    asked = []
    for torch in evidence.torches():
        version = torch.wheel.version
        asked.append(version)
        linked = link(wheel.symbols, torch, python).extensions
        missing = [name for file in linked for name in (*file.libraries, *file.symbols)]
        if missing:
            lacking[version] = missing[0]
        elif linked and all(file.is_complete for file in linked):
            holds.append(version)
    imports = {name for file in wheel.symbols.extensions for name in file.imports}
    operands = {"count": str(sum(map(is_torchs, imports)))}
    if lacking:
        version, symbol = list(lacking.items())[-1]
        operands |= {"lacking": version, "symbol": readable(symbol) or symbol}
    fits = set(holds)
    remedies: tuple[FaultRemedy, ...] = ()
    if lacking:
        remedies = choice.installs(lambda row: row.torch in fits, TextVersions())
    if lacking and not remedies:
        remedies = (rebuild(package_of_wheel(wheel.file) or package_of(wheel.file, None)),)
    return FaultAnswer(
        fault=Fault(kind=FaultKind.WHEEL, signature=wheel.file, subject=wheel.file),
        meaning=Meaning.LINKS_WITH,
        torch=KnownReleases(holds=tuple(holds), asked=tuple(asked)),
        vllm=choice.pinning(holds),
        operands=operands,
        remedies=remedies,
    )
