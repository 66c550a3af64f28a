"""What is published: releases of torch and vLLM, pins, Python ranges; and the matrix's cells.

The facts are data in the repository (``data/releases.json``, ``data/cells.json``), so that nothing
here asks an index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.paths import DATA
from matrix._util.versions import (
    distance,
    minor_of,
    neighbours,
    newest_patches,
    parse_version,
    specifier_text,
)
from matrix.catalog.cells import Cell, CellError, Factors, factors
from matrix.errors import MatrixError

__all__ = [
    "RELEASES_FILE",
    "Releases",
    "ReleasesError",
    "Torch",
    "Unread",
    "Vllm",
    "load_releases",
    "newest",
    "read_rows",
]

_DATA = DATA
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


_Release = TypeVar("_Release", Torch, Vllm)


@dataclass(frozen=True)
class Releases:
    """The known releases, oldest first, and which of vLLM's the matrix runs and publishes."""

    torch: tuple[Torch, ...]
    vllm: tuple[Vllm, ...]
    pythons: tuple[str, ...]
    matrix_vllm: tuple[str, ...]
    unread: tuple[Unread, ...] = ()

    def resolve(self, name: str) -> Cell:
        """Find the cell that an environment name, short or full, stands for.

        A minor release of vLLM is its newest patch that pins that torch; where none does, the cell
        is off-pin, of the newest patch of each. Without a vLLM factor it is the newest vLLM that
        pins that torch. Yanked releases are passed over. Raises CellError, in one line that says
        what to use instead.
        """
        wanted = factors(name)
        release = self._pinning(wanted.torch, wanted.vllm)
        if release is not None:
            torch = release.torch
        else:
            torch = self._newest(name, "torch", self.torch, wanted.torch).version
            if wanted.vllm is None:
                raise self._no_default(name, wanted, torch)
            release = self._newest(name, "vLLM", self.vllm, wanted.vllm)
        self._check_python(name, wanted.python, torch, release)
        return Cell(wanted.python, torch, release.version)

    def cells(self) -> tuple[Cell, ...]:
        """Every cell that the matrix runs and publishes: its vLLM releases, each with its pin."""
        return tuple(cell for cell in self.on_pin() if cell.vllm in self.matrix_vllm)

    def on_pin(self) -> tuple[Cell, ...]:
        """Every cell whose vLLM pins its torch, on each Python that both accept.

        Of the patches that share a name it is the one that the name stands for.
        """
        pairs = {
            (minor_of(release.torch), minor_of(release.version)): release
            for release in self.vllm  # oldest first, so that the newest patch stays
            if release.yanked is None
        }
        return tuple(
            sorted(
                Cell(python, release.torch, release.version)
                for release in pairs.values()
                for python in self.pythons
                if self._accepts(python, release.torch, release)
            )
        )

    def names(self, cell: Cell) -> tuple[str, ...]:
        """The environment names of an on-pin cell: the short one too where it means this cell."""
        pinning = self._pinning(minor_of(cell.torch))
        is_short = pinning is not None and pinning.version == cell.vllm
        return (cell.short_name, cell.name) if is_short else (cell.name,)

    def pin(self, cell: Cell) -> str:
        """The torch that the cell's vLLM pins; raises CellError where that vLLM is unknown."""
        return self._known(cell).torch

    def is_off_pin(self, cell: Cell) -> bool:
        """Whether the cell's torch is another than its pin; raises CellError as `pin` does."""
        return self.pin(cell) != cell.torch

    def overridden_pin(self, name: str) -> str | None:
        """The torch that the vLLM of an off-pin cell pins, by the cell's name.

        None for an on-pin cell, and for a name that stands for none here.
        """
        try:
            cell = self.resolve(name)
        except CellError:
            return None
        return self.pin(cell) if self.is_off_pin(cell) else None

    def companions(self, cell: Cell) -> Mapping[str, str]:
        """Give the versions of torch, torchvision and torchaudio that go together in this cell.

        Those that its vLLM pins or, off-pin, those that go with its torch; where these are not
        known, those of the newest vLLM that pins this torch. Raises CellError where the cell's
        vLLM, its torch or a companion is unknown.
        """
        release = self._known(cell)
        found = release if release.torch == cell.torch else self._companions_of(cell.torch)
        if found is None:
            known = list(self._torches)
            raise CellError(
                f"cell {cell.name!r}: torch {cell.torch} is not {_near(cell.torch, known)}"
            )
        versions = {"torchvision": found.torchvision, "torchaudio": found.torchaudio}
        for companion, version in versions.items():
            # A vLLM that pins none leaves the choice to the resolver.
            if version is None and found is not release:
                raise CellError(
                    f"cell {cell.name!r}: no {companion} is known that goes with torch "
                    f"{cell.torch}; add it to that torch in matrix/data/releases.json"
                )
        pinned = {name: version for name, version in versions.items() if version is not None}
        return {"torch": cell.torch, **pinned}

    def overrides(self, cell: Cell) -> tuple[str, ...]:
        """What an installer must be forced to: torch and its companions off-pin, nothing on-pin.

        Raises CellError as `companions` does.
        """
        if not self.is_off_pin(cell):
            return ()
        return tuple(f"{name}=={version}" for name, version in self.companions(cell).items())

    def _companions_of(self, torch: str) -> Torch | Vllm | None:
        """Return the release that says what goes with a torch; None for an unknown torch."""
        own = self._torches.get(torch)
        pinning = (release for release in reversed(self.vllm) if release.torch == torch)
        for release in (own, *pinning):
            if release is not None and release.torchvision and release.torchaudio:
                return release
        return own

    @cached_property
    def _torches(self) -> Mapping[str, Torch]:
        return {release.version: release for release in self.torch}

    @cached_property
    def _vllms(self) -> Mapping[str, Vllm]:
        return {release.version: release for release in self.vllm}

    def _known(self, cell: Cell) -> Vllm:
        release = self._vllms.get(cell.vllm)
        if release is None:
            raise CellError(
                f"cell {cell.name!r}: vLLM {cell.vllm} is not {_near(cell.vllm, list(self._vllms))}"
            )
        return release

    def _newest(
        self, name: str, project: str, releases: tuple[_Release, ...], minor: str
    ) -> _Release:
        """The newest patch of a minor release that was not yanked."""
        patches = [release for release in releases if minor_of(release.version) == minor]
        if not patches:
            known = [minor_of(release.version) for release in releases]
            unread = [each for each in self.unread if minor_of(each.version) == minor]
            if project == "vLLM" and unread:
                raise CellError(
                    f"cell {name!r}: the pins of vLLM {unread[-1].version}: {unread[-1].note}"
                )
            raise CellError(f"cell {name!r}: {project} {minor} is not {_near(minor, known)}")
        left = [release for release in patches if release.yanked is None]
        if not left:
            raise CellError(
                f"cell {name!r}: {project} {patches[-1].version} was yanked "
                f"({patches[-1].yanked or 'no reason given'}), and no other {minor} is known"
            )
        return left[-1]

    def _pinning(self, torch: str, vllm: str | None = None) -> Vllm | None:
        """The newest vLLM that pins a torch of this minor, of all or of one minor of its own."""
        return self._pinned.get((torch, vllm))

    @cached_property
    def _pinned(self) -> Mapping[tuple[str, str | None], Vllm]:
        """The newest vLLM by the minor of the torch that it pins, and its own minor or None."""
        return {
            (minor_of(release.torch), minor): release
            for release in self.vllm  # oldest first, so that the newest patch stays
            if release.yanked is None
            for minor in (None, minor_of(release.version))
        }

    def _no_default(self, name: str, wanted: Factors, torch: str) -> CellError:
        pinned = [minor_of(release.torch) for release in self.vllm if release.yanked is None]
        ways = [
            self._way(wanted.python, torch, near)
            for each in _nearest(wanted.torch, pinned)
            if (near := self._pinning(each)) is not None
        ]
        return CellError(
            f"cell {name!r}: no known vLLM pins torch {wanted.torch}, so name one; {_use(ways)}"
        )

    def _check_python(self, name: str, python: str, torch: str, release: Vllm) -> None:
        bound = self._torches.get(torch)
        for what, pythons in (
            (f"vLLM {release.version}", release.python),
            (f"torch {torch}", bound.python if bound else None),
        ):
            if pythons is not None and not pythons.contains(python):
                raise CellError(
                    f"cell {name!r}: {what} needs Python {specifier_text(pythons)}, so "
                    f"{name.partition('-')[0]} cannot run it; {self._mend(python, torch, release)}"
                )
        if python not in self.pythons:
            known = ", ".join(self.pythons)
            raise CellError(
                f"cell {name!r}: Python {python} is not among the matrix's ({known}); "
                f"{self._mend(python, torch, release)}"
            )

    def _mend(self, python: str, torch: str, release: Vllm) -> str:
        return _use([self._way(python, torch, release)])

    def _way(self, python: str, torch: str, release: Vllm) -> str:
        """The name of that pair with this Python, or the nearest that fits; "" for none."""
        fit = [known for known in self.pythons if self._accepts(known, torch, release)]
        near = min(fit, key=lambda known: distance(known, python), default="")
        return Cell(near, torch, release.version).name if near else ""

    def _accepts(self, python: str, torch: str, release: Vllm) -> bool:
        bound = self._torches.get(torch)
        return release.python.contains(python) and (
            bound is None or bound.python is None or bound.python.contains(python)
        )


