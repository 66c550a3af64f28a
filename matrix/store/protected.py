"""Which records are evidence: those that an expectation, an explanation or a note names.

A record is recognised by its file's name, through whatever link or `..` it was reached, and by its
content, since a copy of it is the same record.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matrix._util.paths import CHECKOUT
from matrix.store import ingest as summaries

if TYPE_CHECKING:
    from matrix.rules.expectations import Expectations
    from matrix.rules.notes import Note
    from matrix.rules.platform_differences import Explanations

_PROJECT = CHECKOUT


@dataclass(frozen=True, kw_only=True)
class ProtectedRecords:
    """The names of records, such as `results/cpu/X.json`, and the digests of what they say."""

    names: frozenset[str]
    contents: frozenset[object]

    def has(self, path: str, content: str) -> bool:
        """Whether the record of this path and content is among them."""
        if content in self.contents:
            return True
        names = os.path.abspath(path), os.path.realpath(path)
        return any(name.endswith(f"/{ending}") for name in names for ending in self.names)


def evidence_of(
    items: Iterable[str], places: Iterable[Path] = (Path(), _PROJECT)
) -> ProtectedRecords:
    """Return the records among these items; a link is not a record.

    What they say is read where they are below one of the places: the current folder, or the
    project's own.
    """
    names = frozenset(item for item in items if "://" not in item)
    files = [place / name for place in places for name in names]
    read = (summaries.of_file(str(file), file.name, 0, 0) for file in files if file.is_file())
    contents = {row.get("content") for row in read}
    return ProtectedRecords(names=names, contents=frozenset(contents - {None}))


def named_records(
    expectations: Expectations, explanations: Explanations, notes: Iterable[Note]
) -> ProtectedRecords:
    """Return the records that an expectation, an explanation or a note names as evidence."""
    items = [record for rule in expectations.rules for record in rule.records]
    items += [item for explanation in explanations.every for item in explanation.evidence]
    items += [item for note in notes for item in note.evidence]
    return evidence_of(items)
