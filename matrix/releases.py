"""What is published: releases of torch and vLLM, pins, Python ranges; and the matrix's cells.

The facts are data in the repository (``data/releases.json``, ``data/cells.json``), so that nothing
here asks an index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix.cells import Cell, CellError, Factors, factors
from matrix.errors import MatrixError

__all__ = [
    "RELEASES_FILE",
    "Releases",
    "ReleasesError",
    "Torch",
    "Unread",
    "Vllm",
    "load_releases",
    "read_rows",
]

_DATA = Path(__file__).parent / "data"
RELEASES_FILE = _DATA / "releases.json"
_COMPANIONS = {"torchvision", "torchaudio"}
_MORE = {"python", "cuda", "uploaded", "wheels", "yanked", "source", "note", "files"}
_PINS = {"torch"} | _COMPANIONS
_VERSIONS = {"version", "torch", "cuda"} | _COMPANIONS


class ReleasesError(MatrixError):
    """A data file of releases or cells that cannot be read or contradicts itself."""


@dataclass(frozen=True)
class Torch:
    """One release of torch and the companions that go with it; None is what was not read.

    ``python`` is its range of Pythons, ``cuda`` the CUDA of its wheel on the index (``13.0``),
    ``uploaded`` the day of its first file (``2026-03-01``), ``wheels`` the Pythons by platform tag
    (``{"manylinux_2_28_x86_64": ("cp311", "cp312")}``), ``yanked`` why it was withdrawn, ``source``
    where its metadata was read (``metadata``, ``sdist`` or ``wheel``), ``note`` why it was not.
    """

    version: str
    python: SpecifierSet | None = None
    torchvision: str | None = None
    torchaudio: str | None = None
    cuda: str | None = None
    uploaded: str | None = None
    wheels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    yanked: str | None = None
    source: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Vllm:
    """One release of vLLM: the torch and companions that it pins, and its range of Pythons.

    A companion is None where it pins none. The rest as in `Torch`; an extension on the stable ABI
    has a wheel for ``cp38-abi3``.
    """

    version: str
    torch: str
    torchvision: str | None
    torchaudio: str | None
    python: SpecifierSet
    cuda: str | None = None
    uploaded: str | None = None
    wheels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    yanked: str | None = None
    source: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Unread:
    """A published vLLM of which no cell can be made: its pins are not known, ``note`` says why."""

    version: str
    note: str


@dataclass(frozen=True)
class Releases:
    """The known releases, oldest first, and which of them the matrix runs."""

    torch: tuple[Torch, ...]
    vllm: tuple[Vllm, ...]
    pythons: tuple[str, ...]
    matrix_vllm: tuple[str, ...]
    default_vllm: Mapping[str, str]
    unread: tuple[Unread, ...] = ()

    def resolve(self, name: str) -> Cell:
        """Find the cell that an environment name, short or full, stands for.

        Without a vLLM factor it is the default vLLM of that torch; a minor release is its newest
        known patch. Raises CellError, in one line that says what to use instead.
        """
        wanted = factors(name)
        if not any(_minor(release.version) == wanted.torch for release in self.torch):
            known = [_minor(release.version) for release in self.torch]
            raise CellError(
                f"cell {name!r}: torch {wanted.torch} is not {_near(wanted.torch, known)}"
            )
        release = self._named(name, wanted) if wanted.vllm else self._default(name, wanted)
        self._check_python(name, wanted, release)
        return Cell(wanted.python, release.torch, release.version)

    def cells(self) -> tuple[Cell, ...]:
        """Every cell that the matrix holds: its vLLM releases on each Python that they accept."""
        releases = {release.version: release for release in self.vllm}
        return tuple(
            sorted(
                Cell(python, release.torch, release.version)
                for release in (releases[version] for version in self.matrix_vllm)
                for python in self.pythons
                if self._accepts(release, python)
            )
        )

    def companions(self, cell: Cell) -> Mapping[str, str]:
        """Give the versions of torch, torchvision and torchaudio that go together in this cell.

        Raises CellError where the cell's vLLM is unknown or pins another torch.
        """
        release = next((r for r in self.vllm if r.version == cell.vllm), None)
        if release is None:
            known = [release.version for release in self.vllm]
            raise CellError(
                f"cell {cell.name!r}: vLLM {cell.vllm} is not {_near(cell.vllm, known)}"
            )
        if release.torch != cell.torch:
            raise CellError(
                f"cell {cell.name!r}: vLLM {release.version} pins torch {release.torch}, not "
                f"{cell.torch}; no companions are known for that pair"
            )
        pins = {
            "torch": release.torch,
            "torchvision": release.torchvision,
            "torchaudio": release.torchaudio,
        }
        return {name: version for name, version in pins.items() if version is not None}

    def _named(self, name: str, wanted: Factors) -> Vllm:
        assert wanted.vllm is not None
        release = self._newest(wanted.vllm)
        if release is None:
            known = [_minor(release.version) for release in self.vllm]
            unread = next((u for u in self.unread if _minor(u.version) == wanted.vllm), None)
            if unread is not None:
                raise CellError(f"cell {name!r}: the pins of vLLM {unread.version}: {unread.note}")
            raise CellError(f"cell {name!r}: vLLM {wanted.vllm} is not {_near(wanted.vllm, known)}")
        if _minor(release.torch) != wanted.torch:
            _, torch, vllm = name.split("-")
            ways = [self._way(wanted.python, release)]
            if wanted.torch in self.default_vllm:
                ways.append(self._short_way(wanted.python, wanted.torch))
            raise CellError(
                f"cell {name!r}: vLLM {release.version} pins torch {release.torch}, so {torch} "
                f"cannot go with {vllm}; {_use(ways)}"
            )
        return release

    def _default(self, name: str, wanted: Factors) -> Vllm:
        version = self.default_vllm.get(wanted.torch)
        if version is not None:
            return self._release(version)
        pinning = [release for release in self.vllm if _minor(release.torch) == wanted.torch]
        if not pinning:
            known = [_minor(release.torch) for release in self.vllm]
            raise CellError(
                f"cell {name!r}: no known vLLM pins torch {wanted.torch}; the nearest torch that "
                f"one pins is {' or '.join(_nearest(wanted.torch, known))}"
            )
        ways = [way for release in pinning if (way := self._way(wanted.python, release))]
        if not ways:
            raise CellError(
                f"cell {name!r}: the matrix has no cell for torch {wanted.torch} yet"
                f"{self._nearest_cells(wanted)}; see CONTRIBUTING.md"
            )
        raise CellError(
            f"cell {name!r}: torch {wanted.torch} has no default vLLM; {_use(ways[-1:])}"
        )

    def _nearest_cells(self, wanted: Factors) -> str:
        """The short names of the cells whose torch is next to the wanted one."""
        near = _nearest(wanted.torch, list(self.default_vllm))
        ways = [self._short_way(wanted.python, torch) for torch in near]
        named = ", ".join(way for way in ways if way)
        return f" (the nearest: {named})" if named else ""

    def _check_python(self, name: str, wanted: Factors, release: Vllm) -> None:
        torch = next((t for t in self.torch if t.version == release.torch), None)
        for what, python in (
            (f"vLLM {release.version}", release.python),
            (f"torch {release.torch}", torch.python if torch else None),
        ):
            if python is not None and not python.contains(wanted.python):
                raise CellError(
                    f"cell {name!r}: {what} needs Python {_range(python)}, so "
                    f"{name.partition('-')[0]} cannot run it; "
                    f"{_use([self._way(wanted.python, release)])}"
                )

    def _way(self, python: str, release: Vllm) -> str:
        """The matrix's cell of that release with this Python, or the nearest one; "" for none."""
        if release.version not in self.matrix_vllm:
            return ""
        fit = [known for known in self.pythons if self._accepts(release, known)]
        if python not in fit:
            python = min(fit, key=lambda known: _distance(known, python), default="")
        return Cell(python, release.torch, release.version).name if python else ""

    def _short_way(self, python: str, torch: str) -> str:
        """The matrix's cell of that torch and its default vLLM, as `_way`, by its short name."""
        return self._way(python, self._release(self.default_vllm[torch])).rpartition("-")[0]

    def _release(self, version: str) -> Vllm:
        return next(release for release in self.vllm if release.version == version)

    def _newest(self, minor: str) -> Vllm | None:
        patches = [release for release in self.vllm if _minor(release.version) == minor]
        return max(patches, key=lambda release: Version(release.version), default=None)

    def _accepts(self, release: Vllm, python: str) -> bool:
        torch = next((t.python for t in self.torch if t.version == release.torch), None)
        return release.python.contains(python) and (torch is None or torch.contains(python))


