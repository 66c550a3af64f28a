"""Known failures that a person accepted, each with a link and its last day: data/waivers.toml.

Pure but for reading the file. A waiver hides nothing: what it waives is shown as waived.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

from matrix._util.paths import DATA
from matrix._util.toml_rows import (
    case_of,
    check_ids,
    check_keys,
    choice_of,
    name_of,
    read_text,
    rows,
    text_of,
    version_range,
)
from matrix._util.versions import VersionRange
from matrix.catalog.cells import CellError, factors
from matrix.errors import MatrixError
from matrix.record.model import CellRef, Platform, StartKind
from matrix.rules.counters import COUNTER_NAME

_DATA = DATA / "waivers.toml"
_NEEDED = ("id", "why", "link", "until")
_KEYS = (
    *_NEEDED,
    "owner",
    "cell",
    "torch",
    "vllm",
    "platform",
    "case",
    "start",
    "signature",
    "counters",
)
_LINK = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/[\w./#=?&%~+-]*", re.ASCII)
_MAIL = re.compile(r"\S@\S")


class WaiversError(MatrixError):
    """A waiver that cannot be read: names the file, the waiver, the key and the fix."""


class Finding(NamedTuple):
    """The subject of a waiver: a failure by its signature, or a counter of a start by its count.

    ``case`` is ``WHOLE_RUN`` for the run as a whole. ``value`` is what the candidate counted, None
    where it did not count at all.
    """

    place: CellRef
    case: str
    signature: str | None = None
    start: StartKind | None = None
    counter: str | None = None
    value: int | None = None


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """One known failure. A condition that is None is any; ``until`` is the last day it holds.

    ``counters`` maps a counter to the count that is waived, or to None for any count.
    """

    id: str
    why: str
    link: str
    until: date
    owner: str | None = None
    cell: str | None = None
    torch: VersionRange = field(default_factory=VersionRange)
    vllm: VersionRange = field(default_factory=VersionRange)
    platform: Platform | None = None
    case: str | None = None
    start: StartKind | None = None
    signature: str | None = None
    counters: Mapping[str, int | None] = field(default_factory=dict)

    def speaks_of(self, place: CellRef) -> bool:
        """Tell whether its cell, releases and platform are those of this place."""
        return (
            self.cell in (None, place.cell)
            and self.platform in (None, place.platform)
            and self.torch.contains(Version(place.torch))
            and self.vllm.contains(Version(place.vllm))
        )

    def covers(self, finding: Finding) -> bool:
        """Tell whether this is the failure that it names, whatever the day."""
        if not self.speaks_of(finding.place) or self.case not in (
            None,
            finding.case,
            finding.case.partition("[")[0],
        ):
            return False
        if finding.counter is None:
            return self.signature is not None and self.signature == finding.signature
        if finding.counter not in self.counters or self.start not in (None, finding.start):
            return False
        return self.counters[finding.counter] in (None, finding.value)

    def expired(self, today: date) -> bool:
        """Tell whether its last day is over."""
        return self.until < today


@dataclass(frozen=True, kw_only=True)
class Waivers:
    """All waivers. Raises WaiversError if two have one id."""

    every: tuple[Waiver, ...] = ()
    name: str = "waivers"

    def __post_init__(self) -> None:
        """Refuse two waivers of one id."""
        check_ids([waiver.id for waiver in self.every], f"{self.name}: waiver", WaiversError)

    def waiving(self, finding: Finding, today: date) -> Waiver | None:
        """Give the waiver of this finding, one that holds today before one that has expired."""
        found = [waiver for waiver in self.every if waiver.covers(finding)]
        return min(found, key=lambda waiver: waiver.expired(today), default=None)


def load_waivers(path: Path | None = None) -> Waivers:
    """Read the waivers of a file, by default those of the package.

    Raises WaiversError, which names the file, the waiver, the key and the fix.
    """
    path = path or _DATA
    return parse_waivers(read_text(path, WaiversError), str(path))


def parse_waivers(text: str, name: str) -> Waivers:
    """Read waivers from the text of a TOML file; ``name`` stands for the file in errors.

    Raises WaiversError as ``load_waivers`` does.
    """
    found = rows(text, name, "waiver", WaiversError)
    return Waivers(every=tuple(_waiver(row, n, name) for n, row in enumerate(found, 1)), name=name)


def _waiver(row: Mapping[str, object], number: int, name: str) -> Waiver:
    named = name_of(row, f"{name}: waiver {number}", WaiversError)
    where = f"{name}: waiver {named!r}"
    check_keys(row, where, _KEYS, _NEEDED, WaiversError)
    if "signature" not in row and "counters" not in row:
        raise WaiversError(
            f"{where}: signature: is missing, and so is counters; name the waived failure"
        )
    if "start" in row and "counters" not in row:
        raise WaiversError(f"{where}: start: goes with counters only; leave it out")
    why = text_of(row, "why", where, "say why it is accepted", WaiversError)
    link = text_of(row, "link", where, "write https://...", WaiversError)
    if not _LINK.fullmatch(link):
        raise WaiversError(f"{where}: link: {link!r} is not a link; write https://host/path")
    owner = text_of(row, "owner", where, "name a team", WaiversError) if "owner" in row else None
    if owner is not None and _MAIL.search(owner):
        raise WaiversError(f"{where}: owner: {owner!r} is an email address; name a team")
    if "case" in row:
        text_of(row, "case", where, "name a case", WaiversError)
    case = case_of(row, where, WaiversError)
    signature = (
        text_of(row, "signature", where, "copy it", WaiversError) if "signature" in row else None
    )
    return Waiver(
        id=named,
        why=why,
        link=link,
        until=_until(row["until"], where),
        owner=owner,
        cell=_cell(row, where),
        torch=version_range(row, "torch", where, WaiversError),
        vllm=version_range(row, "vllm", where, WaiversError),
        platform=choice_of(row, "platform", Platform, where, WaiversError),
        case=case,
        start=choice_of(row, "start", StartKind, where, WaiversError),
        signature=signature,
        counters=_counters(row.get("counters", {}), where) if "counters" in row else {},
    )


def _until(value: object, where: str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    shown = str(value) if isinstance(value, datetime) else repr(value)
    raise WaiversError(f"{where}: until: {shown} is not a date; write the last day as 2027-01-31")


def _cell(row: Mapping[str, object], where: str) -> str | None:
    if "cell" not in row:
        return None
    cell = text_of(row, "cell", where, "name a cell", WaiversError)
    try:
        full = factors(cell).vllm is not None
    except CellError as error:
        raise WaiversError(f"{where}: {error}") from error
    if not full:
        raise WaiversError(f"{where}: cell: {cell!r} names no vLLM; write py311-torch212-vllm020")
    return cell


def _counters(value: object, where: str) -> Mapping[str, int | None]:
    """Read a list of counters, of any count, or a table of counters and their counts."""
    found: dict[str, int | None] = {}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        found = dict.fromkeys(value)
    elif isinstance(value, dict):
        for counter, count in value.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise WaiversError(f"{where}: counters: {counter} = {count!r} is not a count")
            found[counter] = count
    if not found:
        raise WaiversError(
            f"{where}: counters: names no counter; write ['num_graphs_seen'] for any count, or"
            f" {{ num_graphs_seen = 0 }}"
        )
    for counter in found:
        if not COUNTER_NAME.fullmatch(counter):
            raise WaiversError(f"{where}: counters: {counter!r} is not the name of a counter")
    return found
