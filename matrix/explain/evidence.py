"""The symbol tables' facts about a symbol, a library or a glibc version. It reads files.

Of vLLM's tables only those are parsed that hold the name at all: all of them take three times as
long as an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from matrix._util.files import read_bytes
from matrix.catalog.projects import Project
from matrix.checks.linkage.link import Tables, feature_of, load_tables
from matrix.checks.linkage.tables import (
    Extension,
    SymbolsError,
    TorchSymbols,
    VllmSymbols,
    file_name,
    is_in_any,
)
from matrix.explain.model import KnownReleases, PinnedPair

_PYTHON = "3.12"  # the Python that is advised; extensions for one Python alone link on that one
_VERSIONED = re.compile(r"(?P<family>[A-Z]+)_(?P<version>\d+(?:\.\d+)*)")


@dataclass(frozen=True, kw_only=True)
class Uses:
    """The releases of vLLM that need something, and the files of theirs that do, in order."""

    releases: KnownReleases
    files: tuple[str, ...] = ()
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Linking:
    """The releases of vLLM with an extension, and the pairs in which the core and it link.

    `torch` are those of one of these pairs, and `python` is the one that was asked about.
    """

    vllm: KnownReleases
    torch: KnownReleases
    pairs: tuple[PinnedPair, ...]
    python: str


@dataclass(kw_only=True)
class SymbolEvidence:
    """The facts of the tables. `faults` gets a line for each damaged table."""

    tables: Tables = field(default_factory=lambda: load_tables())  # noqa: PLW0108 - looked up then
    faults: list[str] = field(default_factory=list)

    def exporting(self, symbol: str) -> KnownReleases:
        """Return the releases of torch of which a library exports a symbol."""
        return self._torch(
            lambda table: is_in_any(symbol, (library.exports for library in table.libraries))
        )

    def bringing(self, library: str) -> KnownReleases:
        """Return the releases of torch that hold a library or need it, and so install it."""
        return self._torch(
            lambda table: any(library in (known.name, *known.needed) for known in table.libraries)
        )

    def needing(self, symbol: str) -> Uses:
        """Return the releases of vLLM of which a file imports a symbol that no other one has."""
        return self._vllm(symbol, lambda file: symbol in file.imports)

    def needing_library(self, library: str) -> Uses:
        """Return the releases of vLLM of which a file needs a library."""
        return self._vllm(library, lambda file: library in file.needed)

    def defining(self, symbol: str) -> Uses:
        """Return the releases of vLLM of which one file has a symbol for another one."""
        return self._vllm(symbol, lambda file: symbol in file.exports)

    def having(self, stem: str) -> Uses:
        """Return the releases of vLLM with a file of this path, as `vllm/_C`, for any Python."""
        return self._vllm(f"{stem}.", lambda file: file.path.partition(".")[0] == stem)

    def linking(self, feature: str | None) -> Linking:
        """Return where the extensions that serve a feature, such as DeepGEMM, link with torch.

        None is the core, which everything needs.
        """
        torches = tuple(table.wheel.version for table in self.torches())
        having, pairs = [], []
        for table in self._vllms(""):
            if all(feature_of(file.path) != feature for file in table.extensions):
                continue
            vllm = table.wheel.version
            having.append(vllm)
            for torch in torches:
                linkage = self.tables.link(vllm, torch, _PYTHON)
                if linkage.ok and (feature is None or linkage.features[feature]):
                    pairs.append(PinnedPair(vllm=vllm, torch=torch))
        with_it = {pair.torch for pair in pairs}
        return Linking(
            vllm=KnownReleases(holds=tuple(having), asked=self.tables.vllm_versions),
            torch=KnownReleases(
                holds=tuple(torch for torch in torches if torch in with_it), asked=torches
            ),
            pairs=tuple(pairs),
            python=_PYTHON,
        )

    def feature_of(self, stem: str) -> str | None:
        """Return what the extension of this name serves; None for the core, and an unknown one."""
        files = (file for table in self._vllms(stem) for file in table.extensions)
        return next((feature_of(file.path) for file in files if stem_of(file.name) == stem), None)

    def asking_for(self, version: str) -> Uses:
        """Return the releases of vLLM that need this version of glibc or libstdc++, or a newer."""
        wanted = _version(version)
        if wanted is None:
            return self._vllm(version, lambda file: version in file.versioned)

        def asks(file: Extension) -> bool:
            known = (_version(name) for name in file.versioned)
            return any(found and found[0] == wanted[0] and found[1] >= wanted[1] for found in known)

        return self._vllm(wanted[0], asks)

    def names(self) -> dict[str, str]:
        """Return every symbol that a vLLM imports, with its name as people write it."""
        found: dict[str, str] = {}
        for table in self._vllms(""):
            for file in table.extensions:
                found.update((name, table.demangled.get(name, name)) for name in file.imports)
        return found

    def files(self) -> frozenset[str]:
        """Return the names of vLLM's own extensions, without their Python: `_C`, `_moe_C`."""
        return frozenset(
            stem_of(file.name) for table in self._vllms("") for file in table.extensions
        )

    def torches(self) -> Iterator[TorchSymbols]:
        """Yield the tables of torch, oldest first; a damaged one is left out and named."""
        for version in self.tables.torch_versions:
            try:
                yield self.tables.torch(version)
            except SymbolsError as error:
                self._fault(error)

    def _torch(self, holds: Callable[[TorchSymbols], bool]) -> KnownReleases:
        tables = list(self.torches())
        return KnownReleases(
            holds=tuple(table.wheel.version for table in tables if holds(table)),
            asked=tuple(table.wheel.version for table in tables),
        )

    def _vllm(self, text: str, needs: Callable[[Extension], bool]) -> Uses:
        holds: list[str] = []
        files: dict[str, None] = {}
        name: str | None = None
        for table in self._vllms(text):
            found = [file.name for file in table.extensions if needs(file)]
            if found:
                holds.append(table.wheel.version)
                files |= dict.fromkeys(found)
                name = table.demangled.get(text, name)
        asked = self.tables.vllm_versions
        return Uses(
            releases=KnownReleases(holds=tuple(holds), asked=asked), files=tuple(files), name=name
        )

    def _vllms(self, text: str) -> Iterator[VllmSymbols]:
        """Yield the tables of vLLM in whose files the text stands, oldest first."""
        wanted = text.encode("utf-8", "replace")
        for version in self.tables.vllm_versions:
            path = self.tables.folder / file_name(Project.VLLM, version)
            try:
                if wanted and wanted not in read_bytes(path):
                    continue
                yield self.tables.vllm(version)
            except SymbolsError as error:
                self._fault(error)
            except OSError as error:
                self._fault(SymbolsError(f"{path.name}: cannot be read: {error.strerror}"))

    def _fault(self, error: SymbolsError) -> None:
        if str(error) not in self.faults:
            self.faults.append(str(error))


def stem_of(file: str) -> str:
    """Return the name of an extension's file without its Python and ending.

    >>> stem_of("_C.abi3.so"), stem_of("c_ops.cpython-312-x86_64-linux-gnu.so")
    ('_C', 'c_ops')
    """
    return file.partition(".")[0]


def _version(name: str) -> tuple[str, tuple[int, ...]] | None:
    """Return the family and the numbers of `GLIBC_2.32`; None for another name."""
    found = _VERSIONED.fullmatch(name)
    if found is None:
        return None
    return found["family"], tuple(int(part[:9]) for part in found["version"].split("."))


def without(known: KnownReleases, other: Iterable[str]) -> tuple[str, ...]:
    """Return the releases that were asked about and are not among these."""
    left = set(other)
    return tuple(release for release in known.asked if release not in left)
