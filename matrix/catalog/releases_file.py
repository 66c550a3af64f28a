"""The data files of releases and of the matrix's cells, read and validated.

`releases.json` and `cells.json` are data in the repository, so that nothing here asks an index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.json_file import read_object
from matrix._util.paths import DATA
from matrix._util.versions import minor_of, parse_version
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.place import candidates_path
from matrix.catalog.cells import Cell, CellError
from matrix.catalog.constraints import load_constraints
from matrix.catalog.release import Torch, Unread, Vllm
from matrix.catalog.releases import Releases, nearest_known, newest
from matrix.catalog.revision import REVISION
from matrix.errors import MatrixError

RELEASES_FILE = DATA / "releases.json"
_COMPANIONS = {"torchvision", "torchaudio"}
_MORE = {"python", "cuda", "uploaded", "wheels", "yanked", "source", "note", "files"}
_UNSURE = {"without", "guessed"}
_PINS = {"torch"} | _COMPANIONS
_VERSIONS = {"version", "torch", "cuda"} | _COMPANIONS


class ReleasesError(MatrixError):
    """A data file of releases or cells that cannot be read or contradicts itself."""


def load_releases(releases: Path | None = None, cells: Path | None = None) -> Releases:
    """Read the releases and the matrix's cells, by default those of the package.

    The candidates of `matrix.catalog.candidates.file` are known together with the package's own
    releases, not with another file's. The constraints are the package's. Raises ReleasesError,
    CandidatesFileError or ConstraintsError, which name the file and the key, where a file cannot be
    read or they contradict each other.
    """
    candidates = Candidates() if releases else _candidates()
    releases = releases or RELEASES_FILE
    cells = cells or DATA / "cells.json"
    published, chosen = _checked(releases), read_object(cells, ReleasesError)
    _keys(chosen, {"pythons", "vllm"}, set(), str(cells))
    torch = tuple(
        Torch(python=_python(row, where), **{**_facts(row, where), **_unsure(row, where)})
        for where, row in published["torch"]
    )
    # A vLLM without a pin has a note instead: `_checked` holds that.
    vllm = tuple(
        Vllm(
            python=_python(row, where) or SpecifierSet(),
            **{"torchvision": None, "torchaudio": None, **_facts(row, where)},
        )
        for where, row in published["vllm"]
        if "torch" in row
    )
    unread = tuple(
        Unread(version=str(row["version"]), note=str(row["note"]))
        for _, row in published["vllm"]
        if "torch" not in row
    )
    vllm = tuple(sorted(vllm, key=_version))
    return Releases(
        torch=tuple(sorted(torch, key=_version)),
        vllm=vllm,
        pythons=_pythons(_strings(chosen["pythons"], "pythons", cells), cells),
        matrix_vllm=_newest_patches(_strings(chosen["vllm"], "vllm", cells), vllm, cells),
        unread=tuple(sorted(unread, key=_version)),
        constrained=load_constraints(),
        candidates=candidates,
    )


def _candidates() -> Candidates:
    """Return the candidates; most checkouts have no file of them."""
    path = candidates_path()
    if not path.is_symlink() and not path.exists():
        return Candidates()
    from matrix.catalog.candidates.file import load_candidates

    return load_candidates(path)


def read_rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a file of releases, by project, as they stand there.

    Besides torch and vLLM the file may have a list of torchvision and one of torchaudio, with the
    torch that each requires. Raises ReleasesError as `load_releases` does.
    """
    return {project: [row for _, row in rows] for project, rows in _checked(path).items()}


def _checked(path: Path) -> dict[str, list[tuple[str, dict[str, object]]]]:
    """Return the rows of a file of releases by project, each with its place for an error."""
    data = read_object(path, ReleasesError)
    _keys(data, {"torch", "vllm"}, _COMPANIONS, str(path))
    rows = {
        "torch": _rows(
            data, "torch", {"version"}, _MORE | _COMPANIONS | _UNSURE | {"revision"}, path
        ),
        "vllm": _rows(data, "vllm", {"version", "python"}, _MORE | _PINS | {"revision"}, path),
    }
    for project in sorted(_COMPANIONS & data.keys()):
        rows[project] = _rows(data, project, {"version"}, _MORE | {"requires"}, path)
    known = {row["version"] for _, row in rows["torch"]}
    for where, row in rows["vllm"]:
        if "torch" not in row and "note" not in row:
            raise ReleasesError(f"{where}: torch: is missing; add it, or a note with the reason")
        if "torch" in row and row["torch"] not in known:
            raise ReleasesError(
                f"{where}: torch: {row['torch']} is not in the list of torch releases; add it"
            )
    for where, row in (placed for entries in rows.values() for placed in entries):
        _facts(row, where)
        _unsure(row, where)
        _python(row, where)
        _python(row, where, "requires")
    return rows


