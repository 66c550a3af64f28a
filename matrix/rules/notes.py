"""Notes: what a person found out about pairs of releases, in data/notes.toml.

Pure but for reading the file. A note changes no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matrix._util.paths import DATA
from matrix._util.toml_rows import (
    check_ids,
    check_keys,
    choice_of,
    name_of,
    read_text,
    rows,
    text_of,
    version_range,
)
from matrix._util.versions import VersionRange, parse_version
from matrix.errors import MatrixError
from matrix.record.model import Platform
from matrix.record.signature import signature as signature_of_text
from matrix.rules.expectations import UPSTREAM
from matrix.rules.platform_differences import RECORD

_DATA = DATA / "notes.toml"
_COPY = "copy it from `matrix show`"
_NEEDED = ("id", "text", "evidence")
_KEYS = (*_NEEDED, "platform", "torch", "vllm", "signature")


class NotesError(MatrixError):
    """A note that cannot be read: names the file, the note, the key and the fix."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A fact about the pairs that meet the conditions (None is any), and its evidence.

    `signature` is that of the failure which it explains, if it explains one.
    """

    id: str
    text: str
    evidence: tuple[str, ...]
    platform: Platform | None = None
    torch: VersionRange = field(default_factory=VersionRange)
    vllm: VersionRange = field(default_factory=VersionRange)
    signature: str | None = None

    def covers(self, platform: Platform, torch: str, vllm: str) -> bool:
        """Return whether it applies to this pair on this platform."""
        return (
            self.platform in (None, platform)
            and self.torch.contains(parse_version(torch))
            and self.vllm.contains(parse_version(vllm))
        )


def load_notes(path: Path | None = None) -> tuple[Note, ...]:
    """Read the notes of a file, by default those of the package.

    Raises NotesError, which names the file, the note, the key and the fix.
    """
    path = path or _DATA
    return parse_notes(read_text(path, NotesError), str(path))


def parse_notes(text: str, name: str) -> tuple[Note, ...]:
    """Read notes from the text of a TOML file; `name` stands for the file in errors.

    Raises NotesError as `load_notes` does.
    """
    found = rows(text, name, "note", NotesError)
    notes = tuple(_note(row, f"{name}: note {number}") for number, row in enumerate(found, 1))
    check_ids([note.id for note in notes], f"{name}: note", NotesError)
    return notes


def _note(row: Mapping[str, object], where: str) -> Note:
    check_keys(row, where, _KEYS, _NEEDED, NotesError)
    evidence = row.get("evidence")
    if not isinstance(evidence, list) or not evidence or not all(map(_is_evidence, evidence)):
        raise NotesError(
            f"{where}: evidence: is not a list of published records, such as "
            f"results/cuda/py312-torch213-vllm032.json, and links to vllm-project or pytorch on "
            f"GitHub; name at least one"
        )
    torch, vllm = (version_range(row, key, where, NotesError) for key in ("torch", "vllm"))
    signature = None
    if "signature" in row:
        signature = text_of(row, "signature", where, _COPY, NotesError)
        if signature_of_text(signature) != signature:
            raise NotesError(f"{where}: signature: is not one; {_COPY}")
    return Note(
        id=name_of(row, where, NotesError),
        text=text_of(row, "text", where, "say what people must know", NotesError),
        evidence=tuple(evidence),
        platform=choice_of(row, "platform", Platform, where, NotesError),
        torch=torch,
        vllm=vllm,
        signature=signature,
    )


def _is_evidence(item: object) -> bool:
    return isinstance(item, str) and any(kind.fullmatch(item) for kind in (RECORD, UPSTREAM))