def newest(releases: Iterable[_Release]) -> tuple[_Release, ...]:
    """The newest patch of each minor release, oldest first; yanked releases are passed over."""
    kept = (release for release in releases if release.yanked is None)
    return tuple(newest_patches(kept, lambda release: release.version))


def load_releases(releases: Path | None = None, cells: Path | None = None) -> Releases:
    """Read the releases and the matrix's cells, by default those of the package.

    Raises ReleasesError, which names the file and the key, where a file cannot be read or the two
    contradict each other.
    """
    releases = releases or RELEASES_FILE
    cells = cells or _DATA / "cells.json"
    published, chosen = _checked(releases), _object(cells)
    _keys(chosen, {"pythons", "vllm"}, set(), str(cells))
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
    vllm = tuple(sorted(vllm, key=lambda release: Version(release.version)))
    return Releases(
        torch=tuple(sorted(torch, key=lambda release: Version(release.version))),
        vllm=vllm,
        pythons=_pythons(_strings(chosen["pythons"], "pythons", cells), cells),
        matrix_vllm=_newest_patches(_strings(chosen["vllm"], "vllm", cells), vllm, cells),
        unread=tuple(sorted(unread, key=lambda release: Version(release.version))),
    )


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


def _newest_patches(
    minors: Iterable[str], releases: tuple[Vllm, ...], path: Path
) -> tuple[str, ...]:
    """The newest patch of each minor release of vLLM; one that was yanked altogether has none."""
    found = []
    for minor in minors:
        if minor != minor_of(minor):
            raise ReleasesError(
                f"{path}: vllm: {minor!r} is not a minor release; write it as {minor_of(minor)}"
            )
        if minor not in (minor_of(release.version) for release in releases):
            near = _near(minor, [minor_of(release.version) for release in releases])
            raise ReleasesError(f"{path}: vllm: vLLM {minor} is not {near}")
        found += [each.version for each in newest(releases) if minor_of(each.version) == minor]
    return tuple(found)


def _pythons(pythons: tuple[str, ...], path: Path) -> tuple[str, ...]:
    for python in pythons:
        try:
            Cell(python, "0.0", "0.0")
        except CellError as error:
            raise ReleasesError(f"{path}: pythons: {error}") from error
    return pythons


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


def _near(wanted: str, known: list[str]) -> str:
    return f"known here; the nearest: {', '.join(_nearest(wanted, known)) or 'none'}"


def _nearest(wanted: str, known: list[str]) -> list[str]:
    """Return the neighbours of a version, and the oldest two that it may be the beginning of."""
    longer = sorted((text for text in set(known) if text.startswith(wanted)), key=parse_version)
    return list(dict.fromkeys([*neighbours(wanted, known), *longer[:2]]))


def _use(names: list[str]) -> str:
    good = [name for name in names if name]
    return f"use {' or '.join(good)}" if good else "no Python of the matrix fits"