def load_releases(releases: Path | None = None, cells: Path | None = None) -> Releases:
    """Read the releases and the matrix's cells, by default those of the package.

    Raises ReleasesError, which names the file and the key, where a file cannot be read or the two
    contradict each other.
    """
    releases = releases or RELEASES_FILE
    cells = cells or _DATA / "cells.json"
    published, chosen = _checked(releases), _object(cells)
    _keys(chosen, {"pythons", "vllm", "default_vllm"}, set(), str(cells))
    torch = tuple(
        Torch(python=_python(row, where), **_facts(row, where)) for where, row in published["torch"]
    )
    # A vLLM without a pin has a note instead: `_checked` sees to it.
    vllm = tuple(
        Vllm(
            python=_python(row, where) or SpecifierSet(),
            **{"torchvision": None, "torchaudio": None, **_facts(row, where)},
        )
        for where, row in published["vllm"]
        if "torch" in row
    )
    unread = tuple(
        Unread(str(row["version"]), str(row["note"]))
        for _, row in published["vllm"]
        if "torch" not in row
    )
    result = Releases(
        torch=tuple(sorted(torch, key=lambda release: Version(release.version))),
        vllm=tuple(sorted(vllm, key=lambda release: Version(release.version))),
        pythons=_strings(chosen["pythons"], "pythons", cells),
        matrix_vllm=_strings(chosen["vllm"], "vllm", cells),
        default_vllm=_defaults(chosen["default_vllm"], cells),
        unread=tuple(sorted(unread, key=lambda release: Version(release.version))),
    )
    _check_cells(result, cells)
    return result


