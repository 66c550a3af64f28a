"""Candidates in a bundle: their wheels, fetched and held to their hashes, and what is written down.

A wheel of a candidate lies in a folder of its own, since a release may have a wheel of its name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from packaging.utils import parse_wheel_filename

from matrix._util.scratch import Scratch
from matrix._util.versions import parse_version
from matrix.bundle.plan import BundlePlanError, Have
from matrix.bundle.run import CANDIDATES
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import render_candidates
from matrix.catalog.candidates.model import (
    Candidate,
    CandidateSource,
    Commit,
    File,
    Sdist,
    Tree,
    Wheel,
)
from matrix.catalog.cells import Cell
from matrix.catalog.located import find_file, is_remote, name_of
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.checks.resolution.lock import Pinned, Target

_FOLDER = CANDIDATES.partition("/")[0]


def candidates_of(cells: Iterable[Cell], releases: Releases) -> dict[str, Candidate]:
    """Return the candidates of these cells by key. Raises CellError for one that is gone."""
    found = [
        releases.candidate_of(cell, project) for cell in cells if cell.builds for project in Project
    ]
    return {candidate.key: candidate for candidate in found if candidate is not None}


def staged(
    candidates: Iterable[Candidate], built: Mapping[str, File], target: Target, files: Path
) -> tuple[Candidates, dict[str, File]]:
    """Fetch the wheels of candidates for the target into a bundle's files.

    `built` are the wheels of those from sources, by the name of the cell. Returns the candidates
    with the addresses of these copies, and the copies of what was built. Raises BundlePlanError
    where a wheel is not for the target, CandidateError if there is none for its Python,
    FetchError if one is gone or another one by now.
    """
    there = Candidates()
    made = {name: _copy(file, target, files) for name, file in built.items()}
    for candidate in candidates:
        if candidate.is_built:
            there = there.including(candidate)
            continue
        candidate.requirements(target.python)  # raises where it has no wheel for this Python
        wanted = (candidate.file(target.python), *candidate.companions_on(target.python))
        copies = {file: _copy(file, target, files) for file in wanted if file is not None}
        there = there.including(
            replace(
                candidate,
                files=tuple(copies.get(file, file) for file in candidate.files),
                companions=tuple(copies.get(file, file) for file in candidate.companions),
            )
        )
    return there, made


def name_in_bundle(pinned: Pinned, files: Path) -> str:
    """Return the name in the bundle of a file that was resolved by the address of its copy."""
    (digest,) = pinned.hashes
    return _place(name_of(pinned.url or ""), digest, files).relative_to(files).as_posix()


def write_candidates_file(candidates: Iterable[Candidate], files: Path) -> None:
    """Write the file of the candidates for the target, without paths of this machine."""
    clean = Candidates()
    for candidate in candidates:
        clean = clean.including(without_paths(candidate))
    path = files / CANDIDATES
    path.parent.mkdir(exist_ok=True)
    path.write_text(render_candidates(clean), encoding="utf-8")


def without_paths(candidate: Candidate) -> Candidate:
    """Return a candidate of the same identity that names no folder of this machine."""
    way = candidate.on_cuda
    return replace(
        candidate,
        source=_without_paths(candidate.source),
        on_cuda=way and replace(way, files=tuple(map(_nameless, way.files))),
        files=tuple(map(_nameless, candidate.files)),
        companions=tuple(map(_nameless, candidate.companions)),
    )


def written_down(cell: Cell, releases: Releases) -> dict[str, dict[str, str]]:
    """Return which builds a cell has, by project, for the manifest."""
    found = {}
    for project in Project:
        candidate = releases.candidate_of(cell, project)
        if candidate is not None:
            found[str(project)] = {
                "name": candidate.name,
                "identity": candidate.identity,
                "version": candidate.version,
                **({"revision": known} if (known := _revision(candidate)) else {}),
            }
    return found


def unfit_have(
    have: Have, cell: Cell, releases: Releases, lock: Mapping[str, Pinned]
) -> str | None:
    """Return why the target's package cannot stand for a candidate's, in one line; None: it can.

    A version does not distinguish two builds. The git revision of a torch or a vLLM does, and is
    compared where the cell runs.
    """
    pinned = lock.get(have.name)
    if pinned is None or pinned.url is None:
        return None
    if parse_version(pinned.version).public != have.version:
        return None
    where = f"--have {have.name}=={have.version}: {cell.name}"
    for project in Project:
        candidate = releases.candidate_of(cell, project)
        if have.name == project and candidate is not None:
            if _revision(candidate) is not None:
                return None
            return (
                f"{where}: the git revision of {candidate.name} is not known, so the"
                " target's build cannot be distinguished from another of this version; leave it out"
            )
    return (
        f"{where} takes the file of a candidate, and its version does not distinguish the"
        " target's from another; leave it out"
    )


def remove_unused(files: Path, used: Collection[str]) -> None:
    """Remove the wheels of candidates that no cell of the bundle installs from it."""
    for path in (files / _FOLDER).glob("*/*.whl"):
        if path.relative_to(files).as_posix() not in used:
            path.unlink()
            path.parent.rmdir()


def link_or_copy(path: Path, copy: Path) -> None:
    """Make a second name of a file, or a copy where that is on another disk."""
    try:
        os.link(path, copy)
    except OSError:
        shutil.copyfile(path, copy)


def _copy(file: File, target: Target, files: Path) -> File:
    """Return a wheel with the address of its copy among the files of the bundle."""
    tags = {*target.pip_platforms, "any"}
    if not any(tag.platform in tags for tag in parse_wheel_filename(file.name)[3]):
        raise BundlePlanError(
            f"{file.name}: is not for {target.machine} with glibc {target.glibc}; add the candidate"
            " for that machine, or name another --machine"
        )
    place = _place(file.name, file.sha256, files)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with Scratch("bundle") as folder:
            found, _ = find_file(file.url, folder, sha256=file.sha256)
            link_or_copy(found, place)
    return replace(file, url=place.as_uri())


def _place(name: str, sha256: str, files: Path) -> Path:
    return files / _FOLDER / sha256[:16] / name


def _revision(candidate: Candidate) -> str | None:
    source = candidate.source
    return source.revision if isinstance(source, Commit) else candidate.revision


def _nameless(file: File) -> File:
    return file if is_remote(file.url) else replace(file, url=f"file:///{Path(file.url).name}")


def _without_paths(source: CandidateSource) -> CandidateSource:
    if isinstance(source, (Wheel, Sdist)) and not is_remote(source.location):
        return replace(source, location=name_of(source.location))
    if isinstance(source, Tree):
        return replace(source, path=Path(source.path).name)
    if isinstance(source, Commit) and not is_remote(source.repository):
        return replace(source, repository=Path(source.repository).name)
    return source
