"""Requirements of a cell's environment beyond its pins, from data/constraints.toml.

Pure but for reading the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from matrix._util.paths import DATA
from matrix._util.toml_rows import check_keys, read_text, rows, text_of, texts_of, version_range
from matrix._util.versions import VersionRange, parse_version
from matrix.errors import MatrixError

_DATA = DATA / "constraints.toml"
_NEEDED = ("requirement", "vllm", "reason", "evidence")
_KEYS = (*_NEEDED, "effect")
# A cell's pins say these.
_PINNED = ("torch", "torchaudio", "torchvision", "vllm")


class ConstraintsError(MatrixError):
    """A constraint that cannot be read: names the file, the constraint, the key and the fix."""


class Constraint(NamedTuple):
    """A requirement that the cells of these vLLM releases get, the reason and the evidence.

    `effect` is what it does, in a few words; None where nobody wrote that.
    """

    requirement: str
    vllm: VersionRange
    reason: str
    evidence: tuple[str, ...]
    effect: str | None = None

    def covers(self, vllm: str) -> bool:
        """Tell whether the cells of this vLLM get it."""
        return self.vllm.contains(parse_version(vllm))


def load_constraints(path: Path | None = None) -> tuple[Constraint, ...]:
    """Read the constraints of a file, by default those of the package.

    Raises ConstraintsError, which names the file, the constraint, the key and the fix.
    """
    path = path or _DATA
    return parse_constraints(read_text(path, ConstraintsError), str(path))


def parse_constraints(text: str, name: str) -> tuple[Constraint, ...]:
    """Read constraints from the text of a TOML file; `name` stands for the file in errors.

    Raises ConstraintsError as `load_constraints` does.
    """
    found = rows(text, name, "constraint", ConstraintsError)
    return tuple(
        _constraint(row, f"{name}: constraint {number}") for number, row in enumerate(found, 1)
    )


def _constraint(row: Mapping[str, object], where: str) -> Constraint:
    check_keys(row, where, _KEYS, _NEEDED, ConstraintsError)
    return Constraint(
        requirement=_requirement(row["requirement"], where),
        vllm=version_range(row, "vllm", where, ConstraintsError),
        reason=text_of(row, "reason", where, "write what happens without it", ConstraintsError),
        evidence=texts_of(row, "evidence", where, "texts", ConstraintsError),
        effect=text_of(row, "effect", where, "write what it does", ConstraintsError)
        if "effect" in row
        else None,
    )


def _requirement(value: object, where: str) -> str:
    try:
        parsed = Requirement(str(value))
    except InvalidRequirement as error:
        raise ConstraintsError(
            f'{where}: requirement: {value!r} is not a requirement; write it as "cuda-python>=13"'
        ) from error
    if canonicalize_name(parsed.name) in _PINNED:
        raise ConstraintsError(
            f"{where}: requirement: a cell pins {parsed.name} already; name another package"
        )
    if parsed.url is not None or not parsed.specifier:
        raise ConstraintsError(
            f"{where}: requirement: {value!r} has no range of versions; write it as "
            f'"cuda-python>=13"'
        )
    return str(parsed)