def read_rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a file of releases, by project, as they are there.

    Besides torch and vLLM it may have a list of torchvision and one of torchaudio, with the torch
    that each requires. Raises ReleasesError as `load_releases` does.
    """
    return {project: [row for _, row in rows] for project, rows in _checked(path).items()}


def _checked(path: Path) -> dict[str, list[tuple[str, dict[str, object]]]]:
    """The rows of a file of releases by project, each with the place to name in an error."""
    data = _object(path)
    _keys(data, {"torch", "vllm"}, _COMPANIONS, str(path))
    rows = {
        "torch": _rows(data, "torch", {"version"}, _MORE | _COMPANIONS, path),
        "vllm": _rows(data, "vllm", {"version", "python"}, _MORE | _PINS, path),
    }
    for project in sorted(_COMPANIONS & data.keys()):
        rows[project] = _rows(data, project, {"version"}, _MORE | {"requires"}, path)
    known = {row["version"] for _, row in rows["torch"]}
    for where, row in rows["vllm"]:
        if "torch" not in row and "note" not in row:
            raise ReleasesError(f"{where}: torch: is missing; add it, or a note that says why")
        if "torch" in row and row["torch"] not in known:
            raise ReleasesError(
                f"{where}: torch: {row['torch']} is not in the list of torch releases; add it"
            )
    for where, row in (each for every in rows.values() for each in every):
        _facts(row, where)
        _python(row, where)
        _python(row, where, "requires")
    return rows


def _check_cells(releases: Releases, path: Path) -> None:
    """The cells must be made of known releases, and a default must pin its torch."""
    known = {release.version: release for release in releases.vllm}
    named = [("vllm", version) for version in releases.matrix_vllm]
    named += [(f"default_vllm {torch}", v) for torch, v in releases.default_vllm.items()]
    for key, version in named:
        if version not in known:
            near = _near(version, list(known))
            raise ReleasesError(f"{path}: {key}: vLLM {version} is not {near}")
    for torch, version in releases.default_vllm.items():
        if _minor(known[version].torch) != torch:
            raise ReleasesError(
                f"{path}: default_vllm {torch}: vLLM {version} pins torch "
                f"{known[version].torch}; choose one that pins {torch}"
            )
    for python in releases.pythons:
        try:
            Cell(python, "0.0", "0.0")
        except CellError as error:
            raise ReleasesError(f"{path}: pythons: {error}") from error


def _object(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReleasesError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ReleasesError(f"{path}: is not JSON ({error}); mend or restore it") from error
    if not isinstance(value, dict):
        raise ReleasesError(f"{path}: is not an object; restore it")
    return value


def _keys(row: Mapping[str, object], needed: set[str], optional: set[str], where: str) -> None:
    for key in sorted(needed - row.keys()):
        raise ReleasesError(f"{where}: {key}: is missing; add it")
    for key in sorted(row.keys() - needed - optional):
        known = ", ".join(sorted(needed | optional))
        raise ReleasesError(f"{where}: {key}: unknown key; the known ones are {known}")


def _rows(
    data: Mapping[str, object], key: str, needed: set[str], optional: set[str], path: Path
) -> list[tuple[str, dict[str, object]]]:
    """The rows of one list, each with the place to name in an error."""
    rows = data[key]
    if not isinstance(rows, list):
        raise ReleasesError(f"{path}: {key}: is not a list; write one object a release")
    result: list[tuple[str, dict[str, object]]] = []
    seen: set[Version] = set()
    for number, row in enumerate(rows, 1):
        where = f"{path}: {key} {number}"
        if not isinstance(row, dict):
            raise ReleasesError(f"{where}: is not an object; write one object a release")
        where = f"{path}: {key} {row.get('version', number)}"
        _keys(row, needed, optional, where)
        for name, value in row.items():
            if name == "wheels":
                continue
            if not isinstance(value, str):
                raise ReleasesError(f"{where}: {name}: {value!r} is not a string; quote it")
            if name in _VERSIONS:
                _parsed(value, f"{where}: {name}")
        if Version(row["version"]) in seen:
            raise ReleasesError(f"{where}: version: is there twice; keep one")
        seen.add(Version(row["version"]))
        result.append((where, row))
    return result


def _facts(row: Mapping[str, object], where: str) -> dict[str, Any]:
    """A row's facts but its Pythons, as the fields of a release."""
    facts: dict[str, Any] = {key: value for key, value in row.items() if key != "python"}
    facts.pop("files", None)
    wheels = facts.pop("wheels", {})
    if not isinstance(wheels, dict) or not all(isinstance(tags, str) for tags in wheels.values()):
        raise ReleasesError(
            f"{where}: wheels: is not an object of platform tag to Pythons; write it as "
            f'{{"manylinux_2_28_x86_64": "cp311 cp312"}}'
        )
    return {**facts, "wheels": {tag: tuple(pythons.split()) for tag, pythons in wheels.items()}}