def _newest_patches(
    minors: Iterable[str], releases: tuple[Vllm, ...], path: Path
) -> tuple[str, ...]:
    """Return the newest patch of these minor releases of vLLM, none of one that was yanked."""
    found = []
    for minor in minors:
        if minor != minor_of(minor):
            raise ReleasesError(
                f"{path}: vllm: {minor!r} is not a minor release; write it as {minor_of(minor)}"
            )
        if minor not in (minor_of(release.version) for release in releases):
            near = nearest_known(minor, [minor_of(release.version) for release in releases])
            raise ReleasesError(f"{path}: vllm: vLLM {minor} is not {near}")
        found += [row.version for row in newest(releases) if minor_of(row.version) == minor]
    return tuple(found)


def _pythons(pythons: tuple[str, ...], path: Path) -> tuple[str, ...]:
    for python in pythons:
        try:
            Cell(python, "0.0", "0.0")
        except CellError as error:
            raise ReleasesError(f"{path}: pythons: {error}") from error
    return pythons


def _keys(row: Mapping[str, object], needed: set[str], optional: set[str], where: str) -> None:
    for key in sorted(needed - row.keys()):
        raise ReleasesError(f"{where}: {key}: is missing; add it")
    for key in sorted(row.keys() - needed - optional):
        known = ", ".join(sorted(needed | optional))
        raise ReleasesError(f"{where}: {key}: unknown key; the known ones are {known}")


def _rows(
    data: Mapping[str, object], key: str, needed: set[str], optional: set[str], path: Path
) -> list[tuple[str, dict[str, object]]]:
    """Return the rows of one list, each with its place for an error."""
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
            if name == "revision" and not REVISION.fullmatch(value):
                raise ReleasesError(
                    f"{where}: {name}: {value!r} is not the hash of a commit; write 7 digits or"
                    " more"
                )
            if name in _VERSIONS:
                _parsed(value, f"{where}: {name}")
        if Version(row["version"]) in seen:
            raise ReleasesError(f"{where}: version: appears twice; keep one")
        seen.add(Version(row["version"]))
        result.append((where, row))
    return result


def _facts(row: Mapping[str, object], where: str) -> dict[str, Any]:
    """Return a row's facts but its Pythons, as the fields of a release."""
    facts: dict[str, Any] = {key: value for key, value in row.items() if key != "python"}
    for key in ("files", *_UNSURE):
        facts.pop(key, None)
    wheels = facts.pop("wheels", {})
    if not isinstance(wheels, dict) or not all(isinstance(tags, str) for tags in wheels.values()):
        raise ReleasesError(
            f"{where}: wheels: is not an object of platform tag to Pythons; write it as "
            f'{{"manylinux_2_28_x86_64": "cp311 cp312"}}'
        )
    return {**facts, "wheels": {tag: tuple(pythons.split()) for tag, pythons in wheels.items()}}


def _unsure(row: Mapping[str, object], where: str) -> dict[str, tuple[str, ...]]:
    """Return the companions that a torch lacks, and those that are guessed."""
    found = {key: tuple(str(row.get(key, "")).split()) for key in sorted(_UNSURE)}
    for key, names in found.items():
        for name in names:
            if name not in _COMPANIONS:
                known = " and ".join(sorted(_COMPANIONS))
                raise ReleasesError(f"{where}: {key}: {name!r} is unknown; the names are {known}")
            if key == "without" and name in row:
                raise ReleasesError(
                    f"{where}: {key}: {name} has a release too; keep one of the two"
                )
    return found


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
        return parse_version(text)
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


def _version(release: Torch | Vllm | Unread) -> Version:
    return parse_version(release.version)
