"""What distinguishes two builds of a wheel, and the notes of the file that an installed one is.

Importable inside a cell. `matrix.run.published` and `matrix.bundle.run` write the notes, outside.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from matrix._util.files import write_text
from matrix.catalog.projects import Project

NOTE = "matrix_published.json"
"""The name of the note in an environment's folder."""

_OF_INSTALLERS = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
# Where a wheel has what is installed elsewhere; PEP 427.
_DATA = re.compile(r"[^/]+\.data/(?P<kind>[^/]+)/(?P<rest>.+)")
_AMONG_MODULES = ("purelib", "platlib")
_OPTIONAL = ("index", "sha256", "built")
_LARGEST = 1 << 20  # characters of a note, which has a few entries of a few hundred


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """The file on an index whose RECORD has the rows of an installed package.

    `index` is without credentials, `sha256` the file's, `built` the time of its upload; None if
    nobody knows it: a bundle knows no index, and an index need not have the others.
    """

    file: str
    index: str | None = None
    sha256: str | None = None
    built: str | None = None


def content_of(record: str) -> str | None:
    """Return a SHA-256 over the rows that a wheel itself brings in RECORD; None without a row.

    It is the same for the RECORD in a wheel and for the one that uv or pip leaves where it installs
    that wheel: an installer adds rows of its own, and puts some files outside of the folder.
    """
    try:
        rows = list(csv.reader(record.splitlines()))
    except csv.Error:
        return None
    own = sorted(
        f"{path},{row[1]},{row[2]}"
        for row in rows
        if len(row) == 3 and row[1] and (path := _installed_at(row[0])) is not None
    )
    return hashlib.sha256("\n".join(own).encode()).hexdigest() if own else None


def _installed_at(path: str) -> str | None:
    """Return where a file lies among the modules; None for one elsewhere or of an installer."""
    if found := _DATA.fullmatch(path):
        if found["kind"] not in _AMONG_MODULES:
            return None
        path = found["rest"]
    name = path.rpartition("/")[2]
    if path.startswith("..") or name in _OF_INSTALLERS or name.endswith(".pyc"):
        return None
    return path


def read_note(environment: Path) -> Mapping[str, IndexedFile | None]:
    """Return the files that are noted in an environment's folder, by the content of the package.

    None: the index was asked, and has no such file. Without a note that can be read it is empty.
    """
    try:
        return {content: _published(entry) for content, entry in _read(environment / NOTE).items()}
    except TypeError:
        return {}


def read_bundled(environment: Path, project: Project, record: str) -> IndexedFile | None:
    """Return the wheel of a release that a bundle installed; None if no bundle says it.

    `record` is the RECORD that is there; another one than the bundle left is of another wheel.
    """
    from matrix.bundle.run import WHEELS  # a plan reads notes alone, and this takes long

    entry = _read(environment / WHEELS).get(project)
    own = hashlib.sha256(record.encode()).hexdigest()
    if not isinstance(entry, dict) or entry.get("record") != own:
        return None
    try:
        return _published(entry)
    except TypeError:
        return None


def before_a_bundle(environment: Path, sha256: str) -> str:
    """Return the hash that a wheel had before a bundle rewrote it; of any other wheel its own."""
    from matrix.bundle.run import REWRITTEN

    found = _read(environment / REWRITTEN).get(sha256)
    return found if isinstance(found, str) else sha256


def write_note(environment: Path, found: Mapping[str, IndexedFile | None]) -> None:
    """Write what `read_note` reads. Raises FileError if it cannot be written."""
    data = {content: entry and asdict(entry) for content, entry in sorted(found.items())}
    write_text(environment / NOTE, json.dumps(data, indent=1) + "\n")


def _read(note: Path) -> dict[str, object]:
    """Return what a note holds; nothing if there is none that can be read."""
    try:
        with note.open(encoding="utf-8") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _published(entry: object) -> IndexedFile | None:
    """Return an entry of a note; raises TypeError if it has another form."""
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise TypeError
    values: dict[str, Any] = {field.name: entry.get(field.name) for field in fields(IndexedFile)}
    for name, value in values.items():
        if not isinstance(value, str) and not (name in _OPTIONAL and value is None):
            raise TypeError
    return IndexedFile(**values)
