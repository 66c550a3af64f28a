"""The needs of the wheels of torch and vLLM, GPU code and glibc, as read from them.

`data/wheels.json` holds it, a wheel a line. `matrix wheels --read` writes it. A wheel that is not
there was not read, and nothing is known of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from matrix._util.json_file import read_object
from matrix._util.paths import DATA
from matrix._util.versions import parse_version
from matrix.errors import MatrixError

WHEELS_FILE = DATA / "wheels.json"
_TEXTS = ("project", "version", "machine", "file", "record")
_FIX = "restore the file, or read the wheel again with `matrix wheels --read`"

Groups = Mapping[frozenset[str], int]
"""How many fatbins have the images of these architectures, such as `sm_90a` and `compute_80`."""


class WheelsError(MatrixError):
    """The data file of wheels cannot be read, or a row in it is invalid."""


@dataclass(frozen=True, kw_only=True)
class ReadWheel:
    """The facts that were read from one wheel.

    `machine` is the processor that it is for, `record` the SHA-256 of its RECORD, which has those
    of all its files. `glibc` is the newest that a library in it needs; None if none does. `code`
    has the fatbins of each library with GPU code.
    """

    project: str
    version: str
    machine: str
    file: str
    record: str
    glibc: str | None = None
    code: Mapping[str, Groups] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """The key of a wheel in the file."""
        return self.project, self.version, self.machine


@dataclass(frozen=True, kw_only=True)
class ReadWheels:
    """Every wheel that was read, by project, version and processor."""

    known: Mapping[tuple[str, str, str], ReadWheel] = field(default_factory=dict)

    def of(self, project: str, version: str, machine: str) -> ReadWheel | None:
        """Return what was read of a release's wheel; None if nobody read it."""
        return self.known.get((project, version, machine))

    def including(self, wheels: Iterable[ReadWheel]) -> ReadWheels:
        """Return these and others, which replace those of the same release."""
        return ReadWheels(known={**self.known, **{wheel.key: wheel for wheel in wheels}})


def load_wheels(path: Path | None = None) -> ReadWheels:
    """Read the file, by default the package's; one that is not there holds none.

    Raises WheelsError, which names the file and the row.
    """
    path = path or WHEELS_FILE
    if not path.exists():
        return ReadWheels()
    data = read_object(path, WheelsError)
    rows = data.get("wheels")
    if not isinstance(rows, list):
        raise WheelsError(f"{path}: wheels: is not a list; {_FIX}")
    found = (_row(row, f"{path}: wheel {number}") for number, row in enumerate(rows, 1))
    return ReadWheels().including(found)


def to_json(wheels: ReadWheels) -> str:
    """Return the text of the file: a wheel a line, the oldest release first."""
    ordered = sorted(
        wheels.known.values(),
        key=lambda wheel: (wheel.project, Version(wheel.version), wheel.machine),
    )
    lines = ",\n".join(f"  {json.dumps(_as_json(wheel))}" for wheel in ordered)
    return f'{{"wheels": [\n{lines}\n]}}\n'


def _as_json(wheel: ReadWheel) -> dict[str, object]:
    code = {
        path: {_text(names): count for names, count in sorted(groups.items(), key=_order)}
        for path, groups in sorted(wheel.code.items())
    }
    texts = {name: getattr(wheel, name) for name in _TEXTS}
    return {**texts, "glibc": wheel.glibc, "code": code}


def _order(group: tuple[frozenset[str], int]) -> tuple[int, str]:
    return -group[1], _text(group[0])


def _text(names: frozenset[str]) -> str:
    return " ".join(sorted(names, key=lambda name: (name.partition("_")[0], len(name), name)))


def _row(row: object, where: str) -> ReadWheel:
    if not isinstance(row, dict) or row.keys() != {*_TEXTS, "glibc", "code"}:
        raise WheelsError(f"{where}: has not the keys of a wheel; {_FIX}")
    for name in _TEXTS:
        if not isinstance(row[name], str):
            raise WheelsError(f"{where}: {name}: is not a string; {_FIX}")
    try:
        parse_version(row["version"])
        if row["glibc"] is not None:
            parse_version(row["glibc"])
    except (InvalidVersion, TypeError) as error:
        raise WheelsError(f"{where}: version or glibc is not a version ({error}); {_FIX}") from None
    texts: dict[str, Any] = {name: row[name] for name in (*_TEXTS, "glibc")}
    return ReadWheel(**texts, code=_code(row["code"], where))


def _code(value: object, where: str) -> dict[str, Groups]:
    if not isinstance(value, dict):
        raise WheelsError(f"{where}: code: is not an object; {_FIX}")
    found: dict[str, Groups] = {}
    for path, groups in value.items():
        if not isinstance(groups, dict) or not all(type(n) is int for n in groups.values()):
            raise WheelsError(f"{where}: code: {path}: has no counts of fatbins; {_FIX}")
        found[path] = {frozenset(names.split()): count for names, count in groups.items()}
    return found
