"""Which kernel modules a vLLM's starts build just in time, on which GPU: known from records.

The run of a release that is listed builds them before its cases; the run of another builds them in
the cases. `matrix jit RECORD --write` adds what a record found.

Pure but for reading that file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion

from matrix._util.paths import DATA
from matrix._util.toml_rows import check_keys, read_text, rows, version_range
from matrix._util.versions import VersionRange, parse_version
from matrix.errors import MatrixError
from matrix.record.model import JitModule

JIT_FILE = DATA / "jit.toml"
"""The package's own list."""

_NEEDED = ("vllm", "capability", "library", "name", "generator", "evidence")
_KEYS = (*_NEEDED, "arguments")
_CAPABILITY = re.compile(r"\d+\.\d+", re.ASCII)
# What is imported and called is FlashInfer's own, whoever edits the list.
_GENERATOR = re.compile(r"flashinfer\.jit(?:\.\w+)*:gen_\w+", re.ASCII)


class JitModulesError(MatrixError):
    """The list of modules cannot be read: names the file, the row and the fix."""


@dataclass(frozen=True, kw_only=True)
class ListedModule:
    """A module that starts of these vLLM releases build on a GPU of this compute capability."""

    vllm: VersionRange
    capability: str
    module: JitModule
    evidence: tuple[str, ...] = field(default=())

    def covers(self, vllm: str, capability: str) -> bool:
        """Return whether this release on this GPU builds the module."""
        try:
            return self.capability == capability and self.vllm.contains(parse_version(vllm))
        except InvalidVersion:
            return False


def load_jit_modules(path: Path = JIT_FILE) -> tuple[ListedModule, ...]:
    """Return the modules of a list. Raises JitModulesError, which names the file and the row."""
    return parse_jit_modules(read_text(path, JitModulesError), str(path))


def parse_jit_modules(text: str, name: str) -> tuple[ListedModule, ...]:
    """Return the modules of a TOML text. Raises JitModulesError, which names `name`."""
    return tuple(
        _listed(row, f"{name}: module {number}")
        for number, row in enumerate(rows(text, name, "module", JitModulesError), 1)
    )


def modules_for(
    listed: tuple[ListedModule, ...], vllm: str, capability: str
) -> tuple[JitModule, ...]:
    """Return the modules of this release on this GPU, each once; none where it is not listed."""
    found = {each.module.name: each.module for each in listed if each.covers(vllm, capability)}
    return tuple(found.values())


def _listed(row: Mapping[str, Any], where: str) -> ListedModule:
    check_keys(row, where, _KEYS, _NEEDED, JitModulesError)
    for key in ("capability", "library", "name", "generator"):
        if not isinstance(row[key], str) or not row[key]:
            raise JitModulesError(f"{where}: {key}: is not a text; write one")
    if not _CAPABILITY.fullmatch(row["capability"]):
        raise JitModulesError(f"{where}: capability: is not a compute capability such as 9.0")
    if row["library"] != "flashinfer" or not _GENERATOR.fullmatch(row["generator"]):
        raise JitModulesError(
            f"{where}: generator: is not a function of FlashInfer; write it as"
            ' flashinfer.jit.MODULE:gen_NAME, with library = "flashinfer"'
        )
    arguments = row.get("arguments", {})
    if not isinstance(arguments, dict) or not all(map(_is_scalar, arguments.values())):
        raise JitModulesError(f"{where}: arguments: is not a table of texts, numbers, true, false")
    evidence = row["evidence"]
    if not isinstance(evidence, list) or not evidence or not all(map(_is_text, evidence)):
        raise JitModulesError(f"{where}: evidence: is not a list of texts; name a record")
    return ListedModule(
        vllm=version_range(row, "vllm", where, JitModulesError),
        capability=row["capability"],
        module=JitModule(
            library=row["library"],
            name=row["name"],
            generator=row["generator"],
            arguments=arguments,
        ),
        evidence=tuple(evidence),
    )


def _is_scalar(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
