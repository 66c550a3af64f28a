"""The kernel modules that a vLLM's starts build just in time on a GPU, from records.

The run of a release that is listed builds them before its cases; the run of another builds them in
the cases. `matrix jit RECORD --write` adds what a record found.

Pure but for reading that file.
"""

from __future__ import annotations

import json
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
from matrix.record.jit import CAPABILITY, JitModule
from matrix.record.model import Record

JIT_FILE = DATA / "jit.toml"
"""The package's own list."""

_NEEDED = ("vllm", "capability", "library", "name", "generator", "evidence")
_KEYS = (*_NEEDED, "arguments")
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
    found = {rule.module.name: rule.module for rule in listed if rule.covers(vllm, capability)}
    return tuple(found.values())


def new_rows(record: Record, listed: tuple[ListedModule, ...], name: str) -> str:
    """Return the rows of the list, as TOML, that a record called `name` adds to what is listed.

    They are of the minor release of vLLM that ran and of its GPU; empty if it found nothing new
    that can be built again. Raises JitModulesError if the record does not say what ran.
    """
    gpu, vllm = record.provenance.get("gpu"), record.provenance.get("vllm")
    capability = gpu.get("capability") if isinstance(gpu, Mapping) else None
    if record.jit is None or not isinstance(capability, str) or not isinstance(vllm, str):
        raise JitModulesError(
            f"{name}: does not contain the kernels that were built just in time, or the GPU;"
            " name a record of a run on a GPU with startup tests of version 23 or newer"
        )
    try:
        version = parse_version(vllm)
    except InvalidVersion:
        raise JitModulesError(f"{name}: provenance.vllm: is not a version: {vllm}") from None
    known = {module.name for module in modules_for(listed, vllm, capability)}
    range_ = f">={version.major}.{version.minor},<{version.major}.{version.minor + 1}"
    rows_ = {
        module.name: _row(module, range_, capability, name)
        for module in record.jit.modules
        if module.name not in known and _can_be_listed(module)
    }
    return "".join(f"\n{row}" for row in rows_.values())


def _can_be_listed(module: JitModule) -> bool:
    texts = (module.name, *module.arguments, *module.arguments.values())
    printable = all(text.isprintable() for text in texts if isinstance(text, str))
    return printable and _GENERATOR.fullmatch(module.generator or "") is not None


def _row(module: JitModule, vllm: str, capability: str, evidence: str) -> str:
    # None is what TOML cannot say, and in FlashInfer's generators a default.
    arguments = {key: value for key, value in module.arguments.items() if value is not None}
    facts: list[tuple[str, object]] = [
        ("vllm", vllm),
        ("capability", capability),
        ("library", module.library),
        ("name", module.name),
        ("generator", module.generator),
    ]
    lines = [f"{key} = {_quoted(value)}" for key, value in facts]
    if arguments:
        pairs = (f"{_quoted(key)} = {_quoted(value)}" for key, value in arguments.items())
        lines.append(f"arguments = {{ {', '.join(pairs)} }}")
    return "\n".join(["[[module]]", *lines, f"evidence = [{_quoted(evidence)}]", ""])


def _quoted(value: object) -> str:
    """Return a value as TOML has it, which is as JSON has it where every character prints."""
    if isinstance(value, str):
        value = "".join(character if character.isprintable() else "?" for character in value)
    return json.dumps(value, ensure_ascii=False)


def _listed(row: Mapping[str, Any], where: str) -> ListedModule:
    check_keys(row, where, _KEYS, _NEEDED, JitModulesError)
    for key in ("capability", "library", "name", "generator"):
        if not isinstance(row[key], str) or not row[key]:
            raise JitModulesError(f"{where}: {key}: is not a text; write one")
    if not CAPABILITY.fullmatch(row["capability"]):
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