def _python(row: Mapping[str, object], where: str, key: str = "python") -> SpecifierSet | None:
    text = row.get(key)
    if text is None:
        return None
    try:
        return SpecifierSet(str(text))
    except InvalidSpecifier as error:
        raise ReleasesError(
            f"{where}: {key}: {text!r} is not a range; write it as >=3.10,<3.14"
        ) from error


def _parsed(text: str, where: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise ReleasesError(f"{where}: {text!r} is not a version; write it as 2.10.0") from error


def _strings(value: object, key: str, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ReleasesError(f"{path}: {key}: is not a list of strings; write versions in quotes")
    for item in value:
        _parsed(item, f"{path}: {key}")
    if len(set(value)) != len(value):
        raise ReleasesError(f"{path}: {key}: names a version twice; keep one")
    return tuple(sorted(value, key=Version))


def _defaults(value: object, path: Path) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ReleasesError(
            f"{path}: default_vllm: is not an object of torch minor to vLLM release; write one"
        )
    for torch, vllm in value.items():
        _parsed(torch, f"{path}: default_vllm")
        _parsed(vllm, f"{path}: default_vllm {torch}")
    return dict(value)


def _minor(version: str) -> str:
    parsed = Version(version)
    return f"{parsed.major}.{parsed.minor}"


def _range(python: SpecifierSet) -> str:
    # A SpecifierSet has no order of its own; the lower bound reads best first.
    return ",".join(sorted(map(str, python), reverse=True))


def _distance(one: str, other: str) -> int:
    left, right = Version(one), Version(other)
    return abs((left.major - right.major) * 1000 + left.minor - right.minor)


def _near(wanted: str, known: list[str]) -> str:
    return f"known here; the nearest: {', '.join(_nearest(wanted, known)) or 'none'}"


def _use(names: list[str]) -> str:
    good = [name for name in names if name]
    return f"use {' or '.join(good)}" if good else "the matrix has no cell of it yet"


def _nearest(wanted: str, known: list[str]) -> list[str]:
    """The known versions next to the wanted one, and those that it may be the beginning of."""
    order = sorted(set(known), key=Version)
    below = [version for version in order if Version(version) < Version(wanted)][-1:]
    above = [version for version in order if Version(version) >= Version(wanted)][:1]
    longer = [version for version in order if version.startswith(wanted)][:2]
    return list(dict.fromkeys(below + above + longer))
